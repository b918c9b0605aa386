// SPDX-License-Identifier: MIT OR Apache-2.0
//! The CPU states in which the tests of trap decoding run: each exception level and stack, with the MMU
//! on and off.

use crate::machine::pstate;
use crate::mmu::{self, View};
use crate::verdict::Verdict;

/// Where a snippet runs and how it reaches a device.
#[derive(Clone, Copy, Debug)]
pub struct CpuState {
    /// For messages.
    pub name: &'static str,
    /// The level, as PSTATE.
    pub pstate: u64,
    /// Whether stage 1 is on.
    pub mmu: bool,
}

/// EL1 with its own stack pointer and with EL0's, and EL0.
const LEVELS: [CpuState; 3] = [
    CpuState { name: "EL1h, MMU on", pstate: pstate::EL1H, mmu: true },
    CpuState { name: "EL1t, MMU on", pstate: pstate::EL1T, mmu: true },
    CpuState { name: "EL0, MMU on", pstate: pstate::EL0, mmu: true },
];
const LEVELS_OFF: [CpuState; 3] = [
    CpuState { name: "EL1h, MMU off", pstate: pstate::EL1H, mmu: false },
    CpuState { name: "EL1t, MMU off", pstate: pstate::EL1T, mmu: false },
    CpuState { name: "EL0, MMU off", pstate: pstate::EL0, mmu: false },
];

impl CpuState {
    /// The address of guest-physical `ipa`, as a device.
    pub fn device(&self, ipa: u64) -> u64 {
        match (self.mmu, self.pstate & 0xf) {
            (false, _) => ipa,
            (true, 0) => View::UserDevice.of(ipa),
            (true, _) => ipa,
        }
    }
}

/// Runs `body` in every state; the first failure is told with the state's name.
pub fn everywhere(body: impl Fn(&CpuState) -> Verdict) -> Verdict {
    let named = |state: &CpuState| {
        body(state).map_err(|why| match why {
            crate::verdict::Why::Failed(text) => {
                crate::verdict::failed(format_args!("{}: {text}", state.name))
            }
            skipped => skipped,
        })
    };
    for state in &LEVELS {
        named(state)?;
    }
    mmu::disable();
    let result = LEVELS_OFF.iter().try_for_each(named);
    mmu::enable();
    result
}
