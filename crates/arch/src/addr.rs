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
            /// Whether all of `other` lies in the range (an empty `other` does where it stands).
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
