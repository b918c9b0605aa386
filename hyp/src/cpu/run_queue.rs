// SPDX-License-Identifier: MIT OR Apache-2.0
//! The run queue of one CPU: its vCPUs and their scheduler. Boot decides which vCPU belongs to which CPU, once.

use core::cell::{Cell, UnsafeCell};
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use platform::{CpuShare, MAX_VMS, Schedule, VCPUS_PER_CPU};
use sched::{Budget, CpuTime, Scheduler, Wake};
use vm::TlbResidency;

use crate::cpu::timer;

const _: () = assert!(VCPUS_PER_CPU <= sched::VCPUS && MAX_VMS <= sched::SEATS);
// What `platform` accepts, the scheduler has room for: it drops further windows, and cuts a priority. One window more is the rest.
const _: () = assert!(
    platform::MAX_WINDOWS < sched::MAX_WINDOWS
        && (platform::MAX_PRIORITY as usize) < sched::PRIORITIES
        && platform::DEFAULT_PRIORITY == sched::DEFAULT_PRIORITY
);

/// A vCPU, whose type the folders above know (`crate::vcpu::context::VcpuContext`).
pub enum OpaqueVcpu {}

/// The vCPUs of a CPU. The boot CPU fills it before any CPU schedules. From then on only its own CPU uses it, but for `wake`.
pub struct RunQueue {
    vcpus: [AtomicPtr<OpaqueVcpu>; VCPUS_PER_CPU],
    /// Whether there is something to choose: several vCPUs, a budget or windows.
    shared: AtomicBool,
    /// What other CPUs say about vCPUs of this one.
    pub wake: Wake,
    scheduler: UnsafeCell<Scheduler>,
    /// CPU time of the vCPU that time is charged to, if there is one.
    charged: Cell<Option<&'static CpuTime>>,
    /// A kick or a deadline asks for [`crate::vcpu::scheduler::reschedule`].
    need_resched: Cell<bool>,
    /// Interrupts of passed-through devices wait until their VM may interrupt others (`crate::guest::passthrough`).
    pub holding: Cell<bool>,
    /// vCPUs whose translations this CPU may hold.
    residents: TlbResidency<MAX_VMS>,
}

impl RunQueue {
    /// All zero: the image keeps it in .bss.
    pub const fn new() -> Self {
        Self {
            vcpus: [const { AtomicPtr::new(core::ptr::null_mut()) }; VCPUS_PER_CPU],
            shared: AtomicBool::new(false),
            wake: Wake::new(),
            scheduler: UnsafeCell::new(Scheduler::new()),
            charged: Cell::new(None),
            need_resched: Cell::new(false),
            holding: Cell::new(false),
            residents: TlbResidency::new(),
        }
    }

    /// Adds a vCPU of VM `vm`, whose vCPUs here have `share` together, and which is number `window` of the VMs with windows
    /// of their own, if it is one; returns its number on this CPU, `None` if there is no room.
    pub fn add(
        &self,
        vcpu: *mut OpaqueVcpu,
        vm: usize,
        share: &CpuShare,
        window: Option<usize>,
    ) -> Option<usize> {
        let number = self.with(|scheduler| {
            scheduler.set_turn(timer::turn());
            let slice = timer::ticks(share.slice);
            let number = match window {
                Some(window) => scheduler.add_windowed(vm as u16, window as u8, slice)?,
                None => scheduler.add(vm as u16, share.priority, slice)?,
            };
            if let Some(budget) = share.budget {
                let ticks =
                    Budget { ticks: timer::ticks(budget.us), period: timer::ticks(budget.period) };
                scheduler.set_budget(number, ticks, timer::now());
            }
            Some(number)
        })?;
        self.vcpus.get(number)?.store(vcpu, Ordering::Relaxed);
        if number > 0 || share.budget.is_some() {
            self.shared.store(true, Ordering::Release);
        }
        Some(number)
    }

    /// Sets fixed windows. All vCPUs have been added.
    pub fn set_windows(&self, schedule: &Schedule) {
        let windows = schedule.windows.iter();
        let windows = windows.map(|w| (timer::ticks(w.us), w.vm.map(|vm| vm as u16), w.open));
        self.with(|scheduler| scheduler.set_windows(timer::ticks(schedule.frame), windows));
        self.shared.store(true, Ordering::Release);
    }

    /// Lets `f` use the scheduler.
    #[inline(always)]
    pub fn with<R>(&self, f: impl FnOnce(&mut Scheduler) -> R) -> R {
        // SAFETY: only this CPU uses it, and before that the boot CPU; interrupts are masked, and `f` does not come here
        // again: what it is given does not lead to the queue.
        f(unsafe { &mut *self.scheduler.get() })
    }

    /// The vCPU with this number, as given to [`RunQueue::add`]; null if there is none.
    #[inline(always)]
    pub fn vcpu(&self, number: usize) -> *mut OpaqueVcpu {
        self.vcpus.get(number).map_or(core::ptr::null_mut(), |slot| slot.load(Ordering::Relaxed))
    }

    /// Whether several vCPUs share this CPU, or its vCPU has a limit: then WFI may switch.
    #[inline(always)]
    pub fn shared(&self) -> bool {
        self.shared.load(Ordering::Relaxed)
    }

    /// Charges the time up to `now` to the vCPU that has run.
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

    /// Charges the time up to `now` to vCPU `number`, which does not run and caused EL2's work, and to its CPU time `used`.
    /// With `quiet`, vCPUs that do not run interrupt nothing for the next 50 us.
    pub fn account_to(&self, number: usize, used: Option<&CpuTime>, now: u64, quiet: bool) {
        let ticks = self.with(|scheduler| {
            if quiet {
                scheduler.be_quiet(now);
            }
            // The work before and after the counter is read: about 500 instructions.
            scheduler.account_to(number, now, timer::turn() >> 7)
        });
        if let Some(used) = used {
            used.add(ticks);
        }
        if let Some(time) = self.charged.get() {
            time.charge(0, now);
        }
    }

    /// Asks this CPU to schedule again before it enters a guest.
    pub fn set_need_resched(&self) {
        self.need_resched.set(true);
    }

    /// Whether that was asked since the last call.
    #[inline(always)]
    pub fn take_need_resched(&self) -> bool {
        self.need_resched.replace(false)
    }

    /// vCPU `index` of VM `vm` runs here now, for the first time since it was turned on if `fresh`: [`TlbResidency::switch_to`].
    #[inline(always)]
    pub fn take_residence(&self, vm: usize, index: usize, fresh: bool, invalidate: impl FnOnce()) {
        self.residents.switch_to(vm, index, fresh, invalidate);
    }
}
