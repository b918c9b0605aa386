// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tables on which EL2 begins: memory one to one, in blocks of 2 MiB, while its own tables are not there yet.
//!
//! Source: DDI 0487 D8.3 (VMSAv8-64 descriptors, 4 KiB granule, 48 bits).

use core::ops::Range;

/// Bytes that a block maps.
const BLOCK: usize = 2 << 20;
/// Bytes of a table.
const TABLE_BYTES: u64 = 4096;

const VALID: u64 = 1;
/// A valid descriptor that leads to a table.
const TABLE: u64 = VALID | 1 << 1;
/// AttrIndx 1: Normal memory, in EL2's MAIR.
const NORMAL: u64 = 1 << 2;
const INNER_SHAREABLE: u64 = 3 << 8;
const ACCESSED: u64 = 1 << 10;

/// Fills tables; the first is the root.
#[derive(Debug)]
pub struct EarlyMap<'a> {
    tables: &'a mut [[u64; 512]],
    /// Address of the first table.
    base: u64,
    used: usize,
}

impl<'a> EarlyMap<'a> {
    /// With empty `tables`, the first of them at `base`, aligned to 4 KiB.
    pub const fn new(tables: &'a mut [[u64; 512]], base: u64) -> Self {
        Self { tables, base, used: 1 }
    }

    /// Maps `range`, rounded to whole blocks, as Normal memory; as far as there are tables.
    pub fn add(&mut self, range: Range<usize>) {
        let mut block = range.start & BLOCK.wrapping_neg();
        while block < range.end {
            if self.add_block(block as u64).is_none() {
                return;
            }
            let Some(next) = block.checked_add(BLOCK) else { return };
            block = next;
        }
    }

    fn add_block(&mut self, address: u64) -> Option<()> {
        let slot = |shift: u32| (address >> shift & 511) as usize;
        let mut table = 0;
        for shift in [39, 30] {
            let next = self.base.wrapping_add(TABLE_BYTES.wrapping_mul(self.used as u64));
            let entry = self.tables.get_mut(table)?.get_mut(slot(shift))?;
            if *entry == 0 {
                *entry = next | TABLE;
                self.used = self.used.wrapping_add(1);
            }
            table = ((*entry & TABLE_BYTES.wrapping_neg()).wrapping_sub(self.base) / TABLE_BYTES)
                as usize;
        }
        let leaf = self.tables.get_mut(table)?.get_mut(slot(21))?;
        *leaf = address | VALID | NORMAL | INNER_SHAREABLE | ACCESSED;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0x4020_3000;

    /// What an access to `address` finds, as hardware walks.
    fn walk(tables: &[[u64; 512]], address: u64) -> Option<u64> {
        let mut table = 0;
        for shift in [39, 30] {
            let entry = tables[table][(address >> shift & 511) as usize];
            if entry & 3 != 3 {
                return None;
            }
            table = usize::try_from((entry & !0xfff).wrapping_sub(BASE) / 4096).unwrap();
        }
        let leaf = tables[table][(address >> 21 & 511) as usize];
        (leaf & 1 == 1).then_some(leaf)
    }

    fn blocks(tables: &[[u64; 512]]) -> usize {
        let leaves = tables.iter().flatten().filter(|entry| *entry & 3 == 1);
        leaves.count()
    }

    #[test]
    fn whole_blocks_of_normal_memory_are_mapped_one_to_one() {
        let mut tables = [[0; 512]; 10];
        let mut map = EarlyMap::new(&mut tables, BASE);
        map.add(0x4008_0000..0x4040_0001);
        for block in [0x4000_0000, 0x4020_0000, 0x4040_0000] {
            // Valid block, AttrIndx 1, inner shareable, accessed.
            assert_eq!(walk(&tables, block), Some(block | 0x705), "{block:#x}");
        }
        assert_eq!(blocks(&tables), 3);
        assert_eq!(walk(&tables, 0x3fe0_0000), None);
    }

    #[test]
    fn ranges_share_tables_where_they_are_near() {
        let mut tables = [[0; 512]; 5];
        let mut map = EarlyMap::new(&mut tables, BASE);
        map.add(0x4000_0000..0x4020_0000);
        map.add(0x4800_0000..0x4820_0000);
        map.add(0x80_0000_0000..0x80_0020_0000);
        for block in [0x4000_0000, 0x4800_0000, 0x80_0000_0000] {
            assert_eq!(walk(&tables, block), Some(block | 0x705), "{block:#x}");
        }
        assert_eq!(blocks(&tables), 3);
    }

    #[test]
    fn a_range_may_cross_gigabytes() {
        let mut tables = [[0; 512]; 4];
        EarlyMap::new(&mut tables, BASE).add(0x7fe0_0000..0x8020_0000);
        assert_eq!(walk(&tables, 0x7fe0_0000), Some(0x7fe0_0705));
        assert_eq!(walk(&tables, 0x8000_0000), Some(0x8000_0705));
    }

    #[test]
    fn it_stops_where_tables_or_addresses_end() {
        let mut tables = [[0; 512]; 3];
        let mut map = EarlyMap::new(&mut tables, BASE);
        map.add(0x4000_0000..0x4000_0000);
        map.add(0x7fe0_0000..0x8020_0000);
        assert_eq!(walk(&tables, 0x7fe0_0000), Some(0x7fe0_0705));
        assert_eq!(blocks(&tables), 1, "the second gigabyte has no table");
        let mut tables = [[0; 512]; 3];
        EarlyMap::new(&mut tables, BASE).add(usize::MAX - 1..usize::MAX);
        assert_eq!(blocks(&tables), 1);
    }
}
