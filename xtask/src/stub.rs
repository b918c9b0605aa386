// SPDX-License-Identifier: MIT OR Apache-2.0
//! The test guest, seen from the host: its list of tests, and the lines in which it reports.
//!
//! # Key types
//!
//! - [`Test`]: one line of the list that the stub prints when booted with `list`.
//! - [`Report`]: what a console says about the tests that ran.
//!
//! # Invariants
//!
//! - A test without a line of its own has not passed, whatever else was printed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::qemu::{Limits, Machine, Session, Start};
use anyhow::{Context, Result, anyhow, bail};

/// A test of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// Its name, unique in the stub.
    pub name: String,
    /// Scenarios that it covers.
    pub ids: Vec<String>,
    /// Words of the VM it needs, such as `vm.guard=enforce`.
    pub options: String,
    /// `alone`, `slow`, ...
    pub flags: Vec<String>,
}

impl Test {
    /// Whether the test has this flag.
    #[must_use]
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|own| own == flag)
    }

    /// Reads `test<TAB>NAME<TAB>IDS<TAB>VMOPTS<TAB>FLAGS`; other lines are none.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.strip_prefix("test\t")?.split('\t');
        let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
        let words = |text: Option<&str>| -> Vec<String> {
            let text = text.unwrap_or_default();
            let separator = |letter: char| letter == ',' || letter.is_whitespace();
            text.split(separator).filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let ids = words(fields.next());
        // Groups are made by comparing options: the order of the words does not matter.
        let mut options = words(fields.next());
        options.sort();
        let flags = words(fields.next());
        Some(Self { name, ids, options: options.join(" "), flags })
    }
}

/// The list of the stub in `image`. It boots without the hypervisor, at EL1: its list must be had even
/// when the hypervisor does not start.
///
/// # Errors
///
/// QEMU or the stub does not run, or prints no test, or one name twice.
pub fn list(image: &Path) -> Result<Vec<Test>> {
    if !image.is_file() {
        bail!("{} is missing: run ./scripts/build", image.display());
    }
    let machine = Machine {
        start: Start::El1,
        cpus: 1,
        memory_mib: 512,
        kernel: Some(image.into()),
        append: Some("list".into()),
        ..Machine::default()
    };
    let limits = Limits { total: Duration::from_secs(120), silence: Duration::from_secs(60) };
    let run = Session::start(&machine, "stub-list", limits, false)?.finish();
    let tests = parse_list(&run.lines).context("guest-stub's list of tests")?;
    if tests.is_empty() {
        bail!("guest-stub lists no tests: {}", run.tail());
    }
    Ok(tests)
}

fn parse_list(lines: &[String]) -> Result<Vec<Test>> {
    let mut seen = BTreeMap::new();
    let tests: Vec<Test> = lines.iter().filter_map(|line| Test::parse(line)).collect();
    for test in &tests {
        if seen.insert(&test.name, ()).is_some() {
            bail!("two tests are called {}", test.name);
        }
    }
    Ok(tests)
}

/// How one test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// `ok NAME`.
    Passed,
    /// `FAIL NAME: reason`.
    Failed(String),
    /// `skip NAME: reason`.
    Skipped(String),
}

/// What a console says about the tests that ran.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// By name. A test that reported twice counts as failed.
    pub verdicts: BTreeMap<String, Verdict>,
    /// `stub: P passed, F failed, S skipped`.
    pub closing: Option<[u32; 3]>,
}

impl Report {
    /// Reads a whole console.
    #[must_use]
    pub fn read(lines: &[String]) -> Self {
        let mut report = Self::default();
        for line in lines {
            if let Some(name) = line.strip_prefix("ok ") {
                report.note(name, Verdict::Passed);
            } else if let Some((name, reason)) = named(line, "FAIL ") {
                report.note(name, Verdict::Failed(reason.to_owned()));
            } else if let Some((name, reason)) = named(line, "skip ") {
                report.note(name, Verdict::Skipped(reason.to_owned()));
            } else if let Some(counts) = closing(line) {
                report.closing = Some(counts);
            }
        }
        report
    }

    fn note(&mut self, name: &str, verdict: Verdict) {
        let name = name.trim_end().to_owned();
        self.verdicts
            .entry(name)
            .and_modify(|old| *old = Verdict::Failed("reported twice".into()))
            .or_insert(verdict);
    }

    /// Whether the closing line is there and counts what the lines above it say.
    ///
    /// # Errors
    ///
    /// What does not fit.
    pub fn check_closing(&self) -> Result<()> {
        let count = |wanted: fn(&Verdict) -> bool| {
            u32::try_from(self.verdicts.values().filter(|verdict| wanted(verdict)).count())
                .unwrap_or(u32::MAX)
        };
        let counted = [
            count(|verdict| matches!(verdict, Verdict::Passed)),
            count(|verdict| matches!(verdict, Verdict::Failed(_))),
            count(|verdict| matches!(verdict, Verdict::Skipped(_))),
        ];
        match self.closing {
            None => Err(anyhow!("there is no closing line `stub: P passed, F failed, S skipped`")),
            Some(claimed) if claimed != counted => {
                Err(anyhow!("the closing line says {claimed:?}, the lines {counted:?}"))
            }
            Some(_) => Ok(()),
        }
    }
}

/// `PREFIX NAME: reason`; a line without reason has an empty one.
fn named<'a>(line: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    let rest = line.strip_prefix(prefix)?;
    Some(rest.split_once(": ").unwrap_or((rest, "")))
}

/// The counts of `stub: P passed, F failed, S skipped`.
fn closing(line: &str) -> Option<[u32; 3]> {
    let mut parts = line.strip_prefix("stub: ")?.split(", ");
    let mut counts = [0; 3];
    for (count, word) in counts.iter_mut().zip(["passed", "failed", "skipped"]) {
        let number = parts.next()?.strip_suffix(word)?.strip_suffix(' ')?;
        *count = number.parse().ok()?;
    }
    parts.next().is_none().then_some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_list_is_read_and_other_lines_are_none() {
        let text = "[hyp] up\ntest\thvc_map\tA1,A2\tvm.guard=enforce vm.cpus=2\talone slow\n\
                    test\tplain\t\t\t\ntest without tabs\ntest\t\tA1\t\t\n";
        let tests = parse_list(&lines(text)).unwrap();
        assert_eq!(tests.len(), 2);
        assert_eq!(tests[0].ids, ["A1", "A2"]);
        assert_eq!(tests[0].options, "vm.cpus=2 vm.guard=enforce");
        assert!(tests[0].has("alone") && tests[0].has("slow") && !tests[0].has("slo"));
        assert_eq!(tests[1].options, "");
        assert!(tests[1].ids.is_empty() && tests[1].flags.is_empty());
    }

    #[test]
    fn a_name_may_stand_once() {
        let text = "test\ta\t\t\t\ntest\ta\t\t\t\n";
        assert!(parse_list(&lines(text)).unwrap_err().to_string().contains("called a"));
    }

    #[test]
    fn verdicts_and_the_closing_line() {
        let text = "ok a\nFAIL b: x: y\nskip c: needs more vCPUs\nokay\nstub: 1 passed, 1 failed, 1 skipped";
        let report = Report::read(&lines(text));
        assert_eq!(report.verdicts["a"], Verdict::Passed);
        assert_eq!(report.verdicts["b"], Verdict::Failed("x: y".into()));
        assert_eq!(report.verdicts["c"], Verdict::Skipped("needs more vCPUs".into()));
        assert_eq!(report.verdicts.len(), 3);
        report.check_closing().unwrap();
    }

    #[test]
    fn a_closing_line_that_is_missing_or_wrong_is_seen() {
        let report = Report::read(&lines("ok a"));
        assert!(report.check_closing().unwrap_err().to_string().contains("no closing line"));
        let report = Report::read(&lines("ok a\nstub: 2 passed, 0 failed, 0 skipped"));
        assert!(report.check_closing().unwrap_err().to_string().contains("says [2, 0, 0]"));
        for cut in ["stub: 1 passed, 0 failed", "stub: 1 passed, 0 failed, 0 skipped, 1 lost"] {
            assert_eq!(Report::read(&lines(cut)).closing, None);
        }
    }

    #[test]
    fn one_that_reports_twice_has_failed() {
        let report = Report::read(&lines("FAIL a: x\nok a"));
        assert_eq!(report.verdicts["a"], Verdict::Failed("reported twice".into()));
    }
}
