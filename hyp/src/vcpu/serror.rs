// SPDX-License-Identifier: MIT OR Apache-2.0
//! SErrors before a vCPU switch: the registers that [`arch::serror`] decides over.

use core::arch::{asm, global_asm};

use aarch64_cpu::registers::{Readable, Writeable};
use arch::serror::ErrorRegisters;

use crate::cpu::sysreg::DISR_EL1;

global_asm!(
    r#"
    .section .text.serror, "ax"
    // An SError that is pending is taken within this range.
    .global take_serror
take_serror:
    msr     daifclr, #4
    isb
    msr     daifset, #4
    isb
    .global take_serror_end
take_serror_end:
    mrs     x0, esr_el2
    ret
"#
);

unsafe extern "C" {
    fn take_serror() -> u64;
    fn take_serror_end();
}

/// Whether an SError of EL2 at `elr` is one that [`ErrorRegisters::take`] waits for.
pub fn is_expected_at(elr: u64) -> bool {
    let range = take_serror as *const () as u64..=take_serror_end as *const () as u64;
    range.contains(&elr)
}

/// The error registers of this CPU.
pub struct Errors;

impl ErrorRegisters for Errors {
    #[inline(always)]
    fn esb(&self) {
        // SAFETY: ESB, by its number as a hint: orders errors only.
        unsafe { asm!("hint #16", options(nostack, preserves_flags)) };
    }
    #[inline(always)]
    fn disr(&self) -> u64 {
        DISR_EL1.get()
    }
    fn clear_disr(&self) {
        DISR_EL1.set(0);
    }
    #[inline(always)]
    fn dsb_isb(&self) {
        // SAFETY: barriers.
        unsafe { asm!("dsb sy", "isb", options(nostack, preserves_flags)) };
    }
    #[inline(always)]
    fn isr(&self) -> u64 {
        let isr: u64;
        // SAFETY: reads a status register.
        unsafe { asm!("mrs {}, isr_el1", out(reg) isr, options(nostack, preserves_flags)) };
        isr
    }
    fn take(&self) -> u64 {
        // SAFETY: SErrors are unmasked for two instructions; the one that is taken returns there (`is_expected_at`). The
        // guest's ELR and SPSR have been saved.
        unsafe { take_serror() }
    }
}
