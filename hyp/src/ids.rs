// SPDX-License-Identifier: MIT OR Apache-2.0
//! Identification registers of this machine's CPUs.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use arch::{Errata, PstateFeatures};

macro_rules! id {
    ($name:ident, $reg:literal) => {
        fn $name() -> u64 {
            let value: u64;
            // SAFETY: reads an identification register.
            unsafe { asm!(concat!("mrs {}, ", $reg), out(reg) value, options(nomem, nostack, pure)) };
            value
        }
    };
}
id!(midr, "midr_el1");
id!(revidr, "revidr_el1");
id!(mmfr0, "id_aa64mmfr0_el1");
id!(mmfr1, "id_aa64mmfr1_el1");
id!(pfr1, "id_aa64pfr1_el1");
id!(mpidr_raw, "mpidr_el1");

/// Errata of the CPUs that are up, a bit each: those of one count for all.
static ERRATA: AtomicU64 = AtomicU64::new(0);

/// ID_AA64MMFR0_EL1.PARange of this CPU.
pub fn pa_range() -> u8 {
    (mmfr0() & 15) as u8
}

/// This CPU's affinity.
pub fn mpidr() -> arch::Mpidr {
    arch::Mpidr::new(mpidr_raw())
}

/// Counts this CPU's errata in.
pub fn note_cpu() {
    let e = Errata::of(midr(), revidr());
    let bits = u64::from(e.repeat_tlbi)
        | u64::from(e.hpfar_unknown_on_translation) << 1
        | u64::from(e.speculative_at) << 2
        | u64::from(e.par_needs_dmb) << 3;
    ERRATA.fetch_or(bits, Ordering::AcqRel);
}

/// What the CPUs that are up need, together.
#[inline(always)]
pub fn errata() -> Errata {
    let bits = ERRATA.load(Ordering::Relaxed);
    Errata {
        repeat_tlbi: bits & 1 != 0,
        hpfar_unknown_on_translation: bits & 2 != 0,
        speculative_at: bits & 4 != 0,
        par_needs_dmb: bits & 8 != 0,
    }
}

/// PSTATE fields that guests see; MTE, NMI and EBEP are hidden from them.
pub fn pstate_features() -> PstateFeatures {
    PstateFeatures {
        pan: mmfr1() >> 20 & 15 != 0,
        ssbs: pfr1() >> 4 & 15 != 0,
        mte: false,
        nmi: false,
        ebep: false,
    }
}
