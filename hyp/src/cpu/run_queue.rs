// SPDX-License-Identifier: MIT OR Apache-2.0
//! The vCPUs of one CPU and their scheduler. Which vCPU belongs to which CPU is decided once, at boot.

use core::cell::{Cell, UnsafeCell};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use platform::{MAX_VMS, VCPUS_PER_CPU};
use sched::{CpuTime, DEFAULT_PRIORITY, Scheduler, Wake};
use vm::Residents;

use crate::cpu::timer;
use crate::vcpu::context::VcpuContext;

const _: () = assert!(VCPUS_PER_CPU <= sched::VCPUS && MAX_VMS <= sched::SEATS);

/// The vCPUs of a CPU. Filled by the boot CPU before any CPU looks for work; used by its CPU alone then, but for `wake`.
pub struct Queue {
    vcpus: [AtomicPtr<VcpuContext>; VCPUS_PER_CPU],
    length: AtomicUsize,
    /// What other CPUs say about vCPUs of this one.
    pub wake: Wake,
    scheduler: UnsafeCell<Scheduler>,
    /// CPU time of the vCPU that time is charged to, if there is one.
    charged: Cell<Option<&'static CpuTime>>,
    /// An interrupt has said that there may be something new: a kick, a deadline.
    stirred: Cell<bool>,
    /// Interrupts of passed-through devices wait until their VM may interrupt others (`crate::guest::passthrough`).
    pub holding: Cell<bool>,
    /// Whose translations may be here.
    residents: Residents<MAX_VMS>,
}

impl Queue {
    /// All zero: the image keeps it in .bss.
    pub const fn new() -> Self {
        Self {
            vcpus: [const { AtomicPtr::new(core::ptr::null_mut()) }; VCPUS_PER_CPU],
            length: AtomicUsize::new(0),
            wake: Wake::new(),
            scheduler: UnsafeCell::new(Scheduler::new()),
            charged: Cell::new(None),
            stirred: Cell::new(false),
            holding: Cell::new(false),
            residents: Residents::new(),
        }
    }

    /// Adds a vCPU of VM `vm`, whose vCPUs here share `slice` ticks; returns its number on this CPU, `None` where there is
    /// no room.
    pub fn add(&self, vcpu: *mut VcpuContext, vm: usize, slice: u64) -> Option<usize> {
        let number = self.with(|scheduler| {
            scheduler.set_turn(timer::turn());
            scheduler.add(vm as u16, DEFAULT_PRIORITY, slice)
        })?;
        self.vcpus.get(number)?.store(vcpu, Ordering::Relaxed);
        self.length.store(number + 1, Ordering::Release);
        Some(number)
    }

    /// Lets `f` use the scheduler, and nothing else of the CPU.
    #[inline(always)]
    pub fn with<R>(&self, f: impl FnOnce(&mut Scheduler) -> R) -> R {
        // SAFETY: only this CPU uses it, and before that the boot CPU; interrupts are masked, and `f` does not come here
        // again: what it is given does not lead to the queue.
        f(unsafe { &mut *self.scheduler.get() })
    }

    /// The vCPU with this number.
    #[inline(always)]
    pub fn vcpu(&self, number: usize) -> *mut VcpuContext {
        self.vcpus.get(number).map_or(core::ptr::null_mut(), |slot| slot.load(Ordering::Relaxed))
    }

    /// Whether vCPUs share this CPU, so that WFI is a reason to switch.
    #[inline(always)]
    pub fn shared(&self) -> bool {
        self.length.load(Ordering::Relaxed) > 1
    }

    /// Charges the time up to `now` to what has run.
    #[inline(always)]
    pub fn account(&self, now: u64) {
        let ticks = self.with(|scheduler| scheduler.account(now));
        if let Some(time) = self.charged.get() {
            time.charge(ticks, now);
        }
    }

    /// From `now` on time is charged to `time`.
    #[inline(always)]
    pub fn charge_to(&self, time: Option<&'static CpuTime>, now: u64) {
        if let Some(before) = self.charged.replace(time) {
            before.stop();
        }
        if let Some(time) = time {
            time.start(now);
        }
    }

    /// Charges the time up to `now` to vCPU `number`, which does not run and caused the work that EL2 has done. Until the
    /// 50 us are over, it or others like it interrupt nothing.
    pub fn account_to(&self, number: usize, now: u64, quiet: bool) {
        let ticks = self.with(|scheduler| {
            if quiet {
                scheduler.be_quiet(now);
            }
            // What is before and behind the readings of the counter: about 500 instructions.
            scheduler.account_to(number, now, timer::turn() >> 7)
        });
        // SAFETY: one of this CPU's own vCPUs; read only, of what never changes.
        if let Some(vcpu) = unsafe { self.vcpu(number).as_ref() } {
            vcpu.guest.cpu_time(vcpu.vcpu.index).add(ticks);
        }
        if let Some(time) = self.charged.get() {
            time.charge(0, now);
        }
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
    pub fn take_residence(&self, vm: usize, index: usize, fresh: bool, invalidate: impl FnOnce()) {
        self.residents.enter(vm, index, fresh, invalidate);
    }
}
