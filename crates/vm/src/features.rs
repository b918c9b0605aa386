// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a VM has, as one typed set.

use core::fmt;

/// A set of a VM's features, fixed before its first instruction.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Features(u16);

impl Features {
    /// None.
    pub const NONE: Self = Self(0);
    /// The MMIO guard is offered.
    pub const GUARD: Self = Self(1 << 0);
    /// The guard is active from the first instruction.
    pub const ENFORCED: Self = Self(1 << 1);
    /// The guard's calls have the series' numbers.
    pub const SERIES: Self = Self(1 << 2);
    /// Only an owner's list of pages may be declared.
    pub const ALLOW_LIST: Self = Self(1 << 3);
    /// Pages are declared on the guest's behalf.
    pub const PRESET: Self = Self(1 << 4);
    /// There is read-only memory.
    pub const ROM: Self = Self(1 << 5);
    /// The interrupt controller is a GICv3.
    pub const GICV3: Self = Self(1 << 6);
    /// Some device pages are reached without a trap.
    pub const MAPPED_MMIO: Self = Self(1 << 7);
    /// The machine's entropy is offered.
    pub const TRNG: Self = Self(1 << 8);
    /// There is a test device.
    pub const TEST_DEVICE: Self = Self(1 << 9);

    /// There is flash memory.
    pub const FLASH: Self = Self(1 << 10);

    const NAMES: [(Self, &'static str); 11] = [
        (Self::GUARD, "guard"),
        (Self::ENFORCED, "enforced"),
        (Self::SERIES, "series"),
        (Self::ALLOW_LIST, "allow-list"),
        (Self::PRESET, "preset"),
        (Self::ROM, "rom"),
        (Self::GICV3, "gicv3"),
        (Self::MAPPED_MMIO, "direct"),
        (Self::TRNG, "trng"),
        (Self::TEST_DEVICE, "test-device"),
        (Self::FLASH, "flash"),
    ];

    /// Whether all of `other` is in this set.
    #[inline(always)]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// This set and, if `condition`, `other`.
    #[must_use]
    pub const fn with(self, other: Self, condition: bool) -> Self {
        if condition { Self(self.0 | other.0) } else { self }
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (feature, name) in Self::NAMES {
            if self.has(feature) {
                if !first {
                    f.write_str(" ")?;
                }
                f.write_str(name)?;
                first = false;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Features({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_set_is_told_by_name_in_a_fixed_order() {
        let set = Features::NONE
            .with(Features::TRNG, true)
            .with(Features::GUARD, true)
            .with(Features::ROM, false);
        assert_eq!(set.to_string(), "guard trng");
        assert!(set.has(Features::GUARD) && set.has(Features::TRNG));
        assert!(!set.has(Features::ROM) && !set.has(Features::GUARD.with(Features::ROM, true)));
        assert_eq!(Features::NONE.to_string(), "");
    }

    #[test]
    fn every_feature_has_its_own_bit_and_name() {
        for (i, (a, name)) in Features::NAMES.iter().enumerate() {
            assert_eq!(a.0.count_ones(), 1, "{name}");
            for (b, other) in Features::NAMES.iter().skip(i).skip(1) {
                assert_ne!(a.0, b.0);
                assert_ne!(name, other);
            }
        }
    }
}
