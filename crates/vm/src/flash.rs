// SPDX-License-Identifier: MIT OR Apache-2.0
//! Banks of flash in a VM: loads of what a bank holds do not trap while its chips show it, and all of its pages are
//! declared or the guard is not active. All other accesses trap.
//!
//! A bank has leaves for all of its pages, or for none. Where it has none, annotations in stage 2 say which pages are declared.
//! If it has leaves while no page is declared, the guard is not active; otherwise all pages are declared.

use crate::bus::Stored;
use crate::device::{Chips, Effect, Load, part};
use crate::flash_bank::{Bank, Flash};
use crate::{Host, Vcpu, Vm};
use arch::{Ipa, Pa, Width};
use lock::Order;
use lock::atomic::Ordering::Relaxed;
use stage2::{Annotation, Attr, Entry, GuardAnnotation, MapError, Over};

impl<H: Host> Vm<H> {
    /// Its banks of flash.
    pub fn flash(&self) -> impl Iterator<Item = Flash> {
        self.flash.iter().map(|bank| bank.flash)
    }

    /// The bank that holds `ipa`, and its number.
    pub(crate) fn flash_at(&self, ipa: Ipa) -> Option<(u8, &Bank)> {
        (0..).zip(self.flash).find(|(_, bank)| bank.range().contains(ipa))
    }

    /// Unmaps a bank.
    fn hide(&self, order: &Order, bank: &Bank) -> Result<(), MapError> {
        let all = bank.is_declared();
        let leave = if all { Annotation::Declared } else { Annotation::Empty };
        self.stage2.unmap(order, bank.range(), leave)?;
        bank.mapped.store(false, Relaxed);
        Ok(())
    }

    /// Maps or unmaps a bank as its state asks for. The lock of mapped MMIO is held, or no vCPU runs.
    #[inline(never)]
    pub(crate) fn place_flash(&self, order: &Order, bank: &Bank) -> Result<(), MapError> {
        let shown = bank.chips.lock(order).is_array();
        let open = bank.declared.load(Relaxed) == 0 && !self.guard.active();
        let wanted = shown && (open || bank.is_declared());
        if wanted == bank.mapped.load(Relaxed) {
            return Ok(());
        }
        if !wanted {
            return self.hide(order, bank);
        }
        let (start, size) = (bank.range().start(), bank.range().size());
        self.stage2.map_over(order, start, bank.flash.pa, size, Attr::Rom, Over::Declared)?;
        bank.mapped.store(true, Relaxed);
        Ok(())
    }

    /// Declares a page of a bank.
    pub(crate) fn declare_flash(
        &self,
        bank: &Bank,
        ipa: Ipa,
        note: GuardAnnotation,
        order: &Order,
    ) -> bool {
        let _changes = self.mapping_changes.lock(order);
        if bank.mapped.load(Relaxed) && (bank.is_declared() || self.hide(order, bank).is_err()) {
            return bank.is_declared();
        }
        let known =
            matches!(self.stage2.lookup(ipa).map(|found| found.entry), Some(Entry::Guard(_)));
        let done = self.stage2.declare_page(order, ipa, note).is_ok();
        if done && !known {
            bank.declared.store(bank.declared.load(Relaxed).wrapping_add(1), Relaxed);
        }
        // It has its tables, so this does not fail; if it did, all of it would trap.
        let _ = self.place_flash(order, bank);
        done
    }

    /// Undeclares a page of a bank: whether it was declared; `None` where that failed, and nothing changed.
    pub(crate) fn undeclare_flash(&self, bank: &Bank, ipa: Ipa, order: &Order) -> Option<bool> {
        let _changes = self.mapping_changes.lock(order);
        if bank.mapped.load(Relaxed) && bank.is_declared() {
            self.hide(order, bank).ok()?;
        }
        let was = self.stage2.undeclare_page(order, ipa).ok();
        if was == Some(true) {
            bank.declared.store(bank.declared.load(Relaxed).wrapping_sub(1), Relaxed);
        }
        let _ = self.place_flash(order, bank);
        was
    }

    /// A load of flash that traps.
    #[inline(never)]
    pub(crate) fn flash_load(&self, n: u8, offset: u64, width: Width, vcpu: &Vcpu) -> Option<u64> {
        let bank = self.flash.get(usize::from(n))?;
        let mut chips = bank.chips.lock(&vcpu.order);
        self.erase_on(bank, &mut chips);
        let load = chips.load(offset, bank.range().size());
        drop(chips);
        Some(match load {
            Load::Array => self.host().flash_load(bank.flash.pa.checked_add(offset)?, width),
            Load::Word(word) => part(word, offset, width),
        })
    }

    /// Erases the next piece of a block that is being erased: each access to the bank does one.
    fn erase_on(&self, bank: &Bank, chips: &mut Chips) {
        let (at, bytes) = chips.work();
        if bytes != 0 {
            self.host().flash_erase(Pa::new(bank.flash.pa.raw().wrapping_add(at)), bytes);
        }
    }

    /// A store to flash: a command or its data. While a block is being erased it waits: the guest tries again.
    #[inline(never)]
    pub(crate) fn flash_store(
        &self,
        n: u8,
        offset: u64,
        width: Width,
        value: u64,
        vcpu: &Vcpu,
    ) -> Stored {
        let Some(bank) = self.flash.get(usize::from(n)) else { return Stored::Refused };
        if bank.flash.protected {
            return Stored::Done;
        }
        if offset & 3 != 0 || !matches!(width, Width::B4) {
            return Stored::Refused;
        }
        let (order, host) = (&vcpu.order, self.host());
        let at = |offset: u64| Pa::new(bank.flash.pa.raw().wrapping_add(offset));
        let _changes = self.mapping_changes.lock(order);
        let mut chips = bank.chips.lock(order);
        self.erase_on(bank, &mut chips);
        if chips.is_busy() {
            return Stored::Retry;
        }
        let value = value as u32;
        match chips.store(offset, value) {
            Effect::None => {}
            Effect::Program => host.flash_program(at(offset), value),
            Effect::Buffer(start, count) => {
                for (word, value) in (0..).zip(chips.buffer().iter().take(count)) {
                    let offset = start.wrapping_add(4_u64.wrapping_mul(word));
                    host.flash_program(at(offset), *value);
                }
            }
            Effect::Erase(start, bytes) => host.flash_erase(at(start), bytes),
        }
        drop(chips);
        // The tables are there since the bank was made.
        let _ = self.place_flash(order, bank);
        Stored::Done
    }
}
