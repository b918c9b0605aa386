// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a device VM sees of a peer: its control page, which EL2 alone writes, and its window.

use core::sync::atomic::{AtomicU64, Ordering};

use mmio_guard::abi::device::{control, map};

use crate::mmu::View;

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// The control page of a peer.
#[derive(Clone, Copy)]
pub struct ControlPage(u64);

/// A forwarded access, as its slot tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Its number.
    pub seq: u64,
    /// The address in the peer's address space.
    pub ipa: u64,
    /// What a store wrote.
    pub value: u64,
    /// Size, direction and vCPU.
    pub kind: u32,
}

impl Access {
    /// No access.
    pub const NONE: Self = Self { seq: 0, ipa: 0, value: 0, kind: 0 };

    /// Bytes.
    pub const fn size(&self) -> u64 {
        self.kind as u64 & 0xff
    }

    /// Whether it stores.
    pub const fn stores(&self) -> bool {
        self.kind >> 8 & 0xff == 1
    }

    /// The vCPU.
    pub const fn vcpu(&self) -> u64 {
        self.kind as u64 >> 16 & 0xff
    }
}

impl ControlPage {
    /// That of peer number `peer`.
    pub const fn of(peer: u64) -> Self {
        Self(View::Normal.of(map::CONTROL + peer * PAGE))
    }

    /// Where `offset` is, in the stub's own translation.
    pub const fn address(self, offset: u64) -> u64 {
        self.0 + offset % PAGE
    }

    /// The word at `offset`.
    pub fn word(self, offset: u64) -> u32 {
        // SAFETY: a page that EL2 has put there, aligned, within the page.
        unsafe { (self.address(offset) as *const u32).read_volatile() }
    }

    /// The 64 bits at `offset`; what EL2 wrote before them can be read afterwards.
    pub fn double(self, offset: u64) -> u64 {
        let at = self.address(offset) as *mut u64;
        // SAFETY: as above; nothing but loads is done through it.
        unsafe { AtomicU64::from_ptr(at) }.load(Ordering::Acquire)
    }

    /// The number of the last access of a vCPU.
    pub fn seq(self, vcpu: usize) -> u64 {
        self.double(control::slot(vcpu) + control::SLOT_SEQ)
    }

    /// The last access of a vCPU.
    pub fn access(self, vcpu: usize) -> Access {
        let slot = control::slot(vcpu);
        Access {
            seq: self.seq(vcpu),
            ipa: self.double(slot + control::SLOT_IPA),
            value: self.double(slot + control::SLOT_VALUE),
            kind: self.word(slot + control::SLOT_KIND),
        }
    }

    /// The peer's RAM: its beginning, and its size.
    pub fn ram(self) -> (u64, u64) {
        (self.double(control::RAM_BASE), self.double(control::RAM_SIZE))
    }

    /// Where this VM finds `ipa` of the peer's RAM: an address in the stub's own translation.
    pub fn window(self, ipa: u64) -> u64 {
        let offset = ipa.wrapping_sub(self.double(control::RAM_BASE));
        View::Normal.of(self.double(control::WINDOW) + offset)
    }

    /// The word at `ipa` of the peer's RAM, through the window.
    pub fn read_peer(self, ipa: u64) -> u64 {
        // SAFETY: the window is mapped from the first to the last byte of the peer's RAM, whatever the peer does.
        unsafe { (self.window(ipa) as *const u64).read_volatile() }
    }

    /// Stores a word there.
    pub fn write_peer(self, ipa: u64, value: u64) {
        // SAFETY: as above, and nothing of this program is there.
        unsafe { (self.window(ipa) as *mut u64).write_volatile(value) };
    }
}
