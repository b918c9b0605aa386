// SPDX-License-Identifier: MIT OR Apache-2.0
//! What EL2 asks the firmware of each CPU about the SMCCC_ARCH_WORKAROUND calls, and what guests are told
//! (DEN0028 7.5 to 7.11).
//!
//! Guests may invoke WORKAROUND_1 and WORKAROUND_3, which act on the branch predictors and return.
//! WORKAROUND_2 switches a mitigation of the whole CPU. EL2 turns it on once for each CPU that needs the
//! call, and it stays on: no guest can change it for itself or for others.

use crate::smccc_ids::{
    PSCI_FEATURES, SMCCC_ARCH_FEATURES, SMCCC_ARCH_WORKAROUND_1, SMCCC_ARCH_WORKAROUND_2,
    SMCCC_ARCH_WORKAROUND_3, SMCCC_VERSION, TRNG_VERSION,
};

/// Calls to the firmware of the CPU that runs this.
pub trait Firmware {
    /// Calls `function` with `argument` in X1. Returns W0, sign-extended.
    fn call(&mut self, function: u32, argument: u64) -> i64;
}

/// In the order of [`Workarounds::answers`].
pub(crate) const WORKAROUNDS: [u32; 3] =
    [SMCCC_ARCH_WORKAROUND_1, SMCCC_ARCH_WORKAROUND_2, SMCCC_ARCH_WORKAROUND_3];

/// NOT_SUPPORTED: nothing is known of the workaround.
const UNKNOWN: i8 = -1;
/// NOT_REQUIRED, of WORKAROUND_2 only: no CPU needs the call, for the mitigation is always on.
const ALWAYS_ON: i8 = -2;
/// The caller must invoke the workaround.
const INVOKE: i8 = 0;
/// This CPU does not need the workaround.
const UNAFFECTED: i8 = 1;

/// X0 of SMCCC_ARCH_FEATURES for SMCCC_ARCH_WORKAROUND_1, 2 and 3. Guests may invoke those with 0; the second
/// is never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workarounds([i8; 3]);

impl Default for Workarounds {
    fn default() -> Self {
        Self([UNKNOWN; 3])
    }
}

impl Workarounds {
    /// From answers; a second one of 0 becomes -1, since guests do not switch WORKAROUND_2.
    pub const fn new([first, second, third]: [i8; 3]) -> Self {
        Self([first, if second == INVOKE { UNKNOWN } else { second }, third])
    }

    /// The answers in the order of the calls.
    pub const fn answers(self) -> [i8; 3] {
        self.0
    }

    /// Asks the firmware of the CPU that runs this, and turns WORKAROUND_2 on where the CPU needs the call.
    pub fn ask(firmware: &mut impl Firmware) -> Self {
        if !has_smccc_1_1(firmware) {
            return Self::default();
        }
        let [first, second, third] = WORKAROUNDS;
        let mut ask = |id: u32| firmware.call(SMCCC_ARCH_FEATURES, id.into());
        let [first, second, third] = [ask(first), ask(second), ask(third)];
        let second = match second {
            0 => {
                firmware.call(SMCCC_ARCH_WORKAROUND_2, 1);
                ALWAYS_ON
            }
            -2 => ALWAYS_ON,
            1.. => UNAFFECTED,
            _ => UNKNOWN,
        };
        Self([invoked(first), second, invoked(third)])
    }

    /// What is true of all CPUs, where `self` is of some and `other` of the rest. One CPU that needs
    /// WORKAROUND_1 or 3 makes it worth the call on all; the call is harmless elsewhere (DEN0028 7.5.3).
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        let [a1, a2, a3] = self.0;
        let [b1, b2, b3] = other.0;
        let invoked = |a, b| match (a, b) {
            (INVOKE, _) | (_, INVOKE) => INVOKE,
            (UNAFFECTED, UNAFFECTED) => UNAFFECTED,
            _ => UNKNOWN,
        };
        let second = match (a2, b2) {
            (UNKNOWN, _) | (_, UNKNOWN) => UNKNOWN,
            (UNAFFECTED, UNAFFECTED) => UNAFFECTED,
            _ => ALWAYS_ON,
        };
        Self([invoked(a1, b1), second, invoked(a3, b3)])
    }
}

/// An answer about WORKAROUND_1 or WORKAROUND_3.
const fn invoked(answer: i64) -> i8 {
    match answer {
        0 => INVOKE,
        1.. => UNAFFECTED,
        _ => UNKNOWN,
    }
}

/// Whether the firmware has SMCCC 1.1, which SMCCC_ARCH_FEATURES belongs to (DEN0028 7.2; PSCI_FEATURES finds it).
fn has_smccc_1_1(firmware: &mut impl Firmware) -> bool {
    firmware.call(PSCI_FEATURES, SMCCC_VERSION.into()) >= 0
        && firmware.call(SMCCC_VERSION, 0) >= 0x1_0001
}

/// Whether the firmware has a TRNG (DEN0098).
pub fn has_trng(firmware: &mut impl Firmware) -> bool {
    has_smccc_1_1(firmware) && firmware.call(TRNG_VERSION, 0) >= 0x1_0000
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// Firmware that records calls.
    struct Fake {
        psci_features: i64,
        version: i64,
        answers: [i64; 3],
        trng: i64,
        calls: Vec<(u32, u64)>,
    }

    fn fake(answers: [i64; 3]) -> Fake {
        Fake { psci_features: 0, version: 0x1_0002, answers, trng: -1, calls: Vec::new() }
    }

    impl Firmware for Fake {
        fn call(&mut self, function: u32, argument: u64) -> i64 {
            self.calls.push((function, argument));
            match (function, argument) {
                (0x8400_000a, 0x8000_0000) => self.psci_features,
                (0x8000_0000, 0) => self.version,
                (0x8000_0001, 0x8000_8000) => self.answers[0],
                (0x8000_0001, 0x8000_7fff) => self.answers[1],
                (0x8000_0001, 0x8000_3fff) => self.answers[2],
                (0x8400_0050, 0) => self.trng,
                (0x8000_7fff, _) => 0,
                other => panic!("{other:x?} is called"),
            }
        }
    }

    const DISCOVERY: [(u32, u64); 5] = [
        (0x8400_000a, 0x8000_0000),
        (0x8000_0000, 0),
        (0x8000_0001, 0x8000_8000),
        (0x8000_0001, 0x8000_7fff),
        (0x8000_0001, 0x8000_3fff),
    ];

    #[test]
    fn each_answer_of_firmware_reaches_the_guest() {
        for (first, seen) in [(0, 0), (1, 1), (7, 1), (-1, -1), (-2, -1), (-3, -1)] {
            let mut firmware = fake([first, -1, first]);
            assert_eq!(Workarounds::ask(&mut firmware).answers(), [seen, -1, seen], "{first}");
            assert_eq!(firmware.calls, DISCOVERY);
        }
        for (second, seen) in [(1, 1), (2, 1), (-1, -1), (-2, -2), (-3, -1)] {
            let mut firmware = fake([-1, second, -1]);
            assert_eq!(Workarounds::ask(&mut firmware).answers(), [-1, seen, -1], "{second}");
            assert_eq!(firmware.calls, DISCOVERY, "nothing to turn on");
        }
    }

    #[test]
    fn a_dynamic_workaround_2_is_turned_on_once() {
        let mut firmware = fake([0, 0, 0]);
        assert_eq!(Workarounds::ask(&mut firmware).answers(), [0, -2, 0]);
        assert_eq!(firmware.calls[..5], DISCOVERY);
        assert_eq!(firmware.calls[5..], [(0x8000_7fff, 1)], "on is 1, off would be 0");
    }

    #[test]
    fn firmware_before_smccc_1_1_is_asked_nothing_more() {
        let mut old = Fake { psci_features: -1, ..fake([0; 3]) };
        assert_eq!(Workarounds::ask(&mut old), Workarounds::default());
        assert_eq!(old.calls, DISCOVERY[..1]);
        let mut older = Fake { version: 0x1_0000, ..fake([0; 3]) };
        assert_eq!(Workarounds::ask(&mut older), Workarounds::default());
        assert_eq!(older.calls, DISCOVERY[..2]);
        assert!(!has_trng(&mut Fake { trng: 0x1_0000, psci_features: -1, ..fake([0; 3]) }));
    }

    #[test]
    fn trng_needs_version_1() {
        assert!(has_trng(&mut Fake { trng: 0x1_0000, ..fake([0; 3]) }));
        assert!(!has_trng(&mut Fake { trng: 0xffff, ..fake([0; 3]) }));
        assert!(!has_trng(&mut fake([0; 3])));
    }

    #[test]
    fn all_cpus_together() {
        let of = |first, second| Workarounds::new([first, second, first]);
        for (a, b, both) in [
            ((0, -2), (1, 1), (0, -2)),
            ((0, -2), (-1, -1), (0, -1)),
            ((1, 1), (1, 1), (1, 1)),
            ((1, 1), (-1, -2), (-1, -2)),
            ((-1, -2), (-1, -2), (-1, -2)),
            ((0, 1), (0, 1), (0, 1)),
        ] {
            let (a, b, both) = (of(a.0, a.1), of(b.0, b.1), of(both.0, both.1));
            assert_eq!((a.union(b), b.union(a)), (both, both));
            assert_eq!(a.union(a), a);
        }
    }

    #[test]
    fn no_guest_switches_workaround_2() {
        assert_eq!(Workarounds::new([0, 0, 0]).answers(), [0, -1, 0]);
    }
}
