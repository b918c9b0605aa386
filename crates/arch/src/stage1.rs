// SPDX-License-Identifier: MIT OR Apache-2.0
//! A walk of a guest's stage 1, to name the level at which it left the guest's memory.
//!
//! A stage-2 fault on a stage-1 walk goes back to the guest as an external abort on that walk, whose
//! status code carries the level of *stage 1*; the trap reports the level of stage 2 (docs/trap-path.md).
//!
//! Sources: DDI 0487 D8.2 (translation process), D17.2.131 (SCTLR_EL1), D17.2.139 (TCR_EL1).

use crate::{Ipa, Va};

/// A guest's EL1 registers that govern its stage 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stage1 {
    /// SCTLR_EL1.
    pub sctlr: u64,
    /// TCR_EL1.
    pub tcr: u64,
    /// TTBR0_EL1.
    pub ttbr0: u64,
    /// TTBR1_EL1.
    pub ttbr1: u64,
}

const SCTLR_M: u64 = 1 << 0;
const SCTLR_EE: u64 = 1 << 25;
/// 52-bit addresses with 4 and 16 KiB granules: hidden from guests, so not understood here either.
const TCR_DS: u64 = 1 << 59;
/// The level whose descriptors are pages.
const LAST_LEVEL: u32 = 3;
/// Bits 47:0: no VM has a larger IPA space.
const ADDRESS: u64 = (1 << 48) - 1;

/// One half of the address space: what TCR_EL1 and a TTBR say of it.
struct Half {
    /// TxSZ: 64 less the bits of VA.
    tsz: u32,
    /// log2 of the granule: 12, 14 or 16.
    granule: u32,
    ttbr: u64,
}

impl Stage1 {
    /// The level (0 to 3) at which the walk of `va` needs a descriptor that `read` does not give, or
    /// `None` where the walk ends before that, or the registers give no walk to reproduce.
    ///
    /// `read` returns the eight bytes at an aligned IPA as the little-endian load of a CPU would, or
    /// `None` where the walk of the hardware could not go on: outside the VM's memory, and in the page
    /// that HPFAR_EL2 named. At most four reads are made.
    pub fn walk_level(&self, va: Va, mut read: impl FnMut(Ipa) -> Option<u64>) -> Option<i8> {
        if self.sctlr & SCTLR_M == 0 || self.tcr & TCR_DS != 0 {
            return None;
        }
        let half = self.half(va)?;
        let stride = half.granule.checked_sub(3)?;
        let va_bits = 64_u32.checked_sub(half.tsz)?;
        let levels = va_bits.checked_sub(half.granule)?.div_ceil(stride);
        let start = 4_u32.checked_sub(levels)?;

        let mut table = half.ttbr & ADDRESS & !1;
        for level in start..=LAST_LEVEL {
            let shift =
                half.granule.checked_add(stride.checked_mul(LAST_LEVEL.checked_sub(level)?)?)?;
            let index_bits = if level == start { va_bits.checked_sub(shift)? } else { stride };
            let entries = 1_u64.checked_shl(index_bits)?;
            if level == start {
                // A table is aligned to its size, the first one may be smaller than a granule.
                table &= !entries.checked_mul(8)?.wrapping_sub(1);
            }
            let index = va.raw().checked_shr(shift)? & entries.wrapping_sub(1);
            let Some(raw) = read(Ipa::new(table | (index << 3))) else {
                return i8::try_from(level).ok();
            };
            let descriptor = if self.sctlr & SCTLR_EE != 0 { raw.swap_bytes() } else { raw };
            // 0b11 above the last level is a table; all else ends the walk in the guest's own hands.
            if descriptor & 0b11 != 0b11 {
                return None;
            }
            table = descriptor & ADDRESS & !1_u64.checked_shl(half.granule)?.wrapping_sub(1);
        }
        None
    }

    /// The half that `va` lies in; `None` where its walks are disabled, its size or granule is
    /// reserved, or `va` lies in the hole between the halves.
    fn half(&self, va: Va) -> Option<Half> {
        let upper = va.raw() & (1 << 55) != 0;
        let tcr = self.tcr;
        let (tsz, granule, disabled, ignore_top, ttbr) = if upper {
            let granule = match (tcr >> 30) & 0b11 {
                0b01 => 14,
                0b10 => 12,
                0b11 => 16,
                _ => return None,
            };
            (tcr >> 16, granule, tcr & (1 << 23) != 0, tcr & (1 << 38) != 0, self.ttbr1)
        } else {
            let granule = match (tcr >> 14) & 0b11 {
                0b00 => 12,
                0b01 => 16,
                0b10 => 14,
                _ => return None,
            };
            (tcr, granule, tcr & (1 << 7) != 0, tcr & (1 << 37) != 0, self.ttbr0)
        };
        let tsz = (tsz & 0x3f) as u32;
        // 48 bits of VA at most, 52 with 64 KiB (FEAT_LVA); 16 at least, 17 with 64 KiB (FEAT_TTST).
        let sizes = if granule == 16 { 12..=47 } else { 16..=48 };
        if disabled || !sizes.contains(&tsz) {
            return None;
        }
        let from_sign = va.raw() ^ if upper { u64::MAX } else { 0 };
        // TBIx: bits 63:56 of the VA are a tag.
        let checked = if ignore_top { from_sign & (u64::MAX >> 8) } else { from_sign };
        if checked.checked_shr(64_u32.checked_sub(tsz)?)? != 0 {
            return None;
        }
        Some(Half { tsz, granule, ttbr })
    }
}
