// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which cases there are, which of them were asked for, and the boots that those need.

use std::sync::Arc;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use xtask::boards;
use xtask::build::Artifacts;
use xtask::stub::Test;

use crate::fixture::{Case, Fixture};
use crate::guests::{self, Outcome};
use crate::matrix::Configuration;
use crate::pool::{Pool, Promise};

/// Cases, and the jobs that give their results.
#[derive(Default)]
pub struct Schedule {
    /// In the order in which they are reported.
    pub trials: Vec<Trial>,
    /// What has to run; not started yet.
    pub pool: Pool,
    /// All boots of guests: their tests, and what came of them.
    boots: Vec<(Vec<String>, Promise<Outcome>)>,
}

/// What every job needs.
#[derive(Debug, Clone)]
pub struct Context {
    /// The images under test.
    pub images: Artifacts,
    /// Only the part that takes under two minutes.
    pub quick: bool,
    /// A guest of `scripts/guests` that was not made is a failure, and no reason to skip a case; unless it is made
    /// [on request](xtask::guests::Guest::on_request) only.
    pub all_guests: bool,
}

impl Schedule {
    /// One case per guest test and machine, and one per machine for how its boots end.
    pub fn add_guests(
        &mut self,
        context: &Context,
        arguments: &Arguments,
        configuration: &Configuration,
        tests: &[Test],
    ) {
        let depth = match (context.quick, configuration.quick) {
            (false, _) => configuration.depth,
            (true, Some(depth)) => depth,
            (true, None) => return,
        };
        let machine = configuration.name;
        if let Some(missing) = configuration.machine.board.and_then(|it| it.available().err()) {
            self.trials.push(Trial::ignorable_test(format!("{machine}::all"), move || {
                Ok(Completion::ignored_with(format!("{missing:#}")))
            }));
            return;
        }
        let closing = format!("{machine}::every_boot_closes");
        let all: Vec<Test> =
            tests.iter().filter(|test| configuration.takes(test, depth)).cloned().collect();
        let (lacking, all): (Vec<Test>, Vec<Test>) =
            all.into_iter().partition(|test| configuration.lacks(test).is_some());
        for test in lacking {
            let why = configuration.lacks(&test).unwrap_or_default();
            self.trials
                .push(Trial::ignorable_test(format!("{machine}::{}", test.name), move || {
                    Ok(Completion::ignored_with(why))
                }));
        }
        // How the boots end is asked of all of them, so all have to run.
        let wanted: Vec<Test> = if selected(arguments, &closing) {
            all.clone()
        } else {
            all.iter()
                .filter(|test| selected(arguments, &format!("{machine}::{}", test.name)))
                .cloned()
                .collect()
        };
        let boots = guests::boots(machine, &configuration.machine, &wanted);
        let mut promises: Vec<(Vec<String>, Promise<Outcome>)> = Vec::new();
        for boot in boots {
            let names = boot.tests.clone();
            let images = context.images.clone();
            promises.push((names, self.pool.add(move || boot.run(&images))));
        }
        for test in all {
            let promise = promises
                .iter()
                .find(|(names, _)| names.contains(&test.name))
                .map(|(_, promise)| Arc::clone(promise));
            let name = format!("{machine}::{}", test.name);
            self.trials.push(Trial::ignorable_test(name, move || {
                let promise = promise.ok_or("it was not planned to run")?;
                let outcome = promise.wait().as_ref().map_err(failed)?;
                match outcome.verdict(&test.name).map_err(|error| failed(&error))? {
                    None => Ok(Completion::Completed),
                    Some(reason) => Ok(Completion::ignored_with(reason)),
                }
            }));
        }
        for (names, promise) in &promises {
            self.boots.push((names.clone(), Arc::clone(promise)));
        }
        self.trials.push(Trial::test(closing, move || {
            for (_, promise) in promises {
                let outcome = promise.wait().as_ref().map_err(failed)?;
                outcome.closes().map_err(|error| failed(&error))?;
            }
            Ok(())
        }));
    }

    /// One case that fails if a test of the guest skipped itself on every machine, which no other case would notice.
    pub fn add_coverage(&mut self, context: &Context, arguments: &Arguments, tests: &[Test]) {
        let name = "matrix::every_test_runs_somewhere";
        let whole = arguments.filter.is_none() && arguments.skip.is_empty() && !context.quick;
        if !whole {
            return;
        }
        let tests: Vec<String> = tests.iter().map(|test| test.name.clone()).collect();
        let boots = std::mem::take(&mut self.boots);
        self.trials.push(Trial::test(name, move || {
            let ran = |test: &String| {
                boots.iter().filter(|(names, _)| names.contains(test)).any(|(_, promise)| {
                    // What failed elsewhere has run, and is reported there.
                    let outcome = promise.wait().as_ref();
                    outcome.is_ok_and(|outcome| !matches!(outcome.verdict(test), Ok(Some(_))))
                })
            };
            let missing: Vec<_> = tests.iter().filter(|test| !ran(test)).cloned().collect();
            if missing.is_empty() {
                Ok(())
            } else {
                Err(format!("on every machine skipped: {}", missing.join(" ")).into())
            }
        }));
    }

    /// One case per function.
    pub fn add_cases(&mut self, context: &Context, arguments: &Arguments, cases: &[Case]) {
        for case in cases.iter().filter(|case| !(context.quick && case.slow)) {
            let name = format!("{}::{}", case.group, case.name);
            let fixture = Fixture {
                images: context.images.clone(),
                name: format!("{}/{}", case.group, case.name),
            };
            let check = case.check;
            let missing = match case.group {
                "boards" => boards::all_trees().err(),
                "board_pages" => boards::model::RASPI4B.available().err(),
                "firmware" => {
                    let needed = case.needs.iter().find_map(|guest| guest.existing().err());
                    needed.or_else(|| boards::model::RASPI4B.available().err())
                }
                _ => case.needs.iter().find_map(|guest| guest.existing().err()),
            };
            let on_request = case.needs.iter().any(|guest| guest.on_request());
            if let Some(missing) = missing.filter(|_| on_request || !context.all_guests) {
                self.trials.push(Trial::ignorable_test(name, move || {
                    Ok(Completion::ignored_with(format!("{missing:#}")))
                }));
                continue;
            }
            let promise = if selected(arguments, &name) {
                Some(self.pool.add(move || check(&fixture)))
            } else {
                None
            };
            self.trials.push(Trial::test(name, move || {
                let promise = promise.ok_or("it was not planned to run")?;
                promise.wait().as_ref().copied().map_err(failed)
            }));
        }
    }
}

/// An error with all that caused it.
fn failed(error: &anyhow::Error) -> Failed {
    format!("{error:#}").into()
}

/// Whether libtest-mimic will run the case called `name`: nothing boots for one that it filters out.
fn selected(arguments: &Arguments, name: &str) -> bool {
    if arguments.list {
        return false;
    }
    let matches = |pattern: &String| {
        if arguments.exact { name == pattern } else { name.contains(pattern.as_str()) }
    };
    arguments.filter.as_ref().is_none_or(matches) && !arguments.skip.iter().any(matches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_runs() {
        let arguments = |words: &[&str]| {
            Arguments::from_iter(std::iter::once("qemu").chain(words.iter().copied()))
        };
        assert!(selected(&arguments(&[]), "gicv3::a"));
        assert!(selected(&arguments(&["v3::a"]), "gicv3::a"));
        assert!(!selected(&arguments(&["v2"]), "gicv3::a"));
        assert!(!selected(&arguments(&["v3::a", "--exact"]), "gicv3::a"));
        assert!(!selected(&arguments(&["--skip", "gicv3"]), "gicv3::a"));
        assert!(!selected(&arguments(&["--list"]), "gicv3::a"));
    }
}
