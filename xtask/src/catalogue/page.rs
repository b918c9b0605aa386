// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page for people.

use std::fmt::Write;

use super::registry::{Id, Registry};
use super::scenarios::SUBJECTS;

/// Where the page lies below the repository's root.
pub const PATH: &str = "docs/assurance.md";

const INTRODUCTION: &str = "\
# What has gone wrong elsewhere, and what tests it here

<!-- Made by `cargo xtask catalogue` from the marks above the tests. Do not edit: mark a test, then run that. -->

Two lists. **Bugs** are what systems of this kind have had: each has the tests that would fail if Portcullis had it
too. **Scenarios** are what someone will try, or what has to hold. [testing.md](testing.md) says how a test is marked.

A name is `crate::file::test` for a test on the host, `guest-stub::test` for a test that a guest runs in QEMU, and
`e2e::file::case` for one that looks at a whole machine in QEMU from outside. What only a board could show is
written down as such; QEMU models no caches, no memory types, no speculation and no errata.
";

/// The whole page.
#[must_use]
pub fn page(registry: &Registry) -> String {
    let mut out = String::from(INTRODUCTION);
    let (bugs, scenarios) = registry.covered();
    let all = Id::all().count();
    let all_bugs = Id::all().filter(|id| matches!(id, Id::Bug(_))).count();
    let all_scenarios = all.saturating_sub(all_bugs);
    let _ = writeln!(
        out,
        "\n{bugs} of {all_bugs} bugs and {scenarios} of {all_scenarios} scenarios have a test."
    );
    out.push_str("\n## Bugs\n\n");
    table(&mut out, registry, Id::all().filter(|id| matches!(id, Id::Bug(_))));
    for subject in SUBJECTS {
        let title = format!("{} {}", subject.letter, subject.title);
        let _ = write!(out, "\n## Scenarios {title}\n\n");
        let own = |id: &Id| matches!(id, Id::Scenario(letter, _) if *letter == subject.letter);
        table(&mut out, registry, Id::all().filter(own));
    }
    out
}

fn table(out: &mut String, registry: &Registry, ids: impl Iterator<Item = Id>) {
    out.push_str("| | | covered by |\n|---|---|---|\n");
    for id in ids {
        let name = match id {
            Id::Bug(number) => number.to_string(),
            Id::Scenario(..) => id.to_string(),
        };
        let tests: Vec<String> =
            registry.tests(id).iter().map(|test| format!("`{test}`")).collect();
        let covered = match id.reason() {
            Some(reason) => format!("*none:* {reason}"),
            None if tests.is_empty() => "*none yet*".to_owned(),
            None => tests.join(", "),
        };
        let _ = writeln!(out, "| {name} | {} | {covered} |", id.title().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_a_line_and_what_has_no_test_says_so() {
        let page = page(&Registry::default());
        assert!(page.contains("\n0 of 85 bugs and 0 of 133 scenarios have a test.\n"));
        let lines = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| |"));
        assert_eq!(lines.count(), 133 + 85);
        let line = |start: &str| page.lines().find(|line| line.starts_with(start)).unwrap();
        assert!(line("| 1 |").ends_with("| *none yet* |"));
        assert!(line("| J9 |").ends_with("| *none yet* |"));
        assert!(line("| 77 |").contains("| *none:* only a board"));
    }
}
