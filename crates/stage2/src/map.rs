// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mapping memory and devices: invalid to valid.

use core::fmt;

use crate::codec::{self, Attr, EMPTY, level_shift, level_size};
use crate::host::{ENTRIES, TableMemory, Tlb};
use crate::invalidate::{Batch, Stale};
use crate::tables::{Slot, Stage2, Writer};
use arch::{Ipa, PAGE_SHIFT, PAGE_SIZE, Pa, Range};
use lock::Order;

/// Why a range was not mapped or unmapped. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// Empty, not page-aligned, or not wholly within the IPA space or 48 bits of PA.
    Range,
    /// This page carries something that must not be replaced.
    Occupied(Ipa),
    /// This page carries no leaf, so it cannot be unmapped.
    NotMapped(Ipa),
    /// The table pool has too few pages.
    PoolEmpty,
    /// The tables were released.
    Released,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range => f.write_str("not whole pages within the address spaces"),
            Self::Occupied(ipa) => write!(f, "page {ipa} is in use"),
            Self::NotMapped(ipa) => write!(f, "page {ipa} is not mapped"),
            Self::PoolEmpty => f.write_str("the pool of table pages is empty (vm.pool)"),
            Self::Released => f.write_str("the VM is stopping"),
        }
    }
}

impl core::error::Error for MapError {}

/// What a new mapping may replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Only what is empty.
    Empty,
    /// Empty or declared entries; the declaration is lost.
    Declared,
    /// Only what was given to this owner: the memory comes back.
    Owner(u16),
}

impl Over {
    fn accepts(self, raw: u64) -> bool {
        match self {
            Self::Empty => raw == EMPTY,
            Self::Declared => raw == EMPTY || codec::is_guard(raw),
            Self::Owner(id) => raw == codec::annotation(codec::Annotation::Owner(id)),
        }
    }
}

/// End of physical addresses that a descriptor can hold.
pub(crate) const PA_LIMIT: u64 = 1 << 48;

impl<H: TableMemory + Tlb> Stage2<H> {
    /// Maps `size` bytes at `ipa` to `pa` with the largest blocks that alignment and the tables that
    /// exist already allow. All of it must be empty.
    ///
    /// Does no cache maintenance: what is mapped was cleaned to the point of coherency when it was
    /// zeroed or filled.
    ///
    /// # Errors
    /// Nothing has changed then; [`MapError`] says why.
    pub fn map(
        &self,
        order: &Order,
        ipa: Ipa,
        pa: Pa,
        size: u64,
        attr: Attr,
    ) -> Result<(), MapError> {
        self.map_over(order, ipa, pa, size, attr, Over::Empty)
    }

    /// [`Stage2::map`] where something else than nothing may be replaced.
    ///
    /// # Errors
    /// Nothing has changed then; [`MapError`] says why.
    pub fn map_over(
        &self,
        order: &Order,
        ipa: Ipa,
        pa: Pa,
        size: u64,
        attr: Attr,
        over: Over,
    ) -> Result<(), MapError> {
        self.map_locked(&mut self.writer.lock(order), ipa, pa, size, attr, over)
    }

    pub(crate) fn map_locked(
        &self,
        writer: &mut Writer,
        ipa: Ipa,
        pa: Pa,
        size: u64,
        attr: Attr,
        over: Over,
    ) -> Result<(), MapError> {
        let range = Range::<Ipa>::new(ipa, size).ok_or(MapError::Range)?;
        let (start, end) = self.checked(range).ok_or(MapError::Range)?;
        let pa_end = pa.checked_add(size).ok_or(MapError::Range)?;
        if pa.page_offset() != 0 || pa_end.raw() > PA_LIMIT {
            return Err(MapError::Range);
        }
        if writer.released {
            return Err(MapError::Released);
        }
        // Output address of an IPA in the range: the same distance from the start.
        let output = |at: u64| pa.raw().wrapping_add(at.wrapping_sub(start));

        let mut tables = 0u64;
        let mut at = start;
        while at < end {
            let slot = self.slot(at);
            if !over.accepts(slot.raw) {
                return Err(MapError::Occupied(Ipa::new(at)));
            }
            if slot.level == 3 {
                let pages = self.pages(&slot, at, end, |raw| over.accepts(raw));
                at = at.wrapping_add(pages.wrapping_mul(PAGE_SIZE));
                continue;
            }
            let stop = entry_end(at, slot.level).min(end);
            tables = tables.saturating_add(tables_to_map(slot.level, at, stop, output(at)));
            at = stop;
        }
        if tables > writer.pool.free() as u64 {
            return Err(MapError::PoolEmpty);
        }

        let mut undeclared = 0u64;
        at = start;
        while at < end {
            let slot = self.slot(at);
            if slot.level == 3 {
                let stop = entry_end(at, 2).min(end);
                let pages = stop.wrapping_sub(at) >> PAGE_SHIFT;
                let leaf = codec::leaf(Pa::new(output(at)), attr, 3);
                undeclared = undeclared.wrapping_add(self.store_pages(&slot, pages, leaf));
                at = stop;
                continue;
            }
            let stop = entry_end(at, slot.level).min(end);
            if fits(slot.level, at, stop, output(at)) {
                let pages = level_size(slot.level) >> PAGE_SHIFT;
                undeclared =
                    undeclared.wrapping_add(if codec::is_guard(slot.raw) { pages } else { 0 });
                let leaf = codec::leaf(Pa::new(output(at)), attr, slot.level);
                self.host.store(slot.table, slot.index, leaf);
                at = stop;
            } else if !self.split_invalid(writer, &slot) {
                // Counted above, under the same lock.
                debug_assert!(false, "the pool had been counted");
                return Err(MapError::PoolEmpty);
            }
        }
        self.host.dsb_ishst();
        self.set_declared(self.declared_pages().wrapping_sub(undeclared));
        Ok(())
    }

    /// Descriptors in the table of `slot`, one of level 3 that covers `at`, from there up to `end`, as far as all of them are
    /// `wanted`.
    #[inline(always)]
    pub(crate) fn pages(
        &self,
        slot: &Slot,
        at: u64,
        end: u64,
        wanted: impl Fn(u64) -> bool,
    ) -> u64 {
        let stop = entry_end(at, 2).min(end);
        let last = slot.index.wrapping_add((stop.wrapping_sub(at) >> PAGE_SHIFT) as usize);
        let mut index = slot.index;
        while index < last && wanted(self.host.load(slot.table, index)) {
            index = index.wrapping_add(1);
        }
        index.wrapping_sub(slot.index) as u64
    }

    /// Stores leaves of consecutive pages, of which `leaf` is the first, from `slot` on; returns how many of the pages were
    /// declared.
    fn store_pages(&self, slot: &Slot, pages: u64, leaf: u64) -> u64 {
        let (mut undeclared, mut leaf) = (0u64, leaf);
        for index in slot.index..slot.index.wrapping_add(pages as usize) {
            let declared = codec::is_guard(self.host.load(slot.table, index));
            undeclared = undeclared.wrapping_add(declared.into());
            self.host.store(slot.table, index, leaf);
            leaf = leaf.wrapping_add(PAGE_SIZE);
        }
        undeclared
    }

    /// Cuts the valid block at `slot`, which maps `address`, into 512 leaves of the next level.
    /// `false`, and nothing changed, where the pool is empty.
    pub(crate) fn split_block(
        &self,
        writer: &mut Writer,
        slot: &Slot,
        address: u64,
        pa: Pa,
        attr: Attr,
    ) -> bool {
        let Some(table) = writer.pool.take(&self.host) else { return false };
        let level = slot.level.wrapping_add(1);
        for index in 0..ENTRIES {
            let part = pa.raw().wrapping_add((index as u64).wrapping_shl(level_shift(level)));
            self.host.store(table, index, codec::leaf(Pa::new(part), attr, level));
        }
        // Break, with `locked`: a reader re-enters its guest until the table is in place. The barrier of
        // the sequence also orders the table's contents before the store that publishes it.
        self.host.store(slot.table, slot.index, codec::locked());
        let base = address & !level_size(slot.level).wrapping_sub(1);
        let mut batch = Batch::new();
        batch.push(Stale { ipa: base, level: slot.level, pa, clean: false });
        self.complete(&mut batch);
        self.host.store(slot.table, slot.index, codec::table(table));
        true
    }
}

/// End of the entry of `level` that covers `at`.
pub(crate) fn entry_end(at: u64, level: u8) -> u64 {
    let size = level_size(level);
    (at & !size.wrapping_sub(1)).wrapping_add(size)
}

/// Whether one leaf of `level` can map `at..stop`, a part of one entry, to `pa`.
fn fits(level: u8, at: u64, stop: u64, pa: u64) -> bool {
    let size = level_size(level);
    level >= 1 && stop.wrapping_sub(at) == size && pa & size.wrapping_sub(1) == 0
}

/// Tables that must hang below an invalid entry of `level` to map `at..stop`, a part of it, to `pa`.
/// Recurses at most three times.
fn tables_to_map(level: u8, at: u64, stop: u64, pa: u64) -> u64 {
    if level >= 3 || fits(level, at, stop, pa) {
        return 0;
    }
    let next = level.wrapping_add(1);
    let mut tables = 1u64;
    let mut from = at;
    while from < stop {
        let to = entry_end(from, next).min(stop);
        let output = pa.wrapping_add(from.wrapping_sub(at));
        tables = tables.saturating_add(tables_to_map(next, from, to, output));
        from = to;
    }
    tables
}
