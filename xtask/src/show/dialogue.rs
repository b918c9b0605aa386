// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions to the shells of several VMs, which share one console: EL2 shows each line behind its VM's name, and Ctrl-]
//! with a number gives a VM the keyboard (docs/guests.md).

use anyhow::{Context, Result, bail};

use crate::qemu::{Run, Session};

/// A VM of which a question is asked.
pub trait Named {
    /// Its name.
    fn name(&self) -> &'static str;
}

impl Named for &'static str {
    fn name(&self) -> &'static str {
        self
    }
}

/// What a command said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its exit status.
    pub status: i32,
    /// Its lines.
    pub lines: Vec<String>,
}

impl Answer {
    /// All of it in one line.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.join(" ").trim().to_owned()
    }
}

/// More than EL2 keeps for a VM that does not read yet is lost, also the end of the line.
const LONGEST: usize = 240;

/// The consoles of all VMs.
#[derive(Debug)]
pub struct Dialogue {
    session: Session,
    vms: Vec<&'static str>,
    /// The VM that has the keyboard, if that is known.
    keyboard: Option<usize>,
    /// Questions so far: each has a number, so that no answer is taken for that of another.
    asked: u32,
}

impl Dialogue {
    /// With the consoles of `vms`, in the order in which EL2 numbers them.
    #[must_use]
    pub fn new(session: Session, vms: &[impl Named]) -> Self {
        Self { session, vms: vms.iter().map(Named::name).collect(), keyboard: None, asked: 0 }
    }

    /// The lines so far.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        self.session.lines()
    }

    /// Waits for a line with `text`, among those that came before too.
    ///
    /// # Errors
    ///
    /// The machine ends, or says nothing for too long.
    pub fn said(&mut self, text: &str) -> Result<String> {
        self.said_after(0, text)
    }

    /// Waits for a line with `text` behind the first `passed` lines.
    ///
    /// # Errors
    ///
    /// As [`Self::said`].
    pub fn said_after(&mut self, passed: usize, text: &str) -> Result<String> {
        let mut next = passed;
        loop {
            while let Some(line) = self.session.lines().get(next) {
                if line.contains(text) {
                    return Ok(line.clone());
                }
                next += 1;
            }
            if self.session.next_line().is_none() {
                // Says why.
                self.session.wait_for(text)?;
            }
        }
    }

    /// The number of `vm`.
    fn number(&self, name: &str) -> Result<usize> {
        let number = self.vms.iter().position(|other| *other == name);
        number.with_context(|| format!("there is no VM {name}"))
    }

    /// Types `text` at the console of `vm`.
    ///
    /// # Errors
    ///
    /// The machine is gone, or has no such VM.
    pub fn send(&mut self, vm: impl Named, text: &str) -> Result<()> {
        let number = self.number(vm.name())?;
        if self.keyboard != Some(number) {
            let passed = self.lines().len();
            self.session.send(&format!("\x1d{number}"))?;
            self.said_after(passed, &format!("[hyp] the keyboard goes to {}", vm.name()))?;
            self.keyboard = Some(number);
        }
        self.session.send(text)
    }

    /// Does with `vm` what the operator's key `key` does (docs/guests.md).
    ///
    /// # Errors
    ///
    /// The machine is gone, or has no such VM.
    pub fn operate(&mut self, key: char, vm: impl Named) -> Result<()> {
        let number = self.number(vm.name())?;
        self.keyboard = None;
        self.session.send(&format!("\x1d{key}{number}"))
    }

    /// A VM has stopped, been reset or restarted: who has the keyboard is to be found out.
    pub fn forget_keyboard(&mut self) {
        self.keyboard = None;
    }

    /// Runs `command` in the shell of `vm`.
    ///
    /// # Errors
    ///
    /// The machine ends before the command does.
    pub fn ask(&mut self, vm: impl Named, command: &str) -> Result<Answer> {
        let name = vm.name();
        self.asked += 1;
        let (passed, number) = (self.lines().len(), self.asked);
        // What is typed is echoed, and must not look like the answer.
        let typed = format!("echo begin\"\"={number}; {command}; echo end\"\"={number}=$?\n");
        if typed.len() > LONGEST {
            bail!("more than is typed at once: {command}");
        }
        self.send(vm, &typed)?;
        let (begin, end) = (format!("begin={number}"), format!("end={number}="));
        self.said_after(passed, &begin)?;
        self.said_after(passed, &end)?;
        let lines = self.lines().get(passed..).unwrap_or_default();
        match between(lines, name, &begin, &end) {
            Some(answer) => Ok(answer),
            None => bail!("`{command}` in {name} ended with no status"),
        }
    }

    /// Reads to the end.
    #[must_use]
    pub fn finish(self) -> Run {
        self.session.finish()
    }
}

/// What the VM `name` said between the markers.
fn between(lines: &[String], name: &str, begin: &str, end: &str) -> Option<Answer> {
    let prefix = format!("[{name}] ");
    let mut said: Vec<(usize, &str)> = Vec::new();
    let mut begun = false;
    for (at, line) in lines.iter().enumerate() {
        let Some(text) = line.strip_prefix(&prefix) else { continue };
        if !begun {
            begun = text.ends_with(begin);
            continue;
        }
        // The line of the VM with the keyboard begins again where another's has come between
        // (crates/console/src/live_line.rs).
        if let Some((before, begun)) = said.last()
            && before + 1 < at
            && text.starts_with(begun)
        {
            said.pop();
        }
        if let Some((rest, status)) = text.split_once(end) {
            if !rest.is_empty() {
                said.push((at, rest));
            }
            let lines = said.into_iter().map(|(_, text)| text.to_owned()).collect();
            return Some(Answer { status: status.trim().parse().ok()?, lines });
        }
        said.push((at, text));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Option<Answer> {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        between(&lines, "web", "begin=7", "end=7=")
    }

    fn of(status: i32, lines: &[&str]) -> Option<Answer> {
        Some(Answer { status, lines: lines.iter().map(|line| (*line).to_owned()).collect() })
    }

    #[test]
    fn an_answer_is_what_the_vm_said_between_the_markers() {
        let text = "[web] web# echo begin\"\"=7; ls\n[web] begin=7\n[store] noise\n[web] bin\n\
                    [hyp] something\n[web] dev\n[web] end=7=0";
        assert_eq!(answer(text), of(0, &["bin", "dev"]));
        assert_eq!(answer("[web] begin=7\n[web] no line endend=7=2"), of(2, &["no line end"]));
        assert_eq!(answer("[store] begin=7\n[store] x\n[store] end=7=0"), None);
        assert_eq!(answer("[web] begin=7\n[web] x"), None);
        assert_eq!(answer("[web] begin=7\n[web] end=7="), None);
    }

    #[test]
    fn a_line_that_begins_again_is_one_line() {
        let text = "[web] begin=7\n[web] ab\n[store] noise\n[web] abcd\n[web] end=7=0";
        assert_eq!(answer(text), of(0, &["abcd"]));
        let text = "[web] begin=7\n[web] ab\n[web] abcd\n[web] end=7=0";
        assert_eq!(answer(text), of(0, &["ab", "abcd"]));
    }
}
