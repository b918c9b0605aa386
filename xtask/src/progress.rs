// SPDX-License-Identifier: MIT OR Apache-2.0
//! Progress of what takes long: a line that changes on a terminal, a line every half minute elsewhere.
//!
//! All of it goes to standard error, so that a script that reads standard output sees none of it.

use std::io::{BufRead, BufReader, IsTerminal};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

/// Without a terminal, a line so often.
const INTERVAL: Duration = Duration::from_secs(30);

/// Something that takes long.
#[derive(Debug)]
pub struct Progress {
    name: String,
    /// On a terminal.
    bar: Option<ProgressBar>,
    started: Instant,
    /// When the last line was printed without a terminal, if any was.
    printed: Option<Instant>,
    done: u64,
    total: u64,
    now: String,
}

impl Progress {
    /// Starts to show `name`.
    #[must_use]
    pub fn start(name: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self::on(name, bar)
    }

    fn on(name: &str, bar: Option<ProgressBar>) -> Self {
        let progress = Self {
            name: name.into(),
            bar,
            started: Instant::now(),
            printed: None,
            done: 0,
            total: 0,
            now: String::new(),
        };
        progress.draw();
        progress
    }

    /// How many parts are done and how many there are (0: unknown), and the one at hand.
    pub fn set(&mut self, done: u64, total: u64, now: &str) {
        (self.done, self.total) = (done, total);
        now.trim().clone_into(&mut self.now);
        self.draw();
        self.remind();
    }

    /// Calls `print` while the changing line is out of the way.
    pub fn suspend(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn draw(&self) {
        let Some(bar) = &self.bar else { return };
        if self.total > 0 {
            bar.set_length(self.total);
            bar.set_position(self.done);
        }
        if let Ok(style) = ProgressStyle::with_template(match (self.total, self.done) {
            (0, _) => "{spinner} {prefix} [{elapsed}] {wide_msg}",
            _ => "{spinner} {prefix} [{elapsed}] {bar:24} {pos}/{len} {wide_msg}",
        }) {
            bar.set_style(style);
        }
        bar.set_prefix(self.name.clone());
        bar.set_message(self.now.clone());
    }

    /// Without a terminal, prints a line if there was none yet, or none for [`INTERVAL`].
    fn remind(&mut self) {
        if self.bar.is_none() && self.printed.is_none_or(|last| last.elapsed() >= INTERVAL) {
            match self.printed.replace(Instant::now()) {
                None => eprintln!("{} ...", self.name),
                Some(_) => eprintln!("{}", self.line()),
            }
        }
    }

    fn line(&self) -> String {
        let seconds = self.started.elapsed().as_secs();
        let count = match (self.done, self.total) {
            (0, 0) => String::new(),
            (done, 0) => format!(" {done} done,"),
            (done, total) => format!(" {done} of {total},"),
        };
        let now = if self.now.is_empty() { String::new() } else { format!(": {}", self.now) };
        format!("{}:{count} {seconds} s{now}", self.name)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Runs `command` with both its outputs in one, in the order in which they come, and gives each line to `each`.
///
/// # Errors
///
/// The command cannot be run.
pub fn run(
    command: &mut Command,
    progress: &mut Progress,
    mut each: impl FnMut(&mut Progress, &str),
) -> Result<ExitStatus> {
    let program = command.get_program().to_string_lossy().into_owned();
    let (reader, writer) = std::io::pipe().context("a pipe")?;
    command.stdin(Stdio::null());
    command.stdout(writer.try_clone().context("a pipe")?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
    // The pipe closes with the child: `command` keeps no end of it.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(std::io::Result::ok) {
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)).into();
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    loop {
        match lines.recv_timeout(INTERVAL) {
            Ok(line) => {
                let line: String = line;
                each(progress, &line);
            }
            Err(RecvTimeoutError::Timeout) => progress.remind(),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    child.wait().with_context(|| format!("cannot wait for {program}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_it_is() {
        let mut progress = Progress::on("in QEMU", None);
        assert_eq!(progress.line(), "in QEMU: 0 s");
        progress.set(3, 0, "");
        assert_eq!(progress.line(), "in QEMU: 3 done, 0 s");
        progress.set(3, 7, " a case ");
        assert_eq!(progress.line(), "in QEMU: 3 of 7, 0 s: a case");
    }

    #[test]
    fn both_outputs_come_in_order() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo a; echo b >&2; printf 'c\\r\\nd'; exit 3"]);
        let mut all = Vec::new();
        let mut progress = Progress::on("x", None);
        let status = run(&mut command, &mut progress, |_, line| all.push(line.to_owned())).unwrap();
        assert_eq!(all, ["a", "b", "c", "d"]);
        assert_eq!(status.code(), Some(3));
    }

    #[test]
    fn what_does_not_exist_is_named() {
        let mut progress = Progress::on("x", None);
        let error =
            run(&mut Command::new("no-such-program"), &mut progress, |_, _| ()).unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot run no-such-program: "), "{error:#}");
    }
}
