// SPDX-License-Identifier: MIT OR Apache-2.0
//! The situations in which the tests of trap decoding run: each exception level and stack, with the MMU
//! on and off.

use crate::machine::pstate;
use crate::mmu::{self, View};
use crate::verdict::Verdict;

/// Where a snippet runs and how it reaches a device.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// For messages.
    pub name: &'static str,
    /// The level, as PSTATE.
    pub pstate: u64,
    /// Whether stage 1 is on.
    pub mmu: bool,
}

/// EL1 with its own stack pointer and with EL0's, and EL0.
const LEVELS: [Situation; 3] = [
    Situation { name: "EL1h, MMU on", pstate: pstate::EL1H, mmu: true },
    Situation { name: "EL1t, MMU on", pstate: pstate::EL1T, mmu: true },
    Situation { name: "EL0, MMU on", pstate: pstate::EL0, mmu: true },
];
const LEVELS_OFF: [Situation; 3] = [
    Situation { name: "EL1h, MMU off", pstate: pstate::EL1H, mmu: false },
    Situation { name: "EL1t, MMU off", pstate: pstate::EL1T, mmu: false },
    Situation { name: "EL0, MMU off", pstate: pstate::EL0, mmu: false },
];

impl Situation {
    /// The address of guest-physical `ipa`, as a device.
    pub fn device(&self, ipa: u64) -> u64 {
        match (self.mmu, self.pstate & 0xf) {
            (false, _) => ipa,
            (true, 0) => View::UserDevice.of(ipa),
            (true, _) => ipa,
        }
    }
}

/// Runs `body` in every situation; the first failure is told with the situation's name.
pub fn everywhere(body: impl Fn(&Situation) -> Verdict) -> Verdict {
    let named = |situation: &Situation| {
        body(situation).map_err(|why| match why {
            crate::verdict::Why::Failed(text) => {
                crate::verdict::failed(format_args!("{}: {text}", situation.name))
            }
            skipped => skipped,
        })
    };
    for situation in &LEVELS {
        named(situation)?;
    }
    mmu::disable();
    let result = LEVELS_OFF.iter().try_for_each(named);
    mmu::enable();
    result
}
