// SPDX-License-Identifier: MIT OR Apache-2.0
//! The oracle: guided-random exits go to `vm` over `stage2`, and to `spec`, which shares no code with them;
//! after each the outcome, the registers and the whole state of every VM must agree.
//!
//! A scenario is some VMs and a few hundred exits, made from a seed. stage2's recording fake is the
//! machine, so that the order of stores, barriers and invalidations is judged all along. The sum of marks over
//! all descriptors that a walker can reach is compared after every exit; every entry by itself now and then,
//! and at the end of each scenario.
//!
//! `PORTCULLIS_SEED=N` repeats a run, `PORTCULLIS_EXITS=N` sets its length: a million without debug assertions,
//! else a fraction. A failure is made small: its steps are those that it takes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod compare;
mod exits;
mod guest;
mod inject;
mod linked;
#[path = "../support/machine.rs"]
mod machine;
mod random;
mod scenario;
mod shrink;
mod windows;

use linked::Linked;
use random::Random;
use scenario::Scenario;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// The seed of this run, said so that it can be repeated.
fn seed(test: &str) -> u64 {
    let seed = number("PORTCULLIS_SEED").unwrap_or_else(random::from_clock);
    println!("{test}: PORTCULLIS_SEED={seed}");
    seed
}

/// How many exits to check.
fn length(long: u64, short: u64) -> u64 {
    number("PORTCULLIS_EXITS").unwrap_or(if cfg!(debug_assertions) { short } else { long })
}

/// Runs scenarios on all CPUs until `length` exits were checked; returns how many were.
fn run(seed: u64, length: u64, run: impl Fn(&Scenario) -> Result<u64, String> + Sync) -> u64 {
    let (checked, next) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        while checked.load(Ordering::Relaxed) < length {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let scenario = Scenario::new(&mut Random::new(seed, number));
            match run(&scenario) {
                Ok(exits) => drop(checked.fetch_add(exits, Ordering::Relaxed)),
                Err(why) => {
                    let (small, why) = scenario.shrink(why, &run);
                    panic!("PORTCULLIS_SEED={seed}, scenario {number}: {why}\n{small:#x?}");
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..cpus).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().unwrap();
        }
    });
    checked.into_inner()
}

#[test]
fn every_exit_is_as_the_specification_says() {
    let seed = seed("oracle");
    let exits = run(seed, length(1_000_000, 12_000), |scenario| scenario.run());
    println!("oracle: {exits} exits checked");
}

/// Every call that takes table pages is made with 0, 1, 2 ... of them left, until it has enough; every reset too. In a
/// scenario by itself for each, as what was done in part stays done.
#[test]
fn every_lack_of_a_table_page_is_as_the_specification_says() {
    let seed = seed("oracle, injecting");
    let exits = run(seed, length(400_000, 6_000), inject::each_lack_of_a_table);
    println!("oracle, injecting: {exits} exits checked");
}

/// Two VMs of which one serves the other.
#[test]
fn every_access_that_a_device_vm_answers_is_as_the_specification_says() {
    let seed = seed("oracle, linked");
    let exits = run_linked(seed, length(1_000_000, 20_000), Linked::run);
    println!("oracle, linked: {exits} exits checked");
}

/// A window's tables come from the pool of the VM behind it: each of them is refused once.
#[test]
fn every_lack_of_a_table_for_a_window_is_as_the_specification_says() {
    let seed = seed("oracle, linked, injecting");
    let exits = run_linked(seed, length(200_000, 6_000), Linked::each_lack_of_a_table);
    println!("oracle, linked, injecting: {exits} exits checked");
}

/// As [`run`], with two VMs that are linked.
fn run_linked(seed: u64, length: u64, run: impl Fn(&Linked) -> Result<u64, String> + Copy) -> u64 {
    let (mut exits, mut number) = (0, 0);
    while exits < length {
        let scenario = Linked::new(&mut Random::new(seed, number));
        match run(&scenario) {
            Ok(checked) => exits += checked,
            Err(why) => {
                let (small, why) = scenario.shrink(why, run);
                panic!("PORTCULLIS_SEED={seed}, scenario {number}: {why}\n{small:#x?}");
            }
        }
        number += 1;
    }
    exits
}

/// The oracle is no use if it agrees with everything.
#[test]
fn the_oracle_notices_each_kind_of_difference() {
    for kind in 0..compare::SABOTAGES {
        let found = (0..40).any(|number| {
            let scenario = Scenario::new(&mut Random::new(1, number));
            scenario.run_sabotaged(kind).is_err()
        });
        assert!(found, "sabotage {kind} went by");
    }
}
