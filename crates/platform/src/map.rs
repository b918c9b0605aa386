// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory map that a VM sees: that of QEMU's virt machine, as far as there are devices.

use crate::words::MAX_VCPUS;
use alloc::vec::Vec;
use arch::{Ipa, PAGE_SIZE, Range};
use core::fmt;

/// Start of a VM's RAM.
pub const RAM_BASE: u64 = 0x4000_0000;
/// Distance of a kernel image from the start of RAM, its text_offset not counted.
pub const IMAGE_OFFSET: u64 = 0x20_0000;
/// Room for a VM's device tree.
pub const TREE_SPACE: u64 = 0x1_0000;
/// GIC distributor.
pub const GICD_BASE: u64 = 0x0800_0000;
/// Size of the distributor's window.
pub const GICD_SIZE: u64 = 0x1_0000;
/// GICv2 CPU interface.
pub const GICC_BASE: u64 = 0x0801_0000;
/// Size of the CPU interface's window.
pub const GICC_SIZE: u64 = 0x1_0000;
/// GICv3 redistributors, one after the other.
pub const GICR_BASE: u64 = 0x080a_0000;
/// Size of one redistributor: two frames of 64 KiB.
pub const GICR_SIZE: u64 = 0x2_0000;
/// The console.
pub const UART_BASE: u64 = 0x0900_0000;
/// Size of the console's window.
pub const UART_SIZE: u64 = 0x1000;
/// SPI of the console: INTID 33.
pub const UART_SPI: u32 = 1;
/// Size of the test device's window.
pub const TEST_DEVICE_SIZE: u64 = PAGE_SIZE;

/// What no ROM and no test device may overlap, whatever the GIC's version and the number of vCPUs.
pub(crate) fn device_windows() -> impl Iterator<Item = (&'static str, Range<Ipa>)> {
    let window = |(name, start, size)| Some((name, Range::<Ipa>::new(Ipa::new(start), size)?));
    [("the GIC", GICD_BASE, UART_BASE - GICD_BASE), ("the PL011", UART_BASE, UART_SIZE)]
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

/// What stands in a part of a VM's address space.
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
        }
    }

    /// Whether it is memory, not a device.
    #[must_use]
    pub const fn is_memory(self) -> bool {
        matches!(self, Self::Ram | Self::Rom)
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
    /// What stands there.
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
    /// The map of a VM with this RAM, these ROMs, vCPUs and test device.
    pub(crate) fn new(
        gic: GicVersion,
        vcpus: usize,
        ram: Range<Ipa>,
        roms: &[Range<Ipa>],
        test_device: Option<Ipa>,
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
        regions.sort_unstable_by_key(|region| region.range.start());
        Self { regions }
    }

    /// The regions, sorted by address.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// What stands at `ipa`.
    #[must_use]
    pub fn at(&self, ipa: Ipa) -> Option<&Region> {
        let after = self.regions.partition_point(|region| region.range.start() <= ipa);
        let region = self.regions.get(after.checked_sub(1)?)?;
        region.range.contains(ipa).then_some(region)
    }

    /// The name of what stands at `ipa`, for log lines: `pl011`, `gicd`, ...
    #[must_use]
    pub fn describe(&self, ipa: Ipa) -> Option<&'static str> {
        self.at(ipa).map(|region| region.kind.name())
    }
}
