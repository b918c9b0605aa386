// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exits from guests: read the syndrome once, decide in `vm`, act here. The only place that moves a guest's ELR or
//! writes its EL1 state.

use core::arch::asm;

use arch::{DataAbort, El1Entry, Exit, ExitInfo, InstructionAbort, Stage1};
use vm::{Abort, Fast, Later, Outcome, StopReason};

use crate::vcpu::VcpuContext;
use crate::{at, cpu, el1, gic, interrupts, lives, run};

/// Sets up what this CPU traps. Its errata count from here on.
pub fn init_cpu() {
    crate::ids::note_cpu();
    crate::el2::init_cpu();
}

/// Reads ESR, FAR and HPFAR: the last registers of an exit that are read.
#[inline(always)]
fn exit_info() -> ExitInfo {
    let (esr, far, hpfar): (u64, u64, u64);
    // SAFETY: reads syndrome registers; nothing at EL2 has faulted since the exit, so they are the guest's.
    unsafe {
        asm!("mrs {}, esr_el2", out(reg) esr, options(nomem, nostack, preserves_flags, pure));
        asm!("mrs {}, far_el2", out(reg) far, options(nomem, nostack, preserves_flags, pure));
        asm!("mrs {}, hpfar_el2", out(reg) hpfar, options(nomem, nostack, preserves_flags, pure));
    }
    ExitInfo { esr, far, hpfar }
}

/// ESR_EL2 of the exit being handled: nothing at EL2 has faulted since.
fn esr() -> u64 {
    exit_info().esr
}

/// Synchronous exit. What guests do most is done here without a stack frame; the rest is called last, so that its frame
/// is its own.
pub extern "C" fn sync_from_guest(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let info = exit_info();
    match vm::fast_exit(&info, &ctx.errata, &mut ctx.vcpu, &ctx.guest.vm) {
        Fast::Resume => ctx,
        Fast::Advance => step_over(ctx),
        Fast::Abort(abort) => inject_abort(ctx, abort),
        Fast::Later(later) => finish(ctx, later),
        Fast::Slow => slow(ctx),
    }
}

#[inline(never)]
fn finish(ctx: &mut VcpuContext, later: Later) -> *mut VcpuContext {
    match vm::finish(later, &mut ctx.vcpu, &ctx.guest.vm) {
        Fast::Advance => step_over(ctx),
        Fast::Abort(abort) => inject_abort(ctx, abort),
        Fast::Resume | Fast::Later(_) => ctx,
        Fast::Slow => slow(ctx),
    }
}

/// `arch::advance` for an instruction of AArch64.
#[inline(always)]
fn step_over(ctx: &mut VcpuContext) -> *mut VcpuContext {
    arch::advance(&mut ctx.vcpu.regs, true);
    ctx
}

/// Every other exit.
#[inline(never)]
fn slow(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let exit = arch::decode(exit_info(), &ctx.errata);
    match vm::on_exit(exit, &mut ctx.vcpu, &ctx.guest.vm) {
        Outcome::Resume => ctx,
        Outcome::Advance { il } => {
            arch::advance(&mut ctx.vcpu.regs, il);
            ctx
        }
        Outcome::Abort(abort) => inject_abort(ctx, abort),
        other => rare(ctx, exit, other),
    }
}

/// What is not on the fast path.
#[cold]
#[inline(never)]
fn rare(ctx: &mut VcpuContext, exit: Exit, outcome: Outcome) -> *mut VcpuContext {
    match outcome {
        Outcome::Resume | Outcome::Advance { .. } | Outcome::Abort(_) => ctx,
        Outcome::Undefined => {
            // An AArch32 instruction whose condition fails may trap all the same, and would not have run.
            if arch::condition_failed(esr(), ctx.vcpu.regs.spsr) {
                arch::advance(&mut ctx.vcpu.regs, esr() & 1 << 25 != 0);
                return ctx;
            }
            let entry = arch::undefined(&ctx.vcpu.regs, &el1::entry_state(), &ctx.pstate);
            enter_el1(ctx, &entry);
            ctx
        }
        Outcome::FindIpa => find_ipa(ctx, exit),
        Outcome::Wait { advance, il } => {
            if advance {
                arch::advance(&mut ctx.vcpu.regs, il);
            }
            run::wait_for_interrupt(ctx)
        }
        Outcome::Yield { il } => {
            arch::advance(&mut ctx.vcpu.regs, il);
            run::yield_now(ctx)
        }
        Outcome::Off | Outcome::Stop(_) => run::leave(ctx),
    }
}

/// Injects a synchronous external abort, and says why to whoever watches.
#[inline(never)]
fn inject_abort(ctx: &mut VcpuContext, abort: Abort) -> *mut VcpuContext {
    let level = if abort.walk {
        match walk_level(ctx) {
            Some(level) => Some(level),
            // The guest has changed its tables meanwhile: let it try again.
            None => return ctx,
        }
    } else {
        None
    };
    let va = ctx.vcpu.refusal.va;
    let entry = arch::external_abort(
        abort.kind,
        level,
        va,
        &ctx.vcpu.regs,
        &el1::entry_state(),
        &ctx.pstate,
    );
    lives::refused(ctx);
    enter_el1(ctx, &entry);
    ctx
}

/// At which level the guest's stage-1 walk left its memory.
#[cold]
#[inline(never)]
fn walk_level(ctx: &VcpuContext) -> Option<i8> {
    let (sctlr, tcr, ttbr0, ttbr1): (u64, u64, u64, u64);
    // SAFETY: reads registers of the loaded guest.
    unsafe {
        asm!("mrs {}, sctlr_el1", "mrs {}, tcr_el1", "mrs {}, ttbr0_el1", "mrs {}, ttbr1_el1",
            out(reg) sctlr, out(reg) tcr, out(reg) ttbr0, out(reg) ttbr1, options(nomem, nostack));
    }
    let stage1 = Stage1 { sctlr, tcr, ttbr0, ttbr1 };
    let vm = &ctx.guest.vm;
    let refused = ctx.vcpu.refusal.ipa.map(arch::Ipa::page);
    stage1.walk_level(ctx.vcpu.refusal.va, |ipa| {
        // The walk ended at this page, memory (a rom that hardware wanted to write to) or not.
        if Some(ipa.page()) == refused {
            return None;
        }
        let pa = vm.ram_pa(ipa)?;
        // SAFETY: RAM of this guest, which EL2 maps, aligned to 8 by the walk; read once, as a walker would.
        Some(unsafe { (pa.raw() as *const u64).read_volatile() })
    })
}

#[inline(always)]
fn enter_el1(ctx: &mut VcpuContext, entry: &El1Entry) {
    el1::write_entry(entry);
    ctx.vcpu.regs.elr = entry.pc;
    ctx.vcpu.regs.spsr = entry.pstate;
}

/// HPFAR_EL2 does not say the IPA: ask the MMU for it, and judge again. Where it has no answer either, the guest has
/// changed its tables meanwhile and tries again.
fn find_ipa(ctx: &mut VcpuContext, exit: Exit) -> *mut VcpuContext {
    let from_el0 = ctx.vcpu.regs.spsr & 0xf == 0;
    let exit = match exit {
        Exit::DataAbort(abort) => match at::stage1(abort.va, from_el0) {
            Some(ipa) => Exit::DataAbort(DataAbort { ipa: Some(ipa), ..abort }),
            None => return ctx,
        },
        Exit::InstructionAbort(abort) => match at::stage1(abort.va, from_el0) {
            Some(ipa) => Exit::InstructionAbort(InstructionAbort { ipa: Some(ipa), ..abort }),
            None => return ctx,
        },
        _ => return ctx,
    };
    match vm::on_exit(exit, &mut ctx.vcpu, &ctx.guest.vm) {
        // It has its IPA now, so that nothing asks for it again.
        Outcome::Resume | Outcome::FindIpa => ctx,
        Outcome::Abort(abort) => inject_abort(ctx, abort),
        Outcome::Advance { il } => {
            arch::advance(&mut ctx.vcpu.regs, il);
            ctx
        }
        other => rare(ctx, exit, other),
    }
}

/// Physical interrupt while a guest ran.
pub extern "C" fn irq_from_guest(ctx: &mut VcpuContext) -> *mut VcpuContext {
    if let Some(gic) = gic::get() {
        interrupts::handle(gic, Some(ctx));
    }
    if cpu::current().queue.take_stirred() { run::look_around(ctx) } else { ctx }
}

/// FIQs are group 0: none is configured for EL2.
pub extern "C" fn fiq_from_guest(ctx: &mut VcpuContext) -> *mut VcpuContext {
    log::warn!("a FIQ on CPU {}, which nobody configured", cpu::current().index.get());
    irq_from_guest(ctx)
}

/// An SError with a vCPU loaded stops its VM: what it did to the machine is not known.
pub extern "C" fn serror_from_guest(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let info = exit_info();
    log::warn!(
        "{}: SError (ESR {:#010x}) while vCPU {} ran at {:#x}; the VM is stopped",
        ctx.guest.config.name,
        info.esr,
        ctx.vcpu.index,
        ctx.vcpu.regs.elr
    );
    ctx.guest.vm.stop(&ctx.vcpu.order, StopReason::SError, Some(&ctx.vcpu));
    run::leave(ctx)
}
