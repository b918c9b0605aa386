// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory map that a VM sees: that of QEMU's virt machine, as far as there are devices.

use crate::sort;
use alloc::vec::Vec;
use arch::{Ipa, MAX_VCPUS, PAGE_SIZE, Range, guest_map};
use core::fmt;

/// Start of a VM's RAM.
pub const RAM_BASE: u64 = guest_map::RAM_IPA.raw();
/// RAM comes in pieces of this size.
pub(crate) const RAM_PIECE: u64 = 2 << 20;
/// Distance of a kernel image from the start of RAM, its text_offset not counted.
pub const IMAGE_OFFSET: u64 = 0x20_0000;
/// Room for a VM's device tree.
pub const TREE_SPACE: u64 = 0x1_0000;
/// GIC distributor.
pub const GICD_BASE: u64 = guest_map::GICD_IPA.raw();
/// Size of the distributor's window.
pub const GICD_SIZE: u64 = guest_map::GICD_SIZE;
/// GICv2 CPU interface.
pub const GICC_BASE: u64 = guest_map::GICC_IPA.raw();
/// Size of the CPU interface's window.
pub const GICC_SIZE: u64 = guest_map::GICC_SIZE;
/// GICv3 redistributors, one after the other.
pub const GICR_BASE: u64 = guest_map::GICR_IPA.raw();
/// Size of one redistributor: two frames of 64 KiB.
pub const GICR_SIZE: u64 = guest_map::GICR_SIZE;
/// The console.
pub const UART_BASE: u64 = guest_map::UART_IPA.raw();
/// Size of the console's window.
pub const UART_SIZE: u64 = guest_map::UART_SIZE;
/// SPI of the console.
pub const UART_SPI: u32 = guest_map::UART_INTID - 32;
/// QEMU's firmware configuration device, which firmware has.
pub const FW_CFG_BASE: u64 = guest_map::FW_CFG_IPA.raw();
/// Size of its window: with the 8 bytes of its DMA register, newer EDK2 uses that without asking whether it is there.
pub const FW_CFG_SIZE: u64 = 0x10;
/// Size of the test device's window.
pub const TEST_DEVICE_SIZE: u64 = PAGE_SIZE;

/// What no ROM and no test device may overlap, whatever the GIC's version and the number of vCPUs.
pub(crate) fn device_windows() -> impl Iterator<Item = (&'static str, Range<Ipa>)> {
    let window = |(name, start, size)| Some((name, Range::<Ipa>::new(Ipa::new(start), size)?));
    [("the GIC", GICD_BASE, guest_map::GIC_WINDOW), ("the PL011", UART_BASE, UART_SIZE)]
        .into_iter()
        .filter_map(window)
}

/// Which GIC a VM sees; that of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GicVersion {
    /// GICv2: the CPU interface is GICV, mapped to the guest.
    V2,
    /// GICv3: the CPU interface is in system registers.
    V3,
}

/// What lies in a part of a VM's address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegionKind {
    /// RAM.
    Ram,
    /// Read-only, executable memory.
    Rom,
    /// GIC distributor.
    GicDistributor,
    /// GICv2 CPU interface.
    GicCpuInterface,
    /// GICv3 redistributor of this vCPU.
    GicRedistributor(u8),
    /// PL011.
    Uart,
    /// The device of tests that counts accesses.
    TestDevice,
    /// Flash memory.
    Flash,
    /// A device of the machine.
    Passed,
    /// The firmware configuration device.
    FwCfg,
    /// Virtio-mmio transports that another VM serves.
    Transports,
    /// Pages whose accesses another VM answers.
    Forwarded,
    /// A device VM's control page of a peer.
    ControlPage,
    /// A device VM's register images of a peer.
    RegisterImages,
    /// A device VM's window to the RAM of a peer.
    Window,
}

impl RegionKind {
    /// A short name for log lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ram => "ram",
            Self::Rom => "rom",
            Self::GicDistributor => "gicd",
            Self::GicCpuInterface => "gicc",
            Self::GicRedistributor(_) => "gicr",
            Self::Uart => "pl011",
            Self::TestDevice => "testdev",
            Self::Flash => "flash",
            Self::Passed => "device",
            Self::FwCfg => "fw_cfg",
            Self::Transports => "virtio",
            Self::Forwarded => "forwarded",
            Self::ControlPage => "control",
            Self::RegisterImages => "registers",
            Self::Window => "window",
        }
    }
}

impl fmt::Display for RegionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A part of a VM's address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Region {
    /// What lies there.
    pub kind: RegionKind,
    /// Where.
    pub range: Range<Ipa>,
}

/// A VM's whole memory map: sorted by address, no two regions overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryMap {
    regions: Vec<Region>,
}

impl MemoryMap {
    /// The map of a VM with this RAM, these ROMs, vCPUs, test device and what else there is.
    pub(crate) fn new(
        gic: GicVersion,
        vcpus: usize,
        ram: Range<Ipa>,
        roms: &[Range<Ipa>],
        test_device: Option<Ipa>,
        others: impl Iterator<Item = (RegionKind, Range<Ipa>)>,
    ) -> Self {
        let mut regions = Vec::new();
        let mut add = |kind, start, size| {
            let range = Range::<Ipa>::new(Ipa::new(start), size);
            regions.extend(range.map(|range| Region { kind, range }));
        };
        add(RegionKind::GicDistributor, GICD_BASE, GICD_SIZE);
        match gic {
            GicVersion::V2 => add(RegionKind::GicCpuInterface, GICC_BASE, GICC_SIZE),
            GicVersion::V3 => {
                for vcpu in 0..vcpus.min(MAX_VCPUS) as u8 {
                    let base = GICR_BASE.saturating_add(GICR_SIZE.saturating_mul(vcpu.into()));
                    add(RegionKind::GicRedistributor(vcpu), base, GICR_SIZE);
                }
            }
        }
        add(RegionKind::Uart, UART_BASE, UART_SIZE);
        add(RegionKind::Ram, ram.start().raw(), ram.size());
        for rom in roms {
            add(RegionKind::Rom, rom.start().raw(), rom.size());
        }
        if let Some(start) = test_device {
            add(RegionKind::TestDevice, start.raw(), TEST_DEVICE_SIZE);
        }
        for (kind, range) in others {
            add(kind, range.start().raw(), range.size());
        }
        sort::by_key(&mut regions, |region| region.range.start());
        Self { regions }
    }

    /// The regions, sorted by address.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// What lies at `ipa`.
    #[must_use]
    pub fn at(&self, ipa: Ipa) -> Option<&Region> {
        let after = self.regions.partition_point(|region| region.range.start() <= ipa);
        let region = self.regions.get(after.checked_sub(1)?)?;
        region.range.contains(ipa).then_some(region)
    }

    /// The name of what lies at `ipa`, for log lines: `pl011`, `gicd`, ...
    #[must_use]
    pub fn describe(&self, ipa: Ipa) -> Option<&'static str> {
        self.at(ipa).map(|region| region.kind.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::iter;
    use proptest::prelude::*;

    fn range(start: u64, size: u64) -> Range<Ipa> {
        Range::<Ipa>::new(Ipa::new(start), size).unwrap()
    }

    fn map(gic: GicVersion, vcpus: usize) -> MemoryMap {
        let roms = [range(0x400_0000, 0x4_0000), range(0, 0x1000)];
        MemoryMap::new(
            gic,
            vcpus,
            range(RAM_BASE, 64 << 20),
            &roms,
            Some(Ipa::new(0xa00_0000)),
            iter::empty(),
        )
    }

    #[test]
    fn devices_have_their_names_to_the_last_byte() {
        let v2 = map(GicVersion::V2, 8);
        let v3 = map(GicVersion::V3, 2);
        let both = [
            (0, Some("rom")),
            (0xfff, Some("rom")),
            (0x1000, None),
            (0x403_ffff, Some("rom")),
            (0x404_0000, None),
            (0x7ff_ffff, None),
            (0x800_0000, Some("gicd")),
            (0x800_ffff, Some("gicd")),
            (0x8ff_ffff, None),
            (0x900_0000, Some("pl011")),
            (0x900_0fff, Some("pl011")),
            (0x900_1000, None),
            (0xa00_0000, Some("testdev")),
            (0xa00_1000, None),
            (0x3fff_ffff, None),
            (0x4000_0000, Some("ram")),
            (0x43ff_ffff, Some("ram")),
            (0x4400_0000, None),
            (u64::MAX, None),
        ];
        for (ipa, name) in both {
            assert_eq!(v2.describe(Ipa::new(ipa)), name, "{ipa:#x}");
            assert_eq!(v3.describe(Ipa::new(ipa)), name, "{ipa:#x}");
        }
        assert_eq!(v2.describe(Ipa::new(0x801_0000)), Some("gicc"));
        assert_eq!(v2.describe(Ipa::new(0x80a_0000)), None);
        assert_eq!(v3.describe(Ipa::new(0x801_0000)), None);
        assert_eq!(v3.describe(Ipa::new(0x80d_ffff)), Some("gicr"));
        // As many redistributors as vCPUs.
        assert_eq!(v3.describe(Ipa::new(0x80e_0000)), None);
        let kind = v3.at(Ipa::new(0x80c_0000)).unwrap().kind;
        assert_eq!(kind, RegionKind::GicRedistributor(1));
    }

    #[test]
    fn every_window_is_one_that_nothing_may_overlap() {
        for (gic, vcpus) in [(GicVersion::V2, 8), (GicVersion::V3, 8)] {
            let map =
                MemoryMap::new(gic, vcpus, range(RAM_BASE, 2 << 20), &[], None, iter::empty());
            let devices = map.regions().iter().filter(|region| region.kind != RegionKind::Ram);
            for region in devices {
                let covers = |(_, window): (&str, Range<Ipa>)| window.encloses(&region.range);
                assert!(device_windows().any(covers), "{region:?}");
            }
        }
        assert_eq!(device_windows().count(), 2);
    }

    proptest! {
        #[test]
        fn looking_up_is_searching_all(ipa in prop_oneof![
            0_u64..0x1000_0000,
            0x7ff_0000_u64..0x812_0000,
            0x3fff_0000_u64..0x4500_0000,
        ]) {
            let map = map(GicVersion::V3, 3);
            let ipa = Ipa::new(ipa);
            let all: Vec<_> =
                map.regions().iter().filter(|region| region.range.contains(ipa)).collect();
            prop_assert!(all.len() <= 1);
            prop_assert_eq!(map.at(ipa), all.first().copied());
        }
    }
}
