// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes what [`arch::trap_controls`] says: what traps, and what guests run natively.

use core::arch::asm;

use aarch64_cpu::registers::{ID_AA64DFR0_EL1, Readable};
use arch::trap_controls::{self, HCR, HCR_SHARED, MDCR, MDCR_TDA};

use crate::cpu::sysreg::vpidr_el2;

/// HCR_EL2 while a guest is loaded, on a CPU that it shares or has alone.
pub fn hcr(shared: bool) -> u64 {
    const ALONE: u64 = HCR.value();
    if shared { ALONE | HCR_SHARED } else { ALONE }
}

/// MDCR_EL2 of this CPU, with as many counters in HPMN as its PMU has.
fn mdcr() -> u64 {
    let counters = match ID_AA64DFR0_EL1.get() >> 8 & 15 {
        0 | 15 => 0,
        _ => {
            let pmcr: u64;
            // SAFETY: reads the PMU's control register, which exists, as ID_AA64DFR0_EL1.PMUVer says.
            unsafe { asm!("mrs {}, pmcr_el0", out(reg) pmcr, options(nomem, nostack)) };
            pmcr >> 11 & 0x1f
        }
    };
    counters | const { MDCR.value() }
}

/// Whether debug registers trap on this CPU.
pub fn trap_debug(trap: bool) {
    // SAFETY: a trap control of lower exception levels; takes effect at the ERET.
    unsafe {
        let mdcr: u64;
        asm!("mrs {}, mdcr_el2", out(reg) mdcr, options(nomem, nostack, preserves_flags));
        let mdcr = if trap { mdcr | MDCR_TDA } else { mdcr & !MDCR_TDA };
        asm!("msr mdcr_el2, {}", in(reg) mdcr, options(nomem, nostack, preserves_flags));
    }
}

/// Writes registers of the table, by their encodings, where the CPU has them.
macro_rules! write {
    ($ids:expr; $($name:ident $op0:literal $op1:literal $crn:literal $crm:literal $op2:literal;)+) => {
        $({
            use trap_controls::$name as CONTROL;
            const ENCODING: u16 = arch::sysreg::sys($op0, $op1, $crn, $crm, $op2);
            const { assert!(CONTROL.encoding == ENCODING) };
            if const { CONTROL.presence }.holds($ids) {
                // SAFETY: the register exists. The table's values trap what guests do and turn off what EL2 does not
                // use; E2H and TGE stay clear.
                unsafe {
                    asm!(
                        concat!("msr S", $op0, "_", $op1, "_C", $crn, "_C", $crm, "_", $op2, ", {}"),
                        in(reg) const { CONTROL.value() }, options(nomem, nostack, preserves_flags)
                    );
                }
            }
        })+
    };
}

/// Writes what is the same for every guest on this CPU.
pub fn init_cpu() {
    let ids = &crate::cpu::id_registers::own();
    write! { ids;
        HCR 3 4 1 1 0;
        CPTR 3 4 1 1 2;
        HSTR 3 4 1 1 3;
        HACR 3 4 1 1 7;
        CNTHCTL 3 4 14 1 0;
        HCRX 3 4 1 2 2;
        HFGRTR 3 4 1 1 4;
        HFGWTR 3 4 1 1 5;
        HFGITR 3 4 1 1 6;
        HDFGRTR 3 4 3 1 4;
        HDFGWTR 3 4 3 1 5;
        HAFGRTR 3 4 3 1 6;
        HFGRTR2 3 4 3 1 2;
        HFGWTR2 3 4 3 1 3;
        HFGITR2 3 4 3 1 7;
        HDFGRTR2 3 4 3 1 0;
        HDFGWTR2 3 4 3 1 1;
        MPAM2 3 4 10 5 0;
        VSESR 3 4 5 2 3;
        TCR2 3 4 2 0 3;
        SCTLR2 3 4 1 0 3;
        GCSCR 3 4 2 5 0;
    }
    if const { trap_controls::MPAMHCR.presence }.holds(ids) {
        let mpamidr: u64;
        // SAFETY: MPAM is there. MPAMIDR_EL1 is its ID register; bit 17 is HAS_HCR.
        unsafe { asm!("mrs {}, S3_0_C10_C4_4", out(reg) mpamidr, options(nomem, nostack)) };
        if mpamidr & 1 << 17 != 0 {
            // SAFETY: the register exists; no lower exception level has run.
            unsafe {
                asm!("msr S3_4_C10_C4_0, {}", in(reg) const { trap_controls::MPAMHCR.value() },
                    options(nomem, nostack));
            }
        }
    }
    let midr: u64;
    // SAFETY: reads an identification register; the rest is explained line by line. No lower exception level has run.
    unsafe {
        asm!("mrs {}, midr_el1", out(reg) midr, options(nomem, nostack));
        asm!("msr mdcr_el2, {}", in(reg) mdcr(), options(nomem, nostack));
        // No debug event for who has not asked for any: UNKNOWN at reset.
        asm!("msr mdscr_el1, xzr", "msr mdccint_el1, xzr", options(nomem, nostack));
        // The OS lock is closed at reset; guests cannot open it (TDOSA).
        asm!("msr oslar_el1, xzr", options(nomem, nostack));
        // No lower EL has run yet, for any VMID: start with empty TLBs (UNKNOWN at reset).
        asm!("isb", "tlbi alle1", "dsb nsh", "isb", options(nostack));
    }
    vpidr_el2::write(midr);
}
