// SPDX-License-Identifier: MIT OR Apache-2.0
//! System registers that neither aarch64-cpu nor arm-sysregs serves. Each has the reason.
//!
//! Accesses here also order the compiler's memory accesses (no `nomem`), unlike those of the crates.

use tock_registers::interfaces::{Readable, Writeable};

/// Defines registers, each with its name or encoding for the assembler.
macro_rules! registers {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)+) => {
        $(
            $(#[$doc])*
            pub const $name: $name::Register = $name::Register;

            #[expect(non_snake_case, reason = "named as the register")]
            mod $name {
                use super::{Readable, Writeable};

                pub struct Register;

                impl Readable for Register {
                    type T = u64;
                    type R = ();

                    #[inline(always)]
                    fn get(&self) -> u64 {
                        let value: u64;
                        // SAFETY: every register named here exists where it is used (the GIC's after ICC_SRE_EL2.SRE
                        // has been found set, the others as the ID registers say); a read touches no memory.
                        unsafe {
                            core::arch::asm!(concat!("mrs {}, ", $text), out(reg) value,
                                options(nostack, preserves_flags));
                        }
                        value
                    }
                }

                impl Writeable for Register {
                    type T = u64;
                    type R = ();

                    #[inline(always)]
                    fn set(&self, value: u64) {
                        // SAFETY: as for `get`; none of these registers changes how EL2 itself accesses memory.
                        unsafe {
                            core::arch::asm!(concat!("msr ", $text, ", {}"), in(reg) value,
                                options(nostack, preserves_flags));
                        }
                    }
                }
            }
        )+
    };
}

// The crates have these as `nomem`. Acknowledging, completing and sending must keep their place among the compiler's
// memory accesses.
registers! {
    /// SErrors that ESB has deferred (FEAT_RAS).
    DISR_EL1 = "S3_0_C12_C1_1";
    /// Acknowledges an interrupt of group 1.
    ICC_IAR1_EL1 = "icc_iar1_el1";
    /// Drops the running priority.
    ICC_EOIR1_EL1 = "icc_eoir1_el1";
    /// Deactivates an interrupt.
    ICC_DIR_EL1 = "icc_dir_el1";
    /// Sends an SGI.
    ICC_SGI1R_EL1 = "icc_sgi1r_el1";
}

// Neither crate has these (arm-sysregs has some with its feature `el2`, which is one more crate).
registers! {
    /// Empty list registers.
    ICH_ELRSR_EL2 = "ich_elrsr_el2";
    /// The MIDR_EL1 that guests see.
    VPIDR_EL2 = "vpidr_el2";
    /// When EL2's physical timer expires.
    CNTHP_CVAL_EL2 = "cnthp_cval_el2";
    /// Revision of this CPU.
    REVIDR_EL1 = "revidr_el1";
    /// Cache line sizes.
    CTR_EL0 = "ctr_el0";
    /// What DC ZVA zeroes.
    DCZID_EL0 = "dczid_el0";
    /// The PMU's control register: how many counters it has.
    PMCR_EL0 = "pmcr_el0";
    /// The debug channel's interrupts.
    MDCCINT_EL1 = "mdccint_el1";
    /// Traps of AArch32 coprocessor registers.
    HSTR_EL2 = "hstr_el2";
    /// Implementation-defined traps.
    HACR_EL2 = "hacr_el2";
}

// The same, and the assembler knows these names only with the feature that brings the register.
registers! {
    /// What EL1 writes as DISR_EL1 (FEAT_RAS).
    VDISR_EL2 = "S3_4_C12_C1_1";
    /// Syndrome of virtual SErrors (FEAT_RAS).
    VSESR_EL2 = "S3_4_C5_C2_3";
    /// EL0's second thread pointer (FEAT_SME).
    TPIDR2_EL0 = "S3_3_C13_C0_5";
    /// Features of EL1 that EL2 allows (FEAT_HCX).
    HCRX_EL2 = "S3_4_C1_C2_2";
    /// Fine-grained traps of reads (FEAT_FGT2).
    HFGRTR2_EL2 = "S3_4_C3_C1_2";
    /// Fine-grained traps of writes (FEAT_FGT2).
    HFGWTR2_EL2 = "S3_4_C3_C1_3";
    /// Fine-grained traps of instructions (FEAT_FGT2).
    HFGITR2_EL2 = "S3_4_C3_C1_7";
    /// Fine-grained traps of debug reads (FEAT_FGT2).
    HDFGRTR2_EL2 = "S3_4_C3_C1_0";
    /// Fine-grained traps of debug writes (FEAT_FGT2).
    HDFGWTR2_EL2 = "S3_4_C3_C1_1";
    /// Partition of EL2, and MPAM traps (FEAT_MPAM).
    MPAM2_EL2 = "S3_4_C10_C5_0";
    /// Virtual partitions (FEAT_MPAM).
    MPAMHCR_EL2 = "S3_4_C10_C4_0";
    /// Extended translation control (FEAT_TCR2).
    TCR2_EL2 = "S3_4_C2_C0_3";
    /// Extended system control (FEAT_SCTLR2).
    SCTLR2_EL2 = "S3_4_C1_C0_3";
    /// Control of the guarded control stack (FEAT_GCS).
    GCSCR_EL2 = "S3_4_C2_C5_0";
}

macro_rules! id_row {
    ($raw:expr, $($row:literal $crm:literal),+) => {
        $(id_row!($raw, $row, $crm, 0 "0", 1 "1", 2 "2", 3 "3", 4 "4", 5 "5", 6 "6", 7 "7");)+
    };
    ($raw:expr, $row:literal, $crm:literal, $($n:literal $op2:literal),*) => {
        $(
            let value: u64;
            // SAFETY: the ID space reads as zero where it has no register (DDI 0487 D17.3.1).
            unsafe {
                core::arch::asm!(concat!("mrs {}, S3_0_C0_", $crm, "_", $op2), out(reg) value,
                    options(nomem, nostack, preserves_flags));
            }
            if let Some(slot) = $raw.get_mut($row << 3 | $n) {
                *slot = value;
            }
        )*
    };
}

/// The ID registers of this CPU, by CRm << 3 | op2. By encoding: most of the space has no names yet.
#[inline(never)]
pub fn id_space() -> [u64; vm::ID_REGISTERS] {
    let mut raw = [0_u64; vm::ID_REGISTERS];
    id_row!(raw, 1 "C1", 2 "C2", 3 "C3", 4 "C4", 5 "C5", 6 "C6", 7 "C7");
    raw
}
