// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which bugs and scenarios have a test, and which tests those are.
//!
//! A test says what it covers in a comment directly above it: the word `scenario` or `bug`, a colon, and the ids
//! behind it. Those of guest-stub have their scenarios in their row of a `tests!` table.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use super::bugs::BUGS;
use super::reasons::REASONS;
use super::scenarios::SUBJECTS;
use anyhow::{Context, Result, bail};

/// Folders in which marks are looked for.
const FOLDERS: [&str; 6] = ["crates", "guest-stub", "hyp", "races", "tests", "xtask"];

/// Something to cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Id {
    /// A bug of [`BUGS`], counted from 1.
    Bug(usize),
    /// A scenario of [`SUBJECTS`], counted from 1.
    Scenario(char, usize),
}

impl Id {
    /// All that there are.
    pub fn all() -> impl Iterator<Item = Self> {
        let bugs = (1..=BUGS.len()).map(Self::Bug);
        bugs.chain(SUBJECTS.iter().flat_map(|subject| {
            (1..=subject.scenarios.len()).map(|number| Self::Scenario(subject.letter, number))
        }))
    }

    /// What it is, in words; `None`: there is none of that number.
    #[must_use]
    pub fn title(self) -> Option<&'static str> {
        match self {
            Self::Bug(number) => BUGS.get(number.checked_sub(1)?).map(|bug| bug.title),
            Self::Scenario(letter, number) => {
                let subject = SUBJECTS.iter().find(|subject| subject.letter == letter)?;
                subject.scenarios.get(number.checked_sub(1)?).copied()
            }
        }
    }

    /// Why no test covers it, if that is said.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Bug(number) => BUGS.get(number.checked_sub(1)?)?.reason,
            Self::Scenario(..) => {
                let name = self.to_string();
                REASONS.iter().find(|(id, _)| *id == name).map(|(_, reason)| *reason)
            }
        }
    }

    /// `B7`; other words are no scenario.
    fn scenario(word: &str) -> Option<Self> {
        let mut letters = word.chars();
        let letter = letters.next().filter(char::is_ascii_uppercase)?;
        letters.as_str().parse().ok().map(|number| Self::Scenario(letter, number))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bug(number) => write!(f, "bug {number}"),
            Self::Scenario(letter, number) => write!(f, "{letter}{number}"),
        }
    }
}

/// Id -> tests that cover it.
#[derive(Debug, Default)]
pub struct Registry {
    by_id: BTreeMap<Id, Vec<String>>,
    /// Names of the tests in guest-stub's tables.
    guest_tests: Vec<String>,
}

impl Registry {
    /// From the sources below `root`.
    ///
    /// # Errors
    ///
    /// A source that cannot be read, an id that does not exist, or one that has a test and a reason for none.
    pub fn collect(root: &Path) -> Result<Self> {
        let mut registry = Self::default();
        for folder in FOLDERS {
            registry.folder(root, &root.join(folder))?;
        }
        for id in registry.by_id.keys() {
            if id.reason().is_some() {
                bail!("{id} has a test, and a reason why it can have none");
            }
        }
        Ok(registry)
    }

    fn folder(&mut self, root: &Path, folder: &Path) -> Result<()> {
        let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
        let mut entries: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    self.folder(root, &path)?;
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy();
                self.file(&name, &text)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, name: &str, text: &str) -> Result<()> {
        let guest = name.starts_with("guest-stub/");
        let module = module(name);
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if guest && let Some((test, ids)) = row(line) {
                self.guest_tests.push(test.to_owned());
                for id in ids.split(',').filter_map(Id::scenario) {
                    self.add(id, &format!("guest-stub::{test}"))?;
                }
            }
            let Some((bugs, ids)) = mark(line) else { continue };
            let below = lines.clone().find_map(|line| {
                let row = if guest { row(line).map(|(test, _)| test) } else { None };
                row.or_else(|| function(line))
            });
            let test = match below {
                Some(test) if guest => format!("guest-stub::{test}"),
                Some(test) => format!("{module}::{test}"),
                None => bail!("{name}: no test below `{line}`"),
            };
            for word in ids.split([' ', ',']).filter(|word| !word.is_empty()) {
                let id = if bugs { word.parse().ok().map(Id::Bug) } else { Id::scenario(word) };
                let id = id.with_context(|| format!("{test}: `{word}` is no id"))?;
                self.add(id, &test)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, id: Id, test: &str) -> Result<()> {
        if id.title().is_none() {
            bail!("{test}: there is no {id}");
        }
        let tests = self.by_id.entry(id).or_default();
        if !tests.iter().any(|known| known == test) {
            tests.push(test.to_owned());
        }
        Ok(())
    }

    /// The tests that cover `id`.
    #[must_use]
    pub fn tests(&self, id: Id) -> &[String] {
        self.by_id.get(&id).map_or(&[], Vec::as_slice)
    }

    /// (bugs with a test, scenarios with a test)
    #[must_use]
    pub fn covered(&self) -> (usize, usize) {
        let bugs = self.by_id.keys().filter(|id| matches!(id, Id::Bug(_))).count();
        (bugs, self.by_id.len().saturating_sub(bugs))
    }

    /// The tests of guest-stub, as its sources list them, in alphabetical order.
    #[must_use]
    pub fn guest_tests(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.guest_tests.iter().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

/// `stage2::map` for crates/stage2/tests/suite/map.rs; `e2e::several` for tests/cases/several.rs.
fn module(file: &str) -> String {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    let mut parts: Vec<&str> = stem
        .split('/')
        .filter(|part| {
            !matches!(*part, "crates" | "src" | "tests" | "suite" | "cases" | "mod" | "lib")
        })
        .collect();
    if file.starts_with("tests/") {
        parts.insert(0, "e2e");
    }
    parts.join("::")
}

/// What lies behind the word in a comment that is a mark, and whether the word is `bug`.
fn mark(line: &str) -> Option<(bool, &str)> {
    let comment = line.trim_start().strip_prefix("//")?.trim_start_matches('/').trim_start();
    let rest = |words: [&str; 2]| words.iter().find_map(|word| comment.strip_prefix(word));
    let bugs = rest(["bug:", "bugs:"]).map(|ids| (true, ids));
    bugs.or_else(|| rest(["scenario:", "scenarios:"]).map(|ids| (false, ids)))
}

/// The name in `fn NAME(`.
fn function(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("fn ")?;
    let plain =
        before.split_whitespace().all(|word| matches!(word, "pub" | "async" | "pub(crate)"));
    plain.then(|| rest.split(['(', '<']).next().unwrap_or(rest))
}

/// Name and ids of a row of guest-stub's tables, `NAME: "IDS", "OPTIONS", "FLAGS" => FUNCTION;`
fn row(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.trim_start().split_once(": \"")?;
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let (ids, rest) = rest.split_once('"')?;
    (!name.is_empty() && name.chars().all(plain) && rest.contains(" => ") && line.ends_with(';'))
        .then_some((name, ids))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_belong_to_the_function_below() {
        let mut registry = Registry::default();
        let text = "// scenario: A1, B2\n#[test]\nfn one() {}\n    /// scenarios: C3\n    // bug: 1 85\n    pub fn two<T>() {}\n";
        registry.file("crates/stage2/tests/suite/x.rs", text).unwrap();
        assert_eq!(registry.tests(Id::Scenario('A', 1)), ["stage2::x::one"]);
        assert_eq!(registry.tests(Id::Scenario('B', 2)), ["stage2::x::one"]);
        assert_eq!(registry.tests(Id::Scenario('C', 3)), ["stage2::x::two"]);
        assert_eq!(registry.tests(Id::Bug(1)), ["stage2::x::two"]);
        assert_eq!(registry.tests(Id::Bug(85)), ["stage2::x::two"]);
        assert_eq!(registry.covered(), (2, 3));
    }

    #[test]
    fn rows_of_the_guests_tables_are_tests() {
        let mut registry = Registry::default();
        let text = "tests! {\n    // bug: 7\n    a01_x: \"A1,D2\", \"vm.pool=8\", \"alone\" => one;\n    \
                    self_y: \"\", \"\", \"\" => two;\n}\n";
        registry.file("guest-stub/src/tests/a.rs", text).unwrap();
        assert_eq!(registry.tests(Id::Scenario('D', 2)), ["guest-stub::a01_x"]);
        assert_eq!(registry.tests(Id::Bug(7)), ["guest-stub::a01_x"]);
        assert_eq!(registry.guest_tests(), ["a01_x", "self_y"]);
        // A row elsewhere is text.
        registry.file("xtask/src/a.rs", "a02_x: \"A2\", \"\", \"\" => one;\n").unwrap();
        assert_eq!(registry.tests(Id::Scenario('A', 2)), [""; 0]);
    }

    #[test]
    fn ids_that_are_none_are_refused_by_the_name_of_their_test() {
        for id in ["scenario: A0", "scenario: A23", "scenario: K1", "scenario: J10", "scenario: x"]
        {
            let text = format!("// {id}\nfn one() {{}}\n");
            let error = Registry::default().file("x.rs", &text).unwrap_err();
            assert!(
                error.to_string().contains("x::one") && error.to_string().contains(&id[10..]),
                "{error}"
            );
        }
        for id in ["bug: 0", "bug: 86", "bug: A1"] {
            let text = format!("// {id}\nfn one() {{}}\n");
            let error = Registry::default().file("x.rs", &text).unwrap_err();
            assert!(error.to_string().contains("x::one"), "{error}");
        }
        assert!(Registry::default().file("x.rs", "// bug: 1\n").is_err());
    }

    #[test]
    fn there_are_133_scenarios_and_85_bugs() {
        let numbers: Vec<usize> = SUBJECTS.iter().map(|subject| subject.scenarios.len()).collect();
        assert_eq!(numbers, [22, 16, 16, 22, 10, 8, 6, 10, 14, 9]);
        assert_eq!(Id::all().count(), 133 + 85);
        for id in Id::all() {
            assert!(id.title().is_some_and(|title| !title.is_empty()), "{id}");
        }
        for (id, reason) in REASONS {
            assert!(Id::scenario(id).and_then(Id::title).is_some() && !reason.is_empty(), "{id}");
        }
    }

    #[test]
    fn files_have_short_names() {
        for (file, name) in [
            ("crates/vm/tests/suite/calls.rs", "vm::calls"),
            ("crates/stage2/src/codec.rs", "stage2::codec"),
            ("crates/lock/src/lib.rs", "lock"),
            ("tests/cases/several.rs", "e2e::several"),
            ("tests/pool.rs", "e2e::pool"),
            ("xtask/src/qemu/mod.rs", "xtask::qemu"),
        ] {
            assert_eq!(module(file), name);
        }
    }
}
