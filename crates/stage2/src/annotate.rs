// SPDX-License-Identifier: MIT OR Apache-2.0
//! Declaring pages as MMIO, and undoing it.
//!
//! All of it is invalid to invalid: no TLB, no cache. A range takes as few descriptors as its
//! alignment and existing tables allow; one that begins or ends inside a larger entry
//! splits that one exactly.

use core::fmt;

use crate::codec::{self, EMPTY, GuardAnnotation, level_shift, level_size};
use crate::host::{TableMemory, Tlb};
use crate::tables::{Stage2, Writer};
use arch::{Ipa, PAGE_SHIFT, PAGE_SIZE, Pa};
use core::ops::Range;
use lock::Order;

/// Why nothing of a range could be declared or undeclared. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeclareError {
    /// Empty, not page-aligned, or not wholly within the IPA space.
    Range,
    /// The first page carries something that is no declaration: memory, a device's leaf, an owner.
    Occupied,
    /// The table pool is empty.
    PoolEmpty,
    /// The tables were released.
    Released,
}

impl fmt::Display for DeclareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Range => "not whole pages within the address space",
            Self::Occupied => "its first page is memory or a device",
            Self::PoolEmpty => "the pool of table pages is empty (vm.pool)",
            Self::Released => "the VM is stopping",
        })
    }
}

impl core::error::Error for DeclareError {}

/// What to do with a descriptor that lies wholly in the range.
enum Whole {
    /// Write this; the pages change their state.
    Change(u64),
    /// Write this; the pages keep their state.
    Rewrite(u64),
    /// Leave it.
    Keep,
    /// A table, or nothing this rule knows.
    Other,
}

/// What to do with an entry of which only a part lies in the range.
enum Part {
    Split,
    Keep,
    Refuse,
}

trait Rule {
    /// Whether pages in a state the rule does not know end the range.
    const STRICT: bool;
    fn whole(&self, raw: u64) -> Whole;
    fn part(&self, raw: u64) -> Part;
}

/// Empty or guard becomes guard.
struct Declare(u64);

impl Rule for Declare {
    const STRICT: bool = true;
    #[inline(always)]
    fn whole(&self, raw: u64) -> Whole {
        if raw == EMPTY {
            Whole::Change(self.0)
        } else if codec::is_guard(raw) {
            Whole::Rewrite(self.0)
        } else {
            Whole::Other
        }
    }
    #[inline]
    fn part(&self, raw: u64) -> Part {
        if raw == EMPTY {
            Part::Split
        } else if codec::is_guard(raw) {
            // Declared already; a hint is not worth a table.
            Part::Keep
        } else {
            Part::Refuse
        }
    }
}

/// Guard becomes empty; all else is left alone.
struct Undeclare;

impl Rule for Undeclare {
    const STRICT: bool = false;
    #[inline(always)]
    fn whole(&self, raw: u64) -> Whole {
        if codec::is_guard(raw) {
            Whole::Change(EMPTY)
        } else if raw == EMPTY {
            Whole::Keep
        } else {
            Whole::Other
        }
    }
    #[inline]
    fn part(&self, raw: u64) -> Part {
        if codec::is_guard(raw) { Part::Split } else { Part::Keep }
    }
}

/// How far an edit got in one table.
struct Run {
    /// First index not done.
    end: usize,
    /// Descriptors whose pages changed their state.
    changed: u64,
    refused: bool,
}

/// How far an edit got.
struct Progress {
    /// First address not done.
    at: u64,
    /// Pages whose state changed.
    changed: u64,
    /// Why it stopped before the end, other than for its budget.
    stopped: Option<DeclareError>,
}

impl<H: TableMemory + Tlb> Stage2<H> {
    /// Declares the page at `ipa`. A declared page stays declared, with the new annotation where its
    /// entry is a page's own.
    ///
    /// # Errors
    /// As [`Stage2::declare`].
    #[inline(always)]
    pub fn declare_page(
        &self,
        order: &Order,
        ipa: Ipa,
        note: GuardAnnotation,
    ) -> Result<(), DeclareError> {
        if ipa.raw() >= self.limit() || ipa.page_offset() != 0 {
            return Err(DeclareError::Range);
        }
        let writer = &mut *self.writer.lock(order);
        let slot = self.walk(ipa.raw());
        // No need to ask whether the tables were released: then there are none of level 3.
        if slot.level == 3 {
            let fresh = slot.raw == EMPTY;
            if !fresh && !codec::is_guard(slot.raw) {
                return Err(DeclareError::Occupied);
            }
            self.host.store(slot.table, slot.index, codec::guard(note));
            self.set_declared(self.declared_pages().wrapping_add(u64::from(fresh)));
            return Ok(());
        }
        self.declare_slowly(writer, ipa, note)
    }

    /// One page where there is no table of pages yet.
    #[cold]
    #[inline(never)]
    fn declare_slowly(
        &self,
        writer: &mut Writer,
        ipa: Ipa,
        note: GuardAnnotation,
    ) -> Result<(), DeclareError> {
        let end = ipa.raw().wrapping_add(PAGE_SIZE);
        self.declare_locked(writer, ipa.raw(), end, note, 1).map(|_| ())
    }

    /// Declares the pages of `range`: empty and declared ones get `note`. Goes page by page until the
    /// end, a page that cannot be declared, an empty pool, or `budget` descriptors; returns how many
    /// pages it did.
    ///
    /// An entry that reaches beyond the range and is declared already keeps its annotation. Besides the
    /// descriptors of the budget at most six new tables are filled: three levels at either end.
    ///
    /// # Errors
    /// Where not even the first page could be done; nothing has changed then. [`DeclareError::Range`]
    /// if the range as a whole is invalid.
    #[inline(always)]
    pub fn declare(
        &self,
        order: &Order,
        range: arch::Range<Ipa>,
        note: GuardAnnotation,
        budget: u32,
    ) -> Result<u64, DeclareError> {
        let (start, end) = self.checked(range).ok_or(DeclareError::Range)?;
        let writer = &mut *self.writer.lock(order);
        self.declare_locked(writer, start, end, note, budget)
    }

    #[inline(always)]
    fn declare_locked(
        &self,
        writer: &mut Writer,
        start: u64,
        end: u64,
        note: GuardAnnotation,
        budget: u32,
    ) -> Result<u64, DeclareError> {
        let progress = self.edit(writer, start, end, budget, &Declare(codec::guard(note)));
        self.set_declared(self.declared_pages().wrapping_add(progress.changed));
        done(start, &progress)
    }

    /// Undeclares the page at `ipa`; returns whether it was declared.
    ///
    /// # Errors
    /// As [`Stage2::undeclare`].
    #[inline(always)]
    pub fn undeclare_page(&self, order: &Order, ipa: Ipa) -> Result<bool, DeclareError> {
        if ipa.raw() >= self.limit() || ipa.page_offset() != 0 {
            return Err(DeclareError::Range);
        }
        let writer = &mut *self.writer.lock(order);
        let slot = self.walk(ipa.raw());
        if !codec::is_guard(slot.raw) {
            return Ok(false);
        }
        if slot.level == 3 {
            self.host.store(slot.table, slot.index, EMPTY);
            self.set_declared(self.declared_pages().wrapping_sub(1));
            return Ok(true);
        }
        self.undeclare_slowly(writer, ipa)
    }

    /// One page of a larger declaration.
    #[cold]
    #[inline(never)]
    fn undeclare_slowly(&self, writer: &mut Writer, ipa: Ipa) -> Result<bool, DeclareError> {
        let end = ipa.raw().wrapping_add(PAGE_SIZE);
        self.undeclare_locked(writer, ipa.raw(), end, 1).map(|_| true)
    }

    /// Undeclares the pages of `range`; others are left alone and counted as done. Goes on until the
    /// end, an empty pool where an entry must be split, or `budget` descriptors; returns how many
    /// pages it did.
    ///
    /// # Errors
    /// Where not even the first page could be done; nothing has changed then. [`DeclareError::Range`]
    /// if the range as a whole is invalid.
    pub fn undeclare(
        &self,
        order: &Order,
        range: arch::Range<Ipa>,
        budget: u32,
    ) -> Result<u64, DeclareError> {
        let (start, end) = self.checked(range).ok_or(DeclareError::Range)?;
        let writer = &mut *self.writer.lock(order);
        self.undeclare_locked(writer, start, end, budget)
    }

    #[inline(never)]
    fn undeclare_locked(
        &self,
        writer: &mut Writer,
        start: u64,
        end: u64,
        budget: u32,
    ) -> Result<u64, DeclareError> {
        let progress = self.edit(writer, start, end, budget, &Undeclare);
        self.set_declared(self.declared_pages().wrapping_sub(progress.changed));
        done(start, &progress)
    }

    /// Start and end of a range that is not empty, page-aligned and within the IPA space.
    pub(crate) fn checked(&self, range: arch::Range<Ipa>) -> Option<(u64, u64)> {
        let (start, end) = (range.start(), range.end());
        let good = range.size() != 0
            && start.page_offset() == 0
            && end.page_offset() == 0
            && end.raw() <= self.limit();
        good.then_some((start.raw(), end.raw()))
    }

    #[inline(always)]
    fn edit<R: Rule>(
        &self,
        writer: &mut Writer,
        start: u64,
        end: u64,
        budget: u32,
        rule: &R,
    ) -> Progress {
        let mut progress = Progress { at: start, changed: 0, stopped: None };
        if writer.released {
            progress.stopped = Some(DeclareError::Released);
            return progress;
        }
        let mut left = u64::from(budget);
        while progress.at < end && left != 0 {
            let slot = self.slot(progress.at);
            let shift = level_shift(slot.level);
            let size = level_size(slot.level);
            let offset = progress.at & size.wrapping_sub(1);
            let whole = end.wrapping_sub(progress.at).wrapping_shr(shift);

            if offset != 0 || whole == 0 {
                match rule.part(slot.raw) {
                    Part::Split => {
                        // All tables down to the first entry that fits, or none.
                        let need = tables_down(slot.level, progress.at, end);
                        if writer.pool.free() < need || !self.split_invalid(writer, &slot) {
                            progress.stopped = Some(DeclareError::PoolEmpty);
                            break;
                        }
                    }
                    Part::Keep => {
                        let next = progress.at.wrapping_sub(offset).wrapping_add(size);
                        progress.at = next.min(end);
                        left = left.wrapping_sub(1);
                    }
                    Part::Refuse => {
                        progress.stopped = Some(DeclareError::Occupied);
                        break;
                    }
                }
                continue;
            }

            // All whole entries that follow in this table: one walk for them all.
            let room = self.entries(slot.level).wrapping_sub(slot.index) as u64;
            let most = whole.min(room).min(left) as usize;
            let last = slot.index.wrapping_add(most);
            let run = self.run(slot.table, slot.index..last, slot.level, rule);
            let visited = run.end.wrapping_sub(slot.index) as u64;
            progress.at = progress.at.wrapping_add(visited.wrapping_shl(shift));
            let pages = run.changed.wrapping_shl(shift.wrapping_sub(PAGE_SHIFT));
            progress.changed = progress.changed.wrapping_add(pages);
            left = left.wrapping_sub(visited);
            if run.refused {
                progress.stopped = Some(DeclareError::Occupied);
                break;
            }
        }
        progress
    }

    /// Edits descriptors of one table, up to the first that is a table or that the rule refuses.
    #[inline(never)]
    fn run<R: Rule>(&self, table: Pa, indices: Range<usize>, level: u8, rule: &R) -> Run {
        // Locals, so that they live in registers.
        let (mut index, mut changed, mut refused) = (indices.start, 0u64, false);
        // Asked at the end, once an entry: the range is not empty.
        loop {
            let raw = self.host.load(table, index);
            match rule.whole(raw) {
                Whole::Change(new) => {
                    self.host.store(table, index, new);
                    changed = changed.wrapping_add(1);
                }
                Whole::Rewrite(new) => self.host.store(table, index, new),
                Whole::Keep => {}
                Whole::Other if codec::is_table(raw, level) => break,
                Whole::Other if R::STRICT => {
                    refused = true;
                    break;
                }
                Whole::Other => {}
            }
            index = index.wrapping_add(1);
            if index == indices.end {
                break;
            }
        }
        Run { end: index, changed, refused }
    }
}

/// How many tables must hang below an entry of `level` until one of theirs begins at `at` and ends
/// by `end`.
fn tables_down(level: u8, at: u64, end: u64) -> usize {
    let fits = |size: u64| at & size.wrapping_sub(1) == 0 && size <= end.wrapping_sub(at);
    let mut tables = 1usize;
    let mut next = level.wrapping_add(1);
    while next < 3 && !fits(level_size(next)) {
        next = next.wrapping_add(1);
        tables = tables.wrapping_add(1);
    }
    tables
}

/// What the caller hears: an error only where nothing was done.
#[inline]
fn done(start: u64, progress: &Progress) -> Result<u64, DeclareError> {
    let bytes = progress.at.wrapping_sub(start);
    match progress.stopped {
        Some(error) if bytes == 0 => Err(error),
        _ => Ok(bytes >> PAGE_SHIFT),
    }
}
