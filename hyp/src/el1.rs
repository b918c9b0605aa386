// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registers of the loaded vCPU that an injected exception reads and writes.

use core::arch::asm;

use arch::{El1Entry, El1State};

/// What decides how an exception enters EL1.
#[inline(always)]
pub fn entry_state() -> El1State {
    let (vbar, sctlr): (u64, u64);
    // SAFETY: reads registers of the loaded guest.
    unsafe {
        asm!("mrs {}, vbar_el1", "mrs {}, sctlr_el1", out(reg) vbar, out(reg) sctlr,
            options(nomem, nostack, preserves_flags));
    }
    El1State { vbar, sctlr }
}

/// Writes the syndrome of an exception that the guest is about to take.
#[inline(always)]
pub fn write_entry(entry: &El1Entry) {
    // SAFETY: registers of the loaded guest.
    unsafe {
        asm!("msr esr_el1, {}", "msr elr_el1, {}", "msr spsr_el1, {}",
            in(reg) entry.esr, in(reg) entry.elr, in(reg) entry.spsr,
            options(nomem, nostack, preserves_flags));
        if let Some(far) = entry.far {
            asm!("msr far_el1, {}", in(reg) far, options(nomem, nostack, preserves_flags));
        }
    }
}
