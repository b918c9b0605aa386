// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which table of numbers a VM speaks, and what its guard does.

use crate::abi;
use core::fmt;
use core::str::FromStr;

/// Which table of function numbers a VM is served.
///
/// The same number means different things in the two, so a dialect is never guessed from a guest's calls:
/// the VM's description chooses it, before the first instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Android's numbers in their newest form; Linux 6.12 and later call a part of them.
    #[default]
    Pkvm,
    /// The numbers of the patches of 2021, with the meaning of their second version.
    Series,
}

impl Dialect {
    /// The word for it in a VM's description.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pkvm => "pkvm",
            Self::Series => "series",
        }
    }

    /// The dialect with this name, spelt exactly so.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Pkvm, Self::Series].into_iter().find(|dialect| dialect.name() == name)
    }
}

/// What the guard of a VM does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// There is none: calls are not supported, accesses are never refused.
    Off,
    /// Active once the guest has called ENROLL, until its reset.
    #[default]
    Enrol,
    /// Active from the first instruction and after every reset.
    Enforce,
}

impl Policy {
    /// The word for it in a VM's description.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Enrol => "enrol",
            Self::Enforce => "enforce",
        }
    }

    /// The policy with this name, spelt exactly so.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Off, Self::Enrol, Self::Enforce].into_iter().find(|policy| policy.name() == name)
    }
}

/// A name of no [`Dialect`] or [`Policy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownName {
    expected: &'static str,
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.expected)
    }
}

impl core::error::Error for UnknownName {}

impl FromStr for Dialect {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::parse(name).ok_or(UnknownName { expected: "pkvm or series" })
    }
}

impl FromStr for Policy {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::parse(name).ok_or(UnknownName { expected: "off, enrol or enforce" })
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// w0 of FEATURES for a VM: bit n is set where function n is served. w1 to w3 are 0.
#[must_use]
#[inline]
pub const fn feature_map(dialect: Dialect, policy: Policy) -> u32 {
    match (policy, dialect) {
        (Policy::Off, _) => abi::FEATURES_OFF,
        (_, Dialect::Pkvm) => abi::FEATURES_PKVM,
        (_, Dialect::Series) => abi::FEATURES_SERIES,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]

    use super::*;
    use crate::{Call, call};
    use std::string::ToString;

    const DIALECTS: [Dialect; 2] = [Dialect::Pkvm, Dialect::Series];
    const POLICIES: [Policy; 3] = [Policy::Off, Policy::Enrol, Policy::Enforce];

    #[test]
    fn names_lead_back() {
        for dialect in DIALECTS {
            assert_eq!(Dialect::parse(&dialect.to_string()), Some(dialect));
            assert_eq!(dialect.name().parse(), Ok(dialect));
        }
        for policy in POLICIES {
            assert_eq!(Policy::parse(&policy.to_string()), Some(policy));
            assert_eq!(policy.name().parse(), Ok(policy));
        }
    }

    #[test]
    fn other_names_are_refused() {
        for name in ["", "PKVM", "pkvm ", "kvm", "enroll", "on", "Off"] {
            assert_eq!(Dialect::parse(name), None, "{name:?}");
            assert_eq!(Policy::parse(name), None, "{name:?}");
        }
        assert_eq!(
            Policy::from_str("enroll").unwrap_err().to_string(),
            "expected off, enrol or enforce"
        );
        assert_eq!(Dialect::from_str("x").unwrap_err().to_string(), "expected pkvm or series");
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        assert_eq!(Policy::default(), Policy::Enrol);
        assert_eq!(Dialect::default(), Dialect::Pkvm);
    }

    #[test]
    fn feature_maps_are_the_published_ones() {
        for policy in [Policy::Enrol, Policy::Enforce] {
            assert_eq!(feature_map(Dialect::Pkvm, policy), 0xFFD);
            assert_eq!(feature_map(Dialect::Series, policy), 0x3D);
        }
        for dialect in DIALECTS {
            assert_eq!(feature_map(dialect, Policy::Off), 1);
        }
    }

    #[test]
    fn a_feature_bit_stands_for_a_call_that_is_known() {
        for dialect in DIALECTS {
            let map = feature_map(dialect, Policy::Enforce);
            for function in 2..32_u16 {
                let known = call(dialect, abi::vendor64(function)).is_some();
                assert_eq!(map & abi::feature_bit(function) != 0, known, "{dialect} {function}");
            }
            assert_eq!(call(dialect, abi::FEATURES), Some(Call::Features));
            assert_eq!(map & 0b11, 0b01, "FEATURES is served, PTP is not");
        }
    }
}
