// SPDX-License-Identifier: MIT OR Apache-2.0
//! Byte order of a guest's data accesses. The bus, and every device on it, is little-endian.

use crate::{Width, pstate};

/// SCTLR_EL1.E0E: data accesses from EL0 are big-endian.
pub const SCTLR_E0E: u64 = 1 << 24;
/// SCTLR_EL1.EE: data accesses from EL1 are big-endian.
pub const SCTLR_EE: u64 = 1 << 25;
/// SPSR.E of AArch32.
const SPSR_E: u64 = 1 << 9;

/// Whether a guest with this SPSR_EL2 and SCTLR_EL1 accesses data big-endian (DDI 0487 B2.6, AArch64.BigEndian and
/// AArch32.BigEndian in the shared pseudocode).
pub const fn is_big_endian(spsr: u64, sctlr: u64) -> bool {
    if spsr & pstate::M_AARCH32 != 0 {
        spsr & SPSR_E != 0
    } else if spsr & pstate::M_EL == 0 {
        sctlr & SCTLR_E0E != 0
    } else {
        sctlr & SCTLR_EE != 0
    }
}

impl Width {
    /// The bytes of an access in the other order; `value` has no bits beyond the width.
    pub const fn reversed(self, value: u64) -> u64 {
        value.swap_bytes().wrapping_shr(64_u32.wrapping_sub(self.bits()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_asks_its_own_bit() {
        let (el0, el1) = (pstate::EL0T, pstate::EL1H);
        assert!(!is_big_endian(el0, SCTLR_EE) && is_big_endian(el0, SCTLR_E0E));
        assert!(!is_big_endian(el1, SCTLR_E0E) && is_big_endian(el1, SCTLR_EE));
        assert!(is_big_endian(pstate::EL1T, SCTLR_EE));
        assert!(!is_big_endian(pstate::M_AARCH32, SCTLR_E0E | SCTLR_EE));
        assert!(is_big_endian(pstate::M_AARCH32 | SPSR_E, 0));
    }

    #[test]
    fn bytes_turn_around_within_the_width() {
        assert_eq!(Width::B1.reversed(0x12), 0x12);
        assert_eq!(Width::B2.reversed(0x1234), 0x3412);
        assert_eq!(Width::B4.reversed(0x1234_5678), 0x7856_3412);
        assert_eq!(Width::B8.reversed(0x0102_0304_0506_0708), 0x0807_0605_0403_0201);
    }

    #[test]
    fn bits_stand_where_the_manual_has_them() {
        // SCTLR_EL1.E0E and EE (DDI 0487 D17.2.131), SPSR_ELx.E of AArch32 (C5.2.18).
        assert_eq!((SCTLR_E0E, SCTLR_EE, SPSR_E), (0x0100_0000, 0x0200_0000, 0x200));
    }
}
