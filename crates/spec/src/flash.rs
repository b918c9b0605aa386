// SPDX-License-Identifier: MIT OR Apache-2.0
//! Banks of flash: docs/vm.md, "Flash".

use crate::{Data, Entry, Full, Hint, Leaf, Load, Outcome, PAGE, Reason, Region, Vm};
use alloc::collections::BTreeSet;

/// A bank as the VM's owner describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flash {
    /// Where the guest sees it: a power of two at a multiple of its size.
    pub at: Region,
    /// Physical address of what it holds, aligned alike.
    pub pa: u64,
    /// Every store to it is ignored.
    pub protected: bool,
}

/// How far the chips are in a sentence of commands. What it does to what they hold is not specified here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sentence {
    /// None is begun, and loads find what the bank holds.
    Array,
    /// None is begun, and loads find something else.
    Other,
    /// The next store ends it, whatever it is.
    Last,
    /// The number of words comes.
    Count,
    /// Words come, of which all lie within `count` words from the first one's address on.
    Words {
        /// How many there are in all.
        count: u64,
        /// How many are still to come.
        left: u64,
        /// Offset of the first.
        first: Option<u64>,
    },
}

/// A bank and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bank {
    /// What the chips do.
    pub sentence: Sentence,
    /// All of it is mapped; else nothing of it is.
    pub mapped: bool,
    /// Its declared pages.
    pub declared: BTreeSet<u64>,
}

impl Bank {
    /// A bank before its VM's first life.
    pub const fn new() -> Self {
        Self { sentence: Sentence::Array, mapped: false, declared: BTreeSet::new() }
    }
}

impl Default for Bank {
    fn default() -> Self {
        Self::new()
    }
}

impl Sentence {
    /// After a store of `word` at `offset`.
    const fn after(self, offset: u64, word: u32) -> Self {
        let command = word as u8;
        match self {
            Self::Array | Self::Other => match command {
                0xff => Self::Array,
                0x70 | 0xb0 | 0xd0 | 0x90 | 0x98 => Self::Other,
                0x10 | 0x40 | 0x20 | 0x60 => Self::Last,
                0xe8 => Self::Count,
                _ => self,
            },
            Self::Last => Self::Other,
            Self::Count if command < 32 => {
                let count = command as u64 + 1;
                Self::Words { count, left: count, first: None }
            }
            Self::Count => Self::Other,
            Self::Words { count, left, first } => {
                let first = match first {
                    Some(first) => first,
                    None => offset,
                };
                match offset.checked_sub(first) {
                    Some(distance) if distance / 4 < count && left == 1 => Self::Last,
                    Some(distance) if distance / 4 < count => {
                        Self::Words { count, left: left - 1, first: Some(first) }
                    }
                    _ => Self::Other,
                }
            }
        }
    }
}

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
            return Outcome::Served(Some(Load { register }));
        }
        if protected {
            return Outcome::Served(None);
        }
        if bytes != 4 || !ipa.is_multiple_of(4) {
            let ipa = Some(ipa);
            return Outcome::Abort { reason: Reason::DeviceError, ipa, walk: false, fetch: false };
        }
        let value = data.value as u32;
        let word = if data.big_endian { value.swap_bytes() } else { value };
        self.banks[n].sentence = self.banks[n].sentence.after(ipa - at.start, word);
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
        }
    }
}
