// SPDX-License-Identifier: MIT OR Apache-2.0
//! Models of races: the crates' own code, with atomics and locks whose every use is a chance for another thread.
//!
//! `shuttle` runs each model again and again, deciding at every chance who goes on: at random, and with few
//! preemptions at places that it chooses ([PCT]). It knows nothing of weak memory: that is Miri's part, and of
//! the boards. A schedule that fails is printed, and repeats it.
//!
//! There is no model of VMIDs: a VM's is its number, and nothing is allocated.
//!
//! [PCT]: https://www.microsoft.com/en-us/research/publication/a-randomized-scheduler-with-probabilistic-guarantees-of-finding-bugs/
#![cfg(all(test, shuttle))]
#![forbid(unsafe_code)]

extern crate alloc;
// hyp/src/console/guest_output.rs asks `spin` for this.
extern crate self as spin;

#[path = "../../crates/platform/tests/support/mod.rs"]
mod boards;
#[path = "../../crates/vm/tests/suite/common.rs"]
mod common;
#[path = "../../hyp/src/console/guest_output.rs"]
#[allow(dead_code)]
mod output;

mod console;
mod cpu;
mod guard;
mod lines;
mod links;
mod power;
mod ring;
mod tables;
mod wake;
mod windows;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, MaxSteps, Runner};

/// What is set up once, in each schedule anew: what a schedule used must not be seen by the next.
pub struct Once<T: 'static>(std::sync::Mutex<Option<&'static T>>);

impl<T> Once<T> {
    pub const fn new() -> Self {
        Self(std::sync::Mutex::new(None))
    }
    pub fn call_once(&self, make: impl FnOnce() -> T) {
        *self.0.lock().unwrap() = Some(Box::leak(Box::new(make())));
    }
    pub fn get(&self) -> Option<&'static T> {
        *self.0.lock().unwrap()
    }
}

/// Schedules of each kind: few enough for every run, or as many as RACES_SCHEDULES says.
fn schedules() -> usize {
    std::env::var("RACES_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

/// Runs `model` under many schedules of both kinds.
fn explore(model: impl Fn() + Send + Sync + Copy + 'static) {
    let config = || {
        let mut config = Config::default();
        config.stack_size = 1 << 20;
        config.max_steps = MaxSteps::FailAfter(2_000_000);
        config
    };
    let ran = Runner::new(RandomScheduler::new(schedules()), config()).run(model)
        + Runner::new(PctScheduler::new(3, schedules()), config()).run(model);
    println!("schedules {ran}");
}

/// Runs all of `threads` at once, and returns what they return.
fn at_once<T: Send + 'static>(threads: Vec<Box<dyn FnOnce() -> T + Send>>) -> Vec<T> {
    let running: Vec<_> = threads.into_iter().map(shuttle::thread::spawn).collect();
    running.into_iter().map(|thread| thread.join().unwrap()).collect()
}
