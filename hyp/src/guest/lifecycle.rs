// SPDX-License-Identifier: MIT OR Apache-2.0
//! How VMs stop, restart, pause and resume, as far as no vCPU's registers matter; `vcpu::lifecycle` does the rest.

use log::Level;
use vm::crash::{self, Next};
use vm::{Holder, Holders, Phase, StopReason};

use crate::console::{guest_input, ring};
use crate::cpu::{self, timer};
use crate::guest::instance::{self, VmInstance};
use crate::guest::vm_error::VmError;
use crate::guest::{console_events, keyboard_focus, passthrough, vm_log};
use crate::oracle::checked;
use lock::Order;

/// Logs the stop in one line, and takes the devices and the input of the VM away.
pub fn log_stop(guest: &VmInstance, reason: StopReason, next: Next) {
    console_events::advise(guest);
    let line = guest.vm.stop_line(reason);
    match next {
        Next::End => vm_log::always(guest, Level::Info, format_args!("{line}")),
        Next::Restart => vm_log::about(guest, Level::Info, format_args!("{line}")),
        // Always, as restarts are that far apart.
        Next::Rest(seconds) => vm_log::always(
            guest,
            Level::Info,
            format_args!("{line}; it restarts in {seconds} s (vm.oncrash=restart)"),
        ),
    }
    passthrough::mask(guest, true);
    guest_input::discard(guest.index);
}

/// The VM waits `seconds` for its restart, which this CPU begins.
pub fn rest(guest: &VmInstance, seconds: u64) {
    let cpu = cpu::current();
    checked::rest(&cpu.order, &guest.vm);
    guest_input::resume_rx();
    let at = timer::now().saturating_add(timer::frequency().saturating_mul(seconds));
    guest.set_restart(Some((cpu.index.get(), at)));
    cpu.set_restart(at);
}

/// Begins the restarts of this CPU whose time has come.
#[cold]
#[inline(never)]
pub fn restart_due() {
    let (cpu, now) = (cpu::current(), timer::now());
    cpu.restart.set(0);
    for guest in instance::all() {
        let Some(at) = guest.restart_on(cpu.index.get()) else { continue };
        if at > now {
            cpu.set_restart(at);
        } else {
            guest.set_restart(None);
            checked::revive(&cpu.order, &guest.vm);
        }
    }
}

/// The operator stops or restarts the VM.
pub fn stop(guest: &'static VmInstance, reason: StopReason) {
    let order = &cpu::current().order;
    // A VM that waits for its restart does not run.
    guest.set_restart(None);
    if let Some(stop) = checked::stop(order, &guest.vm, reason) {
        if stop.parked {
            // No vCPU is on, so none parks.
            let next = guest.after_stop(stop.reason, timer::now());
            log_stop(guest, stop.reason, next);
            if next == Next::End {
                finish(guest);
            } else {
                checked::rest(order, &guest.vm);
                checked::revive(order, &guest.vm);
            }
        }
    } else if reason == StopReason::Restart {
        checked::revive(order, &guest.vm);
    } else if guest.vm.lifecycle().phase(order) == Phase::Resting {
        log_stop(guest, reason, Next::End);
        finish(guest);
    }
}

/// The operator pauses the VM, or resumes it; the latter also ends a pause after a crash.
pub fn pause_or_resume(guest: &VmInstance) {
    let order = &cpu::current().order;
    let lifecycle = guest.vm.lifecycle();
    let name = guest.vm.name();
    if lifecycle.holders(order) == Holders::NONE {
        if checked::pause(order, &guest.vm, Holder::User) {
            if lifecycle.stands_still(order) {
                // No vCPU is on, so none reports that it has left.
                guest.stop_count(timer::now());
            }
            log::info!("{name} is paused");
        }
        return;
    }
    if lifecycle.stands_still(order) {
        guest.resume_count(timer::now());
    }
    if !lifecycle.holders(order).has(Holder::Save) {
        // Before it can say anything itself.
        log::info!("{name} goes on");
    }
    let holders = Holders::NONE.with(Holder::User).with(Holder::Crash);
    checked::resume(order, &guest.vm, holders);
}

/// The guest cannot go on: its VM is asked to pause or to stop (`vm.oncrash`). The calling vCPU is kicked too, and leaves
/// before it would enter the guest.
pub fn crashed(guest: &VmInstance, order: &Order, reason: StopReason) {
    if guest.crash_policy() == crash::OnCrash::Pause {
        checked::pause(order, &guest.vm, Holder::Crash);
    } else {
        checked::stop(order, &guest.vm, reason);
    }
}

/// The VM cannot be reset: it stops.
pub fn fail(guest: &'static VmInstance, why: &VmError) {
    vm_log::always(guest, Level::Error, format_args!("{why}"));
    finish(guest);
}

/// The VM has stopped. With the last one the machine turns off: it stays on while a VM runs, is paused or reset, or waits
/// for its restart.
pub fn finish(guest: &'static VmInstance) {
    let order = &cpu::current().order;
    checked::finish_life(order, &guest.vm);
    if instance::all().iter().all(|g| g.vm.lifecycle().finished(order)) {
        checked::closing_line();
        log::info!("all VMs have stopped");
        ring::flush();
        crate::firmware::power_off();
        log::info!("parked: no firmware here turns the machine off");
    }
    keyboard_focus::release(guest);
}
