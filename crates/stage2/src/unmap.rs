// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking leaves away: valid to annotation.

use crate::codec::{self, Annotation, Attr, Entry, level_size};
use crate::host::{TableMemory, Tlb};
use crate::invalidate::{Batch, Stale};
use crate::map::{MapError, entry_end};
use crate::tables::{Slot, Stage2, Writer};
use arch::{Ipa, PAGE_SHIFT, PAGE_SIZE, Pa, Range};
use lock::Order;

/// Bytes of pages that are invalidated one by one at most.
const BATCH: u64 = 32 * PAGE_SIZE;

impl<H: TableMemory + Tlb> Stage2<H> {
    /// Takes away the leaves of `range`, all of which must be mapped, and leaves `leave`. Blocks that
    /// reach beyond the range are split. Windows are not mapped in this sense. On return no CPU can reach the memory through this VM's
    /// tables, and where it was memory that the guest could write the caches hold nothing of it.
    ///
    /// # Errors
    /// Nothing has changed then; [`MapError`] says why.
    pub fn unmap(
        &self,
        order: &Order,
        range: Range<Ipa>,
        leave: Annotation,
    ) -> Result<(), MapError> {
        let (start, end) = self.checked(range).ok_or(MapError::Range)?;
        let writer = &mut *self.writer.lock(order);
        if writer.released {
            return Err(MapError::Released);
        }
        let mut tables = 0u64;
        let mut at = start;
        while at < end {
            let slot = self.slot(at);
            if leaf_of(&slot).is_none() {
                return Err(MapError::NotMapped(Ipa::new(at)));
            }
            if slot.level == 3 {
                // Windows are whole tables.
                let pages = self.pages(&slot, at, end, codec::is_page);
                at = at.wrapping_add(pages.wrapping_mul(PAGE_SIZE));
                continue;
            }
            let stop = entry_end(at, slot.level).min(end);
            tables = tables.saturating_add(tables_to_carve(slot.level, at, stop));
            at = stop;
        }
        if tables > writer.pool.free() as u64 {
            return Err(MapError::PoolEmpty);
        }
        self.remove(writer, start, end, leave)?;
        if leave == Annotation::Declared {
            let pages = end.wrapping_sub(start) >> PAGE_SHIFT;
            self.set_declared(self.declared_pages().wrapping_add(pages));
        }
        Ok(())
    }

    /// The second half of [`Stage2::unmap`]: everything was checked.
    pub(crate) fn remove(
        &self,
        writer: &mut Writer,
        start: u64,
        end: u64,
        leave: Annotation,
    ) -> Result<(), MapError> {
        let (mut batch, mut forget) = (Batch::new(), false);
        let mut at = start;
        while at < end {
            let slot = self.slot(at);
            let Some((pa, attr)) = leaf_of(&slot) else {
                debug_assert!(false, "all of the range was mapped");
                break;
            };
            if slot.level == 3 && attr != Attr::Ram && end.wrapping_sub(at) > BATCH {
                let pages = self.remove_pages(&slot, at, end, leave);
                // TLBs forget all of the VM, which is one instruction however many pages there are.
                forget = true;
                at = at.wrapping_add(pages.wrapping_mul(PAGE_SIZE));
                continue;
            }
            let stop = entry_end(at, slot.level).min(end);
            if stop.wrapping_sub(at) < level_size(slot.level) {
                if !self.split_block(writer, &slot, at, pa, attr) {
                    debug_assert!(false, "the pool had been counted");
                    break;
                }
                continue;
            }
            self.host.store(slot.table, slot.index, codec::annotation(leave));
            batch.push(Stale { ipa: at, level: slot.level, pa, clean: attr == Attr::Ram });
            if batch.is_full() {
                self.complete(&mut batch);
            }
            at = stop;
        }
        self.complete(&mut batch);
        if forget {
            self.invalidate_all();
        }
        Ok(())
    }

    /// Overwrites the leaves of one table that are like the one at `slot`, from `at` to `end` at most; returns how many.
    fn remove_pages(&self, slot: &Slot, at: u64, end: u64, leave: Annotation) -> u64 {
        let first = slot.raw;
        let pages =
            self.pages(slot, at, end, |raw| codec::is_page(raw) && codec::are_alike(raw, first));
        let raw = codec::annotation(leave);
        for index in slot.index..slot.index.wrapping_add(pages as usize) {
            self.host.store(slot.table, index, raw);
        }
        pages
    }
}

/// The leaf at `slot`, if it is one.
pub(crate) fn leaf_of(slot: &Slot) -> Option<(Pa, Attr)> {
    match codec::entry(slot.raw, slot.level) {
        Entry::Leaf { pa, attr } => Some((pa, attr)),
        _ => None,
    }
}

/// Tables it takes to cut `at..stop` exactly out of an entry of `level`. Recurses at most three times.
fn tables_to_carve(level: u8, at: u64, stop: u64) -> u64 {
    if level >= 3 || stop.wrapping_sub(at) == level_size(level) {
        return 0;
    }
    let next = level.wrapping_add(1);
    // Only the first and the last part can be less than whole.
    let first_end = entry_end(at, next).min(stop);
    let mut tables = 1u64.saturating_add(tables_to_carve(next, at, first_end));
    if first_end < stop {
        let last = (stop.wrapping_sub(1)) & !level_size(next).wrapping_sub(1);
        tables = tables.saturating_add(tables_to_carve(next, last.max(first_end), stop));
    }
    tables
}
