// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls, one method each.

use super::own::Own;
use super::{CallError, Code, DetectError, Hypercall, RangeError, detect};
use crate::{Call, Dialect, abi};

/// Which byte of MAIR_EL1, 0 to 7, the guest maps a page with.
///
/// It travels as a hint with a declaration, in bits 4:2 of x2 as in a stage-1 descriptor; no host
/// decides anything by it. Index 0, the default, is also what "nothing said" looks like. A range call
/// has no place for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AttrIndex(u8);

impl AttrIndex {
    /// The index, if MAIR_EL1 has that many bytes.
    #[must_use]
    pub const fn new(index: u8) -> Option<Self> {
        if index < 8 { Some(Self(index)) } else { None }
    }

    /// The number, 0 to 7.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// A host's MMIO guard, as [`Guard::detect`] found it.
///
/// Every method that takes an address wants a multiple of [`Guard::granule`]. None remembers what it
/// did: the same page declared twice is undeclared by one [`Guard::unmap`]. [`Ioremap`](super::Ioremap)
/// counts.
#[derive(Clone, Copy, Debug)]
pub struct Guard<H> {
    host: H,
    dialect: Dialect,
    features: u32,
    granule_shift: u32,
    ranges: bool,
}

impl<H: Hypercall> Guard<H> {
    /// Finds the guard of `host`: asks for the service's UID, its feature map, and the granule. Changes
    /// nothing.
    ///
    /// `dialect` is what the guest was told, by its command line for instance. With `None` the feature
    /// map has to tell: function 7 exists in the pkvm dialect only, so its bit is proof of that one.
    /// Functions 2 to 5 without function 7 prove nothing: they are the whole of the series dialect, but
    /// also the beginning of pkvm's table, in which the number that would enrol shares memory. There the
    /// answer is [`DetectError::Ambiguous`], never a guess. A dialect that the map contradicts is
    /// refused, for the same reason.
    ///
    /// The result says what the host offers, not that the guard is active.
    ///
    /// # Errors
    /// See [`DetectError`].
    pub fn detect(host: H, dialect: Option<Dialect>) -> Result<Self, DetectError> {
        let found = detect::detect(&host, dialect)?;
        Ok(Self {
            host,
            dialect: found.dialect,
            features: found.features,
            granule_shift: found.granule_shift,
            ranges: found.ranges,
        })
    }

    /// What makes the calls.
    pub const fn host(&self) -> &H {
        &self.host
    }

    /// The dialect that is spoken.
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The host's feature map: bit n stands for function n.
    pub const fn features(&self) -> u32 {
        self.features
    }

    /// Bytes that one declaration covers: 4, 16 or 64 KiB. Where that is more than a page of the guest,
    /// a declaration covers neighbours as well.
    pub const fn granule(&self) -> u64 {
        1 << self.granule_shift
    }

    /// log2 of [`Self::granule`].
    pub(super) const fn granule_shift(&self) -> u32 {
        self.granule_shift
    }

    /// Whether [`Self::map_range`] and [`Self::unmap_range`] need one call for many granules.
    pub const fn has_ranges(&self) -> bool {
        self.ranges
    }

    /// Whether the host has this function of the guard, by its feature map.
    pub const fn offers(&self, call: Call) -> bool {
        match crate::id(self.dialect, call) {
            Some(id) => self.features & abi::feature_bit((id & 0xFFFF) as u16) != 0,
            None => false,
        }
    }

    /// ENROLL: from the moment this returns until a reset, for all CPUs of the VM, an access outside
    /// RAM to a page that is not declared aborts. There is no way back. May be repeated.
    ///
    /// Whatever the guest touches next has to be declared first, its console included:
    /// [`Ioremap::enrol`](super::Ioremap::enrol) does both.
    ///
    /// # Errors
    /// [`CallError::NotOffered`] where the host has no such call (it may guard from the start, or not at
    /// all); [`CallError::Refused`].
    pub fn enrol(&self) -> Result<(), CallError> {
        self.simple(Call::Enroll, 0, [0; 3])
    }

    /// MAP: declares one granule. Repeating it is no error.
    ///
    /// # Errors
    /// [`CallError::Unaligned`]; [`CallError::Refused`] if it is RAM, beyond the address space, not allowed to
    /// this VM, if the host's memory for tables is used up, or, in the series dialect, if the VM is not
    /// enrolled.
    pub fn map(&self, ipa: u64, attribute: AttrIndex) -> Result<(), CallError> {
        self.aligned(ipa)?;
        self.simple(Call::Map, ipa, [ipa, abi::hint_argument(attribute.get()), 0])
    }

    /// UNMAP: takes the declaration of one granule back. Android's hosts accept it and do nothing.
    ///
    /// # Errors
    /// [`CallError::NotOffered`], [`CallError::Unaligned`]; [`CallError::Refused`] in the series dialect if it was
    /// not declared or the VM is not enrolled.
    pub fn unmap(&self, ipa: u64) -> Result<(), CallError> {
        self.aligned(ipa)?;
        self.simple(Call::Unmap, ipa, [ipa, 0, 0])
    }

    /// Declares `granules` granules from `ipa` on, with range calls where the host has them, else one
    /// by one. Goes on where a range call stopped short. Only where single calls are made does
    /// `attribute` reach the host.
    ///
    /// # Errors
    /// As [`Self::map`], and [`CallError::BadRange`]. What [`RangeError::done`] counts stays declared: only
    /// the caller knows whether other code uses it.
    pub fn map_range(
        &self,
        ipa: u64,
        granules: u64,
        attribute: AttrIndex,
    ) -> Result<(), RangeError> {
        self.range(Call::RangeMap, ipa, granules, |ipa| self.map(ipa, attribute))
    }

    /// Takes the declarations of `granules` granules from `ipa` on back.
    ///
    /// # Errors
    /// As [`Self::unmap`], and [`CallError::BadRange`].
    pub fn unmap_range(&self, ipa: u64, granules: u64) -> Result<(), RangeError> {
        self.range(Call::RangeUnmap, ipa, granules, |ipa| self.unmap(ipa))
    }

    /// Portcullis' own calls, or `None` on another host. Costs a call that changes nothing and that
    /// every other host answers with "not supported".
    pub fn own(&self) -> Option<Own<'_, H>> {
        Own::find(&self.host)
    }

    /// The id of a call that the host offers.
    const fn offered(&self, call: Call) -> Result<u32, CallError> {
        match crate::id(self.dialect, call) {
            Some(id) if self.offers(call) => Ok(id),
            _ => Err(CallError::NotOffered(call)),
        }
    }

    const fn aligned(&self, ipa: u64) -> Result<(), CallError> {
        if ipa.trailing_zeros() >= self.granule_shift {
            Ok(())
        } else {
            Err(CallError::Unaligned(ipa))
        }
    }

    /// A call that answers 0 or an error.
    fn simple(&self, call: Call, ipa: u64, args: [u64; 3]) -> Result<(), CallError> {
        let [x0, ..] = self.host.call(self.offered(call)?, args);
        Code::check(x0).map_err(|code| CallError::Refused { call, ipa, code })
    }

    /// One range call; how many granules it did.
    fn range_call(&self, call: Call, ipa: u64, granules: u64) -> Result<u64, CallError> {
        let [x0, done, ..] = self.host.call(self.offered(call)?, [ipa, granules, 0]);
        Code::check(x0).map_err(|code| CallError::Refused { call, ipa, code })?;
        if done == 0 || done > granules {
            return Err(CallError::BadProgress { ipa, asked: granules, claimed: done });
        }
        Ok(done)
    }

    /// The loop of a range: every round does at least one granule or ends it.
    fn range(
        &self,
        call: Call,
        ipa: u64,
        granules: u64,
        single: impl Fn(u64) -> Result<(), CallError>,
    ) -> Result<(), RangeError> {
        self.check_range(ipa, granules).map_err(|error| RangeError { done: 0, error })?;
        let mut done = 0_u64;
        while done < granules {
            // Neither sum wraps, nor the shift: the whole range was checked.
            let at = ipa.wrapping_add(done << self.granule_shift);
            let left = granules.wrapping_sub(done);
            // One granule alone goes by the single call, which has room for the hint.
            let step = if self.ranges && granules > 1 {
                self.range_call(call, at, left)
            } else {
                single(at).map(|()| 1)
            };
            match step {
                Ok(step) => done = done.wrapping_add(step),
                Err(error) => return Err(RangeError { done, error }),
            }
        }
        Ok(())
    }

    /// Whether the granules exist in a 64-bit address space.
    fn check_range(&self, ipa: u64, granules: u64) -> Result<(), CallError> {
        self.aligned(ipa)?;
        let first = ipa >> self.granule_shift;
        let available = (u64::MAX >> self.granule_shift).wrapping_sub(first).wrapping_add(1);
        if granules == 0 || granules > available {
            return Err(CallError::BadRange { ipa, granules });
        }
        Ok(())
    }
}
