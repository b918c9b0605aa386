// SPDX-License-Identifier: MIT OR Apache-2.0
//! Size and shape of a stage 2: levels, concatenated roots, VTCR_EL2.

use core::fmt;

/// Shape of a VM's stage-2 tables: 4 KiB granule, 32 to 48 bits of IPA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage2Geometry {
    /// Bits of IPA, 32 to 48.
    pub ipa_bits: u8,
    /// Level of the root: 0 or 1.
    pub start_level: u8,
    /// Concatenated pages of the root: 1, 2, 4, 8 or 16. The root is aligned to its size.
    pub root_pages: u8,
    /// VTCR_EL2.PS: the CPUs' physical address size, 48 bits at most.
    pub physical_size: u8,
}

/// Why a VM cannot have the IPA size that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeometryError {
    /// Not within 32 to 48 bits.
    Unsupported {
        /// What was asked for.
        ipa_bits: u8,
    },
    /// More than the CPUs' physical address size allows.
    BeyondPhysical {
        /// What was asked for.
        ipa_bits: u8,
        /// What the CPUs have.
        pa_bits: u8,
    },
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported { ipa_bits } => {
                write!(f, "an IPA size of {ipa_bits} bits is not within 32 to 48")
            }
            Self::BeyondPhysical { ipa_bits, pa_bits } => {
                write!(f, "an IPA size of {ipa_bits} bits exceeds the CPUs' {pa_bits}")
            }
        }
    }
}

impl core::error::Error for GeometryError {}

/// Bits of physical address that ID_AA64MMFR0_EL1.PARange stands for. Values yet unknown count as
/// the largest that this code knows, since the field only ever grows.
pub const fn physical_bits(pa_range: u8) -> u8 {
    match pa_range {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        5 => 48,
        6 => 52,
        _ => 56,
    }
}

impl Stage2Geometry {
    /// The shape for `ipa_bits` on CPUs whose ID_AA64MMFR0_EL1.PARange is `pa_range`.
    pub const fn new(ipa_bits: u8, pa_range: u8) -> Result<Self, GeometryError> {
        if ipa_bits < 32 || ipa_bits > 48 {
            return Err(GeometryError::Unsupported { ipa_bits });
        }
        let pa_bits = physical_bits(pa_range);
        if ipa_bits > pa_bits {
            return Err(GeometryError::BeyondPhysical { ipa_bits, pa_bits });
        }
        let (start_level, root_pages) = match ipa_bits {
            40 => (1, 2),
            41 => (1, 4),
            42 => (1, 8),
            43 => (1, 16),
            44.. => (0, 1),
            _ => (1, 1),
        };
        let physical_size = if pa_range > 5 { 5 } else { pa_range };
        Ok(Self { ipa_bits, start_level, root_pages, physical_size })
    }

    /// VTCR_EL2: 4 KiB granule, tables in inner shareable write-back memory; `vmid16` selects 16-bit
    /// VMIDs (only where ID_AA64MMFR1_EL1.VMIDBits is 2).
    pub const fn vtcr(&self, vmid16: bool) -> u64 {
        const RES1: u64 = 1 << 31;
        const SH0_INNER: u64 = 0b11 << 12;
        const ORGN0_WRITE_BACK: u64 = 0b01 << 10;
        const IRGN0_WRITE_BACK: u64 = 0b01 << 8;
        let sl0: u64 = if self.start_level == 0 { 2 } else { 1 };
        let t0sz = 64_u64.wrapping_sub(self.ipa_bits as u64);
        RES1 | ((vmid16 as u64) << 19)
            | ((self.physical_size as u64) << 16)
            | SH0_INNER
            | ORGN0_WRITE_BACK
            | IRGN0_WRITE_BACK
            | (sl0 << 6)
            | t0sz
    }

    /// First IPA beyond the VM's: 2^`ipa_bits`.
    #[inline(always)]
    pub const fn ipa_limit(&self) -> u64 {
        1_u64.wrapping_shl(self.ipa_bits as u32)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;
    use std::format;

    /// (IPA bits, level of the root, pages of the root, VTCR_EL2.SL0).
    const SHAPES: [(u8, u8, u8, u64); 17] = [
        (32, 1, 1, 1),
        (33, 1, 1, 1),
        (34, 1, 1, 1),
        (35, 1, 1, 1),
        (36, 1, 1, 1),
        (37, 1, 1, 1),
        (38, 1, 1, 1),
        (39, 1, 1, 1),
        (40, 1, 2, 1),
        (41, 1, 4, 1),
        (42, 1, 8, 1),
        (43, 1, 16, 1),
        (44, 0, 1, 2),
        (45, 0, 1, 2),
        (46, 0, 1, 2),
        (47, 0, 1, 2),
        (48, 0, 1, 2),
    ];
    /// ID_AA64MMFR0_EL1.PARange and its bits.
    const PA_RANGES: [(u8, u8); 8] =
        [(0, 32), (1, 36), (2, 40), (3, 42), (4, 44), (5, 48), (6, 52), (7, 56)];

    // bug: 4
    #[test]
    fn every_size_on_every_cpu_has_its_shape_or_is_refused() {
        for (pa_range, pa_bits) in PA_RANGES {
            for (ipa_bits, start_level, root_pages, _) in SHAPES {
                let got = Stage2Geometry::new(ipa_bits, pa_range);
                if ipa_bits <= pa_bits {
                    let physical_size = pa_range.min(5);
                    assert_eq!(
                        got,
                        Ok(Stage2Geometry { ipa_bits, start_level, root_pages, physical_size })
                    );
                } else {
                    assert_eq!(got, Err(GeometryError::BeyondPhysical { ipa_bits, pa_bits }));
                }
            }
        }
    }

    #[test]
    fn sizes_outside_32_to_48_are_refused_by_name() {
        for ipa_bits in (0..32).chain(49..=255) {
            assert_eq!(
                Stage2Geometry::new(ipa_bits, 6),
                Err(GeometryError::Unsupported { ipa_bits })
            );
        }
    }

    /// What the manual demands of a root (DDI 0487 D8.2.7), tested without the table above.
    // bug: 3 4
    #[test]
    fn the_root_covers_the_ipa_space_exactly_and_legally() {
        for (ipa_bits, ..) in SHAPES {
            let g = Stage2Geometry::new(ipa_bits, 5).unwrap();
            let entry_bits = 12 + 9 * (3 - u32::from(g.start_level));
            let covered = (u64::from(g.root_pages) * 512) << entry_bits;
            assert!(covered >= g.ipa_limit(), "{ipa_bits}: the root is too small");
            assert!(g.root_pages == 1 || covered == g.ipa_limit(), "{ipa_bits}: too large");
            assert!(g.root_pages <= 16 && g.root_pages.is_power_of_two());
            // A root of one entry would have no reason to be.
            assert!(u32::from(ipa_bits) > entry_bits, "{ipa_bits}");
        }
    }

    #[test]
    fn level_0_is_never_used_below_44_bits_of_physical_address() {
        for (pa_range, pa_bits) in PA_RANGES {
            for (ipa_bits, ..) in SHAPES {
                if let Ok(g) = Stage2Geometry::new(ipa_bits, pa_range) {
                    assert!(g.start_level != 0 || pa_bits >= 44, "{ipa_bits} on {pa_bits}");
                }
            }
        }
    }

    #[test]
    fn the_default_vm_has_the_well_known_vtcr() {
        let g = Stage2Geometry::new(40, 2).unwrap();
        assert_eq!((g.start_level, g.root_pages), (1, 2));
        assert_eq!(g.vtcr(false), 0x8002_3558);
        assert_eq!(g.vtcr(true), 0x800a_3558);
    }

    #[test]
    fn vtcr_fields_stand_where_the_register_has_them() {
        for (ipa_bits, _, _, sl0) in SHAPES {
            for (pa_range, pa_bits) in PA_RANGES {
                if ipa_bits > pa_bits {
                    continue;
                }
                let vtcr = Stage2Geometry::new(ipa_bits, pa_range).unwrap().vtcr(false);
                assert_eq!(vtcr & 0x3f, 64 - u64::from(ipa_bits), "T0SZ");
                assert_eq!(vtcr >> 6 & 3, sl0, "SL0 of {ipa_bits}");
                assert_eq!(vtcr >> 8 & 3, 1, "IRGN0: write-back");
                assert_eq!(vtcr >> 10 & 3, 1, "ORGN0: write-back");
                assert_eq!(vtcr >> 12 & 3, 3, "SH0: inner shareable");
                assert_eq!(vtcr >> 14 & 3, 0, "TG0: 4 KiB");
                assert_eq!(vtcr >> 16 & 7, u64::from(pa_range.min(5)), "PS");
                // VS, HA, HD, HWU, NSW, NSA, DS, SL2: clear; bit 31 RES1.
                assert_eq!(vtcr >> 19, 1 << 12, "{vtcr:#x}");
            }
        }
    }

    #[test]
    fn physical_sizes_follow_the_manual_and_unknown_ones_the_largest() {
        for (pa_range, bits) in PA_RANGES {
            assert_eq!(physical_bits(pa_range), bits);
        }
        assert_eq!(physical_bits(15), 56);
    }

    #[test]
    fn the_limit_is_the_first_address_beyond() {
        for (ipa_bits, ..) in SHAPES {
            let g = Stage2Geometry::new(ipa_bits, 5).unwrap();
            assert_eq!(g.ipa_limit(), 1 << ipa_bits);
        }
    }

    #[test]
    fn errors_say_what_is_possible() {
        let text = |e: GeometryError| format!("{e}");
        assert_eq!(
            text(Stage2Geometry::new(49, 6).unwrap_err()),
            "an IPA size of 49 bits is not within 32 to 48"
        );
        assert_eq!(
            text(Stage2Geometry::new(44, 2).unwrap_err()),
            "an IPA size of 44 bits exceeds the CPUs' 40"
        );
    }
}
