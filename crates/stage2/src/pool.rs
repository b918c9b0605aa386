// SPDX-License-Identifier: MIT OR Apache-2.0
//! Table pages of one VM.

use crate::Stage2Geometry;
use crate::codec::level_shift;
use crate::host::TableMemory;
use arch::{Ipa, PAGE_SIZE, Pa, Range};

/// Marks the link in a free page. With bits 1:0 clear and an address of a page it decodes as
/// `Unknown`: no walker, hardware or software, would follow it.
const LINK: u64 = 1 << 2;

/// Free table pages, chained through their own first words.
///
/// A pool belongs to one VM and bounds what its tables can grow to: exhausting it affects no other VM.
#[derive(Debug, Default)]
pub struct Pool {
    head: Option<Pa>,
    free: usize,
}

impl Pool {
    /// A pool without pages.
    pub const fn new() -> Self {
        Self { head: None, free: 0 }
    }

    /// A pool of all whole pages of `range`.
    pub fn of(memory: &impl TableMemory, range: Range<Pa>) -> Self {
        let mut pool = Self::new();
        let mut page = range.start();
        while let Some(next) = page.checked_add(PAGE_SIZE)
            && next <= range.end()
        {
            pool.put(memory, page);
            page = next;
        }
        pool
    }

    /// Adds `page`, which must be page-aligned, not in use, and known to no TLB.
    pub fn put(&mut self, memory: &impl TableMemory, page: Pa) {
        let link = match self.head {
            Some(next) => next.raw() | LINK,
            None => 0,
        };
        memory.store(page, 0, link);
        self.head = Some(page);
        self.free = self.free.saturating_add(1);
    }

    /// Takes a page. Its contents are undefined.
    pub fn take(&mut self, memory: &impl TableMemory) -> Option<Pa> {
        let page = self.head?;
        let link = memory.load(page, 0);
        self.head = if link & LINK != 0 { Some(Pa::new(link & !LINK)) } else { None };
        self.free = self.free.saturating_sub(1);
        Some(page)
    }

    /// Pages left.
    #[inline]
    pub const fn free(&self) -> usize {
        self.free
    }
}

/// Table pages below the root that mapping `range` with leaves of `leaf_level` (1: 1 GiB, 2: 2 MiB,
/// 3: 4 KiB) takes, in tables that are empty before.
pub fn tables_for(geometry: &Stage2Geometry, range: Range<Ipa>, leaf_level: u8) -> u64 {
    if range.size() == 0 {
        return 0;
    }
    let (first, last) = (range.start().raw(), range.end().raw().wrapping_sub(1));
    let mut tables = 0u64;
    // A table of level n hangs on a descriptor of level n - 1.
    for parent in geometry.start_level..leaf_level.min(3) {
        let shift = level_shift(parent);
        let spans = last.wrapping_shr(shift).wrapping_sub(first.wrapping_shr(shift));
        tables = tables.saturating_add(spans.saturating_add(1));
    }
    tables
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;
    use crate::codec::{self, Entry};
    use crate::fake::{Fake, TABLES, geometry};
    use std::collections::BTreeSet;

    fn drain(pool: &mut Pool, memory: &Fake) -> BTreeSet<Pa> {
        let mut pages = BTreeSet::new();
        while let Some(page) = pool.take(memory) {
            assert!(pages.insert(page), "{page:?} came twice");
        }
        assert_eq!(pool.free(), 0);
        pages
    }

    #[test]
    fn a_pool_gives_every_page_once() {
        let fake = Fake::new(geometry(40), 5);
        let mut pool = fake.pool();
        assert_eq!(pool.free(), 5);
        let pages = drain(&mut pool, &fake);
        let first = TABLES.raw() + 2 * PAGE_SIZE;
        let expected: BTreeSet<Pa> = (0..5).map(|n| Pa::new(first + n * PAGE_SIZE)).collect();
        assert_eq!(pages, expected);
        assert_eq!(pool.take(&fake), None);
    }

    #[test]
    fn pages_put_back_come_again() {
        let fake = Fake::new(geometry(40), 3);
        let mut pool = fake.pool();
        let all = drain(&mut pool, &fake);
        for page in &all {
            pool.put(&fake, *page);
        }
        assert_eq!(pool.free(), 3);
        assert_eq!(drain(&mut pool, &fake), all);
    }

    #[test]
    fn part_of_a_page_is_no_page() {
        let fake = Fake::new(geometry(40), 4);
        let start = Pa::new(TABLES.raw() + 2 * PAGE_SIZE);
        for (bytes, pages) in [(0, 0), (4095, 0), (4096, 1), (8191, 1), (3 * 4096 + 1, 3)] {
            let pool = Pool::of(&fake, Range::<Pa>::new(start, bytes).unwrap());
            assert_eq!(pool.free(), pages, "{bytes} bytes");
        }
    }

    /// A stale reader that still holds a free page must find nothing in it to follow.
    #[test]
    fn a_link_is_no_descriptor() {
        let fake = Fake::new(geometry(40), 2);
        let mut pool = fake.pool();
        let page = pool.take(&fake).unwrap();
        pool.put(&fake, page);
        let link = fake.load(page, 0);
        for level in 0..=3 {
            let found = codec::decode(link, level);
            assert_eq!(found, codec::Descriptor::Entry(Entry::Unknown(link)));
        }
        assert_ne!(link, 0);
        assert_eq!(link & 3, 0, "neither valid nor a table to anybody");
    }

    #[test]
    fn tables_for_counts_what_a_range_touches() {
        let gib = 1u64 << 30;
        let count = |bits, start, size, level| {
            tables_for(&geometry(bits), Range::<Ipa>::new(Ipa::new(start), size).unwrap(), level)
        };
        assert_eq!(count(40, gib, gib, 1), 0, "one block of the root");
        assert_eq!(count(40, gib, 2 << 20, 2), 1);
        assert_eq!(count(40, gib, 3 * gib, 2), 3);
        assert_eq!(count(40, gib, 4096, 3), 2);
        assert_eq!(count(40, gib - 4096, 8192, 3), 4, "both sides of a border");
        assert_eq!(count(48, gib, 4096, 3), 3, "a root at level 0");
        assert_eq!(count(48, gib, gib, 1), 1);
        assert_eq!(count(40, gib, 0, 3), 0);
    }
}
