// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports of crashed guests: one that aborts in a loop, or that an SError has hit. `vm::crash` decides.

use core::fmt;

use aarch64_cpu::registers::{Readable, SPSR_EL1};
use log::Level;
use vm::StopReason;
use vm::crash::{self, Registers};
use vm::trace::Event;

use crate::cpu;
use crate::guest::{lifecycle, vm_log};
use crate::vcpu::context::VcpuContext;
use crate::vcpu::inject;

/// Records that EL2 has made an instruction UNDEFINED.
pub fn undefined(ctx: &mut VcpuContext, pc: u64, return_address: u64) {
    let kind = arch::AbortKind::Instruction;
    let reason = vm::Reason::Undefined;
    ctx.vcpu.refusal = vm::Refusal { pc, reason, kind, ..vm::Refusal::default() };
    let (time, vm, vcpu) = (crate::cpu::timer::now(), ctx.guest.vm.id(), ctx.vcpu.index as u8);
    let refusal = ctx.vcpu.refusal;
    cpu::current().trace.push(&Event { time, vm, vcpu, refusal, return_address });
    look(ctx);
}

/// Every [`crash::EVERY`] events of this CPU's ring: checks whether the guest of `ctx.vcpu.refusal` has crashed.
pub fn look(ctx: &mut VcpuContext) {
    let trace = &cpu::current().trace;
    if !trace.written().is_multiple_of(crash::EVERY) {
        return;
    }
    let (vm, vcpu) = (ctx.guest.vm.id(), ctx.vcpu.index as u8);
    // SPSR_EL1.M: where the exception that was just injected came from.
    let from_el0 = SPSR_EL1.get() & 0xf == 0;
    let progress = ctx.guest.vm.progress(&ctx.vcpu, from_el0, crate::cpu::timer::frequency());
    if !ctx.record.watch.look(vm, vcpu, progress, trace.newest_first()) {
        return;
    }
    // Before the report, so that the VM is in the state that it names. This vCPU leaves before it enters the guest.
    lifecycle::crashed(ctx.guest, &ctx.vcpu.order, StopReason::Crash);
    let (guest, index) = (ctx.guest, ctx.vcpu.index);
    let policy = guest.crash_policy();
    let what = match policy {
        crash::OnCrash::Stop => "it stops",
        crash::OnCrash::Restart => "it will start again",
        crash::OnCrash::Pause => "it is paused",
    };
    let (name, pc, bound) = (guest.vm.name(), ctx.vcpu.refusal.pc, crash::BOUND);
    let reason = ctx.vcpu.refusal.reason.text();
    let first = format_args!(
        "{name}: vCPU {index}: crash loop: more than {bound} exceptions in a row at PC {pc:#x} ({reason}); {what} (vm.oncrash)"
    );
    // The line is rare: the operator must restart or resume the VM, or its restart is delayed. Registers are logged once
    // per incarnation, and with `restart` only if its limit admits a line.
    let whole = policy != crash::OnCrash::Restart
        || guest.vm.log_limit().would_admit(crate::cpu::timer::now());
    vm_log::always(guest, Level::Warn, first);
    if !core::mem::replace(&mut ctx.record.reported, true) && whole {
        dump(ctx);
    }
}

/// Logs the registers of `ctx`, which is loaded, and its last exits.
fn dump(ctx: &VcpuContext) {
    let (guest, index, regs) = (ctx.guest, ctx.vcpu.index, &ctx.vcpu.regs);
    let say = |text: fmt::Arguments<'_>| {
        let name = guest.vm.name();
        vm_log::more(guest, Level::Warn, format_args!("{name}: vCPU {index}: {text}"));
    };
    let inject::Dump { vbar, elr, spsr, esr, far, sctlr, sp_el0, sp_el1 } = inject::dump();
    say(format_args!("VBAR_EL1 {vbar:#x} ELR_EL1 {elr:#x} ESR_EL1 {esr:#x} FAR_EL1 {far:#x}"));
    say(format_args!(
        "SPSR_EL1 {spsr:#x} SCTLR_EL1 {sctlr:#x} SP_EL0 {sp_el0:#x} SP_EL1 {sp_el1:#x}"
    ));
    for from in (0..31).step_by(6) {
        say(format_args!("{}", Registers { regs, from, to: from.saturating_add(6).min(31) }));
    }
    say(format_args!("last exits (ESR_EL2 at PC): {}", ctx.record.exits));
}
