// SPDX-License-Identifier: MIT OR Apache-2.0
//! The models in `races/`, each under many schedules.

use super::broken;
use super::step::{Figure, Options, Outcome, Step};
use super::tool::{self, number, said, seed, tail};
use crate::paths;
use anyhow::Result;

/// The step.
pub const STEP: Step = Step {
    name: "races",
    about: "models of races between CPUs, under many schedules",
    long_only: false,
    run,
};

fn run(options: &Options) -> Result<Outcome> {
    let schedules = number("PORTCULLIS_RACES_SCHEDULES", if options.long { 20_000 } else { 300 });
    let mut command = tool::cargo_at_root(&["test", "--locked", "--manifest-path"]);
    command
        .arg(paths::root().join("races/Cargo.toml"))
        // One at a time: hyp's own statics are among what is modelled.
        .args(["--lib", "--", "--test-threads=1", "--nocapture"])
        .env("CARGO_TARGET_DIR", paths::target().join("races"))
        .env("RUSTFLAGS", "--cfg shuttle")
        .env("RACES_SCHEDULES", schedules.to_string());
    let (passed, text) = said(&mut command)?;
    let (models, ran) = counted(&text);
    let mut figures = vec![
        Figure::count("models of races", models),
        Figure::count("schedules of them that ran", ran),
    ];
    if !passed || models == 0 || ran == 0 {
        let why = format!("a model of races/ failed\n{}", tail(&text, 40));
        return Ok(Outcome::Failed(why, figures));
    }
    match broken::all_found(&chosen(options.long)) {
        Ok(found) => {
            figures.push(Figure::count("broken sources that their model found", found));
            Ok(Outcome::Passed(figures))
        }
        Err(error) => Ok(Outcome::Failed(format!("{error:#}"), figures)),
    }
}

/// Which ways to break the sources are tried: all, or in the short form one that the seed chooses.
fn chosen(long: bool) -> Vec<&'static broken::Break> {
    let one = (seed() % broken::BREAKS.len() as u64) as usize;
    broken::BREAKS.iter().enumerate().filter(|(n, _)| long || *n == one).map(|(_, b)| b).collect()
}

/// Models that passed, and the sum of the lines `schedules N`.
fn counted(text: &str) -> (u64, u64) {
    let (mut models, mut schedules) = (0, 0);
    for line in text.lines() {
        // A test's own line and what it prints share one, without a terminal.
        if let Some((_, count)) = line.rsplit_once("schedules ") {
            schedules += count.trim().parse().unwrap_or(0);
        }
        models += u64::from(line.trim() == "ok" || line.ends_with("... ok"));
    }
    (models, schedules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_and_schedules_are_counted() {
        let text = "running 2 tests\ntest a::b ... schedules 200\nok\ntest c ... schedules 300\nok\ntest result: ok. 2 passed";
        assert_eq!(counted(text), (2, 500));
        assert_eq!(counted("error: it does not compile\n"), (0, 0));
    }
}
