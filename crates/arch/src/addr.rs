// SPDX-License-Identifier: MIT OR Apache-2.0
//! Addresses and identifiers that must not be mixed up.

use core::fmt;

/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// The only granule Portcullis uses, at stage 2 and towards its guests: 4 KiB.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Wraps a raw address.
            #[inline(always)]
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }
            /// The raw address.
            #[inline(always)]
            pub const fn raw(self) -> u64 {
                self.0
            }
            /// The start of the page that holds this address.
            #[inline(always)]
            pub const fn page(self) -> Self {
                Self(self.0 & !(PAGE_SIZE - 1))
            }
            /// The offset within its page, 0..4096.
            #[inline(always)]
            pub const fn page_offset(self) -> u64 {
                self.0 & (PAGE_SIZE - 1)
            }
            /// Whether the address is a multiple of `align`, a power of two.
            #[inline(always)]
            pub const fn is_aligned(self, align: u64) -> bool {
                self.0 & align.wrapping_sub(1) == 0
            }
            /// `self + bytes`, or `None` where that wraps.
            #[inline(always)]
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(raw) => Some(Self(raw)),
                    None => None,
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address!(
    /// An intermediate physical address: what a guest takes for a physical one.
    Ipa
);
address!(
    /// A physical address of the machine.
    Pa
);
address!(
    /// A virtual address of a guest, as FAR_EL2 reports it.
    Va
);

/// Tag of a VM's TLB entries (VTTBR_EL2.VMID). 0 is never given to a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vmid(pub u16);

/// Affinity fields of MPIDR_EL1: Aff3 in bits 39:32, Aff2..Aff0 in 23:0; all other bits are clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mpidr(u64);

impl Mpidr {
    /// Keeps the affinity fields of a raw MPIDR_EL1 and drops U, MT and the reserved bits.
    pub const fn new(raw: u64) -> Self {
        Self(raw & 0xff_00ff_ffff)
    }
    /// The affinity value, as PSCI and the device tree use it.
    pub const fn raw(self) -> u64 {
        self.0
    }
    /// The affinities as GICR_TYPER.Affinity_Value has them: Aff3 to Aff0 in 31:0 (IHI 0069 12.11.36).
    pub const fn packed(self) -> u64 {
        self.0 >> 32 << 24 | self.0 & 0xff_ffff
    }
    /// The value of ICC_SGI1R_EL1 that sends SGI `sgi` to the CPU with this affinity alone (IHI 0069 12.2.25).
    pub const fn sgi1r(self, sgi: u32) -> u64 {
        let [aff0, aff1, aff2, _, aff3, ..] = self.0.to_le_bytes();
        (aff3 as u64) << 48
            | (aff0 as u64 >> 4) << 44
            | (aff2 as u64) << 32
            | (sgi as u64 & 15) << 24
            | (aff1 as u64) << 16
            | 1 << (aff0 & 15)
    }
}

/// A half-open range of addresses that does not wrap: `start <= a < start + size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range<A> {
    start: A,
    size: u64,
}

macro_rules! range {
    ($name:ident) => {
        impl Range<$name> {
            /// A range of `size` bytes; `None` where its end wraps beyond 2^64.
            pub const fn new(start: $name, size: u64) -> Option<Self> {
                match start.raw().checked_add(size) {
                    Some(_) => Some(Self { start, size }),
                    None => None,
                }
            }
            /// First address.
            #[inline(always)]
            pub const fn start(&self) -> $name {
                self.start
            }
            /// Length in bytes.
            #[inline(always)]
            pub const fn size(&self) -> u64 {
                self.size
            }
            /// First address after the range (cannot wrap: checked when the range was made).
            #[inline(always)]
            pub const fn end(&self) -> $name {
                $name::new(self.start.raw().wrapping_add(self.size))
            }
            /// Whether `address` lies in the range.
            #[inline(always)]
            pub const fn contains(&self, address: $name) -> bool {
                address.raw().wrapping_sub(self.start.raw()) < self.size
            }
            /// Whether all of `other` lies in the range (an empty `other` does if its start does).
            pub const fn encloses(&self, other: &Self) -> bool {
                other.start.raw() >= self.start.raw() && other.end().raw() <= self.end().raw()
            }
            /// Whether the ranges share an address.
            pub const fn overlaps(&self, other: &Self) -> bool {
                self.size != 0
                    && other.size != 0
                    && self.start.raw() < other.end().raw()
                    && other.start.raw() < self.end().raw()
            }
        }

        impl fmt::Display for Range<$name> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}+{:#x}", self.start.raw(), self.size)
            }
        }
    };
}
range!(Ipa);
range!(Pa);

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;
    use std::format;

    fn range(start: u64, size: u64) -> Range<Ipa> {
        Range::<Ipa>::new(Ipa::new(start), size).unwrap()
    }

    /// Fails to compile where `$from` becomes `$to` by itself: then there are two such functions.
    macro_rules! assert_not_into {
        ($from:ty, $to:ty) => {
            const _: fn() = || {
                trait OneOf<A> {
                    fn exists() {}
                }
                impl<T> OneOf<()> for T {}
                impl<T: Into<$to>> OneOf<u8> for T {}
                let _ = <$from as OneOf<_>>::exists;
            };
        };
    }

    // bug: 28
    #[test]
    fn addresses_of_two_spaces_do_not_become_each_other() {
        assert_not_into!(Ipa, Pa);
        assert_not_into!(Pa, Ipa);
        assert_not_into!(Va, Ipa);
        assert_not_into!(Va, Pa);
        assert_not_into!(u64, Pa);
        assert_not_into!(u64, Ipa);
        assert_ne!(std::any::TypeId::of::<Ipa>(), std::any::TypeId::of::<Pa>());
    }

    #[test]
    fn page_and_offset_make_the_address() {
        let a = Ipa::new(0x1234_5678_9abc);
        assert_eq!(a.page().raw(), 0x1234_5678_9000);
        assert_eq!(a.page_offset(), 0xabc);
        assert_eq!(Ipa::new(u64::MAX).page().raw(), u64::MAX - 0xfff);
    }

    #[test]
    fn alignment_is_to_the_power_of_two_given() {
        assert!(Pa::new(0x20_0000).is_aligned(0x20_0000));
        assert!(!Pa::new(0x10_0000).is_aligned(0x20_0000));
        assert!(Pa::new(0x1001).is_aligned(1));
    }

    // bug: 29 63
    #[test]
    fn addition_that_wraps_is_refused() {
        assert_eq!(Va::new(1).checked_add(2), Some(Va::new(3)));
        assert_eq!(Va::new(u64::MAX).checked_add(1), None);
        assert_eq!(Va::new(u64::MAX).checked_add(0), Some(Va::new(u64::MAX)));
    }

    #[test]
    fn mpidr_keeps_the_affinities_alone() {
        assert_eq!(Mpidr::new(u64::MAX).raw(), 0xff_00ff_ffff);
        assert_eq!(Mpidr::new(0x8100_0203), Mpidr::new(0x0203));
    }

    #[test]
    fn the_gic_has_affinities_in_its_own_places() {
        let mpidr = Mpidr::new(0x81_8433_2257);
        assert_eq!(mpidr.packed(), 0x8133_2257);
        // Aff3 in 55:48, RS in 47:44, Aff2 in 39:32, INTID in 27:24, Aff1 in 23:16, a target list in 15:0.
        assert_eq!(mpidr.sgi1r(9), 0x0081_5033_0922_0080);
        assert_eq!(Mpidr::new(0).sgi1r(0x10), 1, "an SGI has four bits");
    }

    #[test]
    fn a_range_may_reach_but_not_pass_the_end() {
        assert!(Range::<Ipa>::new(Ipa::new(u64::MAX), 1).is_none());
        assert!(Range::<Ipa>::new(Ipa::new(u64::MAX), 0).is_some());
        assert!(Range::<Pa>::new(Pa::new(1), u64::MAX).is_none());
        assert!(Range::<Pa>::new(Pa::new(0), u64::MAX).is_some());
    }

    #[test]
    fn a_range_contains_its_start_and_not_its_end() {
        let r = range(0x1000, 0x1000);
        for (a, inside) in [(0xfff, false), (0x1000, true), (0x1fff, true), (0x2000, false)] {
            assert_eq!(r.contains(Ipa::new(a)), inside, "{a:#x}");
        }
        assert!(!range(0x1000, 0).contains(Ipa::new(0x1000)));
    }

    // bug: 80
    #[test]
    fn overlap_sees_each_way_two_ranges_can_lie() {
        let r = range(0x2000, 0x2000);
        for (start, size, overlaps) in [
            (0x1000, 0x1000, false), // adjacent below
            (0x4000, 0x1000, false), // adjacent above
            (0x1000, 0x1001, true),  // reaches in from below
            (0x3fff, 0x1000, true),  // reaches in from above
            (0x2800, 0x100, true),   // inside
            (0x1000, 0x8000, true),  // encloses
            (0x2000, 0x2000, true),  // equal
            (0x2800, 0, false),      // empty
        ] {
            let other = range(start, size);
            assert_eq!(r.overlaps(&other), overlaps, "{other}");
            assert_eq!(other.overlaps(&r), overlaps, "{other} the other way");
        }
    }

    #[test]
    fn enclosing_is_of_the_whole() {
        let r = range(0x2000, 0x2000);
        assert!(r.encloses(&range(0x2000, 0x2000)));
        assert!(r.encloses(&range(0x4000, 0)));
        assert!(!r.encloses(&range(0x2000, 0x2001)));
        assert!(!r.encloses(&range(0x1fff, 0x10)));
        assert!(!r.encloses(&range(0x4001, 0)));
    }

    #[test]
    fn text_shows_hexadecimal() {
        assert_eq!(format!("{}", range(0x4000_0000, 0x20_0000)), "0x40000000+0x200000");
        assert_eq!(format!("{:?}", Pa::new(0x10)), "Pa(0x10)");
        assert_eq!(format!("{}", Va::new(0xfff0)), "0xfff0");
    }
}
