// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the device VM can read of a client's RAM: all of its window, by `portcullis-window`.

use anyhow::Result;

use super::setup::{STORE, Vm};
use crate::show::dialogue::{Answer, Dialogue};
use crate::show::report::Report;

/// A range of addresses: start and size.
pub type Range = (u64, u64);

/// Where what [`scan`] says comes from.
pub const SCANNED: &str = "store, a program that maps the window and reads all of it";

/// What store sees of a client's RAM.
#[derive(Debug)]
pub struct Seen {
    /// Its words about granules that are not zero.
    pub summary: String,
    /// The first and the last of them.
    ends: Option<Range>,
    /// How often each text is there, if it said so.
    counts: Vec<Option<u64>>,
}

impl Seen {
    /// How often text `number` is there, if that was read.
    #[must_use]
    pub fn count(&self, number: usize) -> Option<u64> {
        self.counts.get(number).copied().flatten()
    }

    /// The same in words.
    #[must_use]
    pub fn times(&self, number: usize) -> String {
        self.count(number).map_or("not read".to_owned(), |count| format!("{count} times"))
    }

    /// What `answer` of `portcullis-window` says of `texts`.
    fn of(answer: &Answer, texts: &[&str]) -> Self {
        let summary = answer.lines.first().cloned().unwrap_or_default();
        let address = |name: &str| {
            let (_, rest) = summary.split_once(name)?;
            let end = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
            u64::from_str_radix(rest.get(..end)?, 16).ok()
        };
        let count = |text: &&str| {
            let before = format!("text {text}: ");
            answer.lines.iter().find_map(|line| line.strip_prefix(&before))?.parse().ok()
        };
        let ends = address("first 0x").zip(address("last 0x"));
        let counts = texts.iter().map(count).collect();
        Self { summary, ends, counts }
    }
}

/// Store reads all of its window to `vm`, and looks for `texts`.
///
/// # Errors
///
/// Store does not answer.
pub fn scan(dialogue: &mut Dialogue, vm: Vm, texts: &[&str]) -> Result<Seen> {
    let mut command = format!("portcullis-window --pid $(cat /run/{}.pid)", vm.name);
    for text in texts {
        command += &format!(" --find {text}");
    }
    Ok(Seen::of(&dialogue.ask(STORE, &command)?, texts))
}

/// Checks that what was seen of `vm` lies in its pool, and that anything was.
pub fn confined(report: &mut Report<'_>, vm: Vm, seen: &Seen, (start, size): Range, when: &str) {
    let inside = |at: u64| at.checked_sub(start).is_some_and(|offset| offset < size);
    let kept = seen.ends.is_some_and(|(first, last)| inside(first) && inside(last));
    let name = vm.name;
    let what = format!("{when}, nothing outside {start:#x}+{size:#x} can be seen of {name}'s RAM");
    report.check(&what, SCANNED, &seen.summary, kept);
}

/// The pool that EL2 tells in this line: `pool at 0xSTART+0xSIZE`.
#[must_use]
pub fn pool_in(line: &str) -> Option<Range> {
    let (_, text) = line.split_once("pool at ")?;
    let (start, size) = text.split([' ', ',', ';']).next()?.split_once('+')?;
    let number = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    Some((number(start)?, number(size)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_read_is_not_zero_times() {
        let lines = ["granules 3 of 9, first 0x4000, last 0x6000", "text a: 0", "text b: 2"];
        let answer = Answer { status: 0, lines: lines.map(str::to_owned).to_vec() };
        let seen = Seen::of(&answer, &["a", "b", "c"]);
        assert_eq!(seen.ends, Some((0x4000, 0x6000)));
        assert_eq!([0, 1, 2, 3].map(|number| seen.count(number)), [Some(0), Some(2), None, None]);
        assert_eq!([1, 2].map(|number| seen.times(number)), ["2 times", "not read"]);
        let seen = Seen::of(&Answer { status: 1, lines: vec![] }, &["a"]);
        assert_eq!((seen.ends, seen.count(0)), (None, None));
    }

    #[test]
    fn a_pool_is_found_in_the_log() {
        let line = "with its pool at 0x4b800000+0x800000; an access waits 30 s";
        assert_eq!(pool_in(line), Some((0x4b80_0000, 0x80_0000)));
        assert_eq!(pool_in("its pool at 4b800000+800000"), None);
        assert_eq!(pool_in("no pool"), None);
    }
}
