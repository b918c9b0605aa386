// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stepping over an instruction that EL2 has done for a guest.

use crate::GuestRegs;
use crate::pstate;

/// Moves a guest past the instruction that trapped: ELR by its size, ITSTATE by one instruction,
/// and BTYPE and SS cleared, as the instruction itself would have done (DDI 0487 D2.12.4 for SS).
///
/// `il` is ESR_EL2.IL and only matters in T32 state: A64 and A32 have no 16-bit instructions. Not for
/// HVC, whose ELR already points behind it.
#[inline(always)]
pub fn skip_instruction(regs: &mut GuestRegs, il: bool) {
    if regs.spsr & pstate::M_AARCH32 == 0 {
        skip_a64(regs);
    } else {
        skip_aarch32(regs, il);
    }
}

/// [`skip_instruction`] where the guest is known to be in A64 state. Calls nothing, so that its caller needs no stack
/// frame.
#[inline(always)]
pub fn skip_a64(regs: &mut GuestRegs) {
    regs.elr = regs.elr.wrapping_add(4);
    regs.spsr &= !(pstate::BTYPE | pstate::SS);
}

#[cold]
fn skip_aarch32(regs: &mut GuestRegs, il: bool) {
    let size = if regs.spsr & pstate::aarch32::T != 0 && !il { 2 } else { 4 };
    regs.elr = u64::from((regs.elr as u32).wrapping_add(size));
    regs.spsr = pstate::aarch32::it_advanced(regs.spsr) & !pstate::SS;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;
    use crate::pstate::aarch32;

    const A32: u64 = pstate::M_AARCH32;
    const T32: u64 = pstate::M_AARCH32 | aarch32::T;

    fn advanced(elr: u64, spsr: u64, il: bool) -> (u64, u64) {
        let mut regs = GuestRegs { elr, spsr, ..GuestRegs::default() };
        regs.x = core::array::from_fn(|n| n as u64);
        let before = regs.x;
        skip_instruction(&mut regs, il);
        assert_eq!(regs.x, before, "general registers stay");
        (regs.elr, regs.spsr)
    }

    #[test]
    fn a64_moves_by_four_whatever_il_says() {
        assert_eq!(advanced(0x1000, pstate::EL1H, true).0, 0x1004);
        assert_eq!(advanced(0x1000, pstate::EL0T, false).0, 0x1004);
    }

    #[test]
    fn a64_wraps_at_the_end_of_the_address_space() {
        assert_eq!(advanced(u64::MAX - 3, pstate::EL1H, true).0, 0);
    }

    #[test]
    fn a64_clears_btype_and_step_and_nothing_else() {
        for m in [pstate::EL0T, pstate::EL1T, pstate::EL1H] {
            let all = !0x1f | m;
            assert_eq!(advanced(0, all, true).1, all & !(pstate::BTYPE | pstate::SS));
        }
    }

    #[test]
    fn a32_moves_by_four() {
        assert_eq!(advanced(0x8000, A32, true).0, 0x8004);
        // IL is only clear for 16-bit T32 instructions; in A32 state there is no such thing.
        assert_eq!(advanced(0x8000, A32, false).0, 0x8004);
    }

    #[test]
    fn t32_moves_by_the_length_of_the_instruction() {
        assert_eq!(advanced(0x8000, T32, false).0, 0x8002);
        assert_eq!(advanced(0x8002, T32, true).0, 0x8006);
    }

    #[test]
    fn aarch32_wraps_at_32_bits() {
        assert_eq!(advanced(0xffff_fffe, T32, false).0, 0);
        assert_eq!(advanced(0xffff_fffc, A32, true).0, 0);
    }

    #[test]
    fn aarch32_keeps_all_but_step_and_it() {
        let it = aarch32::IT_HIGH | aarch32::IT_LOW;
        let all = !it;
        assert_eq!(advanced(0, all, true).1, all & !pstate::SS);
    }

    #[test]
    fn it_block_of_four_runs_out_in_four_steps() {
        // ITTEE EQ: firstcond 0000, mask 0111 (then, else, else).
        let mut spsr = aarch32::with_it(T32, 0b0000_0111);
        let mut seen = std::vec![];
        for _ in 0..5 {
            seen.push(aarch32::it(spsr));
            spsr = advanced(0, spsr, false).1;
        }
        // The condition's low bit takes the mask's next bit; the last step clears everything.
        assert_eq!(seen, [0b0000_0111, 0b0000_1110, 0b0001_1100, 0b0001_1000, 0]);
    }

    #[test]
    fn it_block_of_one_ends_at_once() {
        let spsr = aarch32::with_it(T32, 0b1010_1000); // IT GE
        assert_eq!(aarch32::it(advanced(0, spsr, false).1), 0);
    }

    #[test]
    fn it_advance_matches_the_manuals_rule_for_every_state() {
        for it in 0..=255_u8 {
            let after = aarch32::it(advanced(0, aarch32::with_it(T32, it), true).1);
            // ITAdvance: IT<2:0> zero: all zero; else IT<4:0> shifts left by one.
            let want = if it % 8 == 0 { 0 } else { (it & 0b1110_0000) + (it % 32 * 2) % 32 };
            assert_eq!(after, want, "{it:#010b}");
        }
    }

    #[test]
    fn it_bits_stand_where_the_aarch32_spsr_has_them() {
        assert_eq!(aarch32::with_it(0, 0b1111_1100), 0x3f << 10);
        assert_eq!(aarch32::with_it(0, 0b0000_0011), 0x3 << 25);
        for it in 0..=255 {
            assert_eq!(aarch32::it(aarch32::with_it(u64::MAX, it)), it);
            assert_eq!(aarch32::with_it(u64::MAX, it) | (0x3f << 10) | (3 << 25), u64::MAX);
        }
    }
}
