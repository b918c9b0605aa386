// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registers of the loaded vCPU that exception injection reads and writes.

use aarch64_cpu::registers::*;
use arch::{El1Entry, El1State};

/// What decides how an exception enters EL1.
#[inline(always)]
pub fn entry_state() -> El1State {
    El1State { vbar: VBAR_EL1.get(), sctlr: SCTLR_EL1.get() }
}

/// Writes the syndrome of an exception that the guest is about to take.
#[inline(always)]
pub fn write_entry(entry: &El1Entry) {
    ESR_EL1.set(entry.esr);
    ELR_EL1.set(entry.elr);
    SPSR_EL1.set(entry.spsr);
    if let Some(far) = entry.far {
        FAR_EL1.set(far);
    }
}

/// ELR_EL1 of the loaded guest.
#[inline(always)]
pub fn return_address() -> u64 {
    ELR_EL1.get()
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
    Dump {
        vbar,
        elr: ELR_EL1.get(),
        spsr: SPSR_EL1.get(),
        esr: ESR_EL1.get(),
        far: FAR_EL1.get(),
        sctlr,
        sp_el0: SP_EL0.get(),
        sp_el1: SP_EL1.get(),
    }
}
