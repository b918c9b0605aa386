// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which call a number is: docs/abi.md, "Finding it" and "The calls"; docs/vm.md, "Firmware calls".

use crate::{Dialect, Moment, Outcome, Policy, Vm};

pub(crate) const SUCCESS: u64 = 0;
pub(crate) const NOT_SUPPORTED: u64 = -1_i64 as u64;
pub(crate) const INVALID_PARAMETER: u64 = -3_i64 as u64;

/// How a call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// HVC.
    Hvc,
    /// SMC: answered alike.
    Smc,
}

/// An HVC or SMC of EL1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The number of the calling vCPU.
    pub vcpu: usize,
    /// The instruction.
    pub conduit: Conduit,
    /// Its immediate.
    pub imm: u16,
    /// x0 to x3.
    pub x: [u64; 4],
    /// x4, which calls of a device VM have.
    pub x4: u64,
    /// When it is made.
    pub now: Moment,
    /// MAIR_EL1 of the calling vCPU.
    pub mair_el1: u64,
    /// What the machine's source of entropy has at this moment, least significant word first.
    pub entropy: Option<[u64; 3]>,
}

impl Call {
    /// The id: W0.
    pub const fn id(&self) -> u32 {
        self.x[0] as u32
    }

    /// The lower halves of x1 to x3: arguments of a 32-bit call.
    pub(crate) fn low(&self) -> [u64; 3] {
        let [_, a, b, c] = self.x;
        [a, b, c].map(|x| x & 0xffff_ffff)
    }

    /// x1 to x3: arguments of a 64-bit call.
    pub(crate) const fn arguments(&self) -> [u64; 3] {
        let [_, a, b, c] = self.x;
        [a, b, c]
    }
}

pub(crate) const fn answer(x0: u64) -> Outcome {
    Outcome::Answer([x0, 0, 0, 0])
}

/// A result, and x1 = how many granules were done.
pub(crate) const fn done(granules: u64) -> Outcome {
    Outcome::Answer([SUCCESS, granules, 0, 0])
}

impl Vm {
    /// An HVC or SMC.
    pub fn call(&mut self, call: &Call) -> Outcome {
        self.counters.hypercalls += 1;
        if call.imm != 0 {
            return answer(NOT_SUPPORTED);
        }
        match call.id() {
            0x8600_ff01 => Outcome::Answer([0xb66f_b428, 0xe911_c52e, 0x564b_caa9, 0x743a_004d]),
            0x8600_0000 => answer(self.feature_map()),
            // The guard's functions: HVC64, vendor-specific hypervisor owner.
            0xc600_0002..=0xc600_000b if self.config.policy != Policy::Off => self.guard_call(call),
            0xc600_f000 => {
                // The calls of a device VM are in the list of those that have them.
                let more = if self.config.peers.is_some() { 0x7f << 16 } else { 0 };
                Outcome::Answer([0x1_0000, 0b111 | more, 0, 0])
            }
            0xc600_f001 => self.query_page(call.arguments()),
            0xc600_f002 => Outcome::Answer([
                SUCCESS,
                self.counters.refused,
                self.declared(),
                self.counters.hypercalls,
            ]),
            0x8000_0000 => answer(0x1_0001),
            0x8000_0001 => answer(self.arch_features(call.low())),
            // WORKAROUND_2 is EL2's own: guests are told of it and cannot switch it.
            id @ (0x8000_8000 | 0x8000_3fff) => match self.workaround(id) {
                Some(0) => Outcome::AnswerX0(SUCCESS),
                _ => answer(NOT_SUPPORTED),
            },
            id if id >> 16 == 0x8400 || id >> 16 == 0xc400 => self.power_call(call),
            _ => answer(NOT_SUPPORTED),
        }
    }

    fn feature_map(&self) -> u64 {
        match (self.config.policy, self.config.dialect) {
            (Policy::Off, _) => 0x1,
            (_, Dialect::Pkvm) => 0xffd,
            (_, Dialect::Series) => 0x3d,
        }
    }

    fn guard_call(&mut self, call: &Call) -> Outcome {
        let arguments = call.arguments();
        match (self.config.dialect, call.id() & 0xffff) {
            (Dialect::Pkvm, 2 | 5) => {
                if arguments == [0; 3] {
                    Outcome::Answer([crate::PAGE, 1, 0, 0])
                } else {
                    answer(INVALID_PARAMETER)
                }
            }
            (Dialect::Pkvm, 3) => self.share(arguments, true),
            (Dialect::Pkvm, 4) => self.share(arguments, false),
            (Dialect::Pkvm, 6) => self.enroll(),
            (Dialect::Pkvm, 7) => self.map(arguments, call.mair_el1),
            (Dialect::Pkvm, 8) => self.unmap(arguments),
            (Dialect::Pkvm, 9) => self.relinquish(arguments),
            (Dialect::Pkvm, 10) => self.range_map(arguments),
            (Dialect::Pkvm, 11) => self.range_unmap(arguments),
            (Dialect::Series, 2) => answer(crate::PAGE),
            (Dialect::Series, 3) => self.enroll(),
            (Dialect::Series, 4) => self.map(arguments, call.mair_el1),
            (Dialect::Series, 5) => self.unmap(arguments),
            _ => answer(NOT_SUPPORTED),
        }
    }

    /// What is said of an SMCCC_ARCH_WORKAROUND; `None` for other ids.
    fn workaround(&self, id: u32) -> Option<i64> {
        let [first, second, third] = self.config.workarounds;
        match id {
            0x8000_8000 => Some(first),
            0x8000_7fff => Some(second),
            0x8000_3fff => Some(third),
            _ => None,
        }
    }

    fn arch_features(&self, [about, ..]: [u64; 3]) -> u64 {
        match about as u32 {
            0x8000_0000 | 0x8000_0001 => SUCCESS,
            id => self.workaround(id).map_or(NOT_SUPPORTED, |x0| x0 as u64),
        }
    }
}
