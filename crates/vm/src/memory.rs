// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which addresses are memory, which are mapped MMIO, and which pages are shared.

use crate::SetupError;
use arch::{Ipa, PAGE_SHIFT, PAGE_SIZE, Pa, Range};
use arrayvec::ArrayVec;
use lock::atomic::{AtomicU64, Ordering};

/// Most regions of read-only memory a VM can have.
pub(crate) const MAX_ROMS: usize = 8;

/// A VM's memory: one range of RAM, and read-only regions. It decides what is memory, whatever a
/// descriptor says at the moment.
#[derive(Clone, Debug)]
pub struct MemoryMap {
    ram: Range<Ipa>,
    roms: ArrayVec<Range<Ipa>, MAX_ROMS>,
}

impl MemoryMap {
    pub(crate) fn new(ram: Range<Ipa>, roms: &[Range<Ipa>]) -> Result<Self, SetupError> {
        let mut map = Self { ram, roms: ArrayVec::new() };
        for rom in roms {
            map.roms.try_push(*rom).map_err(|_| SetupError::TooMany("rom"))?;
        }
        Ok(map)
    }

    /// RAM.
    #[inline]
    pub const fn ram(&self) -> Range<Ipa> {
        self.ram
    }

    /// Read-only memory.
    pub fn roms(&self) -> &[Range<Ipa>] {
        &self.roms
    }

    /// Whether `ipa` is RAM.
    #[inline(always)]
    pub const fn is_ram(&self, ipa: Ipa) -> bool {
        self.ram.contains(ipa)
    }

    /// Whether `ipa` is read-only memory.
    #[inline]
    pub fn is_rom(&self, ipa: Ipa) -> bool {
        self.roms.iter().any(|rom| rom.contains(ipa))
    }

    /// Whether `ipa` is RAM or read-only memory.
    #[inline(always)]
    pub fn is_memory(&self, ipa: Ipa) -> bool {
        self.is_ram(ipa) || self.is_rom(ipa)
    }
}

/// Device pages that a guest reaches without a trap while they are declared, or the guard is not active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedMmio {
    /// Where the guest sees them; at most 64 pages.
    pub ipa: Range<Ipa>,
    /// Where they are.
    pub pa: Pa,
}

/// One bit per page of RAM: whether the guest shared it.
#[derive(Debug)]
pub(crate) struct Shares {
    bits: &'static [AtomicU64],
}

impl Shares {
    /// Number of words that `ram_size` bytes of RAM need.
    pub(crate) const fn words(ram_size: u64) -> u64 {
        (ram_size >> PAGE_SHIFT).div_ceil(64)
    }

    pub(crate) const fn new(bits: &'static [AtomicU64]) -> Self {
        Self { bits }
    }

    /// The word and the bit of page number `page` of RAM.
    #[inline]
    fn bit(&self, page: u64) -> Option<(&'static AtomicU64, u64)> {
        let word = self.bits.get(usize::try_from(page >> 6).ok()?)?;
        Some((word, 1_u64.wrapping_shl(page as u32)))
    }

    /// Sets or clears the share of page number `page`; `false` if nothing has changed. Of several
    /// vCPUs that do the same at once, one succeeds.
    #[inline]
    pub(crate) fn set(&self, page: u64, shared: bool) -> bool {
        let Some((word, bit)) = self.bit(page) else { return false };
        let old = if shared {
            word.fetch_or(bit, Ordering::AcqRel)
        } else {
            word.fetch_and(!bit, Ordering::AcqRel)
        };
        (old & bit != 0) != shared
    }

    /// Whether page number `page` is shared.
    #[inline]
    pub(crate) fn get(&self, page: u64) -> bool {
        self.bit(page).is_some_and(|(word, bit)| word.load(Ordering::Acquire) & bit != 0)
    }

    /// Number of shared pages.
    pub(crate) fn count(&self) -> u64 {
        self.bits
            .iter()
            .map(|word| u64::from(word.load(Ordering::Relaxed).count_ones()))
            .fold(0, u64::wrapping_add)
    }

    /// Clears the words `from..to`; returns whether more follow.
    pub(crate) fn clear(&self, from: u64, to: u64) -> bool {
        let (from, to) = (from as usize, (to as usize).min(self.bits.len()));
        for word in self.bits.get(from..to).into_iter().flatten() {
            word.store(0, Ordering::Relaxed);
        }
        to < self.bits.len()
    }
}

/// [`MappedMmio`] pages, and which of them are declared.
#[derive(Debug)]
pub(crate) struct MappedMmioPages {
    range: Range<Ipa>,
    pa: Pa,
    /// One bit per page. Changed under the lock of [`lock::Rank::Lifecycle`] only.
    declared: AtomicU64,
}

impl MappedMmioPages {
    /// Most pages of one region: one word of bits.
    pub(crate) const MAX_PAGES: u64 = 64;

    pub(crate) const fn new(mapped_mmio: &MappedMmio) -> Self {
        Self { range: mapped_mmio.ipa, pa: mapped_mmio.pa, declared: AtomicU64::new(0) }
    }

    #[inline]
    pub(crate) const fn range(&self) -> Range<Ipa> {
        self.range
    }

    /// The page's bit and its physical address.
    fn page(&self, ipa: Ipa) -> (u64, Pa) {
        let offset = ipa.page().raw().wrapping_sub(self.range.start().raw());
        (
            1_u64.wrapping_shl((offset >> PAGE_SHIFT) as u32),
            Pa::new(self.pa.raw().wrapping_add(offset)),
        )
    }

    pub(crate) fn pa(&self, ipa: Ipa) -> Pa {
        self.page(ipa).1
    }

    pub(crate) fn is_declared(&self, ipa: Ipa) -> bool {
        self.declared.load(Ordering::Relaxed) & self.page(ipa).0 != 0
    }

    pub(crate) fn set_declared(&self, ipa: Ipa, declared: bool) {
        let old = self.declared.load(Ordering::Relaxed);
        let bit = self.page(ipa).0;
        self.declared.store(if declared { old | bit } else { old & !bit }, Ordering::Relaxed);
    }

    pub(crate) fn declared_pages(&self) -> u64 {
        u64::from(self.declared.load(Ordering::Relaxed).count_ones())
    }

    pub(crate) fn clear(&self) {
        self.declared.store(0, Ordering::Relaxed);
    }

    /// First addresses of the region's pages.
    pub(crate) fn pages(&self) -> impl Iterator<Item = Ipa> + use<> {
        let start = self.range.start().raw();
        (0..self.range.size() >> PAGE_SHIFT)
            .map(move |page| Ipa::new(start.wrapping_add(page.wrapping_mul(PAGE_SIZE))))
    }
}
