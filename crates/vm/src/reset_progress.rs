// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far a VM's reset is. What it does is in `reset`.

use lock::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// What a reset does, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The guard's state.
    Guard,
    /// Stage 2: annotations and the leaves of devices go.
    Tables,
    /// Shared pages.
    Shares,
    /// Devices and counters.
    Devices,
    /// The interrupt controller: each vCPU's private interrupts, then the shared ones.
    Interrupts,
    /// Declarations of `vm.preset`.
    Presets,
    /// Leaves of mapped MMIO.
    Mapped,
    /// Leaves of flash.
    Flash,
}

const ORDER: [Stage; 8] = [
    Stage::Guard,
    Stage::Tables,
    Stage::Shares,
    Stage::Devices,
    Stage::Interrupts,
    Stage::Presets,
    Stage::Mapped,
    Stage::Flash,
];

/// How far it is. One CPU at a time resets a VM: the atomics only carry the values from one CPU to the next.
#[derive(Debug)]
pub(crate) struct ResetProgress {
    stage: AtomicU8,
    item: AtomicU64,
    at: AtomicU64,
}

impl ResetProgress {
    pub(crate) const fn new() -> Self {
        Self { stage: AtomicU8::new(0), item: AtomicU64::new(0), at: AtomicU64::new(0) }
    }

    /// The stage that goes on.
    pub(crate) fn stage(&self) -> Stage {
        ORDER.get(usize::from(self.stage.load(Relaxed))).copied().unwrap_or(Stage::Guard)
    }

    /// Where in the stage: the number of an item, and how far that one is. Both begin with 0.
    pub(crate) fn place(&self) -> (u64, u64) {
        (self.item.load(Relaxed), self.at.load(Relaxed))
    }

    /// Sets the place.
    pub(crate) fn set_place(&self, item: u64, at: u64) {
        self.item.store(item, Relaxed);
        self.at.store(at, Relaxed);
    }

    /// The stage is done. Returns whether it was the last one; the next reset begins with the first then.
    pub(crate) fn advance(&self) -> bool {
        let next = self.stage.load(Relaxed).wrapping_add(1);
        let last = usize::from(next) >= ORDER.len();
        self.stage.store(if last { 0 } else { next }, Relaxed);
        self.set_place(0, 0);
        last
    }

    /// The next reset begins with the first stage.
    pub(crate) fn abandon(&self) {
        self.stage.store(0, Relaxed);
        self.set_place(0, 0);
    }
}
