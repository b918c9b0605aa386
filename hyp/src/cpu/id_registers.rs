// SPDX-License-Identifier: MIT OR Apache-2.0
//! Identification registers of this machine's CPUs.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aarch64_cpu::registers::{MIDR_EL1, MPIDR_EL1, Readable};
use arch::{Errata, PstateFeatures};
use vm::ID_REGISTERS;

use crate::cpu::sysreg::{REVIDR_EL1, id_space};

/// Errata of the CPUs that are up, as [`Errata::bits`]. An erratum of one CPU counts for all.
static ERRATA: AtomicU64 = AtomicU64::new(0);

/// The ID registers, by CRm << 3 | op2. Each field has the value that all CPUs that are up support, as guests can run on any
/// of them (big.LITTLE).
static COMMON: [AtomicU64; ID_REGISTERS] = [const { AtomicU64::new(0) }; ID_REGISTERS];
/// Whether [`COMMON`] holds the values of a CPU.
static COUNTED: AtomicBool = AtomicBool::new(false);
/// CRm << 3 | op2 of the registers below.
const PFR1: usize = 4 << 3 | 1;
const MMFR0: usize = 7 << 3;
const MMFR1: usize = 7 << 3 | 1;

/// The encoding of ID register `n` in system register accesses.
pub const fn reg(n: usize) -> u16 {
    arch::sysreg::sys(3, 0, 0, n as u16 >> 3, n as u16 & 7)
}

/// ID register `n`, as all CPUs that are up support it.
pub fn common(n: usize) -> u64 {
    COMMON.get(n).map_or(0, |value| value.load(Ordering::Relaxed))
}

/// The least ID_AA64MMFR0_EL1.PARange of the CPUs that are up.
pub fn pa_range() -> u8 {
    (common(MMFR0) & 15) as u8
}

/// This CPU's affinity.
pub fn mpidr() -> arch::Mpidr {
    arch::Mpidr::new(MPIDR_EL1.get())
}

/// Adds this CPU's errata to those of the others, and takes what it lacks out of the common ID registers.
pub fn sanitise_cpu_features() {
    let errata = Errata::of(MIDR_EL1.get(), REVIDR_EL1.get());
    ERRATA.fetch_or(errata.bits(), Ordering::AcqRel);
    // CPUs come up one at a time.
    let first = !COUNTED.swap(true, Ordering::AcqRel);
    for (n, (common, value)) in COMMON.iter().zip(id_space()).enumerate() {
        let before = if first { value } else { common.load(Ordering::Relaxed) };
        common.store(arch::common_id_register(reg(n), before, value), Ordering::Relaxed);
    }
}

/// The errata of all CPUs that are up.
#[inline(always)]
pub fn errata() -> Errata {
    Errata::from_bits(ERRATA.load(Ordering::Relaxed))
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
