// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fields of SPSR_ELx, for exceptions taken from AArch64 and from AArch32 (DDI 0487 C5.2.18).

/// `M[3:0]` of EL0 in AArch64.
pub const EL0T: u64 = 0b0000;
/// `M[3:0]` of EL1 on SP_EL0.
pub const EL1T: u64 = 0b0100;
/// `M[3:0]` of EL1 on SP_EL1.
pub const EL1H: u64 = 0b0101;
/// `M[3:2]`, the exception level in AArch64.
pub const M_EL: u64 = 0b1100;
/// `M[0]`, SPSel in AArch64.
pub const M_SPSEL: u64 = 1 << 0;
/// `M[4]`: taken from AArch32.
pub const M_AARCH32: u64 = 1 << 4;
/// FIQ mask.
pub const F: u64 = 1 << 6;
/// IRQ mask.
pub const I: u64 = 1 << 7;
/// SError mask.
pub const A: u64 = 1 << 8;
/// Debug mask (AArch64; bit 9 is E in AArch32).
pub const D: u64 = 1 << 9;
/// Branch type (AArch64; `IT[3:2]` in AArch32).
pub const BTYPE: u64 = 0b11 << 10;
/// Speculative store bypass safe (AArch64; IT in AArch32, whose SSBS is bit 23).
pub const SSBS: u64 = 1 << 12;
/// All interrupts masked (FEAT_NMI).
pub const ALLINT: u64 = 1 << 13;
/// Illegal execution state.
pub const IL: u64 = 1 << 20;
/// Software step.
pub const SS: u64 = 1 << 21;
/// Privileged access never.
pub const PAN: u64 = 1 << 22;
/// User access override (AArch64; SSBS in AArch32).
pub const UAO: u64 = 1 << 23;
/// Data independent timing; bit 24 in both layouts.
pub const DIT: u64 = 1 << 24;
/// Tag check override (AArch64; `IT[0]` in AArch32).
pub const TCO: u64 = 1 << 25;
/// N, Z, C and V; bits 31:28 in both layouts.
pub const NZCV: u64 = 0xf << 28;
/// PMU exception mask (FEAT_EBEP).
pub const PM: u64 = 1 << 32;

/// Fields that an SPSR taken from AArch32 has alone, or in another place.
pub mod aarch32 {
    /// T32 state.
    pub const T: u64 = 1 << 5;
    /// `M[3:0]` of User mode.
    pub const USER: u64 = 0b0000;
    /// `IT[7:2]`, in bits 15:10.
    pub const IT_HIGH: u64 = 0x3f << 10;
    /// `IT[1:0]`, in bits 26:25.
    pub const IT_LOW: u64 = 0b11 << 25;

    /// The IT block's state, 8 bits: base condition in 7:5, mask in 4:0.
    pub const fn it(spsr: u64) -> u8 {
        (((spsr & IT_HIGH) >> 8) | ((spsr & IT_LOW) >> 25)) as u8
    }

    /// `spsr` with another ITSTATE.
    pub const fn with_it(spsr: u64, it: u8) -> u64 {
        let it = it as u64;
        (spsr & !(IT_HIGH | IT_LOW)) | ((it << 8) & IT_HIGH) | ((it << 25) & IT_LOW)
    }

    /// `spsr` after one more instruction of an IT block (DDI 0487 AArch32.ITAdvance): the mask moves
    /// up one place; the block ends when its last bit has been reached.
    pub const fn it_advanced(spsr: u64) -> u64 {
        let old = it(spsr);
        let new = if old & 0b111 == 0 { 0 } else { (old & 0xe0) | ((old << 1) & 0x1f) };
        with_it(spsr, new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the numbers of DDI 0487 C5.2.18: everybody else takes them from here.
    #[test]
    fn fields_stand_where_the_manual_has_them() {
        for (field, bit) in [
            (M_SPSEL, 0),
            (M_AARCH32, 4),
            (aarch32::T, 5),
            (F, 6),
            (I, 7),
            (A, 8),
            (D, 9),
            (SSBS, 12),
            (ALLINT, 13),
            (IL, 20),
            (SS, 21),
            (PAN, 22),
            (UAO, 23),
            (DIT, 24),
            (TCO, 25),
            (PM, 32),
        ] {
            assert_eq!((field.count_ones(), field.trailing_zeros()), (1, bit), "bit {bit}");
        }
        assert_eq!((EL0T, EL1T, EL1H, M_EL), (0, 4, 5, 0xc));
        assert_eq!((BTYPE, NZCV), (0xc00, 0xf000_0000));
        assert_eq!((aarch32::IT_HIGH, aarch32::IT_LOW), (0xfc00, 0x0600_0000));
    }
}
