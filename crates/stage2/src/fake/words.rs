// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fake's table memory.

use crate::codec::{self, Descriptor, Entry, level_shift};
use crate::host::ENTRIES;
use arch::{Ipa, PAGE_SIZE, Pa, Stage2Geometry};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Where the fake's table pages begin: the root of the first VM first, then its pool.
pub const TABLES: Pa = Pa::new(0x10_0000_0000);

/// What the descriptors of the tables are, page by page. Loads take no lock: an oracle walks all of them again and again.
/// Stores do.
#[derive(Clone)]
pub(super) struct Words(pub(super) Arc<[AtomicU64]>);

impl Words {
    pub(super) fn get(&self, word: usize) -> u64 {
        self.0[word].load(Relaxed)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn number(&self, table: Pa, index: usize) -> usize {
        let offset = table.raw().checked_sub(TABLES.raw());
        let word = offset.map(|o| (o / 8) as usize + index).filter(|w| *w < self.len());
        assert!(table.is_aligned(PAGE_SIZE), "table at {table:?}");
        word.unwrap_or_else(|| panic!("wild access to {table:?}[{index}]"))
    }

    /// Walks from the root that begins with page `root`.
    pub(super) fn translate(
        &self,
        root: usize,
        geometry: &Stage2Geometry,
        ipa: Ipa,
    ) -> Option<(Entry, u8)> {
        if ipa.raw() >> geometry.ipa_bits != 0 {
            return None;
        }
        let (mut page, mut level) = (root, geometry.start_level);
        let mut index = (ipa.raw() >> level_shift(level)) as usize;
        loop {
            match codec::decode(self.get(page * ENTRIES + index), level) {
                Descriptor::Entry(entry) => return Some((entry, level)),
                Descriptor::Table(next) | Descriptor::Window(next) => {
                    page = ((next.raw() - TABLES.raw()) / PAGE_SIZE) as usize;
                    level += 1;
                    index = (ipa.raw() >> level_shift(level)) as usize % ENTRIES;
                }
            }
        }
    }
}
