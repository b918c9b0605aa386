// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a vCPU does when its VM stops, is paused or restarts.

use log::Level;
use sched::VcpuState;
use vm::crash::Next;
use vm::{Held, Parked};

use crate::console::guest_input;
use crate::cpu::timer;
use crate::guest::instance::{Piece, VmInstance};
use crate::guest::{lifecycle, passthrough, vm_log};
use crate::oracle::checked;
use crate::vcpu::context::VcpuContext;

/// Does what its VM asks of a vCPU that is not loaded: park if the VM stops, wait if it is paused, prepare its restart.
#[inline(always)]
pub fn park_if_asked(ctx: &mut VcpuContext) {
    if ctx.guest.vm.lifecycle().is_asked() || ctx.paused {
        park_or_pause(ctx);
    }
}

#[cold]
#[inline(never)]
fn park_or_pause(ctx: &mut VcpuContext) {
    let guest = ctx.guest;
    let phase = guest.vm.lifecycle();
    if phase.stopping().is_some() {
        return park(ctx);
    }
    match guest.vm.hold(&ctx.vcpu) {
        Held::No => {
            if core::mem::take(&mut ctx.paused) {
                // What it waits for may have come, or not.
                ctx.state = match ctx.vcpu.forwarded {
                    Some(_) => VcpuState::Answered,
                    None => VcpuState::Ready,
                };
            }
        }
        held => {
            if matches!(ctx.state, VcpuState::Ready | VcpuState::Answered | VcpuState::Waiting) {
                (ctx.paused, ctx.state) = (true, VcpuState::Off);
            }
            if held == Held::Last {
                guest.stop_count(timer::now());
                // The keys that resume a lone VM must come through.
                guest_input::resume_rx();
            }
        }
    }
    if ctx.vcpu.index == 0 && phase.take_request(&ctx.vcpu.order) {
        begin_reset(ctx);
    }
}

/// The VM is stopping: the last of its vCPUs to park decides what comes next.
fn park(ctx: &mut VcpuContext) {
    let guest = ctx.guest;
    (ctx.paused, ctx.state) = (false, VcpuState::Off);
    if let Parked::Last(reason) = checked::park(&ctx.vcpu, &guest.vm) {
        let next = guest.after_stop(reason, timer::now());
        lifecycle::log_stop(guest, reason, next);
        match next {
            Next::End => lifecycle::finish(guest),
            Next::Restart => begin_reset(ctx),
            Next::Rest(seconds) => lifecycle::rest(guest, seconds),
        }
    }
}

/// From now on this vCPU resets its VM.
fn begin_reset(ctx: &mut VcpuContext) {
    ctx.state = VcpuState::Preparing;
}

/// Does one piece of the work before a start of the VM, where its last vCPU has parked or its first one begins. It takes a
/// few microseconds of that vCPU's time: others on this CPU run in between, however much memory is to be wiped.
pub fn reset_piece(ctx: &mut VcpuContext) {
    let guest = ctx.guest;
    match guest.prepare() {
        Ok(Piece::Some) => return,
        Ok(Piece::Loaded) => {
            passthrough::mask(guest, false);
            return log_start(guest);
        }
        Ok(Piece::Started) => {}
        Err(why) => lifecycle::fail(guest, &why),
    }
    ctx.state = VcpuState::Off;
}

/// Logs that the next incarnation of the VM begins, or that it starts for the first time.
fn log_start(guest: &VmInstance) {
    if guest.incarnation() == 0 {
        let (name, us) = (&guest.config.name, guest.loading_us());
        // Once, and no guest's doing: its ration of lines stays whole.
        return log::info!("{name} is loaded in {us} us");
    }
    let (name, incarnation) = (&guest.config.name, guest.incarnation().saturating_add(1));
    let declared = guest.vm.declared_pages();
    let guard = if guest.vm.guard().active() { "enforced" } else { "not enrolled" };
    vm_log::about(
        guest,
        Level::Info,
        format_args!("{name}: incarnation {incarnation} begins: {declared} declared, {guard}"),
    );
}
