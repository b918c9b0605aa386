// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the state in which a boot loader enters the image is one to go on from.
//!
//! Sources: Linux's Documentation/arch/arm64/booting; DDI 0487 D19.2.48 (HCR_EL2.E2H, FEAT_E2H0).

/// HCR_EL2.E2H: EL2 is a host's, with the registers and the translation of EL1.
const E2H: u64 = 1 << 34;

/// Why the image cannot run as it was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryRefusal {
    /// At EL1: there is no EL2, or firmware does not give it away.
    AtEl1,
    /// At EL3, which is firmware's.
    AtEl3,
    /// At EL2 of a CPU that has it only as a host's (FEAT_VHE without FEAT_E2H0).
    OnlyVhe,
    /// Without a device tree.
    NoTree,
}

/// Judges an entry by CurrentEL, by `hcr`, which is HCR_EL2 as it reads after E2H was written as 0 (where E2H is RES1 it
/// reads as 1, whatever ID_AA64MMFR4_EL1 says), and by x0. At other levels than EL2 `hcr` is not looked at.
#[must_use]
pub const fn entry_refusal(current_el: u64, hcr: u64, tree: u64) -> Option<EntryRefusal> {
    match current_el >> 2 & 3 {
        3 => Some(EntryRefusal::AtEl3),
        2 if hcr & E2H != 0 => Some(EntryRefusal::OnlyVhe),
        2 if tree == 0 => Some(EntryRefusal::NoTree),
        2 => None,
        _ => Some(EntryRefusal::AtEl1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EL1: u64 = 0b0100;
    const EL2: u64 = 0b1000;
    const EL3: u64 = 0b1100;
    const RW: u64 = 1 << 31;

    #[test]
    fn only_el2_with_e2h_clear_and_a_tree_goes_on() {
        assert_eq!(entry_refusal(EL2, RW, 0x4000_0000), None);
        assert_eq!(entry_refusal(EL2, RW, 0), Some(EntryRefusal::NoTree));
        for tree in [0, 0x4000_0000] {
            assert_eq!(entry_refusal(EL1, 0, tree), Some(EntryRefusal::AtEl1));
            assert_eq!(entry_refusal(EL3, 0, tree), Some(EntryRefusal::AtEl3));
            assert_eq!(entry_refusal(EL2, RW | 1 << 34, tree), Some(EntryRefusal::OnlyVhe));
        }
    }

    #[test]
    fn no_other_bit_decides() {
        // RES0 bits of CurrentEL, all of HCR_EL2 but E2H.
        assert_eq!(entry_refusal(EL2 | !0b1100, !(1 << 34), u64::MAX), None);
        assert_eq!(entry_refusal(EL1, u64::MAX, 1), Some(EntryRefusal::AtEl1));
    }
}
