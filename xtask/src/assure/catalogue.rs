// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much of the catalogue in docs/assurance.md has a test.

use super::step::{Figure, Options, Outcome, Step};
use crate::catalogue::{Id, PATH, Registry, page};
use crate::paths;
use anyhow::Result;

/// The step.
pub const STEP: Step =
    Step { name: "catalogue", about: "bugs and scenarios that have a test", long_only: false, run };

fn run(_: &Options) -> Result<Outcome> {
    let root = paths::root();
    let registry = Registry::collect(&root)?;
    let (bugs, scenarios) = registry.covered();
    let reasons = |bug: bool| {
        Id::all().filter(|id| matches!(id, Id::Bug(_)) == bug && id.reason().is_some()).count()
    };
    let figures = vec![
        Figure::count("bugs of other systems with a test, of 85", bugs as u64),
        Figure::count("bugs that no test can show, with the reason", reasons(true) as u64),
        Figure::count("scenarios with a test, of 133", scenarios as u64),
        Figure::count("scenarios that no test can cover, with the reason", reasons(false) as u64),
    ];
    let there = std::fs::read_to_string(root.join(PATH)).unwrap_or_default();
    if there != page(&registry) {
        return Ok(Outcome::Failed(format!("{PATH} is stale: cargo xtask catalogue"), figures));
    }
    if bugs < 75 {
        return Ok(Outcome::Failed(format!("only {bugs} bugs have a test"), figures));
    }
    Ok(Outcome::Passed(figures))
}
