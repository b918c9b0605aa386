// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stage-1 walks over tables built at random, with a hole at a known level.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use arch::{Ipa, Stage1, Va};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// For each granule: TG0, TG1, and the lowest VA bit that levels 0 to 3 resolve, straight from the
/// manual's figures (DDI 0487 D8.2.8).
#[derive(Clone, Copy, Debug)]
struct Granule {
    tg0: u64,
    tg1: u64,
    low: [u32; 4],
    widest: u32,
}

const GRANULES: [Granule; 3] = [
    Granule { tg0: 0b00, tg1: 0b10, low: [39, 30, 21, 12], widest: 48 },
    Granule { tg0: 0b10, tg1: 0b01, low: [47, 36, 25, 14], widest: 48 },
    Granule { tg0: 0b01, tg1: 0b11, low: [55, 42, 29, 16], widest: 52 },
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn the_hole_is_found_at_its_level(
        granule in prop::sample::select(&GRANULES[..]),
        bits in 17_u32..=52,
        random_va: u64,
        upper: bool,
        hole in 0_usize..4,
        tables in prop::array::uniform4(0x1_0000_u64..0xffff_ffff),
        attributes: u64,
        big_endian: bool,
    ) {
        prop_assume!(bits <= granule.widest && bits > granule.low[3]);
        let start = granule.low.iter().position(|&low| low < bits).unwrap();
        let va_bits = (1_u64 << bits) - 1;
        let va = random_va & va_bits | if upper { !va_bits } else { 0 };
        let page = 1_u64 << granule.low[3];

        let mut memory = BTreeMap::new();
        let mut base = (tables[start] * page) & 0xffff_ffff_f000 & !(page - 1);
        let first = base;
        for level in start..4 {
            let top = if level == start { bits } else { granule.low[level - 1] };
            let index = (va & ((1 << top) - 1)) >> granule.low[level];
            let next = (tables[(level + 1) % 4] * page) & 0xffff_ffff_f000 & !(page - 1);
            // Bits 63:48 and those below the granule carry attributes.
            let raw = next | attributes & 0xffff_0000_0000_0ffc | 0b11;
            if level != hole.max(start) {
                memory.insert(base + 8 * index, if big_endian { raw.swap_bytes() } else { raw });
            } else {
                // A hole can only be seen if no other table put an entry at the same place.
                prop_assume!(!memory.contains_key(&(base + 8 * index)));
                break;
            }
            base = next;
        }

        let tsz = u64::from(64 - bits);
        let stage1 = Stage1 {
            sctlr: 1 | u64::from(big_endian) << 25,
            tcr: tsz | granule.tg0 << 14 | tsz << 16 | granule.tg1 << 30,
            ttbr0: if upper { 0 } else { first },
            ttbr1: if upper { first } else { 0 },
        };
        let found = stage1.walk_level(Va::new(va), |ipa: Ipa| memory.get(&ipa.raw()).copied());
        prop_assert_eq!(found, Some(hole.max(start) as i8));
    }

    // bug: 61
    #[test]
    fn any_registers_and_any_memory_end_within_four_reads(
        sctlr: u64, tcr: u64, ttbr0: u64, ttbr1: u64, va: u64, seed: u64, absent in 0_u64..8,
    ) {
        let mut reads = 0;
        let stage1 = Stage1 { sctlr, tcr, ttbr0, ttbr1 };
        let level = stage1.walk_level(Va::new(va), |ipa| {
            reads += 1;
            assert!(ipa.is_aligned(8) && ipa.raw() < 1 << 48, "{ipa}");
            let word = (ipa.raw() ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (word % 8 != absent).then_some(word | 0b11)
        });
        prop_assert!(reads <= 4);
        prop_assert!(level.is_none_or(|l| (0..=3).contains(&l)));
    }
}
