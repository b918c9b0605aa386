// SPDX-License-Identifier: MIT OR Apache-2.0
//! Banks of flash: docs/vm.md, "Flash".

use crate::bank::Sentence;
use crate::{Data, Entry, Flash, Full, Hint, Leaf, Load, Outcome, PAGE, Reason, Region, Vm};
use alloc::collections::BTreeSet;

impl Vm {
    /// The number of the bank that holds `ipa`.
    pub(crate) fn bank_at(&self, ipa: u64) -> Option<usize> {
        self.config.flash.iter().position(|flash| flash.at.contains(ipa))
    }

    /// Whether all of a bank is declared.
    pub(crate) fn is_whole_bank_declared(&self, n: usize) -> bool {
        self.banks[n].declared.len() == self.config.flash[n].at.pages().count()
    }

    /// A bank is mapped while it shows what it holds and all of it is declared, or none is and the guard is not active.
    ///
    /// # Errors
    /// The tables do not suffice: only before anything of the bank was mapped or declared.
    pub(crate) fn map_or_unmap_bank(&mut self, n: usize) -> Result<(), Full> {
        let Flash { at, pa, .. } = self.config.flash[n];
        let open = self.banks[n].declared.is_empty() && !self.active();
        let wanted =
            self.banks[n].sentence == Sentence::Array && (open || self.is_whole_bank_declared(n));
        if self.banks[n].mapped && !wanted {
            self.unmap_bank(n);
        } else if wanted && !self.banks[n].mapped {
            self.tables.map(at.start, pa, at.end - at.start, Leaf::Rom)?;
            self.banks[n].mapped = true;
        }
        Ok(())
    }

    /// What is mapped as a whole is declared as a whole, or not at all.
    fn unmap_bank(&mut self, n: usize) {
        let at = self.config.flash[n].at;
        let left = match self.is_whole_bank_declared(n) {
            true => Entry::Declared(Hint::default()),
            false => Entry::Empty,
        };
        self.tables.replace(at.start, at.end, left);
        self.banks[n].mapped = false;
    }

    /// Declares a page. `false` where a table is needed and none is left.
    pub(crate) fn declare_in_bank(&mut self, n: usize, page: u64, hint: Hint) -> bool {
        if self.banks[n].mapped {
            if self.is_whole_bank_declared(n) {
                return true;
            }
            self.unmap_bank(n);
        }
        let declared = self.tables.declare(page, page + PAGE, hint).is_ok();
        if declared {
            self.banks[n].declared.insert(page);
        }
        self.map_or_unmap_bank(n).is_ok() && declared
    }

    /// Undeclares a page; `false` where a table is needed and none is left.
    pub(crate) fn undeclare_in_bank(&mut self, n: usize, page: u64) -> bool {
        if !self.banks[n].declared.contains(&page) {
            return true;
        }
        if self.banks[n].mapped {
            self.unmap_bank(n);
        }
        let undeclared = self.tables.undeclare(page, page + PAGE).is_ok();
        if undeclared {
            self.banks[n].declared.remove(&page);
        }
        self.map_or_unmap_bank(n).is_ok() && undeclared
    }

    /// An access to a bank that the guard lets pass.
    pub(crate) fn flash(
        &mut self,
        n: usize,
        data: &Data,
        ipa: u64,
        bytes: u64,
        register: u8,
    ) -> Outcome {
        let Flash { at, protected, .. } = self.config.flash[n];
        if !data.write {
            self.banks[n].erase_on();
            return Outcome::Served(Some(Load { register }));
        }
        if protected {
            return Outcome::Served(None);
        }
        if bytes != 4 || !ipa.is_multiple_of(4) {
            let ipa = Some(ipa);
            return Outcome::Abort { reason: Reason::DeviceError, ipa, walk: false, fetch: false };
        }
        if self.banks[n].erase_on() {
            return Outcome::Retry;
        }
        let value = data.value as u32;
        let word = if data.big_endian { value.swap_bytes() } else { value };
        self.banks[n].store(ipa - at.start, word);
        // It had its tables when the bank was first mapped or declared.
        let _ = self.map_or_unmap_bank(n);
        Outcome::Served(None)
    }

    /// The banks out of reset. What they hold stays, and so does what is mapped, until [`Vm::map_or_unmap_bank`].
    pub(crate) fn reset_banks(&mut self) {
        for (bank, flash) in self.banks.iter_mut().zip(&self.config.flash) {
            let whole =
                |preset: &Region| preset.start <= flash.at.start && flash.at.end <= preset.end;
            let declared = self.config.preset.iter().any(whole);
            bank.declared = if declared { flash.at.pages().collect() } else { BTreeSet::new() };
            bank.sentence = Sentence::Array;
            (bank.locked, bank.busy) = (BTreeSet::new(), 0);
        }
    }
}
