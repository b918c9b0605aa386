// SPDX-License-Identifier: MIT OR Apache-2.0
//! Size and shape of a virtual GIC.

use arch::MAX_VCPUS;

/// Software-generated interrupts: INTIDs 0..=15.
pub const SGIS: u32 = 16;
/// SGIs and PPIs, of which each vCPU has its own: INTIDs 0..=31.
pub const PRIVATE: u32 = 32;
/// The largest number of shared peripheral interrupts (INTIDs from 32).
pub const MAX_SPIS: usize = 256;
/// The largest number of list registers a CPU can have (ICH_VTR_EL2.ListRegs + 1).
pub const MAX_LIST_REGISTERS: usize = 16;
/// Bits of a priority that guests can set, as KVM and every GIC-400 have it: 32 levels.
pub const PRIORITY_MASK: u8 = 0xf8;

/// No vCPU: the target of an SPI without one, the holder of an SPI in no list register.
pub(crate) const NO_VCPU: u8 = u8::MAX;

/// Which architecture version the guest sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// GICv2: distributor here; the guest's CPU interface is the hardware's GICV.
    V2,
    /// GICv3 with affinity routing, one security state, no LPIs.
    V3,
}

/// Which frame of registers an access goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// GICD: 64 KiB (GICv3) or 4 KiB (GICv2).
    Dist,
    /// GICR of one vCPU (GICv3): RD_base, then SGI_base at 0x10000; 128 KiB. The vCPU that owns
    /// the frame, which need not be the one that accesses it.
    Redist(usize),
}

/// Size and shape of a virtual GIC. [`Config::new`] brings values into their range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    version: Version,
    vcpus: u8,
    list_registers: u8,
    spi_banks: u8,
    /// A bit for each vCPU that ICC_SGI1R_EL1 reaches: none under GICv2.
    sgi1r_reaches: u8,
}

impl Config {
    /// A GIC for `vcpus` (1..=8) vCPUs and at least `spis` (rounded up to a multiple of 32, at most 256) shared interrupts,
    /// on CPUs with `list_registers` (1..=16, ICH_VTR_EL2.ListRegs + 1) list registers.
    pub const fn new(version: Version, vcpus: usize, list_registers: usize, spis: usize) -> Self {
        const fn within(value: usize, low: usize, high: usize) -> u8 {
            (if value < low {
                low
            } else if value > high {
                high
            } else {
                value
            }) as u8
        }
        let config = Self {
            version,
            vcpus: within(vcpus, 1, MAX_VCPUS),
            list_registers: within(list_registers, 1, MAX_LIST_REGISTERS),
            spi_banks: within(spis.div_ceil(32), 0, MAX_SPIS / 32),
            sgi1r_reaches: 0,
        };
        match version {
            Version::V2 => config,
            Version::V3 => Self { sgi1r_reaches: config.all_vcpus(), ..config },
        }
    }

    /// Which architecture version the guest sees.
    #[inline]
    pub const fn version(&self) -> Version {
        self.version
    }
    /// Number of vCPUs, 1..=8.
    #[inline]
    pub const fn vcpus(&self) -> usize {
        self.vcpus as usize
    }
    /// Number of list registers, 1..=16.
    #[inline]
    pub const fn list_registers(&self) -> usize {
        self.list_registers as usize
    }
    /// Number of shared interrupts, a multiple of 32, at most 256.
    #[inline]
    pub const fn spis(&self) -> usize {
        (self.spi_banks as usize) << 5
    }
    /// Number of groups of 32 shared interrupts.
    #[inline]
    pub(crate) const fn spi_banks(&self) -> usize {
        self.spi_banks as usize
    }
    /// A bit for each vCPU.
    #[inline]
    pub(crate) const fn all_vcpus(&self) -> u8 {
        0xff_u8.wrapping_shr(8u32.wrapping_sub(self.vcpus as u32))
    }
    /// A bit for each vCPU that ICC_SGI1R_EL1 reaches: none under GICv2.
    #[inline(always)]
    pub(crate) const fn sgi1r_reaches(&self) -> u8 {
        self.sgi1r_reaches
    }
    /// A bit for each list register.
    #[inline]
    pub(crate) const fn all_slots(&self) -> u16 {
        0xffff_u16.wrapping_shr(16u32.wrapping_sub(self.list_registers as u32))
    }

    /// IGROUPR out of reset. GICv3: group 1, as KVM has it: guests that never write it expect IRQs, not FIQs.
    pub(crate) const fn reset_group(&self) -> u32 {
        match self.version {
            Version::V2 => 0,
            Version::V3 => u32::MAX,
        }
    }
    /// Route and target vCPU of every SPI out of reset. GICv3: affinity 0. GICv2: none, but with one vCPU that one, as
    /// a uniprocessor need not write ITARGETSR.
    pub(crate) const fn reset_route(&self) -> (u32, u8) {
        match self.version {
            Version::V2 if self.vcpus == 1 => (1, 0),
            Version::V2 => (0, NO_VCPU),
            Version::V3 => (0, 0),
        }
    }

    /// Affinity of a vCPU, packed Aff3.Aff2.Aff1.Aff0 as in GICR_TYPER\[63:32\]: its index, as its MPIDR_EL1 and
    /// the guest's device tree have it.
    #[inline]
    pub const fn affinity(vcpu: usize) -> u32 {
        vcpu as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_brought_into_range() {
        let sizes = |vcpus, lrs, spis| {
            let config = Config::new(Version::V3, vcpus, lrs, spis);
            (config.vcpus(), config.list_registers(), config.spis())
        };
        assert_eq!(sizes(0, 0, 0), (1, 1, 0));
        assert_eq!(sizes(1, 1, 1), (1, 1, 32));
        assert_eq!(sizes(4, 4, 64), (4, 4, 64));
        assert_eq!(sizes(8, 16, 256), (8, 16, 256));
        assert_eq!(sizes(9, 17, 257), (8, 16, 256));
        assert_eq!(sizes(usize::MAX, usize::MAX, usize::MAX), (8, 16, 256));
    }

    #[test]
    fn masks_have_a_bit_for_each() {
        for n in 1..=8 {
            let config = Config::new(Version::V2, n, n, 32);
            assert_eq!(usize::from(config.all_vcpus()), (1 << n) - 1);
            assert_eq!(usize::from(config.all_slots()), (1 << n) - 1);
            assert_eq!(config.sgi1r_reaches(), 0);
            let config = Config::new(Version::V3, n, n, 32);
            assert_eq!(config.sgi1r_reaches(), config.all_vcpus());
        }
        assert_eq!(Config::new(Version::V2, 1, 16, 32).all_slots(), 0xffff);
    }

    #[test]
    fn affinities_are_what_one_sgi_target_list_reaches() {
        for vcpu in 0..MAX_VCPUS {
            assert_eq!(Config::affinity(vcpu) as usize, vcpu);
            assert!(Config::affinity(vcpu) < 16);
        }
    }
}
