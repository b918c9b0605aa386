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
