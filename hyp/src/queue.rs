// SPDX-License-Identifier: MIT OR Apache-2.0
//! The vCPUs of one CPU. Which vCPU belongs to which CPU is decided once, at boot.

use core::cell::Cell;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use platform::{MAX_VMS, VCPUS_PER_CPU};
use vm::Residents;

use crate::vcpu::VcpuContext;

/// The vCPUs of a CPU, taken in turn. Filled by the boot CPU before any CPU looks for work; used by its CPU alone then.
pub struct Queue {
    vcpus: [AtomicPtr<VcpuContext>; VCPUS_PER_CPU],
    length: AtomicUsize,
    /// Place of the vCPU that ran last.
    last: Cell<usize>,
    /// CNTPCT_EL0 at which the running vCPU has had its share, if others wait for the CPU.
    pub slice_end: Cell<u64>,
    /// An interrupt has said that there may be something new: a kick, a deadline.
    stirred: Cell<bool>,
    /// Whose translations may be here.
    residents: Residents<MAX_VMS>,
}

impl Queue {
    /// All zero: the image keeps it in .bss.
    pub const fn new() -> Self {
        Self {
            vcpus: [const { AtomicPtr::new(core::ptr::null_mut()) }; VCPUS_PER_CPU],
            length: AtomicUsize::new(0),
            last: Cell::new(0),
            slice_end: Cell::new(0),
            stirred: Cell::new(false),
            residents: Residents::new(),
        }
    }

    /// Adds a vCPU; `false` where there is no room.
    pub fn add(&self, vcpu: *mut VcpuContext) -> bool {
        let place = self.length.load(Ordering::Relaxed);
        let Some(slot) = self.vcpus.get(place) else { return false };
        slot.store(vcpu, Ordering::Relaxed);
        self.length.store(place + 1, Ordering::Release);
        true
    }

    /// Whether vCPUs share this CPU, so that it needs a tick and WFI is a reason to switch.
    #[inline(always)]
    pub fn shared(&self) -> bool {
        self.length.load(Ordering::Relaxed) > 1
    }

    /// All vCPUs, beginning behind the one that ran last.
    #[inline(always)]
    pub fn in_turn(&self) -> Turn<'_> {
        let length = self.length.load(Ordering::Acquire);
        Turn { queue: self, length, left: length, place: self.last.get() }
    }

    /// The vCPU at `place` runs now.
    #[inline(always)]
    pub fn chose(&self, place: usize) {
        self.last.set(place);
    }

    /// There may be something new.
    pub fn stir(&self) {
        self.stirred.set(true);
    }

    /// Whether there may be something new, once.
    #[inline(always)]
    pub fn take_stirred(&self) -> bool {
        self.stirred.replace(false)
    }

    /// Says that vCPU `index` of VM `vm` runs here now, with or without a `fresh` life: [`Residents::enter`].
    #[inline(always)]
    pub fn take_residence(&self, vm: usize, index: usize, fresh: bool) -> bool {
        self.residents.enter(vm, index, fresh)
    }
}

/// A walk through the vCPUs of a [`Queue`].
pub struct Turn<'a> {
    queue: &'a Queue,
    length: usize,
    left: usize,
    place: usize,
}

impl Turn<'_> {
    /// The next one, and its place. No iterator: switches between vCPUs come here, and this is to be inlined.
    #[inline(always)]
    pub fn next(&mut self) -> Option<(usize, *mut VcpuContext)> {
        if self.left == 0 {
            return None;
        }
        self.left = self.left.wrapping_sub(1);
        // Places are below the length.
        let place = self.place.wrapping_add(1);
        self.place = if place < self.length { place } else { 0 };
        let vcpu = self.queue.vcpus.get(self.place)?.load(Ordering::Relaxed);
        Some((self.place, vcpu))
    }
}
