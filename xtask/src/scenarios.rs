// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask scenarios`: which scenarios have a test, and which tests those are.
//!
//! A scenario is something that has gone wrong in systems like this one, or that someone will try: a letter
//! for its subject and a number, A1 to J9. A test says which it covers: those of guest-stub in its list, all
//! others in a comment directly above them, the word `scenario` with a colon and the ids behind it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::error::{Context, Error, Result};
use crate::stub;

/// The subjects, and how many scenarios each has.
const SUBJECTS: [(char, u32, &str); 10] = [
    ('A', 22, "hypercall arguments"),
    ('B', 16, "guard state machine"),
    ('C', 16, "stage 2 and memory"),
    ('D', 22, "trap decoding"),
    ('E', 10, "races between CPUs"),
    ('F', 8, "exhaustion"),
    ('G', 6, "reset and lifecycle"),
    ('H', 10, "several VMs, device VMs"),
    ('I', 14, "interrupts, timers, system registers"),
    ('J', 9, "boot inputs"),
];

/// Folders in which marks are looked for.
const FOLDERS: [&str; 4] = ["crates", "hyp", "tests", "xtask"];

/// Scenario id -> tests that cover it.
#[derive(Debug, Default)]
pub struct Registry {
    by_id: BTreeMap<(char, u32), Vec<String>>,
}

impl Registry {
    /// From the stub's list and the marks below `root`.
    ///
    /// # Errors
    ///
    /// A source that cannot be read, or an id that no scenario has.
    pub fn collect(root: &Path, tests: &[stub::Test]) -> Result<Self> {
        let mut registry = Self::default();
        for test in tests {
            for id in &test.ids {
                registry.add(id, &format!("guest-stub {}", test.name))?;
            }
        }
        for folder in FOLDERS {
            registry.folder(root, &root.join(folder))?;
        }
        Ok(registry)
    }

    fn folder(&mut self, root: &Path, folder: &Path) -> Result<()> {
        let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
        let mut entries: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                self.folder(root, &path)?;
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).context(|| path.display().to_string())?;
                let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                self.file(&name, &text)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, name: &str, text: &str) -> Result<()> {
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let Some(ids) = mark(line) else { continue };
            let function = lines.clone().find_map(function).unwrap_or("?");
            for id in ids.split([' ', ',']).filter(|id| !id.is_empty()) {
                self.add(id, &format!("{name} {function}"))?;
            }
        }
        Ok(())
    }

    /// Ids of another form (a stub's self-test, say) are no scenarios and left out.
    fn add(&mut self, id: &str, test: &str) -> Result<()> {
        let mut letters = id.chars();
        let (Some(subject), Ok(number)) = (letters.next(), letters.as_str().parse::<u32>()) else {
            return Ok(());
        };
        let known = |(letter, count, _): &(char, u32, &str)| {
            *letter == subject && (1..=*count).contains(&number)
        };
        if !SUBJECTS.iter().any(known) {
            return Err(Error(format!("{test}: there is no scenario {id}")));
        }
        let tests = self.by_id.entry((subject, number)).or_default();
        if !tests.iter().any(|known| known == test) {
            tests.push(test.to_owned());
        }
        Ok(())
    }

    /// (scenarios with a test, all scenarios)
    #[must_use]
    pub fn covered(&self) -> (usize, u32) {
        (self.by_id.len(), SUBJECTS.iter().map(|(_, count, _)| count).sum())
    }

    /// For people: each scenario with its tests, those without at the end of each subject.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = String::new();
        for (subject, count, title) in SUBJECTS {
            let mut missing = String::new();
            let _ = writeln!(out, "{subject}: {title}");
            for number in 1..=count {
                match self.by_id.get(&(subject, number)) {
                    Some(tests) => {
                        let _ = writeln!(out, "  {subject}{number:<3} {}", tests.join("\n       "));
                    }
                    None => {
                        let _ = write!(missing, " {subject}{number}");
                    }
                }
            }
            if !missing.is_empty() {
                let _ = writeln!(out, "  no test:{missing}");
            }
        }
        let (covered, all) = self.covered();
        let _ = writeln!(out, "{covered} of {all} scenarios have a test");
        out
    }
}

/// What stands behind the word in a comment that is a mark.
fn mark(line: &str) -> Option<&str> {
    let comment = line.trim_start().strip_prefix("//")?.trim_start_matches('/').trim_start();
    comment.strip_prefix("scenario:").or_else(|| comment.strip_prefix("scenarios:"))
}

/// The name in `fn NAME(`.
fn function(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("fn ")?;
    let plain =
        before.split_whitespace().all(|word| matches!(word, "pub" | "async" | "pub(crate)"));
    plain.then(|| rest.split(['(', '<']).next().unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(name: &str, ids: &[&str]) -> stub::Test {
        stub::Test {
            name: name.into(),
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            options: String::new(),
            flags: Vec::new(),
        }
    }

    #[test]
    fn marks_belong_to_the_function_below() {
        let mut registry = Registry::default();
        let text = "// scenario: A1, B2\n#[test]\nfn one() {}\n    /// scenarios: C3\n    pub fn two<T>() {}\n";
        registry.file("x.rs", text).unwrap();
        let table = registry.table();
        assert!(table.contains("A1   x.rs one\n"), "{table}");
        assert!(table.contains("B2   x.rs one\n"), "{table}");
        assert!(table.contains("C3   x.rs two\n"), "{table}");
        assert!(table.contains("3 of 133 scenarios have a test"), "{table}");
        assert!(table.contains("no test: J1 J2 J3 J4 J5 J6 J7 J8 J9"), "{table}");
    }

    #[test]
    fn a_scenario_that_is_none_is_refused_by_the_name_of_its_test() {
        for id in ["A0", "A23", "K1", "J10"] {
            let error = Registry::collect(Path::new("/nowhere"), &[test("t", &[id])]).unwrap_err();
            assert!(error.0.contains("guest-stub t") && error.0.contains(id), "{error}");
        }
    }

    #[test]
    fn other_words_are_no_scenarios() {
        let tests = [test("t", &["SELF", "BOOT", "A1"]), test("u", &["A1"])];
        let registry = Registry::collect(Path::new("/nowhere"), &tests).unwrap();
        assert_eq!(registry.covered().0, 1);
        assert!(registry.table().contains("A1   guest-stub t\n       guest-stub u"));
    }
}
