// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest's tests, grouped into boots: one per set of VM options, so that a hundred tests do not take a
//! hundred boots.

use anyhow::anyhow;
use std::collections::BTreeMap;
use std::time::Duration;

use xtask::build::Artifacts;
use xtask::qemu::{Ended, Limits, Machine, Module, Run, Session};
use xtask::stub::{Report, Test, Verdict};

/// At most so many tests share a boot: what dies takes no more than these with it.
const TOGETHER: usize = 32;

/// One boot: tests that share a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// Name of its log.
    pub name: String,
    /// Machine, without images.
    pub machine: Machine,
    /// Words of the VM.
    pub options: String,
    /// Names of the tests.
    pub tests: Vec<String>,
    /// Whether one of them takes long.
    pub slow: bool,
}

/// What came of a boot.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What the tests reported.
    pub report: Report,
    /// The run.
    pub run: Run,
    /// Whether the machine parks where others go off.
    pub parks: bool,
}

/// The boots of `machine`, called `name`, for `tests`.
#[must_use]
pub fn boots(name: &str, machine: &Machine, tests: &[Test]) -> Vec<Boot> {
    let mut groups: BTreeMap<&str, Vec<&Test>> = BTreeMap::new();
    let (alone, shared): (Vec<&Test>, Vec<&Test>) =
        tests.iter().partition(|test| test.has("alone"));
    for test in shared {
        groups.entry(&test.options).or_default().push(test);
    }
    let together = groups
        .into_values()
        .flat_map(|group| group.chunks(TOGETHER).map(<[_]>::to_vec).collect::<Vec<_>>());
    let single = alone.into_iter().map(|test| vec![test]);
    together
        .chain(single)
        .enumerate()
        .map(|(number, group)| Boot {
            name: format!("{name}/{number:02}-{}", group.first().map_or("", |test| &test.name)),
            machine: machine.clone(),
            options: group.first().map_or(String::new(), |test| test.options.clone()),
            tests: group.iter().map(|test| test.name.clone()).collect(),
            slow: group.iter().any(|test| test.has("slow")),
        })
        .collect()
}

impl Boot {
    /// Boots and reads to the end.
    ///
    /// # Errors
    ///
    /// QEMU cannot be started.
    pub fn run(&self, images: &Artifacts) -> anyhow::Result<Outcome> {
        let mut machine = self.machine.clone();
        machine.kernel = Some(images.hypervisor.clone());
        let mut bootargs = format!("run={}", self.tests.join(":"));
        if !self.options.is_empty() {
            bootargs.push(' ');
            bootargs.push_str(&self.options);
        }
        machine.modules =
            vec![Module { kernel: images.guest_stub.clone(), bootargs, ..Module::default() }];
        let factor = if self.slow { 3 } else { 1 };
        let limits = Limits {
            total: Duration::from_secs(400 * factor),
            silence: Duration::from_secs(100 * factor),
        };
        let session = Session::start(&machine, &self.name, limits, false)?;
        let run = session.finish();
        let parks = machine.board.is_some_and(|board| board.parks);
        Ok(Outcome { report: Report::read(&run.lines), run, parks })
    }
}

impl Outcome {
    /// How `test` ended; `Ok(Some(reason))` if it skipped itself.
    ///
    /// # Errors
    ///
    /// It failed, or has not said that it passed.
    pub fn verdict(&self, test: &str) -> anyhow::Result<Option<String>> {
        match self.report.verdicts.get(test) {
            Some(Verdict::Passed) => Ok(None),
            Some(Verdict::Skipped(reason)) => Ok(Some(reason.clone())),
            Some(Verdict::Failed(reason)) => {
                Err(anyhow!("{reason}\n  console: {}", self.run.log.display()))
            }
            None => Err(anyhow!("it has no line `ok {test}`: {}", self.run.tail())),
        }
    }

    /// Whether the boot ended as it should: the guest's closing line, the hypervisor's line about the VM's
    /// end, power-off; and nothing went wrong in EL2.
    ///
    /// # Errors
    ///
    /// What is missing or too much.
    pub fn closes(&self) -> anyhow::Result<()> {
        self.report.check_closing().map_err(|error| anyhow!("{error:#}: {}", self.run.tail()))?;
        let stops =
            self.run.lines.iter().filter(|line| {
                line.starts_with("[hyp] ") && line.contains(": stopped (power off)")
            });
        if stops.count() != 1 {
            return Err(anyhow!(
                "not exactly one `[hyp] NAME: stopped (power off)`: {}",
                self.run.tail()
            ));
        }
        if let Some(line) = self
            .run
            .lines
            .iter()
            .find(|line| line.starts_with("[hyp] error") || line.starts_with("[hyp] panic"))
        {
            return Err(anyhow!("EL2 said `{line}`: {}", self.run.tail()));
        }
        let end = if self.parks { Ended::Parked } else { Ended::Exited(Some(0)) };
        if self.run.ended != end {
            return Err(anyhow!("the machine was not powered off: {}", self.run.tail()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(name: &str, options: &str, flags: &[&str]) -> Test {
        Test {
            name: name.into(),
            ids: Vec::new(),
            options: options.into(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        }
    }

    #[test]
    fn tests_with_the_same_options_share_a_boot_and_those_alone_do_not() {
        let tests = [
            test("a", "", &[]),
            test("b", "vm.guard=off", &[]),
            test("c", "", &["alone"]),
            test("d", "", &[]),
        ];
        let boots = boots("m", &Machine::default(), &tests);
        let groups: Vec<_> = boots.iter().map(|boot| boot.tests.join("+")).collect();
        assert_eq!(groups, ["a+d", "b", "c"]);
        assert_eq!(boots[1].options, "vm.guard=off");
    }

    #[test]
    fn every_test_is_in_exactly_one_boot() {
        let tests: Vec<_> = (0..100).map(|n| test(&format!("t{n}"), "", &[])).collect();
        let boots = boots("m", &Machine::default(), &tests);
        let names: Vec<_> = boots.iter().flat_map(|boot| boot.tests.clone()).collect();
        let expected: Vec<_> = tests.iter().map(|test| test.name.clone()).collect();
        assert_eq!(names, expected);
        assert!(boots.iter().all(|boot| boot.tests.len() <= TOGETHER));
    }

    fn outcome(text: &str, ended: Ended) -> Outcome {
        let run = Run {
            lines: text.lines().map(str::to_owned).collect(),
            ended,
            took: Duration::ZERO,
            log: "LOG".into(),
        };
        Outcome { report: Report::read(&run.lines), run, parks: false }
    }

    const GOOD: &str = "ok a\nskip b: why\nstub: 1 passed, 0 failed, 1 skipped\n\
                        [hyp] vm0: stopped (power off): 1 hypercalls, 0 MMIO exits, 0 refused";

    #[test]
    fn verdicts_come_from_lines() {
        let outcome = outcome("ok a\nskip b: why\nFAIL c: that", Ended::Silent);
        assert_eq!(outcome.verdict("a").unwrap(), None);
        assert_eq!(outcome.verdict("b").unwrap(), Some("why".into()));
        assert!(outcome.verdict("c").unwrap_err().to_string().starts_with("that"));
        assert!(outcome.verdict("d").unwrap_err().to_string().contains("no line `ok d`"));
    }

    #[test]
    fn a_boot_closes_only_with_all_its_lines() {
        let off = Ended::Exited(Some(0));
        outcome(GOOD, off).closes().unwrap();
        for (text, ended) in [
            ("ok a\nskip b: why\nstub: 1 passed, 0 failed, 1 skipped".to_owned(), off),
            (format!("{GOOD}\n{}", GOOD.lines().last().unwrap()), off),
            (GOOD.replace("stub:", "stab:"), off),
            (format!("[hyp] error: x\n{GOOD}"), off),
            (format!("[hyp] panic on CPU 0: x\n{GOOD}"), off),
            (GOOD.to_owned(), Ended::Silent),
        ] {
            assert!(outcome(&text, ended).closes().is_err(), "{text}");
        }
    }
}
