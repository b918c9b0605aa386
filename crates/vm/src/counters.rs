// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a VM's vCPUs have done.

use lock::atomic::{AtomicU64, Ordering};

/// Counters of one vCPU. Only the vCPU itself writes them. They have a cache line of their own, so that
/// counting disturbs no other vCPU.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Counters {
    hypercalls: AtomicU64,
    mmio: AtomicU64,
    refused: AtomicU64,
}

/// Sums of a VM since its last reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// HVC and SMC calls, known or not.
    pub hypercalls: u64,
    /// Data accesses outside memory that trapped and were judged: served, skipped or aborted.
    pub mmio: u64,
    /// Those of them that the guard refused.
    pub refused: u64,
}

/// With one writer a load and a store suffice.
#[inline(always)]
fn count(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

impl Counters {
    #[inline(always)]
    pub(crate) fn hypercall(&self) {
        count(&self.hypercalls);
    }

    #[inline(always)]
    pub(crate) fn mmio(&self) {
        count(&self.mmio);
    }

    #[inline(always)]
    pub(crate) fn refused(&self) {
        count(&self.refused);
    }

    /// Hypercalls, and accesses whatever came of them.
    pub(crate) fn calls_and_accesses(&self) -> (u64, u64) {
        (self.hypercalls.load(Ordering::Relaxed), self.mmio.load(Ordering::Relaxed))
    }

    pub(crate) fn add_to(&self, sum: &mut Counts) {
        sum.hypercalls = sum.hypercalls.wrapping_add(self.hypercalls.load(Ordering::Relaxed));
        sum.mmio = sum.mmio.wrapping_add(self.mmio.load(Ordering::Relaxed));
        sum.refused = sum.refused.wrapping_add(self.refused.load(Ordering::Relaxed));
    }

    /// Only while the vCPU is parked.
    pub(crate) fn clear(&self) {
        self.hypercalls.store(0, Ordering::Relaxed);
        self.mmio.store(0, Ordering::Relaxed);
        self.refused.store(0, Ordering::Relaxed);
    }
}
