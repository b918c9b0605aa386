// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole abstraction, for tests, oracles and dumps.

use crate::codec::{Descriptor, Entry, level_shift};
use crate::host::{TableMemory, Tlb};
use crate::tables::Stage2;
use arch::{Ipa, Pa};

impl<H: TableMemory + Tlb> Stage2<H> {
    /// Calls `f` for every entry that is no table, empty ones included, in rising order: its first
    /// address, its level, and what it is. Leaves windows out. Takes no lock; each entry is read once.
    pub fn visit(&self, mut f: impl FnMut(Ipa, u8, Entry)) {
        self.visit_table(self.root(), self.geometry().start_level, 0, &mut f);
    }

    fn visit_table(&self, table: Pa, level: u8, base: u64, f: &mut impl FnMut(Ipa, u8, Entry)) {
        for index in 0..self.entries(level) {
            let at = base.wrapping_add((index as u64).wrapping_shl(level_shift(level)));
            match self.descriptor(table, index, level) {
                Descriptor::Window(_) => {}
                Descriptor::Table(next) => self.visit_table(next, level.wrapping_add(1), at, f),
                // A root page of 512 entries can reach beyond the IPA space.
                Descriptor::Entry(_) if at >= self.limit() => {}
                Descriptor::Entry(entry) => f(Ipa::new(at), level, entry),
            }
        }
    }
}
