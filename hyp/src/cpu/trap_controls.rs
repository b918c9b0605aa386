// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes the trap controls of [`arch::trap_controls`]: what traps, and what guests run natively.

use core::arch::asm;

use aarch64_cpu::registers::*;
use arch::trap_controls::{self as table, HCR_SHARED};
use arm_sysregs::el1::accessors::read_mpamidr_el1;
use arm_sysregs::el1::registers::MpamidrEl1;

use crate::cpu::sysreg::*;

/// HCR_EL2 while a guest is loaded. `shared`: other vCPUs use the same CPU.
pub fn hcr(shared: bool) -> u64 {
    const ALONE: u64 = table::HCR.value();
    if shared { ALONE | HCR_SHARED } else { ALONE }
}

/// MDCR_EL2 of this CPU, with as many counters in HPMN as its PMU has (PMCR_EL0.N).
fn mdcr() -> u64 {
    let counters = match ID_AA64DFR0_EL1.read(ID_AA64DFR0_EL1::PMUVer) {
        0 | 15 => 0,
        _ => PMCR_EL0.get() >> 11 & 0x1f,
    };
    counters | const { table::MDCR.value() }
}

/// Whether debug registers trap on this CPU.
pub fn trap_debug(trap: bool) {
    MDCR_EL2.modify(MDCR_EL2::TDA.val(trap.into()));
}

/// Writes registers of the table where the CPU has them.
macro_rules! write {
    ($ids:expr; $($control:ident => $register:ident,)+) => {
        $({
            use table::$control as CONTROL;
            const { assert!(CONTROL.is(stringify!($register))) };
            if const { CONTROL.presence }.holds($ids) {
                // The values trap what guests do and turn off what EL2 does not use; E2H and TGE stay clear.
                $register.set(const { CONTROL.value() });
            }
        })+
    };
}

/// Writes the trap controls that all guests share on this CPU.
pub fn init_cpu() {
    let ids = &id_space();
    write! { ids;
        HCR => HCR_EL2,
        CPTR => CPTR_EL2,
        HSTR => HSTR_EL2,
        HACR => HACR_EL2,
        CNTHCTL => CNTHCTL_EL2,
        HCRX => HCRX_EL2,
        HFGRTR => HFGRTR_EL2,
        HFGWTR => HFGWTR_EL2,
        HFGITR => HFGITR_EL2,
        HDFGRTR => HDFGRTR_EL2,
        HDFGWTR => HDFGWTR_EL2,
        HAFGRTR => HAFGRTR_EL2,
        HFGRTR2 => HFGRTR2_EL2,
        HFGWTR2 => HFGWTR2_EL2,
        HFGITR2 => HFGITR2_EL2,
        HDFGRTR2 => HDFGRTR2_EL2,
        HDFGWTR2 => HDFGWTR2_EL2,
        MPAM2 => MPAM2_EL2,
        VSESR => VSESR_EL2,
        TCR2 => TCR2_EL2,
        SCTLR2 => SCTLR2_EL2,
        GCSCR => GCSCR_EL2,
    }
    if const { table::MPAMHCR.presence }.holds(ids)
        && read_mpamidr_el1().contains(MpamidrEl1::HAS_HCR)
    {
        MPAMHCR_EL2.set(const { table::MPAMHCR.value() });
    }
    MDCR_EL2.set(mdcr());
    // No debug event for a guest that has not asked for any: UNKNOWN at reset.
    MDSCR_EL1.set(0);
    MDCCINT_EL1.set(0);
    // The OS lock is closed at reset; guests cannot open it (TDOSA).
    OSLAR_EL1.write(OSLAR_EL1::OSLK::Unlocked);
    // SAFETY: no lower EL has run yet, for any VMID: the TLBs are UNKNOWN at reset, and nothing depends on them.
    unsafe { asm!("isb", "tlbi alle1", "dsb nsh", "isb", options(nostack)) };
    VPIDR_EL2.set(MIDR_EL1.get());
}
