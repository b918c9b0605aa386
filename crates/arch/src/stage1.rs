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

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    /// Eight-byte words of a guest's memory.
    type Memory = BTreeMap<u64, u64>;

    const TABLE: u64 = 0b11;
    const EPD0: u64 = 1 << 7;
    const EPD1: u64 = 1 << 23;
    const TBI0: u64 = 1 << 37;
    const TBI1: u64 = 1 << 38;

    /// Walks, and says which addresses were read.
    fn walk(stage1: &Stage1, va: u64, memory: &Memory) -> (Option<i8>, Vec<u64>) {
        let mut reads = Vec::new();
        let level = stage1.walk_level(Va::new(va), |ipa| {
            reads.push(ipa.raw());
            memory.get(&ipa.raw()).copied()
        });
        (level, reads)
    }

    /// 4 KiB granule in both halves, `bits` bits of VA each; tables at 0x4000_0000.
    fn four_kib(bits: u64) -> Stage1 {
        let tsz = 64 - bits;
        Stage1 {
            sctlr: SCTLR_M,
            tcr: tsz | tsz << 16 | 0b10 << 30,
            ttbr0: 0x4000_0000,
            ttbr1: 0x4000_0000,
        }
    }

    /// The VA whose four table indices are these (4 KiB granule).
    fn va4(l0: u64, l1: u64, l2: u64, l3: u64) -> u64 {
        l0 << 39 | l1 << 30 | l2 << 21 | l3 << 12
    }

    /// Tables of 48 bits and 4 KiB for `va4(1, 2, 3, 4)`, of which `present` are in memory.
    fn tables(present: usize) -> Memory {
        [
            (0x4000_0000 + 8, 0x4000_1000 | TABLE),
            (0x4000_1000 + 2 * 8, 0x4000_2000 | TABLE),
            (0x4000_2000 + 3 * 8, 0x4000_3000 | TABLE),
            (0x4000_3000 + 4 * 8, 0x4000_4000 | TABLE),
        ]
        .into_iter()
        .take(present)
        .collect()
    }

    #[test]
    fn each_level_of_a_48_bit_walk_is_named() {
        let va = va4(1, 2, 3, 4) | 0xabc;
        for present in 0..4 {
            let (level, reads) = walk(&four_kib(48), va, &tables(present));
            assert_eq!(level, Some(present as i8));
            assert_eq!(reads.len(), present + 1);
        }
        let (level, reads) = walk(&four_kib(48), va, &tables(4));
        assert_eq!(level, None, "the walk ends in a page");
        assert_eq!(reads, [0x4000_0008, 0x4000_1010, 0x4000_2018, 0x4000_3020]);
    }

    #[test]
    fn a_39_bit_walk_begins_at_level_1() {
        let (level, reads) = walk(&four_kib(39), va4(0, 2, 3, 4), &Memory::new());
        assert_eq!((level, reads), (Some(1), Vec::from([0x4000_0010])));
    }

    #[test]
    fn small_spaces_begin_lower() {
        for (bits, level) in
            [(48, 0), (40, 0), (39, 1), (31, 1), (30, 2), (22, 2), (21, 3), (16, 3)]
        {
            let (got, _) = walk(&four_kib(bits), 0, &Memory::new());
            assert_eq!(got, Some(level), "{bits} bits");
        }
    }

    #[test]
    fn the_upper_half_uses_ttbr1() {
        let stage1 = Stage1 { ttbr1: 0x5000_0000, ..four_kib(48) };
        let va = 0xffff_0000_0000_0000 | va4(1, 0, 0, 0);
        assert_eq!(walk(&stage1, va, &Memory::new()).1, [0x5000_0008]);
        assert_eq!(walk(&stage1, va4(1, 0, 0, 0), &Memory::new()).1, [0x4000_0008]);
    }

    #[test]
    fn each_half_has_its_own_size_and_granule() {
        // 4 KiB and 39 bits below; 64 KiB and 48 bits above.
        let stage1 = Stage1 { tcr: 25 | 16 << 16 | 0b11 << 30, ..four_kib(39) };
        assert_eq!(walk(&stage1, 1 << 30, &Memory::new()), (Some(1), Vec::from([0x4000_0008])));
        let upper = 0xffff_0000_0000_0000 | 3 << 42;
        assert_eq!(walk(&stage1, upper, &Memory::new()), (Some(1), Vec::from([0x4000_0018])));
        assert_eq!(walk(&stage1, 1 << 39, &Memory::new()).0, None, "beyond the lower half");
    }

    #[test]
    fn addresses_between_the_halves_have_no_walk() {
        let stage1 = four_kib(39);
        for va in [1 << 39, 1 << 54, 1 << 63, 0xffff_ff7f_ffff_f000, 0xff80_0000_0000_0000] {
            assert_eq!(walk(&stage1, va, &Memory::new()), (None, Vec::new()), "{va:#x}");
        }
        assert_eq!(walk(&stage1, (1 << 39) - 1, &Memory::new()).0, Some(1));
        assert_eq!(walk(&stage1, 0xffff_ff80_0000_0000, &Memory::new()).0, Some(1));
    }

    #[test]
    fn a_tag_is_ignored_where_tbi_says_so() {
        let tagged0 = 0x5a00_0000_0000_1000;
        let tagged1 = 0x5aff_ffff_ffff_f000;
        let plain = four_kib(48);
        assert_eq!(walk(&plain, tagged0, &Memory::new()).0, None);
        assert_eq!(walk(&plain, tagged1, &Memory::new()).0, None);
        let tbi0 = Stage1 { tcr: plain.tcr | TBI0, ..plain };
        assert_eq!(walk(&tbi0, tagged0, &Memory::new()).0, Some(0));
        assert_eq!(walk(&tbi0, tagged1, &Memory::new()).0, None, "TBI0 is for the lower half");
        let tbi1 = Stage1 { tcr: plain.tcr | TBI1, ..plain };
        assert_eq!(walk(&tbi1, tagged1, &Memory::new()).0, Some(0));
        assert_eq!(walk(&tbi1, tagged0, &Memory::new()).0, None);
        // Bits 55:48 are no tag.
        assert_eq!(walk(&tbi0, 0x0001_0000_0000_0000, &Memory::new()).0, None);
    }

    #[test]
    fn disabled_halves_have_no_walk() {
        let plain = four_kib(48);
        let lower_off = Stage1 { tcr: plain.tcr | EPD0, ..plain };
        assert_eq!(walk(&lower_off, 0, &Memory::new()).0, None);
        assert_eq!(walk(&lower_off, u64::MAX, &Memory::new()).0, Some(0));
        let upper_off = Stage1 { tcr: plain.tcr | EPD1, ..plain };
        assert_eq!(walk(&upper_off, u64::MAX, &Memory::new()).0, None);
        assert_eq!(walk(&upper_off, 0, &Memory::new()).0, Some(0));
    }

    #[test]
    fn with_the_mmu_off_there_is_no_walk() {
        let off = Stage1 { sctlr: !SCTLR_M, ..four_kib(48) };
        assert_eq!(walk(&off, 0, &Memory::new()), (None, Vec::new()));
    }

    #[test]
    fn blocks_and_invalid_descriptors_end_the_walk() {
        let va = va4(1, 2, 3, 4);
        for end in [0b00, 0b10, 0b01] {
            for level in 0..4 {
                let mut memory = tables(4);
                let at = *memory.keys().nth(level).unwrap();
                memory.insert(at, 0x7000_0000 | end);
                // At level 3 as well: 0b01 is reserved there and faults.
                let (got, reads) = walk(&four_kib(48), va, &memory);
                assert_eq!(got, None);
                assert_eq!(reads.len(), level + 1);
            }
        }
    }

    #[test]
    fn attributes_of_a_table_descriptor_are_no_address() {
        let mut memory = tables(1);
        memory.insert(0x4000_0008, 0xffff_0000_4000_1ffc | TABLE);
        assert_eq!(walk(&four_kib(48), va4(1, 2, 3, 4), &memory).1, [0x4000_0008, 0x4000_1010]);
    }

    #[test]
    fn asid_and_cnp_of_a_ttbr_are_no_address() {
        let stage1 = Stage1 { ttbr0: 0xffff_0000_4000_0001, ..four_kib(48) };
        assert_eq!(walk(&stage1, va4(1, 0, 0, 0), &Memory::new()).1, [0x4000_0008]);
    }

    #[test]
    fn a_small_first_table_needs_small_alignment() {
        // 32 bits: level 1 with four entries, 32 bytes.
        let stage1 = Stage1 { ttbr0: 0x4000_0020, ..four_kib(32) };
        assert_eq!(walk(&stage1, 3 << 30, &Memory::new()).1, [0x4000_0038]);
        // Lower bits of the base are RES0 and do not count.
        let stage1 = Stage1 { ttbr0: 0x4000_003e, ..four_kib(32) };
        assert_eq!(walk(&stage1, 3 << 30, &Memory::new()).1, [0x4000_0038]);
    }

    #[test]
    fn big_endian_tables_are_read_as_such() {
        let stage1 = Stage1 { sctlr: SCTLR_M | SCTLR_EE, ..four_kib(48) };
        let memory = tables(2).into_iter().map(|(at, raw)| (at, raw.swap_bytes())).collect();
        assert_eq!(walk(&stage1, va4(1, 2, 3, 4), &memory).0, Some(2));
        // Little-endian ones then are not understood as tables of the same addresses.
        assert_ne!(walk(&stage1, va4(1, 2, 3, 4), &tables(2)).0, Some(2));
    }

    fn with_granule(tg0: u64, tg1: u64, bits: u64) -> Stage1 {
        let tsz = 64 - bits;
        Stage1 {
            sctlr: SCTLR_M,
            tcr: tsz | tg0 << 14 | tsz << 16 | tg1 << 30,
            ttbr0: 0x4000_0000,
            ttbr1: 0x4000_0000,
        }
    }

    #[test]
    fn sixteen_kib_levels_resolve_eleven_bits() {
        let stage1 = with_granule(0b10, 0b01, 47);
        let va = 5 << 36 | 6 << 25 | 7 << 14;
        let memory: Memory = [
            (0x4000_0000 + 5 * 8, 0x4000_4000 | TABLE),
            (0x4000_4000 + 6 * 8, 0x4000_8000 | TABLE),
        ]
        .into();
        let (level, reads) = walk(&stage1, va, &memory);
        assert_eq!(level, Some(3));
        assert_eq!(reads, [0x4000_0028, 0x4000_4030, 0x4000_8038]);
        for upper in [0, 0xffff_8000_0000_0000] {
            assert_eq!(walk(&stage1, va | upper, &Memory::new()).0, Some(1));
        }
        // 48 bits need a level 0 of two entries.
        assert_eq!(walk(&with_granule(0b10, 0b01, 48), 1 << 47, &Memory::new()).1, [0x4000_0008]);
        assert_eq!(walk(&with_granule(0b10, 0b01, 36), 0, &Memory::new()).0, Some(2));
    }

    #[test]
    fn sixteen_kib_tables_keep_bits_13_and_12_out_of_the_address() {
        let memory: Memory = [(0x4000_0000, 0x4000_7000 | TABLE)].into();
        let (_, reads) = walk(&with_granule(0b10, 0b01, 47), 0, &memory);
        assert_eq!(reads, [0x4000_0000, 0x4000_4000]);
    }

    #[test]
    fn sixty_four_kib_levels_resolve_thirteen_bits() {
        let stage1 = with_granule(0b01, 0b11, 42);
        let va = 9 << 29 | 10 << 16;
        let memory: Memory = [(0x4000_0000 + 9 * 8, 0x4001_0000 | TABLE)].into();
        assert_eq!(walk(&stage1, va, &memory), (Some(3), Vec::from([0x4000_0048, 0x4001_0050])));
        // 48 bits: level 1 with 64 entries; 52 bits: 1024, an aligned 8 KiB table.
        assert_eq!(walk(&with_granule(0b01, 0b11, 48), 63 << 42, &Memory::new()).1, [0x4000_01f8]);
        let large = Stage1 { ttbr0: 0x4000_3000, ..with_granule(0b01, 0b11, 52) };
        assert_eq!(walk(&large, 1023 << 42, &Memory::new()), (Some(1), Vec::from([0x4000_3ff8])));
    }

    #[test]
    fn reserved_sizes_and_granules_are_not_guessed_at() {
        for bits in [49, 52, 63, 15, 1] {
            assert_eq!(walk(&four_kib(bits), 0, &Memory::new()), (None, Vec::new()), "{bits}");
        }
        assert_eq!(walk(&with_granule(0b10, 0b01, 49), 0, &Memory::new()).0, None);
        assert_eq!(walk(&with_granule(0b01, 0b11, 53), 0, &Memory::new()).0, None);
        assert_eq!(walk(&with_granule(0b01, 0b11, 16), 0, &Memory::new()).0, None);
        assert_eq!(walk(&with_granule(0b11, 0b00, 48), 0, &Memory::new()).0, None);
        assert_eq!(walk(&with_granule(0b11, 0b00, 48), u64::MAX, &Memory::new()).0, None);
        let lpa2 = Stage1 { tcr: four_kib(48).tcr | TCR_DS, ..four_kib(48) };
        assert_eq!(walk(&lpa2, 0, &Memory::new()).0, None);
    }

    // bug: 61
    #[test]
    fn a_table_that_points_to_itself_ends_after_four_reads() {
        let memory: Memory = (0..512).map(|n| (0x4000_0000 + 8 * n, 0x4000_0000 | TABLE)).collect();
        let (level, reads) = walk(&four_kib(48), va4(511, 0, 7, 3), &memory);
        assert_eq!((level, reads.len()), (None, 4));
    }

    #[test]
    fn the_reader_can_name_the_page_that_faulted() {
        // Hardware's update of a descriptor in a read-only page: readable, yet the walk failed there.
        let memory = tables(4);
        let faulted = Ipa::new(0x4000_2000);
        let level = four_kib(48).walk_level(Va::new(va4(1, 2, 3, 4)), |ipa| {
            if ipa.page() == faulted { None } else { memory.get(&ipa.raw()).copied() }
        });
        assert_eq!(level, Some(2));
    }

    #[test]
    fn bits_stand_where_the_manual_has_them() {
        // SCTLR_EL1.M and EE, TCR_EL1.DS.
        assert_eq!((SCTLR_M, SCTLR_EE, TCR_DS), (1, 0x0200_0000, 0x0800_0000_0000_0000));
        assert_eq!(ADDRESS, 0xffff_ffff_ffff);
    }
}
