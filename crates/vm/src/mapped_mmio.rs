// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages that are reached without a trap while they are declared or the guard is not active.

use crate::memory::MappedMmioPages;
use crate::{Host, Vm};
use arch::Ipa;
use lock::Order;
use stage2::{Entry, GuardAnnotation};

impl<H: Host> Vm<H> {
    /// The region of mapped MMIO that holds `ipa`.
    #[inline]
    pub(crate) fn mapped_mmio_at(&self, ipa: Ipa) -> Option<&MappedMmioPages> {
        self.mapped_mmio.iter().find(|region| region.range().contains(ipa))
    }

    /// Start of the next region of mapped MMIO or bank of flash behind `ipa`; the top of all addresses if there is none.
    pub(crate) fn next_mapped_mmio(&self, ipa: Ipa) -> Ipa {
        self.mapped_mmio
            .iter()
            .map(|region| region.range().start())
            .chain(self.flash.iter().map(|bank| bank.range().start()))
            .filter(|start| *start > ipa)
            .min()
            .unwrap_or(Ipa::new(u64::MAX))
    }

    /// Whether the page at `ipa` is declared: by an annotation, or by its bit if it is reached without a trap.
    pub(crate) fn is_declared(&self, ipa: Ipa) -> bool {
        match self.mapped_mmio_at(ipa) {
            Some(region) => region.is_declared(ipa),
            None => {
                let entry = self.stage2.lookup(ipa).map(|found| found.entry);
                matches!(entry, Some(Entry::Guard(_)))
                    || self.flash_at(ipa).is_some_and(|(_, bank)| bank.is_declared())
            }
        }
    }

    /// End of the pages around `ipa` that can be reached without a trap: mapped MMIO, or a bank of flash.
    pub(crate) fn untrapped_end(&self, ipa: Ipa) -> Option<Ipa> {
        let bank = || self.flash_at(ipa).map(|(_, bank)| bank.range().end());
        self.mapped_mmio_at(ipa).map(|region| region.range().end()).or_else(bank)
    }

    /// Declares a page that is reached without a trap: it is mapped from here on.
    pub(crate) fn declare_mapped(&self, ipa: Ipa, note: GuardAnnotation, order: &Order) -> bool {
        if let Some((_, bank)) = self.flash_at(ipa) {
            return self.declare_flash(bank, ipa, note, order);
        }
        let Some(region) = self.mapped_mmio_at(ipa) else { return false };
        let _changes = self.mapping_changes.lock(order);
        let done = self.stage2.install_device(order, ipa, region.pa(ipa)).is_ok();
        if done {
            region.set_declared(ipa, true);
        }
        done
    }

    /// Undeclares such a page, and unmaps it if the guard is active. Returns whether it was declared; `None` if that failed and
    /// nothing has changed.
    pub(crate) fn undeclare_mapped(&self, ipa: Ipa, order: &Order) -> Option<bool> {
        if let Some((_, bank)) = self.flash_at(ipa) {
            return self.undeclare_flash(bank, ipa, order);
        }
        let region = self.mapped_mmio_at(ipa)?;
        let _changes = self.mapping_changes.lock(order);
        let declared = region.is_declared(ipa);
        if self.guard.active() {
            self.stage2.remove_device(order, ipa).ok()?;
        }
        region.set_declared(ipa, false);
        Some(declared)
    }

    /// Activates the guard, and unmaps undeclared pages that were reached without a trap.
    #[cold]
    pub(crate) fn activate_guard(&self, order: &Order) {
        let _changes = self.mapping_changes.lock(order);
        self.guard.activate();
        for region in &self.mapped_mmio {
            for ipa in region.pages() {
                if !region.is_declared(ipa) {
                    // Fails only for an address that Setup would have refused.
                    let _ = self.stage2.remove_device(order, ipa);
                }
            }
        }
        for bank in self.flash {
            // Nothing is split: the whole bank is unmapped.
            let _ = self.place_flash(order, bank);
        }
    }
}
