// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams of exits of two VMs of which one serves the other, each judged by the executable specification.

use crate::count;
use crate::linked::Linked;
use crate::random::Random;

/// One scenario of the oracle: a device VM and its client. Every access ends once, and a call that fails changes nothing.
pub fn run(data: &[u8]) {
    let scenario = Linked::new(&mut Random::of_bytes(data));
    match scenario.run() {
        Ok(exits) => count::add(exits),
        Err(why) => {
            let (small, why) = scenario.shrink(why, Linked::run);
            panic!("{why}\n{small:#x?}");
        }
    }
}
