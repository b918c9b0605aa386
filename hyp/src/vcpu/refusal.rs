// SPDX-License-Identifier: MIT OR Apache-2.0
//! Refused accesses: each one is recorded in the CPU's trace ring, and logged as far as the VM's limit admits.

use aarch64_cpu::registers::{CNTPCT_EL0, Readable};
use log::Level;
use vm::crash::EVERY;
use vm::trace::Event;

use crate::cpu::{self, timer};
use crate::guest::vm_log;
use crate::vcpu::context::VcpuContext;
use crate::vcpu::{crash, interrupts};

/// Records an access that is being aborted: one event in the CPU's ring, and a line if the VM's limit admits one.
#[inline(always)]
pub fn record(ctx: &mut VcpuContext, return_address: u64) {
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
        record_cold(ctx, return_address, left_out);
    }
}

/// An abort that may be logged, or after which the crash detector looks at the guest.
#[cold]
#[inline(never)]
fn record_cold(ctx: &mut VcpuContext, return_address: u64, left_out: bool) {
    let now = timer::now();
    if !left_out && let Some(before) = ctx.guest.vm.log_limit().admit(now, timer::frequency()) {
        log(ctx, before, return_address);
    }
    crash::look(ctx);
}

fn log(ctx: &mut VcpuContext, left_out: u64, return_address: u64) {
    let vm = &ctx.guest.vm;
    if ctx.record.is_repeated(ctx.vcpu.refusal.pc, return_address) {
        return vm.log_limit().leave_out(left_out);
    }
    let line = vm.refusal_line(ctx.vcpu.index, ctx.vcpu.refusal);
    vm_log::admitted(ctx.guest, Level::Warn, left_out, format_args!("{line}"));
    if interrupts::pending() {
        // They do not wait for a second line.
        return ctx.guest.advise_later(ctx.vcpu.refusal);
    }
    // Now, where that is possible: later it may come in the middle of a line of the guest.
    if let Some(advice) = vm.advice(&ctx.vcpu.refusal) {
        vm_log::always(ctx.guest, Level::Warn, format_args!("{advice}"));
    }
}
