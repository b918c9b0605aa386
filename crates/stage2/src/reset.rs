// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reset, which leaves nothing of the former run, and final release.
//!
//! Both run in two passes around one invalidation of the whole VMID. The first makes everything that
//! goes invalid, and leaves in place of a table that goes `locked` with that table's address: hardware
//! finds nothing there, and no memory is needed to remember it. The second, when no TLB and no walk
//! cache can know those tables any more, gives them back to the pool.

use crate::clearing::{Clearing, Pass, Position};
use crate::codec::{self, Descriptor, EMPTY, Entry};
use crate::host::{TableMemory, Tlb};
use crate::tables::{Stage2, Writer};
use arch::Pa;
use lock::Order;

/// Descriptors that [`Stage2::reset_piece`] looks at: less than 10 us of EL2's time.
const PIECE: u32 = 128;

/// What a descriptor asks of the walk.
enum Next {
    Sibling,
    Child(Pa),
}

impl<H: TableMemory + Tlb> Stage2<H> {
    /// Back to what the VM was given: RAM, ROM, memory of others and windows stay mapped, every annotation and every device
    /// leaf goes, and tables that no leaf needs go back to the pool.
    ///
    /// No vCPU of the VM may be running. Bounded by the number of tables, so by the pool.
    pub fn reset(&self, order: &Order) {
        while !self.reset_piece(order) {}
    }

    /// Does the next piece of a [`Stage2::reset`]; returns whether all of it is done. Until then the tables are good for
    /// nothing else, and no vCPU of the VM may run.
    pub fn reset_piece(&self, order: &Order) -> bool {
        self.clear_piece(&mut self.writer.lock(order), true, PIECE)
    }

    /// The end: everything goes, all tables but the root are in the pool, and nothing can be mapped
    /// or declared any more.
    ///
    /// No vCPU of the VM may be running.
    pub fn release(&self, order: &Order) {
        let writer = &mut *self.writer.lock(order);
        // Tables that a reset has detached are not lost: it ends first.
        while writer.clearing.is_some() && !self.clear_piece(writer, true, PIECE) {}
        while !self.clear_piece(writer, false, PIECE) {}
        writer.released = true;
    }

    fn clear_piece(&self, writer: &mut Writer, keep_memory: bool, budget: u32) -> bool {
        let start = self.geometry().start_level;
        let begin = |pass| Clearing::new(pass, self.root(), start);
        let mut clearing = writer.clearing.take().unwrap_or_else(|| begin(Pass::Prune));
        let mut left = budget;
        while left != 0 {
            left = self.clear_table(&mut clearing, keep_memory, left);
            let Position { table, index, needed } = *clearing.position();
            if index != self.entries(clearing.level) {
                continue;
            }
            left = left.saturating_sub(1);
            if clearing.level != start {
                self.leave_table(writer, &mut clearing, table, needed);
            } else if clearing.pass == Pass::Prune {
                self.invalidate_all();
                clearing = begin(Pass::Reclaim);
            } else {
                self.set_declared(0);
                return true;
            }
        }
        writer.clearing = Some(clearing);
        false
    }

    /// Goes on in the table where the walk is, up to its end, a table below it, or `left` descriptors; returns what is left of
    /// these.
    fn clear_table(&self, clearing: &mut Clearing, keep_memory: bool, mut left: u32) -> u32 {
        let (level, pass) = (clearing.level, clearing.pass);
        let entries = self.entries(level);
        let Position { table, mut index, mut needed } = *clearing.position();
        let mut child = None;
        while index < entries && left != 0 {
            left = left.wrapping_sub(1);
            let next = match pass {
                Pass::Prune => self.prune(table, index, level, keep_memory, &mut needed),
                Pass::Reclaim => self.reclaim(table, index, level),
            };
            if let Next::Child(table) = next {
                child = Some(table);
                break;
            }
            index = index.wrapping_add(1);
        }
        *clearing.position() = Position { table, index, needed };
        if let Some(child) = child {
            clearing.descend(child);
        }
        left
    }

    /// Empties the descriptor if it goes.
    #[inline]
    fn prune(
        &self,
        table: Pa,
        index: usize,
        level: u8,
        keep_memory: bool,
        needed: &mut bool,
    ) -> Next {
        let raw = self.host.load(table, index);
        if raw == EMPTY {
            return Next::Sibling;
        }
        if codec::is_guard(raw) {
            self.host.store(table, index, EMPTY);
            return Next::Sibling;
        }
        match codec::decode(raw, level) {
            // It belongs to the VM behind it.
            Descriptor::Window(_) => {
                *needed |= keep_memory;
                if !keep_memory {
                    self.host.store(table, index, EMPTY);
                }
            }
            Descriptor::Table(next) => return Next::Child(next),
            Descriptor::Entry(Entry::Leaf { attr, .. }) if keep_memory && attr.is_memory() => {
                *needed = true;
            }
            Descriptor::Entry(Entry::Empty) => {}
            Descriptor::Entry(_) => self.host.store(table, index, EMPTY),
        }
        Next::Sibling
    }

    /// Looks for tables, detached ones among them.
    #[inline]
    fn reclaim(&self, table: Pa, index: usize, level: u8) -> Next {
        let raw = self.host.load(table, index);
        if let Some(gone) = codec::detached_table(raw) {
            Next::Child(gone)
        } else if codec::is_table(raw, level) {
            Next::Child(codec::table_address(raw))
        } else {
            Next::Sibling
        }
    }

    /// The walk leaves `table`, which is below the root: without leaves it is detached, and later given to the pool.
    fn leave_table(&self, writer: &mut Writer, clearing: &mut Clearing, table: Pa, needed: bool) {
        clearing.level = clearing.level.wrapping_sub(1);
        let pass = clearing.pass;
        let parent = clearing.position();
        let (above, index) = (parent.table, parent.index);
        parent.index = index.wrapping_add(1);
        if pass == Pass::Prune {
            parent.needed |= needed;
            if !needed {
                self.host.store(above, index, codec::detached(table));
            }
        } else if codec::detached_table(self.host.load(above, index)).is_some() {
            self.host.store(above, index, EMPTY);
            writer.pool.put(&self.host, table);
        }
    }
}
