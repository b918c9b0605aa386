// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ends and beginnings of VMs, and what is said of them.

use aarch64_cpu::registers::{CNTFRQ_EL0, CNTPCT_EL0, Readable};
use lock::Order;
use log::Level;
use vm::trace::Event;
use vm::{Parked, StopReason};

use crate::guest::{self, Guest};
use crate::vcpu::{State, VcpuContext};
use crate::{cpu, judged, report};

/// Memory that is wiped or copied at once between two lives: less than 10 us of EL2's time.
const PIECE: u64 = 16 << 10;

/// Parks the vCPU where its VM is stopping; the last one to park decides what comes next, alone.
#[inline(always)]
pub fn tend(ctx: &mut VcpuContext) {
    if ctx.guest.vm.lifecycle().is_stopping() {
        park(ctx);
    }
}

#[cold]
#[inline(never)]
fn park(ctx: &mut VcpuContext) {
    let guest = ctx.guest;
    ctx.state = State::Off;
    if let Parked::Last(reason) = judged::park(&ctx.vcpu, &guest.vm) {
        end(ctx, reason);
    }
}

/// The end of a life: said in one line, followed by a new one or none.
fn end(ctx: &mut VcpuContext, reason: StopReason) {
    let guest = ctx.guest;
    let line = guest.vm.stop_line(reason);
    if reason == StopReason::Reset {
        report::about(guest, Level::Info, format_args!("{line}"));
    } else {
        report::always(guest, Level::Info, format_args!("{line}"));
    }
    crate::passed::mask(guest, true);
    crate::input::forget(guest.index);
    if reason != StopReason::Reset {
        finish(guest);
    } else if let Err(why) = guest.clear() {
        fail(guest, &why);
    } else {
        ctx.state = State::Preparing;
    }
}

/// Does a piece of the work for the next life of the VM whose last vCPU has parked here. It is a few microseconds of that
/// vCPU's time: others on this CPU have theirs between, however much memory is to be wiped.
pub fn prepare(ctx: &mut VcpuContext) {
    let guest = ctx.guest;
    match guest.prepare(PIECE) {
        Ok(false) => return,
        Ok(true) => {
            crate::passed::mask(guest, false);
            let (name, life) = (&guest.config.name, guest.life());
            let declared = guest.vm.declared_pages();
            let guard = if guest.vm.guard().active() { "enforced" } else { "not enrolled" };
            report::about(
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
    report::always(guest, Level::Error, format_args!("{why}"));
    finish(guest);
}

/// The VM never runs again; with the last one the machine goes off.
fn finish(guest: &'static Guest) {
    let order = Order::new();
    judged::finish_life(&order, &guest.vm);
    if guest::all().iter().all(|g| g.vm.lifecycle().finished(&order)) {
        judged::closing_line();
        log::info!("all VMs have stopped");
        crate::firmware::power_off();
        log::info!("parked: no firmware here turns the machine off");
    }
    crate::input::leave(guest.index);
}

/// An access that is being aborted: one event in the CPU's ring, and a line where the VM's limit admits one.
#[inline(always)]
pub fn refused(ctx: &VcpuContext) {
    let vm = &ctx.guest.vm;
    let now = CNTPCT_EL0.get();
    let event =
        Event { time: now, vm: vm.id(), vcpu: ctx.vcpu.index as u8, refusal: ctx.vcpu.refusal };
    cpu::current().trace.push(&event);
    if let Some(left_out) = vm.log_limit().admit(now, CNTFRQ_EL0.get()) {
        say(ctx, left_out);
    }
}

#[cold]
#[inline(never)]
fn say(ctx: &VcpuContext, left_out: u64) {
    let line = ctx.guest.vm.refusal_line(ctx.vcpu.index, ctx.vcpu.refusal);
    report::admitted(ctx.guest, Level::Warn, left_out, format_args!("{line}"));
    // Once for each device of the guest's tree, and for a few pages: never left out, but counted.
    if let Some(advice) = ctx.guest.vm.advice(&ctx.vcpu.refusal) {
        report::always(ctx.guest, Level::Warn, format_args!("{advice}"));
    }
}
