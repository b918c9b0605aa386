// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask assure`: what is checked beyond the tests, step by step, and a table of figures.
//!
//! # Key types
//!
//! - [`Step`]: one check, a file of its own in this folder.
//! - [`Outcome`]: what it found, with its figures.
//!
//! # Invariants
//!
//! - A step that cannot run here says so and is not counted as passed.
//! - The short form runs in under twelve minutes on two cores once everything is built.

mod broken;
mod catalogue;
mod coverage;
mod el2_lines;
pub mod fuzz;
mod lines;
mod miri;
mod mutants;
mod oracle_host;
mod oracle_qemu;
mod races;
mod step;
mod table;
mod tool;

use std::time::Instant;

use anyhow::{Result, anyhow, bail};

pub use step::{Options, Outcome, Step};

/// All steps, in the order in which they run.
pub const STEPS: &[Step] = &[
    catalogue::STEP,
    oracle_host::STEP,
    oracle_qemu::STEP,
    races::STEP,
    miri::STEP,
    fuzz::STEP,
    mutants::STEP,
    coverage::STEP,
    el2_lines::STEP,
];

/// Runs what `options` ask for, and prints the table.
///
/// # Errors
///
/// A step failed, or there is none of a name asked for.
pub fn run(options: &Options) -> Result<()> {
    for name in &options.only {
        if !STEPS.iter().any(|step| step.name == name) {
            let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
            let names = names.join(", ");
            bail!("assure: no step `{name}`; there are {names}");
        }
    }
    let mut rows = Vec::new();
    for step in STEPS {
        let wanted = if options.only.is_empty() {
            options.long || !step.long_only
        } else {
            options.only.iter().any(|name| name == step.name)
        };
        if !wanted {
            continue;
        }
        println!("assure: {} ({})", step.name, step.about);
        let started = Instant::now();
        let outcome = (step.run)(options)
            .unwrap_or_else(|error| Outcome::Failed(format!("{error:#}"), Vec::new()));
        if let Outcome::Failed(why, _) | Outcome::NotRun(why) = &outcome {
            println!("assure: {}: {why}", step.name);
        }
        rows.push((step.name, outcome, started.elapsed()));
    }
    print!("{}", table::render(&rows));
    let failed: Vec<&str> = rows
        .iter()
        .filter(|(_, outcome, _)| matches!(outcome, Outcome::Failed(..)))
        .map(|(name, ..)| *name)
        .collect();
    if failed.is_empty() { Ok(()) } else { Err(anyhow!("assure: failed: {}", failed.join(", "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_is_none_is_named() {
        let options = Options { only: vec!["fuzzing".into()], ..Options::default() };
        let error = run(&options).unwrap_err();
        assert!(
            error.to_string().contains("`fuzzing`") && error.to_string().contains("catalogue, "),
            "{error}"
        );
    }
}
