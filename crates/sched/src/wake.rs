// SPDX-License-Identifier: MIT OR Apache-2.0
//! What other CPUs tell a CPU about its vCPUs.
//!
//! A sender changes a vCPU's state, then sets the vCPU's bit, and sends a kick (an SGI to the CPU) only if the bit was
//! clear and the CPU listens for it. The CPU publishes what it listens for, then looks at the bits. One of the two sees the
//! other: both sides write first and read then, sequentially consistent.

use lock::atomic::{AtomicU64, Ordering};

/// Why a vCPU is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// An interrupt may be deliverable. No reason to disturb a CPU while the vCPU is off.
    Interrupt = 0,
    /// It has been turned on, or its VM is stopping.
    Power = 32,
}

/// The vCPUs that `bits` of [`Wake`] name, for either reason.
#[inline(always)]
pub const fn vcpus_of(bits: u64) -> u32 {
    (bits | bits >> 32) as u32
}

/// The wake word of a CPU: bits of vCPUs ([`Reason::Interrupt`]) and the same again 32 higher ([`Reason::Power`]).
#[derive(Debug)]
pub struct Wake {
    bits: AtomicU64,
    /// Bits that are worth a kick.
    heed: AtomicU64,
}

impl Wake {
    /// No bit, and none is worth a kick.
    pub const fn new() -> Self {
        Self { bits: AtomicU64::new(0), heed: AtomicU64::new(0) }
    }

    /// Says that `vcpu` (its bit) is to be looked at; `true` if its CPU must be kicked for that. The state that the CPU is
    /// to see has been changed before.
    #[inline(always)]
    #[must_use]
    pub fn signal(&self, vcpu: u32, reason: Reason) -> bool {
        let bit = u64::from(vcpu) << reason as u8;
        let before = self.bits.fetch_or(bit, Ordering::SeqCst);
        before & bit == 0 && self.heed.load(Ordering::SeqCst) & bit != 0
    }

    /// Takes the bits, which the CPU then acts on.
    #[inline(always)]
    pub fn take(&self) -> u64 {
        self.bits.swap(0, Ordering::SeqCst)
    }

    /// Whether there are bits.
    #[inline(always)]
    pub fn any(&self) -> bool {
        self.bits.load(Ordering::SeqCst) != 0
    }

    /// Publishes which bits are worth a kick. `true` if one of them is set already: the CPU must look again, as its sender has
    /// sent no kick perhaps.
    #[inline(always)]
    #[must_use]
    pub fn listen(&self, heed: u64) -> bool {
        self.heed.store(heed, Ordering::SeqCst);
        self.bits.load(Ordering::SeqCst) & heed != 0
    }
}

impl Default for Wake {
    fn default() -> Self {
        Self::new()
    }
}
