// SPDX-License-Identifier: MIT OR Apache-2.0
//! Conditional instructions of AArch32 EL0 that trapped although they would have done nothing.

use crate::esr;
use crate::pstate;
use crate::pstate::aarch32;

/// ISS.CV: COND is valid.
const CV: u64 = 1 << 24;
const COND_SHIFT: u32 = 20;
const ALWAYS: u64 = 0b1110;

/// Whether the trapped instruction would have been passed over, its condition having failed.
///
/// A CPU may trap such an instruction (DDI 0487 G1.18.3); EL2 then steps over it where it would else
/// inject an UNDEFINED exception. Only exception classes 0x01 to 0x0f, trapped from AArch32, carry a
/// condition; for all others the answer is no.
pub const fn condition_failed(esr: u64, spsr: u64) -> bool {
    let ec = esr::ec_of(esr);
    if spsr & pstate::M_AARCH32 == 0 || ec == 0 || ec > 0x0f {
        return false;
    }
    let condition = if esr & CV != 0 {
        (esr >> COND_SHIFT) & 0xf
    } else {
        // T32: the IT block has it; outside one every instruction is unconditional.
        let it = aarch32::it(spsr);
        if it == 0 { ALWAYS } else { (it >> 4) as u64 }
    };
    !holds(condition, spsr)
}

/// ConditionHolds of the pseudocode; N, Z, C and V are bits 31 to 28.
const fn holds(condition: u64, spsr: u64) -> bool {
    let n = spsr & (1 << 31) != 0;
    let z = spsr & (1 << 30) != 0;
    let c = spsr & (1 << 29) != 0;
    let v = spsr & (1 << 28) != 0;
    let result = match condition >> 1 {
        0 => z,
        1 => c,
        2 => n,
        3 => v,
        4 => c && !z,
        5 => n == v,
        6 => n == v && !z,
        // 0b1110 is always, and so is 0b1111.
        _ => return true,
    };
    result != (condition & 1 != 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;

    const MRC: u64 = 0x03 << 26;

    fn with_condition(cond: u64) -> u64 {
        MRC | CV | cond << COND_SHIFT
    }

    #[test]
    fn each_condition_follows_its_flags() {
        for flags in 0..16_u64 {
            let (n, z, c, v) = (flags & 8 != 0, flags & 4 != 0, flags & 2 != 0, flags & 1 != 0);
            let higher = c && !z;
            let greater = !z && n == v;
            // EQ NE CS CC MI PL VS VC HI LS GE LT GT LE AL AL
            let want = [
                z,
                !z,
                c,
                !c,
                n,
                !n,
                v,
                !v,
                higher,
                !higher,
                n == v,
                n != v,
                greater,
                !greater,
                true,
                true,
            ];
            for (cond, holds) in want.into_iter().enumerate() {
                let spsr = pstate::M_AARCH32 | flags << 28;
                assert_eq!(condition_failed(with_condition(cond as u64), spsr), !holds, "{cond}");
            }
        }
    }

    #[test]
    fn without_cv_the_it_block_decides() {
        let t32 = pstate::M_AARCH32 | aarch32::T;
        // Outside an IT block COND is UNKNOWN and must not count.
        assert!(!condition_failed(MRC, t32));
        let in_eq = aarch32::with_it(t32, 0b0000_1000);
        assert!(condition_failed(MRC, in_eq), "EQ with Z clear");
        assert!(!condition_failed(MRC, in_eq | 1 << 30), "EQ with Z set");
        let in_ne = aarch32::with_it(t32, 0b0001_1000);
        assert!(!condition_failed(MRC, in_ne), "NE with Z clear");
        assert!(condition_failed(MRC, in_ne | 1 << 30), "NE with Z set");
    }

    #[test]
    fn a64_and_unconditional_classes_never_fail() {
        let eq_with_z_clear = CV;
        for ec in 0..64_u64 {
            let esr = ec << 26 | eq_with_z_clear;
            assert!(!condition_failed(esr, pstate::EL0T), "A64, class {ec:#x}");
            let conditional = (0x01..=0x0f).contains(&ec);
            assert_eq!(condition_failed(esr, pstate::M_AARCH32), conditional, "class {ec:#x}");
        }
    }

    #[test]
    fn the_condition_stands_where_the_manual_has_it() {
        // A trapped MRC of AArch32 EL0, Z clear: CV is bit 24, COND bits 23:20 (DDI 0487 D17.2.37).
        assert!(condition_failed(0x0d00_0000, 0x10), "EQ");
        assert!(!condition_failed(0x0c00_0000, 0x10), "not without CV");
        assert!(!condition_failed(0x0de0_0000, 0x10), "not where it is always");
    }
}
