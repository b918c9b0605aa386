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
/// A pool belongs to one VM and bounds what its tables can grow to: exhausting it harms nobody else.
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

    /// Takes a page, whose contents are whatever was left in it.
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
