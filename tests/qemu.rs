// SPDX-License-Identifier: MIT OR Apache-2.0
//! The runner: `cargo test -p e2e -- [FILTER]`, after `scripts/build`.
//!
//! `PORTCULLIS_QUICK=1` runs the part that `scripts/test --quick` does; `PORTCULLIS_JOBS` is the number of
//! machines at once; `PORTCULLIS_ALL_GUESTS=1` fails the cases whose guests were not made, instead of skipping them.

use std::env;
use std::process::ExitCode;

use e2e::schedule::{Context, Schedule};
use e2e::{cases, matrix, pool};
use libtest_mimic::Arguments;
use xtask::build::Artifacts;
use xtask::stub;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Cases only wait for their boots, which run elsewhere: reported in order, nothing is lost by it.
    arguments.test_threads = Some(1);
    match schedule(&arguments) {
        Ok(schedule) => {
            schedule.pool.start(pool::workers());
            libtest_mimic::run(&arguments, schedule.trials).exit_code()
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn schedule(arguments: &Arguments) -> anyhow::Result<Schedule> {
    let set = |name| env::var(name).is_ok_and(|value| !value.is_empty() && value != "0");
    let all_guests = set("PORTCULLIS_ALL_GUESTS");
    let context =
        Context { images: Artifacts::existing()?, quick: set("PORTCULLIS_QUICK"), all_guests };
    let tests = stub::list(&context.images.guest_stub)?;
    let mut schedule = Schedule::default();
    for configuration in matrix::configurations() {
        schedule.add_guests(&context, arguments, &configuration, &tests);
    }
    schedule.add_coverage(&context, arguments, &tests);
    schedule.add_cases(&context, arguments, &cases::all());
    Ok(schedule)
}
