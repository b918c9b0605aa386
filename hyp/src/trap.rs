// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exits from guests: read the syndrome once, decide in `vm`, act here. The only place that moves a guest's ELR or
//! writes its EL1 state.
//!
//! What stands in .text.hot, here and elsewhere, is where frequent exits come: its instructions are not shared with
//! other functions (the root Cargo.toml says why others' are).

use core::arch::asm;

use arch::{AbortKind, DataAbort, El1Entry, Errata, Exit, ExitInfo, InstructionAbort, Stage1, Va};
use vgic::ListRegister;
use vm::{Abort, Fast, GicAccess, GicdStore, Later, Outcome, StopReason};

use crate::gic::SystemRegisters;
use crate::vcpu::VcpuContext;
use crate::{at, barrier, cpu, el1, gic, interrupts, judged, lives, report, run, time};

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

/// Synchronous exit. What guests do most is done here without calling anything, so that no register need be kept for
/// later; the rest is called last, so that its frame is its own.
#[unsafe(link_section = ".text.hot")]
pub extern "C" fn sync_from_guest(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let info = exit_info();
    let errata = ctx.errata;
    judge(ctx, &info, &errata)
}

#[inline(always)]
fn judge(ctx: &mut VcpuContext, info: &ExitInfo, errata: &Errata) -> *mut VcpuContext {
    let fast = judged::fast_exit(info, errata, &mut ctx.vcpu, &ctx.guest.vm);
    act(ctx, fast)
}

#[inline(always)]
fn act(ctx: &mut VcpuContext, fast: Fast) -> *mut VcpuContext {
    match fast {
        Fast::Resume => ctx,
        Fast::Advance => step_over(ctx),
        Fast::Abort(_) => refuse_access(ctx),
        Fast::Later(Later::Map) => map(ctx),
        Fast::Later(Later::Unmap) => unmap(ctx),
        Fast::Later(Later::Call) => call(ctx),
        Fast::Later(Later::Sgi(reg)) => send_sgi(ctx, reg),
        Fast::Later(Later::Sgis(reg)) => send_sgis(ctx, reg),
        Fast::Later(Later::GicdStore(store)) => gicd_store(ctx, store),
        Fast::Later(Later::Gic(access)) => gic_access(ctx, access),
        Fast::Wait { advance } => wait(ctx, advance),
        Fast::FindIpa => judge_translated(ctx),
        Fast::Slow => slow(ctx),
    }
}

#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn wait(ctx: &mut VcpuContext, advance: bool) -> *mut VcpuContext {
    if advance {
        ctx.vcpu.step_over_a64();
    }
    run::wait_for_interrupt(ctx)
}

/// HPFAR_EL2 may be that of another access: the MMU says the IPA, then the exit is judged as any other. Where the MMU has
/// no answer, the guest has changed its tables meanwhile and tries again.
#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn judge_translated(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let info = exit_info();
    let from_el0 = ctx.vcpu.regs.spsr & 0xf == 0;
    let Some(ipa) = at::stage1(Va::new(info.far), from_el0) else { return tail(ctx) };
    let (info, errata) = info.found(ipa, &ctx.errata);
    match judged::fast_exit(&info, &errata, &mut ctx.vcpu, &ctx.guest.vm) {
        // With the IPA that was found, rather than with registers that do not have it.
        Fast::Slow => decoded(ctx, info, &errata),
        fast => act(ctx, fast),
    }
}

#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn map(ctx: &mut VcpuContext) -> *mut VcpuContext {
    finish(ctx, Later::Map)
}

#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn unmap(ctx: &mut VcpuContext) -> *mut VcpuContext {
    finish(ctx, Later::Unmap)
}

#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn call(ctx: &mut VcpuContext) -> *mut VcpuContext {
    finish(ctx, Later::Call)
}

#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn send_sgi(ctx: &mut VcpuContext, reg: u8) -> *mut VcpuContext {
    finish(ctx, Later::Sgi(reg))
}

#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn send_sgis(ctx: &mut VcpuContext, reg: u8) -> *mut VcpuContext {
    finish(ctx, Later::Sgis(reg))
}

#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn gicd_store(ctx: &mut VcpuContext, store: GicdStore) -> *mut VcpuContext {
    finish(ctx, Later::GicdStore(store))
}

#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn gic_access(ctx: &mut VcpuContext, access: GicAccess) -> *mut VcpuContext {
    finish(ctx, Later::Gic(access))
}

#[inline(always)]
fn finish(ctx: &mut VcpuContext, later: Later) -> *mut VcpuContext {
    match judged::finish(later, &mut ctx.vcpu, &ctx.guest.vm) {
        Fast::Advance => tail(step_over(ctx)),
        Fast::Later(Later::Sgis(reg)) => send_sgis(ctx, reg),
        Fast::Resume | Fast::Later(_) => tail(ctx),
        Fast::Abort(_) => refuse_access(ctx),
        Fast::Wait { .. } | Fast::FindIpa | Fast::Slow => slow(ctx),
    }
}

/// Hides that a function returns its argument: knowing that, the compiler would use the argument where the call is the
/// last thing to do, and no longer jump there.
#[expect(clippy::pointers_in_nomem_asm_block, reason = "nothing is read or written through it")]
#[inline(always)]
fn tail(ctx: *mut VcpuContext) -> *mut VcpuContext {
    let same;
    // SAFETY: no instruction at all.
    unsafe {
        asm!("/* {} */", inlateout(reg) ctx => same,
            options(pure, nomem, nostack, preserves_flags));
    }
    same
}

/// Past an instruction of AArch64: what goes the short way is no other (`vm::Fast::Advance`).
#[inline(always)]
fn step_over(ctx: &mut VcpuContext) -> *mut VcpuContext {
    ctx.vcpu.step_over_a64();
    ctx
}

/// The guard's answer to a data access: what [`inject_abort`] does, with nothing left to find out.
#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn refuse_access(ctx: &mut VcpuContext) -> *mut VcpuContext {
    deliver_abort(ctx, AbortKind::Data, None);
    tail(ctx)
}

/// Every other exit.
#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn slow(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let errata = ctx.errata;
    let info = exit_info();
    if ctx.take_debug(info.esr) {
        judged::drop_exit();
        return ctx;
    }
    decoded(ctx, info, &errata)
}

#[inline(never)]
fn decoded(ctx: &mut VcpuContext, info: ExitInfo, errata: &Errata) -> *mut VcpuContext {
    let exit = arch::decode(info, errata);
    judge_decoded(ctx, exit)
}

#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn judge_decoded(ctx: &mut VcpuContext, exit: Exit) -> *mut VcpuContext {
    match judged::on_exit(exit, &mut ctx.vcpu, &ctx.guest.vm) {
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
        Outcome::Timer => {
            arch::advance(&mut ctx.vcpu.regs, true);
            run::look_around(ctx)
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
    deliver_abort(ctx, abort.kind, level);
    ctx
}

#[inline(always)]
fn deliver_abort(ctx: &mut VcpuContext, kind: AbortKind, level: Option<i8>) {
    let va = ctx.vcpu.refusal.va;
    let regs = &ctx.vcpu.regs;
    let entry = arch::external_abort(kind, level, va, regs, &el1::entry_state(), &ctx.pstate);
    enter_el1(ctx, &entry);
    lives::refused(ctx);
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
    // It has its IPA now, so that nothing asks for it again.
    judge_decoded(ctx, exit)
}

/// Physical interrupt while a guest ran. Under GICv3 its own timer's and a kick are passed on here, by code that calls
/// nothing but at its end; what else is pending comes again after the ERET.
#[unsafe(link_section = ".text.hot")]
pub extern "C" fn irq_from_guest(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let Some(gic) = gic::system_registers() else { return any_interrupt(ctx) };
    let iar = gic.acknowledge();
    if iar == time::virtual_timer() {
        gic.drop_priority(iar);
        return match ctx.forward_short(time::GUEST_VIRTUAL, iar, gic.empty_list_registers()) {
            Some((n, lr)) => place(ctx, gic, n, lr),
            None => forward_timer(ctx),
        };
    }
    if iar != gic::SGI_KICK || cpu::current().queue.shared() || run::is_stopping(ctx) {
        return other_interrupt(ctx, iar);
    }
    // About interrupts of the loaded vCPU, which is alone on its CPU.
    gic.drop_priority(gic::SGI_KICK);
    gic.deactivate(gic::SGI_KICK);
    match ctx.kicked_short(gic.empty_list_registers()) {
        Some((n, lr)) => place(ctx, gic, n, lr),
        None => plan(ctx),
    }
}

/// Writes a list register, and enters the guest.
#[inline(always)]
fn place(
    ctx: &mut VcpuContext,
    gic: SystemRegisters,
    n: usize,
    lr: ListRegister,
) -> *mut VcpuContext {
    gic.write_list_register_here(n, lr);
    barrier::isb();
    ctx
}

/// The timer's interrupt, its priority dropped, where it needs more thought.
#[cold]
#[inline(never)]
fn forward_timer(ctx: &mut VcpuContext) -> *mut VcpuContext {
    ctx.forward(time::GUEST_VIRTUAL, time::virtual_timer());
    tail(ctx)
}

/// A kick about interrupts of the loaded vCPU, where it needs more thought.
#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn plan(ctx: &mut VcpuContext) -> *mut VcpuContext {
    ctx.plan();
    tail(ctx)
}

/// An interrupt under GICv2.
#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn any_interrupt(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let Some(gic) = gic::get() else { return ctx };
    let iar = gic.acknowledge();
    if interrupts::intid(iar) == gic::SGI_KICK
        && !cpu::current().queue.shared()
        && !run::is_stopping(ctx)
    {
        gic.drop_priority(iar);
        gic.deactivate(iar);
        return plan(ctx);
    }
    other_interrupt(ctx, iar)
}

/// An interrupt that has been acknowledged.
#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn other_interrupt(ctx: &mut VcpuContext, iar: u32) -> *mut VcpuContext {
    let Some(gic) = gic::get() else { return ctx };
    interrupts::handle_one(gic, iar, Some(ctx));
    if cpu::current().queue.take_stirred() { run::look_around(ctx) } else { ctx }
}

/// FIQs are group 0: none is configured for EL2.
pub extern "C" fn fiq_from_guest(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let cpu = cpu::current().index.get();
    report::stray(format_args!("a FIQ on CPU {cpu}: none is configured for EL2"));
    irq_from_guest(ctx)
}

/// An SError with a vCPU loaded stops its VM: what it did to the machine is not known.
pub extern "C" fn serror_from_guest(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let info = exit_info();
    report::about(
        ctx.guest,
        log::Level::Warn,
        format_args!(
            "{}: SError (ESR {:#010x}) while vCPU {} ran at {:#x}; the VM is stopped",
            ctx.guest.config.name, info.esr, ctx.vcpu.index, ctx.vcpu.regs.elr
        ),
    );
    judged::stop(&ctx.vcpu, &ctx.guest.vm, StopReason::SError);
    run::leave(ctx)
}
