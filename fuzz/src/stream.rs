// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams of exits into several VMs, each judged by the executable specification.

use crate::count;
use crate::random::Random;
use crate::scenario::Scenario;

/// One scenario of the oracle: some VMs, and a few hundred exits of theirs.
pub fn run(data: &[u8]) {
    let scenario = Scenario::new(&mut Random::of_bytes(data));
    match scenario.run() {
        Ok(exits) => count::add(exits),
        Err(why) => {
            let (small, why) = scenario.shrink(why, &|scenario: &Scenario| scenario.run());
            panic!("{why}\n{small:#x?}");
        }
    }
}
