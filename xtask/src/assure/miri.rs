// SPDX-License-Identifier: MIT OR Apache-2.0
//! Miri over the host tests that hold atomics shared by threads: undefined behaviour, data races, weak memory.
//!
//! What runs on the host has no `unsafe` of its own; what it may get wrong is an order of loads and stores, which
//! x86 hides and Miri does not.

use std::process::Command;

use super::step::{Figure, Options, Outcome, Step};
use super::tool::{self, said, tail};
use crate::paths;
use anyhow::Result;

/// The step.
pub const STEP: Step = Step {
    name: "miri",
    about: "host tests with threads and atomics, in an interpreter with weak memory",
    long_only: false,
    run,
};

/// Package, target, filter: tests that end in seconds there.
const TESTS: [(&str, &[&str], &str); 3] = [
    ("lock", &["--lib"], ""),
    ("vm", &["--lib"], "rate::"),
    ("vm", &["--lib"], "trace::tests::a_reader"),
];

fn run(options: &Options) -> Result<Outcome> {
    let miri = || {
        let mut command = Command::new("cargo");
        // Whatever cargo runs this tool chose its own toolchain; Miri is nightly's.
        command.args(["+nightly", "miri"]).current_dir(paths::root());
        for variable in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC"] {
            command.env_remove(variable);
        }
        command
    };
    if !tool::works(miri().arg("--version")) {
        return Ok(Outcome::NotRun(
            "there is no Miri: ./scripts/setup --assurance, or rustup component add --toolchain nightly miri"
                .into(),
        ));
    }
    let seeds = if options.long { 64 } else { 2 };
    let mut passed = 0;
    for (package, target, filter) in TESTS {
        // One seed after another: those of one run speak all at once.
        for seed in 0..seeds {
            let mut command = miri();
            command
                .args(["test", "-q", "-p", package])
                .args(target)
                .arg(filter)
                .env("CARGO_TARGET_DIR", paths::target().join("miri"))
                .env("PROPTEST_CASES", "4")
                .env("MIRIFLAGS", format!("-Zmiri-disable-isolation -Zmiri-seed={seed}"));
            let (fine, text) = said(&mut command)?;
            let ran = ran(&text);
            if !fine || ran == 0 {
                let last = tail(&text, 30);
                let why = format!("{package} {filter}, seed {seed}: {ran} tests passed\n{last}");
                return Ok(Outcome::Failed(why, Vec::new()));
            }
            passed += ran;
        }
    }
    Ok(Outcome::Passed(vec![Figure::count(
        format!("runs of tests under Miri ({seeds} seeds)"),
        passed,
    )]))
}

/// Tests that passed, over all seeds.
fn ran(text: &str) -> u64 {
    text.lines()
        .filter_map(|line| {
            line.split_once("test result: ok. ")?.1.split(' ').next()?.parse::<u64>().ok()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_add_up() {
        let text = "test result: ok. 3 passed; 0 failed\nx\ntest result: ok. 3 passed; 0 failed\n";
        assert_eq!(ran(text), 6);
        assert_eq!(ran("test result: FAILED. 3 passed; 1 failed"), 0);
    }
}
