// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ends and beginnings of VMs, and what is said of them.

use aarch64_cpu::registers::{CNTPCT_EL0, Readable};
use lock::Order;
use log::Level;
use vm::crash::{EVERY, Next};
use vm::trace::Event;
use vm::{Held, Holder, Holders, Parked, Phase, StopReason};

use crate::cpu::{self, timer};
use crate::guest::instance::{self, Guest};
use crate::guest::vm_log;
use crate::oracle::checked;
use crate::vcpu::context::{State, VcpuContext};
use crate::vcpu::crash;

/// Memory that is wiped or copied at once between two lives: less than 10 us of EL2's time.
const PIECE: u64 = 16 << 10;

/// Does what a vCPU that is not loaded is asked to do: to park where its VM is stopping, to stand still where it is paused, to
/// prepare another life.
#[inline(always)]
pub fn tend(ctx: &mut VcpuContext) {
    if ctx.guest.vm.lifecycle().is_asked() || ctx.held {
        answer(ctx);
    }
}

#[cold]
#[inline(never)]
fn answer(ctx: &mut VcpuContext) {
    let guest = ctx.guest;
    let lifecycle = guest.vm.lifecycle();
    if lifecycle.stopping().is_some() {
        return park(ctx);
    }
    match guest.vm.hold(&ctx.vcpu) {
        Held::No => {
            if core::mem::take(&mut ctx.held) {
                ctx.state = State::Ready;
            }
        }
        held => {
            if matches!(ctx.state, State::Ready | State::Waiting) {
                (ctx.held, ctx.state) = (true, State::Off);
            }
            if held == Held::Last {
                guest.stop_count(timer::now());
                // The keys that let a lone VM go on must come through.
                crate::console::guest_input::let_in();
            }
        }
    }
    if ctx.vcpu.index == 0 && lifecycle.take_request(&ctx.vcpu.order) {
        begin(ctx);
    }
}

/// The VM is stopping: the last of its vCPUs to park decides what comes next, alone.
fn park(ctx: &mut VcpuContext) {
    let guest = ctx.guest;
    (ctx.held, ctx.state) = (false, State::Off);
    if let Parked::Last(reason) = checked::park(&ctx.vcpu, &guest.vm) {
        let next = guest.next(reason, timer::now());
        said(guest, reason, next);
        match next {
            Next::End => finish(guest),
            Next::Life => begin(ctx),
            Next::Rest(seconds) => rest(guest, seconds),
        }
    }
}

/// The end of a life is said in one line.
fn said(guest: &Guest, reason: StopReason, next: Next) {
    let line = guest.vm.stop_line(reason);
    match next {
        Next::End => vm_log::always(guest, Level::Info, format_args!("{line}")),
        Next::Life => vm_log::about(guest, Level::Info, format_args!("{line}")),
        // No more often than it waits.
        Next::Rest(seconds) => vm_log::always(
            guest,
            Level::Info,
            format_args!("{line}; the next life begins in {seconds} s (vm.oncrash=restart)"),
        ),
    }
    crate::guest::passthrough::mask(guest, true);
    crate::console::guest_input::forget(guest.index);
}

/// This vCPU prepares the VM's next life.
fn begin(ctx: &mut VcpuContext) {
    let guest = ctx.guest;
    if let Err(why) = guest.clear() {
        fail(guest, &why);
    } else {
        ctx.state = State::Preparing;
    }
}

/// The VM waits for its next life; this CPU begins it when the time has come.
fn rest(guest: &Guest, seconds: u64) {
    checked::rest(&Order::new(), &guest.vm);
    crate::console::guest_input::let_in();
    let at = timer::now().saturating_add(timer::frequency().saturating_mul(seconds));
    let cpu = cpu::current();
    guest.set_restart(Some((cpu.index.get(), at)));
    cpu.set_restart(at);
}

/// Begins the lives that this CPU has to begin, and whose time has come.
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
            checked::revive(&Order::new(), &guest.vm);
        }
    }
}

/// Whoever operates the machine stops the VM, or begins it again.
pub fn stop(guest: &'static Guest, reason: StopReason) {
    let order = Order::new();
    // A VM that waits for its next life does not run.
    guest.set_restart(None);
    if let Some(stop) = checked::stop(&order, &guest.vm, reason) {
        if stop.parked {
            // No vCPU is on: none parks.
            let next = guest.next(stop.reason, timer::now());
            said(guest, stop.reason, next);
            if next == Next::End {
                finish(guest);
            } else {
                checked::rest(&order, &guest.vm);
                checked::revive(&order, &guest.vm);
            }
        }
    } else if reason == StopReason::Restart {
        checked::revive(&order, &guest.vm);
    } else if guest.vm.lifecycle().phase(&order) == Phase::Resting {
        said(guest, reason, Next::End);
        finish(guest);
    }
}

/// Whoever operates the machine pauses the VM, or lets it go on; it lets go of what a crash holds, too.
pub fn pause(guest: &Guest) {
    let order = Order::new();
    let lifecycle = guest.vm.lifecycle();
    let name = guest.vm.name();
    if lifecycle.holders(&order) == Holders::NONE {
        if checked::pause(&order, &guest.vm, Holder::User) {
            if lifecycle.stands_still(&order) {
                // No vCPU is on: none says that it has left.
                guest.stop_count(timer::now());
            }
            log::info!("{name} is paused");
        }
        return;
    }
    if lifecycle.stands_still(&order) {
        guest.resume_count(timer::now());
    }
    if !lifecycle.holders(&order).has(Holder::Save) {
        // Before it can say anything itself.
        log::info!("{name} goes on");
    }
    let holders = Holders::NONE.with(Holder::User).with(Holder::Crash);
    checked::resume(&order, &guest.vm, holders);
}

/// Does a piece of the work for the next life of the VM whose last vCPU has parked here. It is a few microseconds of that
/// vCPU's time: others on this CPU have theirs between, however much memory is to be wiped.
pub fn prepare(ctx: &mut VcpuContext) {
    let guest = ctx.guest;
    match guest.prepare(PIECE) {
        Ok(false) => return,
        Ok(true) => {
            crate::guest::passthrough::mask(guest, false);
            let (name, life) = (&guest.config.name, guest.life());
            let declared = guest.vm.declared_pages();
            let guard = if guest.vm.guard().active() { "enforced" } else { "not enrolled" };
            vm_log::about(
                guest,
                Level::Info,
                format_args!("{name}: life {life} begins: {declared} declared, {guard}"),
            );
        }
        Err(why) => fail(guest, &why),
    }
    ctx.state = State::Off;
}

fn fail(guest: &'static Guest, why: &str) {
    vm_log::always(guest, Level::Error, format_args!("{why}"));
    finish(guest);
}

/// The VM has stopped. With the last one the machine goes off: it stays on while a VM runs, is paused, is being prepared,
/// or waits for its next life.
fn finish(guest: &'static Guest) {
    let order = Order::new();
    checked::finish_life(&order, &guest.vm);
    if instance::all().iter().all(|g| g.vm.lifecycle().finished(&order)) {
        checked::closing_line();
        log::info!("all VMs have stopped");
        crate::firmware::power_off();
        log::info!("parked: no firmware here turns the machine off");
    }
    crate::console::guest_input::leave(guest);
}

/// An access that is being aborted: one event in the CPU's ring, and a line where the VM's limit admits one.
#[inline(always)]
pub fn refused(ctx: &mut VcpuContext, return_address: u64) {
    let vm = &ctx.guest.vm;
    let now = CNTPCT_EL0.get();
    let event = Event {
        time: now,
        vm: vm.id(),
        vcpu: ctx.vcpu.index as u8,
        refusal: ctx.vcpu.refusal,
        return_address,
    };
    let number = cpu::current().trace.push(&event);
    let left_out = vm.log_limit().leaves_out(now);
    if !left_out || number.is_multiple_of(EVERY) {
        notable(ctx, return_address, left_out);
    }
}

/// An abort that may be worth a line, or after which it is time to look whether the guest has crashed.
#[cold]
#[inline(never)]
fn notable(ctx: &mut VcpuContext, return_address: u64, left_out: bool) {
    let now = timer::now();
    if !left_out && let Some(before) = ctx.guest.vm.log_limit().admit(now, timer::frequency()) {
        say(ctx, before, return_address);
    }
    crash::look(ctx);
}

fn say(ctx: &mut VcpuContext, left_out: u64, return_address: u64) {
    let vm = &ctx.guest.vm;
    if ctx.record.is_repeated(ctx.vcpu.refusal.pc, return_address) {
        return vm.log_limit().leave_out(left_out);
    }
    let line = vm.refusal_line(ctx.vcpu.index, ctx.vcpu.refusal);
    vm_log::admitted(ctx.guest, Level::Warn, left_out, format_args!("{line}"));
    // Once for each device of the guest's tree, and for a few pages: never left out, but counted.
    if let Some(advice) = vm.advice(&ctx.vcpu.refusal) {
        vm_log::always(ctx.guest, Level::Warn, format_args!("{advice}"));
    }
}
