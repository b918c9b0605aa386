// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can go wrong, typed.

use crate::{Call, Dialect, UnknownName, abi};
use core::fmt;

/// What the host put in x0 instead of 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// -1: unknown, or, in the series dialect, any failure.
    NotSupported,
    /// -2: there was nothing to do.
    NotRequired,
    /// -3: any failure in the pkvm dialect.
    InvalidParameter,
    /// Anything else, as it stood in x0.
    Other(u64),
}

impl Code {
    /// The meaning of x0 after a call that answers 0 when it succeeded.
    pub(super) const fn check(x0: u64) -> Result<(), Self> {
        Err(match x0 {
            abi::SUCCESS => return Ok(()),
            abi::NOT_SUPPORTED => Self::NotSupported,
            abi::NOT_REQUIRED => Self::NotRequired,
            abi::INVALID_PARAMETER => Self::InvalidParameter,
            other => Self::Other(other),
        })
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSupported => f.write_str("not supported (-1)"),
            Self::NotRequired => f.write_str("not required (-2)"),
            Self::InvalidParameter => f.write_str("invalid parameter (-3)"),
            Self::Other(x0) => write!(f, "unexpected result {x0:#x}"),
        }
    }
}

/// Why a [`Guard`](super::Guard) was not found. No state of the host was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetectError {
    /// PSCI is older than 1.0 or absent, so there is no way to ask for SMCCC; x0 of PSCI_VERSION.
    Psci(u32),
    /// SMCCC is older than 1.1 or absent; w0 of the call that said so.
    Smccc(u32),
    /// The vendor-specific hypervisor service is not KVM's, whose numbers these are; its UID.
    OtherHypervisor([u32; 4]),
    /// The host offers no guard in any dialect; its feature map.
    NoGuard(u32),
    /// Functions 2 to 5 are offered and none above. That is the series dialect, or the beginning of
    /// another host's pkvm table: the caller must know the host and say which.
    Ambiguous(u32),
    /// The feature map cannot be one of the dialect that the caller named.
    OtherDialect {
        /// What the caller named.
        told: Dialect,
        /// The feature map.
        features: u32,
    },
    /// The granule is not 4, 16 or 64 KiB; x0 of INFO or MEMINFO, an error code perhaps.
    Granule(u64),
}

impl fmt::Display for DetectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Psci(x0) => write!(f, "PSCI 1.0 is needed, PSCI_VERSION answered {x0:#x}"),
            Self::Smccc(x0) => write!(f, "SMCCC 1.1 is needed, the host answered {x0:#x}"),
            Self::OtherHypervisor([a, b, c, d]) => {
                write!(f, "unknown hypervisor service {a:08x} {b:08x} {c:08x} {d:08x}")
            }
            Self::NoGuard(map) => write!(f, "no MMIO guard is offered (features {map:#x})"),
            Self::Ambiguous(map) => {
                write!(f, "features {map:#x} fit more than one dialect: name the dialect")
            }
            Self::OtherDialect { told, features } => {
                write!(f, "features {features:#x} are not those of dialect {told}")
            }
            Self::Granule(x0) => write!(f, "unusable protection granule {x0:#x}"),
        }
    }
}

impl core::error::Error for DetectError {}

/// Why a call of a [`Guard`](super::Guard) failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The host does not have this function. No call was made.
    NotOffered(Call),
    /// The address is no multiple of the granule. No call was made.
    Unaligned(u64),
    /// No granules at all, or more than there are from here to the end of the address space. No call
    /// was made.
    BadRange {
        /// Where the range begins.
        ipa: u64,
        /// How many granules it was to have.
        granules: u64,
    },
    /// The host refused. It changed nothing.
    Refused {
        /// What was called.
        call: Call,
        /// For which address; 0 where the call has none.
        ipa: u64,
        /// What it answered.
        code: Code,
    },
    /// A range call succeeded, but claims to have done nothing or more than it was asked to. What is
    /// declared from `ipa` on is unknown.
    BadProgress {
        /// Where the call began.
        ipa: u64,
        /// How many granules it was asked for.
        asked: u64,
        /// How many it claims.
        claimed: u64,
    },
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOffered(call) => write!(f, "the host does not offer {call:?}"),
            Self::Unaligned(ipa) => write!(f, "{ipa:#x} is not aligned to the granule"),
            Self::BadRange { ipa, granules } => {
                write!(f, "no range: {granules} granules from {ipa:#x}")
            }
            Self::Refused { call, ipa, code } => write!(f, "{call:?} of {ipa:#x}: {code}"),
            Self::BadProgress { ipa, asked, claimed } => {
                write!(f, "{claimed} granules done from {ipa:#x}, of {asked} asked for")
            }
        }
    }
}

impl core::error::Error for CallError {}

/// Why a range was not done to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeError {
    /// How many granules from its beginning were done before.
    pub done: u64,
    /// What stopped it.
    pub error: CallError,
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} granules: {}", self.done, self.error)
    }
}

impl core::error::Error for RangeError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Why an [`Ioremap`](super::Ioremap) did not map or unmap. It is as it was before, and so is what the
/// host has declared, [`Self::Undo`] excepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoremapError {
    /// No bytes at all, or the range runs past the end of the address space. No call was made.
    BadRange {
        /// Where the range begins.
        ipa: u64,
        /// How many bytes it was to have.
        bytes: u64,
    },
    /// RAM from this address on is part of the granules of the range. No call was made.
    Ram(u64),
    /// There is no room to remember one more range. No call was made.
    Full,
    /// The range is not mapped: what is unmapped must have been mapped, as one. No call was made.
    NotMapped {
        /// Where the range begins.
        ipa: u64,
        /// How many bytes it has.
        bytes: u64,
    },
    /// The host refused; whatever it had done for this range before was undone.
    Host(CallError),
    /// The host refused, and refused to undo what it had done for this range before.
    Undo {
        /// The first refusal.
        cause: CallError,
        /// The second one.
        undo: CallError,
    },
}

impl fmt::Display for IoremapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRange { ipa, bytes } => write!(f, "no range: {bytes:#x} bytes from {ipa:#x}"),
            Self::Ram(ipa) => write!(f, "{ipa:#x} is RAM"),
            Self::Full => f.write_str("too many ranges are mapped"),
            Self::NotMapped { ipa, bytes } => {
                write!(f, "{bytes:#x} bytes from {ipa:#x} are not mapped")
            }
            Self::Host(error) => error.fmt(f),
            Self::Undo { cause, undo } => write!(f, "{cause}; undoing it failed: {undo}"),
        }
    }
}

impl core::error::Error for IoremapError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Host(error) | Self::Undo { cause: error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Why [`Ioremap::enrol`](super::Ioremap::enrol) failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnrolError {
    /// A region can never be mapped. ENROLL was not called.
    Region {
        /// Which of the early regions.
        index: usize,
        /// Why not.
        error: IoremapError,
    },
    /// ENROLL failed; the guard is as it was.
    Enroll(CallError),
    /// The VM is enrolled, but the host refused this early region: touching it now aborts. The
    /// regions before it are mapped.
    Early {
        /// Which of the early regions.
        index: usize,
        /// Why not.
        error: IoremapError,
    },
}

impl fmt::Display for EnrolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region { index, error } => {
                write!(f, "not enrolled, early region {index}: {error}")
            }
            Self::Enroll(error) => write!(f, "not enrolled: {error}"),
            Self::Early { index, error } => {
                write!(f, "enrolled, but without early region {index}: {error}")
            }
        }
    }
}

impl core::error::Error for EnrolError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Region { error, .. } | Self::Early { error, .. } => Some(error),
            Self::Enroll(error) => Some(error),
        }
    }
}

/// Any error of this crate. `?` makes one of each of the others, so that a guest's start needs one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// No guard was found.
    Detect(DetectError),
    /// One call failed.
    Call(CallError),
    /// A range was not done to its end.
    Range(RangeError),
    /// A range was not mapped or unmapped.
    Ioremap(IoremapError),
    /// The VM is not enrolled, or without its early regions.
    Enrol(EnrolError),
    /// A dialect or a policy has no such name.
    Name(UnknownName),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Detect(error) => error.fmt(f),
            Self::Call(error) => error.fmt(f),
            Self::Range(error) => error.fmt(f),
            Self::Ioremap(error) => error.fmt(f),
            Self::Enrol(error) => error.fmt(f),
            Self::Name(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        // It says what the one inside says: that one's source is the next in the chain.
        match self {
            Self::Detect(error) => error.source(),
            Self::Call(error) => error.source(),
            Self::Range(error) => error.source(),
            Self::Ioremap(error) => error.source(),
            Self::Enrol(error) => error.source(),
            Self::Name(error) => error.source(),
        }
    }
}

/// `From` of the error that a variant holds.
macro_rules! from {
    ($($error:ident as $variant:ident),+) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::$variant(error)
            }
        })+
    };
}
from!(
    DetectError as Detect,
    CallError as Call,
    RangeError as Range,
    IoremapError as Ioremap,
    EnrolError as Enrol,
    UnknownName as Name
);
