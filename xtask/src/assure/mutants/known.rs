// SPDX-License-Identifier: MIT OR Apache-2.0
//! Survivors that are no gap: `docs/mutants.md`, one a line, ``- `FILE: WHAT`: reason``, or ``- `FILE: WHAT` (3): reason`` for
//! so many of one name. Without lines and columns, which change more often than the code does.

use std::collections::BTreeMap;

use crate::paths;
use anyhow::{Context, Result};

/// What `docs/mutants.md` lists: how many of each name may survive.
#[derive(Debug, Clone, Default)]
pub struct Known(BTreeMap<String, usize>);

impl Known {
    /// Reads the list.
    pub fn read() -> Result<Self> {
        let file = paths::root().join("docs/mutants.md");
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| {
            let (key, rest) = line.strip_prefix("- `crates/")?.split_once('`')?;
            let (times, reason) = rest.split_once(": ")?;
            let times = match times.trim() {
                "" => 1,
                times => times.strip_prefix('(')?.strip_suffix(')')?.parse().ok()?,
            };
            (!reason.trim().is_empty()).then(|| (format!("crates/{key}"), times))
        });
        Self(lines.collect())
    }

    /// Of the survivors `names`, those that are not listed, and all of a name of which more survive than are listed: which of
    /// them the reason is for, nobody can say.
    pub fn unknown(&self, names: &[String]) -> Vec<String> {
        let survive = count(names);
        let listed = |name: &&String| {
            let key = key(name);
            survive.get(&key) <= self.0.get(&key)
        };
        names.iter().filter(|name| !listed(name)).cloned().collect()
    }

    /// What is listed more often than `all` the mutants have it.
    pub fn gone(&self, all: &[String]) -> Vec<String> {
        let there = count(all);
        self.0.iter().filter(|(key, times)| there.get(*key) < Some(times)).map(said).collect()
    }

    /// What is listed, was tried, and of which fewer survived than are listed.
    pub fn noticed(&self, noticed: &[String], missed: &[String]) -> Vec<String> {
        let (noticed, missed) = (count(noticed), count(missed));
        self.0
            .iter()
            .filter(|(key, times)| {
                let (caught, survived) = (noticed.get(*key), missed.get(*key).unwrap_or(&0));
                caught.is_some_and(|caught| survived < times && caught + survived >= **times)
            })
            .map(said)
            .collect()
    }
}

fn said((key, times): (&String, &usize)) -> String {
    if *times == 1 { key.clone() } else { format!("{key} ({times})") }
}

/// How often each is there.
fn count(names: &[String]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        let times: &mut usize = counts.entry(key(name)).or_default();
        *times = times.saturating_add(1);
    }
    counts
}

/// `FILE: WHAT` of `FILE:LINE:COLUMN: WHAT`.
fn key(name: &str) -> String {
    let mut parts = name.splitn(4, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(file), Some(_), Some(_), Some(what)) => format!("{file}:{what}"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "# Survivors\n\nWords, and `crates/a/src/x.rs`.\n\n\
        - `crates/a/src/x.rs: replace | with ^ in f`: no bit is in both.\n\
        - `crates/a/src/x.rs: replace < with <= in h` (2): equal ones are alike.\n\
        - `crates/a/src/x.rs: replace + with - in h` (two): reason.\n\
        - `crates/a/src/x.rs: replace g::h -> u8 with 0`: \n";

    const OR: [&str; 2] = [
        "crates/a/src/x.rs:7:31: replace | with ^ in f",
        "crates/a/src/x.rs:8:31: replace | with ^ in f",
    ];
    const LESS: [&str; 3] = [
        "crates/a/src/x.rs:17:31: replace < with <= in h",
        "crates/a/src/x.rs:18:31: replace < with <= in h",
        "crates/a/src/x.rs:19:31: replace < with <= in h",
    ];

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().copied().map(String::from).collect()
    }

    #[test]
    fn what_has_no_reason_is_not_listed() {
        let missed = names(&[
            OR[0],
            "crates/a/src/x.rs:9:1: replace g::h -> u8 with 0",
            "crates/a/src/x.rs:9:1: replace + with - in h",
        ]);
        assert_eq!(Known::parse(LIST).unknown(&missed), missed[1..]);
    }

    #[test]
    fn a_reason_is_for_as_many_as_it_says() {
        let known = Known::parse(LIST);
        assert_eq!(known.unknown(&names(&OR[..1])), names(&[]));
        assert_eq!(known.unknown(&names(&OR)), names(&OR));
        assert_eq!(known.unknown(&names(&LESS[..2])), names(&[]));
        assert_eq!(known.unknown(&names(&LESS)), names(&LESS));
    }

    #[test]
    fn a_line_that_has_become_wrong_is_said() {
        let known = Known::parse(LIST);
        let all = [OR.as_slice(), &LESS].concat();
        let or = "crates/a/src/x.rs: replace | with ^ in f";
        let less = "crates/a/src/x.rs: replace < with <= in h (2)";
        assert_eq!(known.gone(&[]), names(&[less, or]));
        assert_eq!(known.gone(&names(&all)), names(&[]));
        assert_eq!(known.gone(&names(&[OR[0], LESS[0]])), names(&[less]));
        assert_eq!(known.noticed(&names(&all), &[]), names(&[less, or]));
        assert_eq!(known.noticed(&names(&LESS[..2]), &names(&LESS[2..])), names(&[less]));
        assert_eq!(known.noticed(&names(&LESS[..1]), &names(&LESS[1..])), names(&[]));
        // One of them was tried: the others may survive.
        assert_eq!(known.noticed(&names(&LESS[..1]), &[]), names(&[]));
        assert_eq!(known.noticed(&names(&OR), &names(&OR)), names(&[]));
        assert_eq!(known.noticed(&[], &[]), names(&[]));
    }
}
