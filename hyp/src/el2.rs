// SPDX-License-Identifier: MIT OR Apache-2.0
//! What traps, and what guests run natively: HCR_EL2 and its relatives, the same for every vCPU.

use core::arch::asm;

use aarch64_cpu::registers::{ID_AA64DFR0_EL1, Readable};

use crate::sysreg::{hcrx_el2, hstr_el2, vpidr_el2};

/// HCR_EL2 of every guest (DDI 0487 D17.2.48).
///
/// VM, SWIO; PTW: a stage-1 walk never touches device memory; FMO, IMO, AMO: physical interrupts and SErrors come to
/// EL2; TID3, TID5, TSC, TIDCP, TACR, TSW, TLOR, TERR, and with EnSCXT clear SCXTNUM_ELx, trap; RW: EL1 is AArch64; APK,
/// API: PAuth runs natively.
const HCR: u64 = 1
    | 1 << 1
    | 1 << 2
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 18
    | 1 << 19
    | 1 << 20
    | 1 << 21
    | 1 << 22
    | 1 << 31
    | 1 << 35
    | 1 << 36
    | 1 << 40
    | 1 << 41
    | 1 << 58;

/// HCR_EL2 while a guest is loaded: where vCPUs share the CPU, WFI (TWI) and WFE (TWE) are reasons to switch.
pub fn hcr(shared: bool) -> u64 {
    if shared { HCR | 1 << 13 | 1 << 14 } else { HCR }
}

/// CPTR_EL2 with E2H clear: RES1 bits; TSM and TZ: SME and SVE trap; TTA: trace traps; TAM: AMU traps; FP is native.
const CPTR: u64 = 0x33ff | 1 << 20 | 1 << 30;

/// MDCR_EL2.TDA: accesses to debug registers trap (DDI 0487 D17.3.18).
const TDA: u64 = 1 << 9;

/// MDCR_EL2: PMU (TPM, TPMCR), SPE (TPMS), trace filter (TTRF), debug ROM (TDRA), OS lock (TDOSA) trap; debug itself traps
/// (TDA) until the vCPU uses it, is native then, and switched with it ([`trap_debug`]); HPMN is the reset value.
fn mdcr() -> u64 {
    let pmcr_n = if ID_AA64DFR0_EL1.get() >> 8 & 15 == 0 || ID_AA64DFR0_EL1.get() >> 8 & 15 == 15 {
        0
    } else {
        let pmcr: u64;
        // SAFETY: reads the PMU's control register, which exists, as ID_AA64DFR0_EL1.PMUVer says.
        unsafe { asm!("mrs {}, pmcr_el0", out(reg) pmcr, options(nomem, nostack)) };
        pmcr >> 11 & 0x1f
    };
    pmcr_n | 1 << 5 | 1 << 6 | TDA | 1 << 10 | 1 << 11 | 1 << 14 | 1 << 19
}

/// Whether debug registers trap on this CPU.
pub fn trap_debug(trap: bool) {
    // SAFETY: a trap control of lower exception levels; takes effect at the ERET.
    unsafe {
        let mdcr: u64;
        asm!("mrs {}, mdcr_el2", out(reg) mdcr, options(nomem, nostack, preserves_flags));
        let mdcr = if trap { mdcr | TDA } else { mdcr & !TDA };
        asm!("msr mdcr_el2, {}", in(reg) mdcr, options(nomem, nostack, preserves_flags));
    }
}

/// Writes what is the same for every guest on this CPU.
pub fn init_cpu() {
    let (midr, mmfr0, mmfr1): (u64, u64, u64);
    // SAFETY: reads identification registers.
    unsafe {
        asm!("mrs {}, midr_el1", "mrs {}, id_aa64mmfr0_el1", "mrs {}, id_aa64mmfr1_el1",
            out(reg) midr, out(reg) mmfr0, out(reg) mmfr1, options(nomem, nostack));
    }
    // SAFETY: trap controls of lower exception levels only: E2H and TGE stay clear.
    unsafe {
        asm!("msr hcr_el2, {}", "msr cptr_el2, {}", "msr mdcr_el2, {}", "isb",
            in(reg) HCR, in(reg) CPTR, in(reg) mdcr(), options(nostack));
        // No debug event for who has not asked for any: UNKNOWN at reset.
        asm!("msr mdscr_el1, xzr", "msr mdccint_el1, xzr", options(nomem, nostack));
        // The OS lock is closed at reset; guests cannot open it (TDOSA).
        asm!("msr oslar_el1, xzr", options(nomem, nostack));
        // No lower EL has run yet, for any VMID: start with empty TLBs (UNKNOWN at reset).
        asm!("tlbi alle1", "dsb nsh", "isb", options(nostack));
    }
    hstr_el2::write(0);
    vpidr_el2::write(midr);
    if mmfr1 >> 40 & 15 != 0 {
        hcrx_el2::write(0);
    }
    if mmfr0 >> 56 & 15 != 0 {
        // SAFETY: fine-grained traps exist; 0 traps what is not enabled by name (SME's TPIDR2 and others).
        unsafe {
            asm!(
                "msr S3_4_C1_C1_4, xzr",
                "msr S3_4_C1_C1_5, xzr",
                "msr S3_4_C1_C1_6, xzr",
                "msr S3_4_C3_C1_4, xzr",
                "msr S3_4_C3_C1_5, xzr",
                options(nomem, nostack)
            );
        }
    }
}
