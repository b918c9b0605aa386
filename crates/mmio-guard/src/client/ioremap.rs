// SPDX-License-Identifier: MIT OR Apache-2.0
//! Device mappings with memory: a page stays declared until its last mapping is gone.

use super::span::{Span, gaps};
use super::{AttrIndex, CallError, EnrolError, Guard, Hypercall, IoremapError, RangeError};
use crate::Call;
use arrayvec::ArrayVec;
use core::ops::Range;

/// A piece of device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Region {
    /// Where it begins, in bytes.
    pub ipa: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// How the guest maps it.
    pub attribute: AttrIndex,
}

/// A range that is in use, in whole granules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Where its first granule begins, in bytes.
    pub ipa: u64,
    /// How many granules it has.
    pub granules: u64,
    /// How often it was mapped and not yet unmapped.
    pub times: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    span: Span,
    times: u32,
    attribute: AttrIndex,
}

/// The device mappings of a guest: at most `N` different ranges at a time.
///
/// Each granule has a reference count, the number of mappings that cover it. The first one declares it,
/// the last one that goes undeclares it; those between make no call. Ranges are rounded outwards to
/// granules, so that two devices in one page share that page's count. A mapping is unmapped as it was
/// mapped, never in part; what is unmapped therefore never needs more room.
///
/// Whatever part of the RAM a range would touch, the RAM is not declared: that is refused before any
/// call, as the host would refuse it.
///
/// A page that is also declared past this value, by the VM's owner for instance (`vm.preset`), is not
/// counted for that: it goes with its last mapping here.
///
/// When a call fails halfway, what this operation had declared or undeclared is undone again before the
/// error is returned.
///
/// Changing a guest's stage-1 tables is the guest's affair: map here before the first access, unmap here
/// after the last.
///
/// ```
/// # use mmio_guard::client::{Guard, Hypercall, Ioremap, IoremapError};
/// # struct Host;
/// # impl Hypercall for Host {
/// #     fn call(&self, id: u32, _: [u64; 3]) -> [u64; 4] {
/// #         match mmio_guard::call(mmio_guard::Dialect::Pkvm, id) {
/// #             Some(mmio_guard::Call::Uid) => mmio_guard::abi::KVM_UID.map(u64::from),
/// #             Some(mmio_guard::Call::Features) => [0xFFD, 0, 0, 0],
/// #             Some(mmio_guard::Call::Info) => [4096, 1, 0, 0],
/// #             _ => [0, 1, 0, 0],
/// #         }
/// #     }
/// # }
/// # let guard = Guard::detect(Host, None).unwrap();
/// let ram = [0x4000_0000..0x4800_0000];
/// let mut devices: Ioremap<_, 16> = Ioremap::new(guard, &ram);
///
/// // Two virtio devices in one page.
/// devices.map(0x0A00_0000, 0x200, Default::default())?;
/// devices.map(0x0A00_0200, 0x200, Default::default())?;
/// devices.unmap(0x0A00_0000, 0x200)?;
/// assert_eq!(devices.count(0x0A00_0200), 1); // Still declared.
///
/// assert_eq!(
///     devices.map(0x4700_0000, 0x1000, Default::default()),
///     Err(IoremapError::Ram(0x4700_0000))
/// );
/// # Ok::<(), IoremapError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Ioremap<'ram, H, const N: usize> {
    guard: Guard<H>,
    ram: &'ram [Range<u64>],
    entries: ArrayVec<Entry, N>,
}

impl<'ram, H: Hypercall, const N: usize> Ioremap<'ram, H, N> {
    /// Without any mapping. `ram` is all memory of the guest, as its device tree has it.
    #[must_use]
    pub const fn new(guard: Guard<H>, ram: &'ram [Range<u64>]) -> Self {
        Self { guard, ram, entries: ArrayVec::new_const() }
    }

    /// The guard that is called.
    pub const fn guard(&self) -> &Guard<H> {
        &self.guard
    }

    /// What is mapped, in no particular order.
    pub fn mappings(&self) -> impl Iterator<Item = Mapping> + '_ {
        let shift = self.guard.granule_shift();
        self.entries.iter().map(move |entry| Mapping {
            ipa: entry.span.first << shift,
            granules: entry.span.granules(),
            times: entry.times,
        })
    }

    /// The reference count of the granule that holds `ipa`: 0 if nothing here declared it.
    pub fn count(&self, ipa: u64) -> u64 {
        let granule = ipa >> self.guard.granule_shift();
        let covering = self.entries.iter().filter(|entry| entry.span.contains(granule));
        // At most N times u32::MAX.
        covering.fold(0, |sum: u64, entry| sum.saturating_add(entry.times.into()))
    }

    /// ENROLL, then maps `early` before anything else can happen: what the guest uses before it comes
    /// to map its devices properly, its early console above all.
    ///
    /// Between ENROLL and the return of this function no device may be touched: interrupts whose
    /// handlers do so are masked, other CPUs are not started, and nothing is printed. What can be
    /// checked of the regions is checked before ENROLL.
    ///
    /// The regions count as mapped, once each: the console's driver unmaps the early mapping when it has
    /// made its own.
    ///
    /// # Errors
    /// [`EnrolError::Region`] and [`EnrolError::Enroll`] leave the VM as it was. There is no way to undo
    /// ENROLL, so with [`EnrolError::Early`] the VM is enrolled, and what is mapped by then stays.
    pub fn enrol(&mut self, early: &[Region]) -> Result<(), EnrolError> {
        // All ranges that there will be, to know that there is room for each.
        let mut spans: ArrayVec<Span, N> = self.entries.iter().map(|entry| entry.span).collect();
        for (index, region) in early.iter().enumerate() {
            let fail = |error| EnrolError::Region { index, error };
            let span = self.span(region.ipa, region.bytes).map_err(fail)?;
            if !spans.contains(&span) {
                spans.try_push(span).map_err(|_| fail(IoremapError::Full))?;
            }
        }
        self.guard.enrol().map_err(EnrolError::Enroll)?;
        for (index, region) in early.iter().enumerate() {
            self.map(region.ipa, region.bytes, region.attribute)
                .map_err(|error| EnrolError::Early { index, error })?;
        }
        Ok(())
    }

    /// Declares the granules that hold `bytes` bytes from `ipa` on, as far as no mapping covers them
    /// yet, and counts one more mapping of the range.
    ///
    /// # Errors
    /// See [`IoremapError`].
    pub fn map(&mut self, ipa: u64, bytes: u64, attribute: AttrIndex) -> Result<(), IoremapError> {
        let span = self.span(ipa, bytes)?;
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.span == span) {
            // Mapped as it is: every granule is declared.
            entry.times = entry.times.checked_add(1).ok_or(IoremapError::Full)?;
            return Ok(());
        }
        if self.entries.is_full() {
            return Err(IoremapError::Full);
        }
        self.change(span, |guard, ipa, granules| guard.map_range(ipa, granules, attribute))
            .map_err(|(cause, stop)| self.undo(cause, undeclare, span.first, stop))?;
        // There is room, or `Full` was returned.
        self.entries.try_push(Entry { span, times: 1, attribute }).map_err(|_| IoremapError::Full)
    }

    /// Counts one mapping of the range less, and undeclares the granules that no mapping covers any
    /// more. The range is given as it was to [`Self::map`], give or take what rounding to granules makes
    /// equal. On a host without UNMAP the granules stay declared until reset.
    ///
    /// # Errors
    /// See [`IoremapError`]. The mapping stays if the host refused.
    pub fn unmap(&mut self, ipa: u64, bytes: u64) -> Result<(), IoremapError> {
        let span = Span::covering(ipa, bytes, self.guard.granule_shift())
            .ok_or(IoremapError::BadRange { ipa, bytes })?;
        let Some(index) = self.entries.iter().position(|entry| entry.span == span) else {
            return Err(IoremapError::NotMapped { ipa, bytes });
        };
        if let Some(entry) = self.entries.get_mut(index).filter(|entry| entry.times > 1) {
            entry.times = entry.times.saturating_sub(1);
            return Ok(());
        }
        let Some(entry) = self.entries.swap_pop(index) else {
            return Err(IoremapError::NotMapped { ipa, bytes });
        };
        // Without the entry, what it alone covered is a gap.
        let result = self.change(span, undeclare).map_err(|(cause, stop)| {
            let again =
                |guard: &Guard<H>, ipa, granules| guard.map_range(ipa, granules, entry.attribute);
            self.undo(cause, again, span.first, stop)
        });
        if result.is_err() {
            // There is room: this is the entry that was taken out.
            let _ = self.entries.try_push(entry);
        }
        result
    }

    /// The granules of a range that is no RAM.
    fn span(&self, ipa: u64, bytes: u64) -> Result<Span, IoremapError> {
        let shift = self.guard.granule_shift();
        let span =
            Span::covering(ipa, bytes, shift).ok_or(IoremapError::BadRange { ipa, bytes })?;
        let (start, last) = span.bytes(shift);
        for ram in self.ram {
            if ram.start <= last && start < ram.end {
                return Err(IoremapError::Ram(ram.start.max(start)));
            }
        }
        Ok(span)
    }

    /// Does `operation` for every part of `span` that no mapping covers. On failure also says up to
    /// which granule it was done.
    fn change(
        &self,
        span: Span,
        operation: impl Fn(&Guard<H>, u64, u64) -> Result<(), RangeError>,
    ) -> Result<(), (CallError, u64)> {
        let used = self.entries.iter().map(|entry| entry.span);
        for gap in gaps(used, span) {
            let ipa = gap.first << self.guard.granule_shift();
            operation(&self.guard, ipa, gap.granules()).map_err(|failed| {
                let stop = match failed.error {
                    // Anything may have happened to the rest; undoing what did not is harmless.
                    CallError::BadProgress { .. } => gap.end,
                    _ => gap.first.saturating_add(failed.done),
                };
                (failed.error, stop)
            })?;
        }
        Ok(())
    }

    /// Reverts a [`Self::change`] that came from granule `first` to `stop`.
    fn undo(
        &self,
        cause: CallError,
        operation: impl Fn(&Guard<H>, u64, u64) -> Result<(), RangeError>,
        first: u64,
        stop: u64,
    ) -> IoremapError {
        if first >= stop {
            return IoremapError::Host(cause);
        }
        match self.change(Span { first, end: stop }, operation) {
            Ok(()) => IoremapError::Host(cause),
            Err((undo, _)) => IoremapError::Undo { cause, undo },
        }
    }
}

/// UNMAP, where there is one. A host with Linux' part of the table has none: there a declaration lasts
/// until reset, and to give it up is to forget it.
fn undeclare<H: Hypercall>(guard: &Guard<H>, ipa: u64, granules: u64) -> Result<(), RangeError> {
    if guard.offers(Call::Unmap) { guard.unmap_range(ipa, granules) } else { Ok(()) }
}
