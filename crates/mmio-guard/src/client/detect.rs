// SPDX-License-Identifier: MIT OR Apache-2.0
//! Is there a guard, and which dialect does it speak?

use super::{DetectError, Hypercall};
use crate::{Dialect, abi};
use core::fmt;
use smccc::{arch::SMCCC_VERSION, psci::PSCI_FEATURES, psci::PSCI_VERSION};

/// A version of a firmware interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// What must be equal.
    pub major: u16,
    /// What may only grow.
    pub minor: u16,
}

impl Version {
    const fn from_raw(raw: u32) -> Self {
        let [minor_low, minor_high, major_low, major_high] = raw.to_le_bytes();
        Self {
            major: u16::from_le_bytes([major_low, major_high]),
            minor: u16::from_le_bytes([minor_low, minor_high]),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The low half of a result: all that an HVC32 call defines.
const fn low([x0, ..]: [u64; 4]) -> u32 {
    x0 as u32
}

/// Whether a 32-bit result is an error: its top bit is set.
const fn is_error(w0: u32) -> bool {
    w0 >> 31 != 0
}

/// Asks, by way of PSCI, for the version of the SMC Calling Convention, and demands 1.1.
///
/// A guest that does not know its host calls this first, as Linux does: vendor calls are only safe to
/// try where SMCCC 1.1 is there. A guest that was written for a host with SMCCC may leave it out.
///
/// # Errors
/// [`DetectError::Psci`] or [`DetectError::Smccc`].
pub fn smccc_version(host: &impl Hypercall) -> Result<Version, DetectError> {
    let psci = low(host.call(PSCI_VERSION, [0; 3]));
    if is_error(psci) || Version::from_raw(psci).major < 1 {
        return Err(DetectError::Psci(psci));
    }
    let feature = low(host.call(PSCI_FEATURES, [SMCCC_VERSION.into(), 0, 0]));
    if is_error(feature) {
        return Err(DetectError::Smccc(feature));
    }
    let smccc = low(host.call(SMCCC_VERSION, [0; 3]));
    let version = Version::from_raw(smccc);
    if is_error(smccc) || version < (Version { major: 1, minor: 1 }) {
        return Err(DetectError::Smccc(smccc));
    }
    Ok(version)
}

/// What the host told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub dialect: Dialect,
    pub features: u32,
    pub granule_shift: u32,
    pub ranges: bool,
}

/// Functions 2 to 5: all of the series dialect, and the beginning of pkvm's.
const SERIES: u32 = 0b11_1100;
/// Functions 6 to 31: the series dialect has none of them.
const ABOVE_SERIES: u32 = !0b11_1111;
/// Function 7 declares a page in the pkvm dialect, and is nothing in the other.
const PKVM_MAP: u32 = abi::feature_bit(7);
/// Function 5 tells the granule in the pkvm dialect.
const PKVM_INFO: u32 = abi::feature_bit(5);
/// Functions 10 and 11 take ranges.
const PKVM_RANGES: u32 = abi::feature_bit(10) | abi::feature_bit(11);

/// Asks for UID, features and granule, none of which changes anything.
pub(super) fn detect(host: &impl Hypercall, told: Option<Dialect>) -> Result<Found, DetectError> {
    let [x0, x1, x2, x3] = host.call(abi::CALL_UID, [0; 3]);
    let uid = [x0 as u32, x1 as u32, x2 as u32, x3 as u32];
    if uid != abi::KVM_UID {
        return Err(DetectError::OtherHypervisor(uid));
    }
    let features = low(host.call(abi::FEATURES, [0; 3]));
    // SMCCC's "not supported" has all bits set, and must not be taken for a map.
    if is_error(features) {
        return Err(DetectError::NoGuard(features));
    }
    let dialect = choose(told, features)?;

    let info = match dialect {
        Dialect::Series => abi::series::INFO,
        Dialect::Pkvm if features & PKVM_INFO != 0 => abi::pkvm::INFO,
        // Linux' part of the table has no INFO; there MEMINFO tells the granule.
        Dialect::Pkvm => abi::pkvm::MEMINFO,
    };
    let [granule, flags, ..] = host.call(info, [0; 3]);
    let granule_shift = match granule {
        0x1000 => 12,
        0x4000 => 14,
        0x1_0000 => 16,
        other => return Err(DetectError::Granule(other)),
    };
    // The flag alone is not enough: there were hosts that set it with another way to pass a range.
    let ranges = dialect == Dialect::Pkvm
        && features & PKVM_RANGES == PKVM_RANGES
        && flags & abi::pkvm::HAS_RANGE != 0;
    Ok(Found { dialect, features, granule_shift, ranges })
}

/// The dialect, from what the caller says and what the feature map allows.
fn choose(told: Option<Dialect>, features: u32) -> Result<Dialect, DetectError> {
    let has_series = features & SERIES == SERIES;
    let has_pkvm = features & PKVM_MAP != 0;
    match told {
        None if has_pkvm => Ok(Dialect::Pkvm),
        None if has_series => Err(DetectError::Ambiguous(features)),
        Some(Dialect::Pkvm) if has_pkvm => Ok(Dialect::Pkvm),
        Some(Dialect::Series) if has_series && features & ABOVE_SERIES == 0 => Ok(Dialect::Series),
        Some(told) if has_series || has_pkvm => Err(DetectError::OtherDialect { told, features }),
        _ => Err(DetectError::NoGuard(features)),
    }
}
