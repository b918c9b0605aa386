// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exits by chance, on this machine: `vm` and `stage2` against the specification, under the architecture monitor
//! (crates/vm/tests/oracle).

use super::step::{Figure, Options, Outcome, Step};
use super::tool::{cargo_at_root, number_between, said, seed, tail};
use anyhow::{Context, Result, anyhow, bail};

/// The step.
pub const STEP: Step = Step {
    name: "oracle-host",
    about: "exits by chance against the specification, on this machine",
    long_only: false,
    run,
};

/// Exits that a run of continuous integration checks.
const SHORT: u64 = 3_000_000;
const LONG: u64 = 200_000_000;
/// The same with a table page that cannot be had.
const SHORT_INJECTING: u64 = 300_000;
const LONG_INJECTING: u64 = 10_000_000;

fn run(options: &Options) -> Result<Outcome> {
    let (exits, injecting) =
        if options.long { (LONG, LONG_INJECTING) } else { (SHORT, SHORT_INJECTING) };
    let seed = seed();
    println!("assure: oracle-host: PORTCULLIS_SEED={seed} repeats it");
    let plain = checked("every_exit_is_as_the_specification_says", "oracle: ", exits, seed)?;
    let lacking = checked(
        "every_lack_of_a_table_page_is_as_the_specification_says",
        "oracle, injecting: ",
        injecting,
        seed,
    )?;
    let linked = checked(
        "every_access_that_a_device_vm_answers_is_as_the_specification_says",
        "oracle, linked: ",
        exits / 2,
        seed,
    )?;
    let linked_lacking = checked(
        "every_lack_of_a_table_for_a_window_is_as_the_specification_says",
        "oracle, linked, injecting: ",
        injecting / 2,
        seed,
    )?;
    // An oracle that agrees with everything would pass all of the above.
    test("the_oracle_notices_each_kind_of_difference", 0, seed)?;
    Ok(Outcome::Passed(vec![
        Figure::count("exits checked", plain),
        Figure::count("exits checked, each table page refused once", lacking),
        Figure::count("exits of a device VM and its client checked", linked),
        Figure::count("the same, each table page refused once", linked_lacking),
        Figure { what: "seed".into(), value: seed.to_string() },
    ]))
}

/// How many exits the test of this name says that it checked.
fn checked(name: &str, prefix: &str, wanted: u64, seed: u64) -> Result<u64> {
    let text = test(name, wanted, seed)?;
    let checked = text
        .lines()
        .find_map(|line| number_between(line, prefix, " exits checked"))
        .with_context(|| format!("{name} does not say how many exits it checked"))?;
    if checked < wanted {
        bail!("{name}: {checked} of {wanted} exits");
    }
    Ok(checked)
}

fn test(name: &str, exits: u64, seed: u64) -> Result<String> {
    let words = ["test", "-q", "--profile", "assure", "-p", "vm", "--test", "oracle", name];
    let mut command = cargo_at_root(&words);
    command.args(["--", "--nocapture"]);
    command.env("PORTCULLIS_SEED", seed.to_string());
    command.env("PORTCULLIS_EXITS", exits.to_string());
    let (passed, text) = said(&mut command)?;
    if passed { Ok(text) } else { Err(anyhow!("{name} failed\n{}", tail(&text, 200))) }
}
