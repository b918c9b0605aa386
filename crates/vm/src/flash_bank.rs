// SPDX-License-Identifier: MIT OR Apache-2.0
//! State of a bank of flash. Declarations and accesses are in `flash`.

use crate::device::{BLOCK, Chips};
use arch::guest_map::MAX_FLASH_BYTES;
use arch::{Ipa, PAGE_SHIFT, Pa, Range};
use core::fmt;
use lock::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use lock::{Lock, Order, Rank};

/// A bank of flash. What it holds outlives resets of the VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flash {
    /// Where the guest sees it: a power of two from 256 KiB to 16 MiB at a multiple of its size.
    pub ipa: Range<Ipa>,
    /// Where it is, aligned alike.
    pub pa: Pa,
    /// Write-protected: every store is ignored.
    pub protected: bool,
}

/// A bank and its state.
pub struct Bank {
    pub(crate) flash: Flash,
    pub(crate) chips: Lock<Chips>,
    /// How many pages are declared. This and the next field change only under the lock of mapped MMIO.
    pub(crate) declared: AtomicU64,
    /// It is mapped.
    pub(crate) mapped: AtomicBool,
}

impl fmt::Debug for Bank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.flash.fmt(f)
    }
}

impl Bank {
    /// A bank as it comes out of reset.
    pub const fn new(flash: Flash) -> Self {
        Self {
            flash,
            chips: Lock::new(Rank::Device, Chips::new()),
            declared: AtomicU64::new(0),
            mapped: AtomicBool::new(false),
        }
    }

    pub(crate) const fn range(&self) -> Range<Ipa> {
        self.flash.ipa
    }

    /// Whether its size and places are those that [`Flash`] asks for.
    pub(crate) fn is_possible(&self) -> bool {
        let size = self.range().size();
        size.is_power_of_two()
            && (BLOCK..=MAX_FLASH_BYTES).contains(&size)
            && (self.range().start().raw() | self.flash.pa.raw()) & size.wrapping_sub(1) == 0
    }

    const fn pages(&self) -> u64 {
        self.range().size() >> PAGE_SHIFT
    }

    /// Whether all of it is declared.
    pub(crate) fn is_declared(&self) -> bool {
        self.declared.load(Relaxed) == self.pages()
    }

    /// Declared pages without an annotation in stage 2.
    pub(crate) fn declared_pages(&self) -> u64 {
        if self.mapped.load(Relaxed) { self.declared.load(Relaxed) } else { 0 }
    }

    /// Out of reset; `preset`: all of it is declared.
    pub(crate) fn reset(&self, order: &Order, preset: bool) {
        *self.chips.lock(order) = Chips::new();
        self.declared.store(if preset { self.pages() } else { 0 }, Relaxed);
    }
}
