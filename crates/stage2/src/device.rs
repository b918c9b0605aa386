// SPDX-License-Identifier: MIT OR Apache-2.0
//! Device pages that a guest reaches without a trap: GICV under GICv2, a passed-through device.
//!
//! Such a leaf exists only while its page is declared, or while the guard is not active.

use crate::codec::{Annotation, Attr};
use crate::host::{TableMemory, Tlb};
use crate::map::{MapError, Over};
use crate::tables::Stage2;
use crate::unmap::leaf_of;
use arch::{Ipa, PAGE_SIZE, Pa};
use lock::Order;

impl<H: TableMemory + Tlb> Stage2<H> {
    /// Lets the guest reach the device page `pa` at `ipa`, which must be empty or declared; nothing
    /// to do where it does already.
    ///
    /// # Errors
    /// Nothing has changed then; [`MapError`] says why.
    pub fn install_device(&self, order: &Order, ipa: Ipa, pa: Pa) -> Result<(), MapError> {
        let writer = &mut *self.writer.lock(order);
        let there = ipa.raw() < self.limit()
            && ipa.page_offset() == 0
            && leaf_of(&self.slot(ipa.raw())) == Some((pa, Attr::Device));
        if there {
            return Ok(());
        }
        self.map_locked(writer, ipa, pa, PAGE_SIZE, Attr::Device, Over::Declared)
    }

    /// Takes the device page at `ipa` away, with the full sequence; returns whether there was one.
    /// What is no single device page is left alone.
    ///
    /// # Errors
    /// [`MapError::Range`] where `ipa` is unaligned or beyond the IPA space.
    pub fn remove_device(&self, order: &Order, ipa: Ipa) -> Result<bool, MapError> {
        if ipa.raw() >= self.limit() || ipa.page_offset() != 0 {
            return Err(MapError::Range);
        }
        let writer = &mut *self.writer.lock(order);
        let slot = self.slot(ipa.raw());
        if slot.level != 3 || !matches!(leaf_of(&slot), Some((_, Attr::Device))) {
            return Ok(false);
        }
        let end = ipa.raw().wrapping_add(PAGE_SIZE);
        self.remove(writer, ipa.raw(), end, Annotation::Empty)?;
        Ok(true)
    }
}
