// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registers of the loaded vCPU that exception injection reads and writes.

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

/// ELR_EL1 of the loaded guest.
#[inline(always)]
pub fn return_address() -> u64 {
    let elr: u64;
    // SAFETY: reads a register of the loaded guest.
    unsafe { asm!("mrs {}, elr_el1", out(reg) elr, options(nomem, nostack, preserves_flags)) };
    elr
}

/// Registers that say what happened to the loaded guest.
pub struct Dump {
    pub vbar: u64,
    pub elr: u64,
    pub spsr: u64,
    pub esr: u64,
    pub far: u64,
    pub sctlr: u64,
    pub sp_el0: u64,
    pub sp_el1: u64,
}

/// Reads them.
#[cold]
pub fn dump() -> Dump {
    let El1State { vbar, sctlr } = entry_state();
    let (elr, spsr, esr, far, sp_el0, sp_el1): (u64, u64, u64, u64, u64, u64);
    // SAFETY: reads registers of the loaded guest.
    unsafe {
        asm!("mrs {}, elr_el1", "mrs {}, spsr_el1", "mrs {}, esr_el1", "mrs {}, far_el1",
            "mrs {}, sp_el0", "mrs {}, sp_el1",
            out(reg) elr, out(reg) spsr, out(reg) esr, out(reg) far, out(reg) sp_el0, out(reg) sp_el1,
            options(nomem, nostack, preserves_flags));
    }
    Dump { vbar, elr, spsr, esr, far, sctlr, sp_el0, sp_el1 }
}
