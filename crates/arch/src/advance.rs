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
pub fn advance(regs: &mut GuestRegs, il: bool) {
    if regs.spsr & pstate::M_AARCH32 == 0 {
        regs.elr = regs.elr.wrapping_add(4);
        regs.spsr &= !(pstate::BTYPE | pstate::SS);
    } else {
        advance_aarch32(regs, il);
    }
}

#[cold]
fn advance_aarch32(regs: &mut GuestRegs, il: bool) {
    let size = if regs.spsr & pstate::aarch32::T != 0 && !il { 2 } else { 4 };
    regs.elr = u64::from((regs.elr as u32).wrapping_add(size));
    regs.spsr = pstate::aarch32::it_advanced(regs.spsr) & !pstate::SS;
}
