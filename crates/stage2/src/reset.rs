// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reset, which leaves nothing of the former run, and final release.
//!
//! Both run in two passes around one invalidation of the whole VMID. The first makes everything that
//! goes invalid, and leaves in place of a table that goes `locked` with that table's address: hardware
//! finds nothing there, and no memory is needed to remember it. The second, when no TLB and no walk
//! cache can know those tables any more, gives them back to the pool.

use crate::codec::{self, Descriptor, EMPTY, Entry};
use crate::host::{TableMemory, Tlb};
use crate::tables::{Stage2, Writer};
use arch::Pa;
use lock::Order;

impl<H: TableMemory + Tlb> Stage2<H> {
    /// Back to what the VM was given: RAM, ROM, memory of others and windows stay mapped, every annotation and every device
    /// leaf goes, and tables that no leaf needs go back to the pool.
    ///
    /// No vCPU of the VM may be running. Bounded by the number of tables, so by the pool.
    pub fn reset(&self, order: &Order) {
        self.clear(&mut self.writer.lock(order), true);
    }

    /// The end: everything goes, all tables but the root are in the pool, and nothing can be mapped
    /// or declared any more.
    ///
    /// No vCPU of the VM may be running.
    pub fn release(&self, order: &Order) {
        let writer = &mut *self.writer.lock(order);
        self.clear(writer, false);
        writer.released = true;
    }

    fn clear(&self, writer: &mut Writer, keep_memory: bool) {
        let level = self.geometry().start_level;
        self.prune(self.root(), level, keep_memory);
        self.invalidate_all();
        self.reclaim(writer, self.root(), level);
        self.set_declared(0);
    }

    /// Empties what goes and detaches tables without leaves; returns whether a leaf is left.
    /// Recurses at most three times.
    fn prune(&self, table: Pa, level: u8, keep_memory: bool) -> bool {
        let mut needed = false;
        for index in 0..self.entries(level) {
            match self.descriptor(table, index, level) {
                // It belongs to the VM behind it.
                Descriptor::Window(_) => {
                    needed |= keep_memory;
                    if !keep_memory {
                        self.host.store(table, index, EMPTY);
                    }
                }
                Descriptor::Table(next) => {
                    if self.prune(next, level.wrapping_add(1), keep_memory) {
                        needed = true;
                    } else {
                        self.host.store(table, index, codec::detached(next));
                    }
                }
                Descriptor::Entry(Entry::Leaf { attr, .. }) if keep_memory && attr.is_memory() => {
                    needed = true;
                }
                Descriptor::Entry(Entry::Empty) => {}
                Descriptor::Entry(_) => self.host.store(table, index, EMPTY),
            }
        }
        needed
    }

    /// Gives detached tables to the pool. Recurses at most three times.
    fn reclaim(&self, writer: &mut Writer, table: Pa, level: u8) {
        for index in 0..self.entries(level) {
            let raw = self.host.load(table, index);
            if let Some(gone) = codec::detached_table(raw) {
                self.reclaim(writer, gone, level.wrapping_add(1));
                self.host.store(table, index, EMPTY);
                writer.pool.put(&self.host, gone);
            } else if codec::is_table(raw, level) && !codec::is_window_table(raw) {
                self.reclaim(writer, codec::table_address(raw), level.wrapping_add(1));
            }
        }
    }
}
