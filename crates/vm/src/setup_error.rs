// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a VM cannot be made.

use arch::{Ipa, Range};
use core::fmt;

/// Why a VM cannot be made so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupError {
    /// Number of vCPUs.
    Vcpus(usize),
    /// A range of this kind is empty, unaligned or beyond the IPA size.
    Range(&'static str, Range<Ipa>),
    /// These two kinds of ranges overlap here.
    Overlap(&'static str, &'static str, Range<Ipa>),
    /// There is no room for a test device here.
    TestDevice(Ipa),
    /// More ranges of this kind than there is room for.
    TooMany(&'static str),
    /// [`crate::Setup::shares`] is too small.
    Shares,
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vcpus(count) => write!(f, "{count} vCPUs: there can be 1 to 8"),
            Self::Range(kind, range) => {
                write!(f, "{kind} {range} is empty, not page-aligned or beyond the VM's IPA size")
            }
            Self::Overlap(one, other, range) => write!(f, "{one} {range} overlaps {other}"),
            Self::TestDevice(ipa) => write!(f, "there is no room for a test device at {ipa}"),
            Self::TooMany(kind) => write!(f, "too many ranges of kind {kind}"),
            Self::Shares => f.write_str("the bitmap of shared pages is too small"),
        }
    }
}

impl core::error::Error for SetupError {}
