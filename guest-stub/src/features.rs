// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the CPU says it has. A guest sees what the hypervisor lets it see, and tests go by that.

use core::sync::atomic::{AtomicU32, Ordering};

/// A four-bit field of an ID register.
fn field(value: u64, low: u32) -> u64 {
    value >> low & 0xf
}

/// FEAT_PAN.
pub fn pan() -> bool {
    field(mrs!("id_aa64mmfr1_el1"), 20) != 0
}

/// FEAT_UAO.
pub fn uao() -> bool {
    field(mrs!("id_aa64mmfr2_el1"), 4) != 0
}

/// FEAT_DIT.
pub fn dit() -> bool {
    field(mrs!("id_aa64pfr0_el1"), 48) != 0
}

/// FEAT_SSBS with its PSTATE register.
pub fn ssbs() -> bool {
    field(mrs!("id_aa64pfr1_el1"), 4) >= 2
}

/// FEAT_BTI.
pub fn bti() -> bool {
    field(mrs!("id_aa64pfr1_el1"), 0) != 0
}

/// FEAT_LSE.
pub fn atomics() -> bool {
    field(mrs!("id_aa64isar0_el1"), 20) != 0
}

/// FEAT_LRCPC.
pub fn rcpc() -> bool {
    field(mrs!("id_aa64isar1_el1"), 20) != 0
}

/// FEAT_PAuth, any algorithm.
pub fn pauth() -> bool {
    mrs!("id_aa64isar1_el1") & 0xff00_0ff0 != 0
}

/// AArch32 at EL0.
pub fn aarch32_el0() -> bool {
    field(mrs!("id_aa64pfr0_el1"), 0) == 2
}

/// GIC system registers.
pub fn gic_sysregs() -> bool {
    field(mrs!("id_aa64pfr0_el1"), 24) != 0
}

/// Physical address bits, as the CPU shows them to this guest: the size of its IPA space.
pub fn pa_bits() -> u32 {
    match field(mrs!("id_aa64mmfr0_el1"), 0) {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        _ => 48,
    }
}

/// Which of PAN, UAO, DIT and SSBS exist: asked once, as ID registers may trap.
static OPTIONAL: AtomicU32 = AtomicU32::new(0);

/// Asks once for what [`optional_pstate`] reads at every exception.
pub fn init() {
    let bits = [pan(), uao(), dit(), ssbs()];
    let mask = bits.iter().enumerate().map(|(n, bit)| u32::from(*bit) << n).sum();
    OPTIONAL.store(mask, Ordering::Relaxed);
}

/// PAN, UAO, DIT and SSBS of the calling code, at their places in an SPSR, as far as they exist.
pub fn optional_pstate() -> u64 {
    let optional = OPTIONAL.load(Ordering::Relaxed);
    let mut value = 0;
    if optional & 1 != 0 {
        value |= mrs!("s3_0_c4_c2_3");
    }
    if optional & 2 != 0 {
        value |= mrs!("s3_0_c4_c2_4");
    }
    if optional & 4 != 0 {
        value |= mrs!("s3_3_c4_c2_5");
    }
    if optional & 8 != 0 {
        value |= mrs!("s3_3_c4_c2_6");
    }
    value
}
