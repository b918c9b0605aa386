// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a VM's owner fixes before its first instruction: docs/abi.md, "What the VM's owner fixes".

use crate::PAGE;
use alloc::vec::Vec;

/// When the guard is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Never.
    Off,
    /// From ENROLL to reset.
    Enrol,
    /// Always.
    Enforce,
}

/// Which numbers the calls have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Android's, of which Linux uses a part.
    Pkvm,
    /// The patches of 2021.
    Series,
}

/// Addresses from `start` to before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
}

impl Region {
    /// `size` bytes from `start` on.
    pub const fn new(start: u64, size: u64) -> Self {
        Self { start, end: start + size }
    }

    /// Whether `at` is in it.
    pub const fn contains(&self, at: u64) -> bool {
        self.start <= at && at < self.end
    }

    /// First addresses of its pages.
    pub fn pages(self) -> impl Iterator<Item = u64> {
        (self.start..self.end).step_by(super::PAGE as usize)
    }
}

/// Device pages that stage 2 maps while they are declared or the guard is not active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedMmio {
    /// Where the guest sees them.
    pub at: Region,
    /// Physical address of the first.
    pub pa: u64,
}

/// A bank as the VM's owner describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flash {
    /// Where the guest sees it: a power of two at a multiple of its size.
    pub at: Region,
    /// Physical address of what it holds, aligned alike.
    pub pa: u64,
    /// Every store to it is ignored.
    pub protected: bool,
}

/// What answers behind a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// The interrupt controller: answers every access.
    Gic,
    /// The PL011: an error for 64-bit and unaligned accesses.
    Uart,
    /// The test device: an error from 0x400 to 0x7ff.
    Test,
    /// The firmware configuration device, and virtio-mmio transports without a device: answer every access.
    Quiet,
}

/// A device of the VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its registers.
    pub at: Region,
    /// What it is.
    pub kind: DeviceKind,
}

impl Device {
    /// Whether it answers an access of `bytes` at `ipa` with an error (docs/vm.md, devices).
    pub fn refuses(&self, ipa: u64, bytes: u64) -> bool {
        let offset = ipa - self.at.start;
        match self.kind {
            DeviceKind::Gic | DeviceKind::Quiet => false,
            DeviceKind::Uart => bytes == 8 || !offset.is_multiple_of(4),
            DeviceKind::Test => (0x400..0x800).contains(&offset),
        }
    }
}

/// What of its RAM a served VM may share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Any page, by its own calls.
    Own,
    /// Only pages of this region. With `auto` all of it is shared before its first instruction.
    Pool {
        /// The pool.
        at: Region,
        /// EL2 shares it.
        auto: bool,
    },
    /// All of it is shared, for good.
    All,
}

/// What the owner of a served VM fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Accesses to these pages go to the server.
    pub forwards: Vec<Region>,
    /// The virtio transports, a page each.
    pub transports: Region,
    /// What it may share.
    pub share: Sharing,
    /// How long an access waits, in ticks of the machine's clock; 0: for ever.
    pub timeout: u64,
    /// The same in milliseconds.
    pub timeout_ms: u64,
    /// Accesses are aborted when the server leaves; otherwise they wait for the next one.
    pub aborts_on_loss: bool,
}

impl Served {
    pub(crate) fn forwards(&self, ipa: u64, bytes: u64) -> bool {
        self.forwards.iter().any(|pages| pages.contains(ipa) && ipa + bytes <= pages.end)
    }

    pub(crate) fn transport_count(&self) -> u64 {
        (self.transports.end - self.transports.start) / PAGE
    }
}

/// A VM as its owner describes it. All regions are of whole pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The IPA size is 2 to this power.
    pub ipa_bits: u32,
    /// When the guard is active.
    pub policy: Policy,
    /// Which numbers its calls have.
    pub dialect: Dialect,
    /// RAM.
    pub ram: Region,
    /// Read-only memory.
    pub roms: Vec<Region>,
    /// What may be declared; empty: all that is no memory.
    pub allow: Vec<Region>,
    /// Declared on the guest's behalf.
    pub preset: Vec<Region>,
    /// Pages reached without a trap.
    pub mapped_mmio: Vec<MappedMmio>,
    /// Banks of flash.
    pub flash: Vec<Flash>,
    /// What else answers where.
    pub devices: Vec<Device>,
    /// The VM that serves it, if one does.
    pub served: Option<Served>,
    /// It may serve others: the numbers of those that it serves.
    pub peers: Option<Vec<usize>>,
    /// Where it reaches what those share: whole GiB, in which every page is memory of another VM or of none.
    pub windows: Vec<Region>,
    /// Number of vCPUs.
    pub vcpus: usize,
    /// Whether the machine has entropy.
    pub trng: bool,
    /// What ARCH_FEATURES says of SMCCC_ARCH_WORKAROUND_1, 2 and 3. The second is never 0.
    pub workarounds: [i64; 3],
}

impl Config {
    /// First address behind the IPA space.
    pub const fn limit(&self) -> u64 {
        1 << self.ipa_bits
    }

    /// RAM.
    pub fn is_ram(&self, ipa: u64) -> bool {
        self.ram.contains(ipa)
    }

    /// Read-only memory.
    pub fn is_rom(&self, ipa: u64) -> bool {
        self.roms.iter().any(|rom| rom.contains(ipa))
    }

    /// RAM or rom.
    pub fn is_memory(&self, ipa: u64) -> bool {
        self.is_ram(ipa) || self.is_rom(ipa)
    }

    /// Whether `ipa` is in the window of a VM that it serves.
    pub fn is_window(&self, ipa: u64) -> bool {
        self.windows.iter().any(|window| window.contains(ipa))
    }

    /// The device pages reached without a trap that hold `ipa`.
    pub fn mapped_mmio_at(&self, ipa: u64) -> Option<&MappedMmio> {
        self.mapped_mmio.iter().find(|mapped_mmio| mapped_mmio.at.contains(ipa))
    }

    /// End of what may be declared from `ipa` on; `None` where `ipa` may not be.
    pub fn allowed_until(&self, ipa: u64) -> Option<u64> {
        if self.allow.is_empty() {
            return Some(u64::MAX);
        }
        self.allow.iter().find(|range| range.contains(ipa)).map(|range| range.end)
    }

    /// The device at `ipa`.
    pub fn device_at(&self, ipa: u64) -> Option<&Device> {
        self.devices.iter().find(|device| device.at.contains(ipa))
    }
}
