// SPDX-License-Identifier: MIT OR Apache-2.0
//! The operator's commands, and a VM's status line. A person asks for these lines, so they count against no VM's limit.

use core::fmt;

use vm::{Holder, Holders, Phase, StopReason};

use crate::cpu::{self, timer};
use crate::guest::instance::VmInstance;
use crate::guest::lifecycle;

/// Restarts the VM.
pub fn restart(guest: &'static VmInstance) {
    if is_prepared(guest) {
        log::info!("{} is to restart", guest.vm.name());
        lifecycle::stop(guest, StopReason::Restart);
    }
}

/// Stops the VM, or starts one that has stopped.
pub fn stop_or_start(guest: &'static VmInstance) {
    if guest.vm.lifecycle().phase(&cpu::current().order) == Phase::Stopped {
        log::info!("{} is to start", guest.vm.name());
        lifecycle::stop(guest, StopReason::Restart);
    } else if is_prepared(guest) {
        log::info!("{} is to stop", guest.vm.name());
        lifecycle::stop(guest, StopReason::Operator);
    }
}

/// Pauses the VM, or resumes it.
pub fn pause_or_resume(guest: &'static VmInstance) {
    if guest.vm.lifecycle().phase(&cpu::current().order) == Phase::Running {
        lifecycle::pause_or_resume(guest);
    } else {
        log::info!("{} does not run", guest.vm.name());
    }
}

/// Whether the VM is not being reset; logs it if it is.
fn is_prepared(guest: &VmInstance) -> bool {
    let parked = guest.vm.lifecycle().phase(&cpu::current().order) == Phase::Parked;
    if parked {
        log::info!("{} is being prepared: try again", guest.vm.name());
    }
    !parked
}

/// A VM's state, CPUs, CPU time, memory and refusals, in one line. It is read before the console's lock is taken.
pub struct Status<'a> {
    guest: &'a VmInstance,
    phase: Phase,
    holders: Holders,
}

impl<'a> Status<'a> {
    /// The status of `guest` now.
    pub fn of(guest: &'a VmInstance) -> Self {
        let (order, lifecycle) = (&cpu::current().order, guest.vm.lifecycle());
        Self { guest, phase: lifecycle.phase(order), holders: lifecycle.holders(order) }
    }
}

impl fmt::Display for Status<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { guest, phase, holders } = self;
        let now = timer::now();
        match phase {
            Phase::Running if holders.has(Holder::Crash) => f.write_str("paused after a crash")?,
            Phase::Running if holders.count() != 0 => f.write_str("paused")?,
            Phase::Running => f.write_str("running")?,
            Phase::Stopping(_) => f.write_str("stopping")?,
            Phase::Parked => f.write_str("being prepared")?,
            Phase::Resting => {
                let left = timer::seconds(guest.restart_at().saturating_sub(now));
                write!(f, "starts again in {left} s")?;
            }
            Phase::Stopped => f.write_str("stopped")?,
        }
        let vcpus = guest.config.vcpus();
        let mut sign = if vcpus == 1 { ", CPU " } else { ", CPUs " };
        for cpu in (0..vcpus).filter_map(|vcpu| guest.vm.host().cpu_of(vcpu)) {
            write!(f, "{sign}{cpu}")?;
            sign = " ";
        }
        let ticks =
            (0..vcpus).map(|vcpu| guest.cpu_time(vcpu).used(now)).fold(0, u64::saturating_add);
        let used = timer::seconds(ticks.saturating_mul(10));
        let memory = guest.config.ram_size() >> 20;
        let refused = guest.vm.counts().refused;
        write!(f, ", {}.{} s of CPU time, {memory} MiB, {refused} refused", used / 10, used % 10)
    }
}
