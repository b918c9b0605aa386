// SPDX-License-Identifier: MIT OR Apache-2.0
//! EL1 and EL0 registers of the loaded vCPU.

use core::arch::asm;

use arch::{El1Entry, El1State};

macro_rules! write_zero {
    ($($reg:literal),* $(,)?) => {
        // SAFETY: registers of EL1 and EL0 only; EL2 uses none of them.
        unsafe { asm!($(concat!("msr ", $reg, ", xzr"),)* options(nomem, nostack, preserves_flags)) }
    };
}

/// SCTLR_EL1 at reset: RES1 bits, MMU and caches off (DDI 0487 D17.2.118; bits that a CPU lacks ignore the write).
const SCTLR_RESET: u64 = 0x30d0_0980;

/// Puts every register that a guest can write into the state of a reset CPU: nothing of a former life, or of
/// another VM, is left.
pub fn reset(features: &Features) {
    // SAFETY: as in `write_zero`.
    unsafe { asm!("msr sctlr_el1, {}", in(reg) SCTLR_RESET, options(nomem, nostack)) };
    write_zero!(
        "afsr0_el1",
        "afsr1_el1",
        "amair_el1",
        "contextidr_el1",
        "cpacr_el1",
        "csselr_el1",
        "elr_el1",
        "esr_el1",
        "far_el1",
        "mair_el1",
        "par_el1",
        "spsr_el1",
        "spsr_abt",
        "spsr_fiq",
        "spsr_irq",
        "spsr_und",
        "sp_el0",
        "sp_el1",
        "tcr_el1",
        "tpidr_el0",
        "tpidr_el1",
        "tpidrro_el0",
        "ttbr0_el1",
        "ttbr1_el1",
        "vbar_el1",
        "cntkctl_el1",
        "cntv_ctl_el0",
        "cntv_cval_el0",
        "cntp_ctl_el0",
        "cntp_cval_el0",
        "mdscr_el1",
    );
    if features.aarch32 {
        write_zero!("dacr32_el2", "ifsr32_el2", "fpexc32_el2");
    }
    if features.pauth {
        write_zero!(
            "S3_0_C2_C1_0",
            "S3_0_C2_C1_1",
            "S3_0_C2_C1_2",
            "S3_0_C2_C1_3",
            "S3_0_C2_C2_0",
            "S3_0_C2_C2_1",
            "S3_0_C2_C2_2",
            "S3_0_C2_C2_3",
            "S3_0_C2_C3_0",
            "S3_0_C2_C3_1",
        );
    }
    reset_debug(features);
    reset_fp();
}

fn reset_debug(features: &Features) {
    // Breakpoints and watchpoints 0..=5 exist at most on v8.0 cores that matter here; each only where the CPU has it.
    macro_rules! pair {
        ($limit:expr, $n:expr, $value:literal, $control:literal) => {
            if $n <= $limit {
                write_zero!($control, $value);
            }
        };
    }
    let b = features.breakpoints;
    pair!(b, 1, "dbgbvr0_el1", "dbgbcr0_el1");
    pair!(b, 2, "dbgbvr1_el1", "dbgbcr1_el1");
    pair!(b, 3, "dbgbvr2_el1", "dbgbcr2_el1");
    pair!(b, 4, "dbgbvr3_el1", "dbgbcr3_el1");
    pair!(b, 5, "dbgbvr4_el1", "dbgbcr4_el1");
    pair!(b, 6, "dbgbvr5_el1", "dbgbcr5_el1");
    pair!(b, 7, "dbgbvr6_el1", "dbgbcr6_el1");
    pair!(b, 8, "dbgbvr7_el1", "dbgbcr7_el1");
    let w = features.watchpoints;
    pair!(w, 1, "dbgwvr0_el1", "dbgwcr0_el1");
    pair!(w, 2, "dbgwvr1_el1", "dbgwcr1_el1");
    pair!(w, 3, "dbgwvr2_el1", "dbgwcr2_el1");
    pair!(w, 4, "dbgwvr3_el1", "dbgwcr3_el1");
    pair!(w, 5, "dbgwvr4_el1", "dbgwcr4_el1");
    pair!(w, 6, "dbgwvr5_el1", "dbgwcr5_el1");
    pair!(w, 7, "dbgwvr6_el1", "dbgwcr6_el1");
    pair!(w, 8, "dbgwvr7_el1", "dbgwcr7_el1");
}

fn reset_fp() {
    // EL2 is built without FP; the instructions are for the guest's registers.
    // SAFETY: FP/SIMD registers belong to the guest alone.
    unsafe {
        asm!(
            ".arch_extension fp",
            ".arch_extension simd",
            "movi v0.2d, #0",
            "movi v1.2d, #0",
            "movi v2.2d, #0",
            "movi v3.2d, #0",
            "movi v4.2d, #0",
            "movi v5.2d, #0",
            "movi v6.2d, #0",
            "movi v7.2d, #0",
            "movi v8.2d, #0",
            "movi v9.2d, #0",
            "movi v10.2d, #0",
            "movi v11.2d, #0",
            "movi v12.2d, #0",
            "movi v13.2d, #0",
            "movi v14.2d, #0",
            "movi v15.2d, #0",
            "movi v16.2d, #0",
            "movi v17.2d, #0",
            "movi v18.2d, #0",
            "movi v19.2d, #0",
            "movi v20.2d, #0",
            "movi v21.2d, #0",
            "movi v22.2d, #0",
            "movi v23.2d, #0",
            "movi v24.2d, #0",
            "movi v25.2d, #0",
            "movi v26.2d, #0",
            "movi v27.2d, #0",
            "movi v28.2d, #0",
            "movi v29.2d, #0",
            "movi v30.2d, #0",
            "movi v31.2d, #0",
            "msr fpcr, xzr",
            "msr fpsr, xzr",
            options(nomem, nostack, preserves_flags)
        );
    }
}

/// What this CPU has of what a reset must cover.
pub struct Features {
    /// AArch32 at EL0, so that its registers exist.
    pub aarch32: bool,
    /// PAuth keys.
    pub pauth: bool,
    /// Breakpoint pairs.
    pub breakpoints: u64,
    /// Watchpoint pairs.
    pub watchpoints: u64,
}

impl Features {
    /// Reads the ID registers of this CPU.
    pub fn read() -> Self {
        let (pfr0, dfr0, isar1, isar2): (u64, u64, u64, u64);
        // SAFETY: reads identification registers.
        unsafe {
            asm!("mrs {}, id_aa64pfr0_el1", "mrs {}, id_aa64dfr0_el1",
                "mrs {}, id_aa64isar1_el1", "mrs {}, S3_0_C0_C6_2",
                out(reg) pfr0, out(reg) dfr0, out(reg) isar1, out(reg) isar2,
                options(nomem, nostack, preserves_flags));
        }
        Self {
            aarch32: pfr0 & 15 == 2,
            // APA, API, GPA, GPI; APA3, GPA3.
            pauth: isar1 & 0xff00_0ff0 != 0 || isar2 & 0xff00 != 0,
            breakpoints: (dfr0 >> 12 & 15) + 1,
            watchpoints: (dfr0 >> 20 & 15) + 1,
        }
    }
}

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
