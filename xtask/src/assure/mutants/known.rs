// SPDX-License-Identifier: MIT OR Apache-2.0
//! Survivors that are no gap: `docs/mutants.md`, one a line, ``- `FILE: WHAT`: reason``. Without lines and columns, which
//! change more often than the code does.

use std::collections::BTreeSet;

use crate::error::{Context, Result};
use crate::paths;

/// What `docs/mutants.md` lists.
#[derive(Debug, Clone, Default)]
pub struct Known(BTreeSet<String>);

impl Known {
    /// Reads the list.
    pub fn read() -> Result<Self> {
        let file = paths::root().join("docs/mutants.md");
        let text = std::fs::read_to_string(&file).context(|| file.display().to_string())?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let keys = text.lines().filter_map(|line| {
            let (key, reason) = line.strip_prefix("- `crates/")?.split_once("`: ")?;
            (!reason.trim().is_empty()).then(|| format!("crates/{key}"))
        });
        Self(keys.collect())
    }

    /// Of `names`, those that are not listed.
    pub fn unknown(&self, names: &[String]) -> Vec<String> {
        names.iter().filter(|name| !self.0.contains(&key(name))).cloned().collect()
    }

    /// What is listed and is the name of no mutant any more.
    pub fn gone(&self, all: &[String]) -> Vec<String> {
        let there: BTreeSet<String> = all.iter().map(|name| key(name)).collect();
        self.0.difference(&there).cloned().collect()
    }

    /// What is listed, was tried, and did not survive anywhere.
    pub fn noticed(&self, noticed: &[String], missed: &[String]) -> Vec<String> {
        let keys = |names: &[String]| names.iter().map(|name| key(name)).collect::<BTreeSet<_>>();
        let (noticed, missed) = (keys(noticed), keys(missed));
        self.0
            .iter()
            .filter(|key| noticed.contains(*key) && !missed.contains(*key))
            .cloned()
            .collect()
    }
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
        - `crates/a/src/x.rs: replace g::h -> u8 with 0`: \n";

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().copied().map(String::from).collect()
    }

    #[test]
    fn what_has_no_reason_is_not_listed() {
        let missed = names(&[
            "crates/a/src/x.rs:7:31: replace | with ^ in f",
            "crates/a/src/x.rs:9:1: replace g::h -> u8 with 0",
        ]);
        assert_eq!(Known::parse(LIST).unknown(&missed), missed[1..]);
    }

    #[test]
    fn a_line_that_has_become_wrong_is_said() {
        let known = Known::parse(LIST);
        let name = names(&["crates/a/src/x.rs:7:31: replace | with ^ in f"]);
        let key = names(&["crates/a/src/x.rs: replace | with ^ in f"]);
        assert_eq!(known.gone(&[]), key);
        assert_eq!(known.gone(&name), names(&[]));
        assert_eq!(known.noticed(&name, &[]), key);
        assert_eq!(known.noticed(&name, &name), names(&[]));
        assert_eq!(known.noticed(&[], &[]), names(&[]));
    }
}
