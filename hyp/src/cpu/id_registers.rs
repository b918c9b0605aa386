// SPDX-License-Identifier: MIT OR Apache-2.0
//! Identification registers of this machine's CPUs.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arch::{Errata, PstateFeatures};
use vm::ID_REGISTERS;

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
id!(mpidr_raw, "mpidr_el1");

/// Errata of the CPUs that are up, a bit each: those of one count for all.
static ERRATA: AtomicU64 = AtomicU64::new(0);

/// The ID registers by CRm << 3 | op2: of each field what all CPUs have that are up. Guests see no more, whichever of
/// them they run on (big.LITTLE).
static COMMON: [AtomicU64; ID_REGISTERS] = [const { AtomicU64::new(0) }; ID_REGISTERS];
/// A CPU has been counted in.
static COUNTED: AtomicBool = AtomicBool::new(false);
/// CRm << 3 | op2 of the registers below.
const PFR1: usize = 4 << 3 | 1;
const MMFR0: usize = 7 << 3;
const MMFR1: usize = 7 << 3 | 1;

/// The register at place `n` of those above, as system register accesses name it.
pub const fn reg(n: usize) -> u16 {
    arch::sysreg::sys(3, 0, 0, n as u16 >> 3, n as u16 & 7)
}

/// The ID register at place `n`, as far as all CPUs that are up have it.
pub fn common(n: usize) -> u64 {
    COMMON.get(n).map_or(0, |value| value.load(Ordering::Relaxed))
}

/// ID_AA64MMFR0_EL1.PARange, the least of all CPUs that are up.
pub fn pa_range() -> u8 {
    (common(MMFR0) & 15) as u8
}

/// This CPU's affinity.
pub fn mpidr() -> arch::Mpidr {
    arch::Mpidr::new(mpidr_raw())
}

/// Counts this CPU in, with its errata and its features.
pub fn note_cpu() {
    let e = Errata::of(midr(), revidr());
    let bits = u64::from(e.repeat_tlbi)
        | u64::from(e.hpfar_unknown_on_translation) << 1
        | u64::from(e.speculative_at) << 2
        | u64::from(e.par_needs_dmb) << 3;
    ERRATA.fetch_or(bits, Ordering::AcqRel);
    // CPUs come up one after the other.
    let first = !COUNTED.swap(true, Ordering::AcqRel);
    for (n, (common, value)) in COMMON.iter().zip(own()).enumerate() {
        let before = if first { value } else { common.load(Ordering::Relaxed) };
        common.store(arch::common_id_register(reg(n), before, value), Ordering::Relaxed);
    }
}

macro_rules! id_row {
    ($raw:expr, $row:literal, $crm:literal) => {
        id_row!($raw, $row, $crm, 0 "0", 1 "1", 2 "2", 3 "3", 4 "4", 5 "5", 6 "6", 7 "7")
    };
    ($raw:expr, $row:literal, $crm:literal, $($n:literal $op2:literal),*) => {
        $(
            let value: u64;
            // SAFETY: the ID space reads as zero where it has no register (DDI 0487 D17.3.1).
            unsafe {
                asm!(concat!("mrs {}, S3_0_C0_", $crm, "_", $op2), out(reg) value,
                    options(nomem, nostack, preserves_flags));
            }
            if let Some(slot) = $raw.get_mut($row * 8 + $n) {
                *slot = value;
            }
        )*
    };
}

/// The ID registers of this CPU, by CRm << 3 | op2.
#[inline(never)]
pub fn own() -> [u64; ID_REGISTERS] {
    let mut raw = [0_u64; ID_REGISTERS];
    id_row!(raw, 1, "C1");
    id_row!(raw, 2, "C2");
    id_row!(raw, 3, "C3");
    id_row!(raw, 4, "C4");
    id_row!(raw, 5, "C5");
    id_row!(raw, 6, "C6");
    id_row!(raw, 7, "C7");
    raw
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
        pan: common(MMFR1) >> 20 & 15 != 0,
        ssbs: common(PFR1) >> 4 & 15 != 0,
        mte: false,
        nmi: false,
        ebep: false,
    }
}
