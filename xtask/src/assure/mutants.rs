// SPDX-License-Identifier: MIT OR Apache-2.0
//! cargo-mutants: whether the tests notice when a function does something else.
//!
//! The short form takes the lines that differ from the branch's base, for five minutes at most; the long form takes
//! a sample of everything, by a seed that it prints.

use std::process::Command;
use std::time::Duration;

use super::tool::{self, number, said, tail};
use super::{Figure, Options, Outcome, Step};
use crate::error::{Context, Result};
use crate::paths;

/// The step.
pub const STEP: Step = Step {
    name: "mutants",
    about: "whether tests notice wrong code: changed lines, or in the long form a sample",
    long_only: false,
    run,
};

/// Where the mutants of a long run are: the crates that decide.
const CRATES: [&str; 6] = ["arch", "mmio-guard", "stage2", "vm", "vgic", "platform"];

fn run(options: &Options) -> Result<Outcome> {
    if !tool::works(tool::cargo_at_root(&["mutants", "--version"]).env_remove("RUSTUP_TOOLCHAIN")) {
        return Ok(Outcome::NotRun(
            "there is no cargo-mutants: ./scripts/setup --assurance".into(),
        ));
    }
    let out = paths::target().join("mutants");
    std::fs::create_dir_all(&out).context(|| out.display().to_string())?;
    // What an earlier run found is not what this one finds.
    let _ = std::fs::remove_dir_all(out.join("mutants.out"));
    let mut command =
        tool::cargo_at_root(&["mutants", "--no-shuffle", "--timeout", "120", "--output"]);
    command.arg(&out);
    if options.long {
        let shards = number("PORTCULLIS_MUTANTS_SHARDS", 40).max(1);
        let seed = number("PORTCULLIS_MUTANTS_SEED", 1) % shards;
        println!("assure: mutants: sample {seed} of {shards} (PORTCULLIS_MUTANTS_SEED, _SHARDS)");
        command.args(["--shard", &format!("{seed}/{shards}")]);
    } else {
        let diff = difference()?;
        if diff.is_empty() {
            return Ok(Outcome::Passed(vec![Figure::count(
                "changed lines of crates/ to mutate",
                0,
            )]));
        }
        let file = out.join("changes.diff");
        std::fs::write(&file, diff).context(|| file.display().to_string())?;
        // That the tests pass without a mutant is what ./scripts/test shows.
        command.args(["--baseline", "skip", "--in-diff"]).arg(file);
    }
    for package in CRATES {
        command.args(["--package", package]);
    }
    let limit = if options.long { 12 * 3600 } else { 300 };
    let mut limited = Command::new("timeout");
    limited
        .args(["--signal=INT", &Duration::from_secs(limit).as_secs().to_string()])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(paths::root());
    let (_, text) = said(&mut limited)?;
    let interrupted = text.contains("interrupted");
    let read = |name: &str| {
        let file = out.join("mutants.out").join(name);
        std::fs::read_to_string(file).unwrap_or_default()
    };
    let (caught, timed_out, missed) = (read("caught.txt"), read("timeout.txt"), read("missed.txt"));
    let count = |text: &str| text.lines().count() as u64;
    let noticed = count(&caught) + count(&timed_out);
    let viable = noticed + count(&missed);
    let figures = vec![
        Figure::count("mutants that compile", viable),
        Figure::count("mutants that tests noticed", noticed),
        Figure::percent("of them noticed", noticed, viable),
    ];
    if viable == 0 && interrupted {
        let why = format!("{limit} s did not suffice for one mutant on this machine");
        return Ok(Outcome::NotRun(why));
    }
    if viable == 0 && !text.contains("No mutants") && !text.contains("0 mutants") {
        return Ok(Outcome::Failed(
            format!("cargo mutants tried none\n{}", tail(&text, 20)),
            figures,
        ));
    }
    if noticed * 100 < viable * 90 {
        return Ok(Outcome::Failed(format!("not noticed:\n{missed}"), figures));
    }
    if !missed.is_empty() {
        println!("assure: mutants that no test noticed:\n{missed}");
    }
    Ok(Outcome::Passed(figures))
}

/// What differs in `crates/` from where this branch left the main one, or from the commit before.
fn difference() -> Result<String> {
    let git = |words: &[&str]| said(Command::new("git").current_dir(paths::root()).args(words));
    let base = ["origin/main", "team/main", "HEAD~1"].into_iter().find_map(|name| {
        let (found, base) = git(&["merge-base", "HEAD", name]).ok()?;
        (found && base.trim() != head().trim()).then(|| base.trim().to_owned())
    });
    let Some(base) = base else { return Ok(String::new()) };
    Ok(git(&["diff", &base, "--", "crates"])?.1)
}

fn head() -> String {
    said(Command::new("git").current_dir(paths::root()).args(["rev-parse", "HEAD"]))
        .map(|(_, text)| text)
        .unwrap_or_default()
}
