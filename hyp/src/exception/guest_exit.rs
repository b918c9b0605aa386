// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exits from guests: read the syndrome once, decide in `vm`, act here. With `vcpu::answer`, which ends accesses that a device
//! VM has answered, the only place that moves a guest's ELR or writes its EL1 state.
//!
//! `.text.hot`, here and elsewhere, holds the exit fast path. It is exempt from the size optimiser's outlining (see the root
//! Cargo.toml).

use core::arch::asm;

use aarch64_cpu::registers::{Readable, SCTLR_EL1, TCR_EL1, TTBR0_EL1, TTBR1_EL1};
use arch::{AbortKind, Exit, ExitInfo, Stage1, Va};
use vgic::ListRegister;
use vm::{Abort, Deferred, FastPath, GicAccess, GicdStore, Outcome};

use crate::cpu::{self, address_translation, barrier, timer};
use crate::gic;
use crate::gic::SystemRegisters;
use crate::guest::vm_log;
use crate::oracle::checked;
use crate::vcpu::context::VcpuContext;
use crate::vcpu::inject;
use crate::vcpu::{crash, interrupts, scheduler};

/// Sets this CPU's traps and notes its features and errata.
pub fn init_cpu() {
    crate::cpu::id_registers::sanitise_cpu_features();
    crate::cpu::trap_controls::init_cpu();
}

/// Reads ESR, FAR and HPFAR.
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

/// Synchronous exit. Frequent ones are handled here without a call, so that no register is saved. Every other function is
/// a tail call with a frame of its own.
#[unsafe(link_section = ".text.hot")]
pub extern "C" fn sync_from_guest(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let info = exit_info();
    let errata = ctx.errata;
    let path = checked::try_fast_path(&info, &errata, &mut ctx.vcpu, &ctx.guest.vm);
    take(ctx, path)
}

#[inline(always)]
fn take(ctx: &mut VcpuContext, path: FastPath) -> *mut VcpuContext {
    match path {
        FastPath::Done(outcome) => apply::<true>(ctx, outcome),
        FastPath::Deferred(deferred) => run_deferred(ctx, deferred),
        FastPath::Fallback => fall_back(ctx),
    }
}

/// Acts on an outcome, of the fast path and of the slow path. `A64`: the guest is known to be in A64 state.
#[inline(always)]
fn apply<const A64: bool>(ctx: &mut VcpuContext, outcome: Outcome) -> *mut VcpuContext {
    match outcome {
        Outcome::Resume => ctx,
        Outcome::Advance { .. } if A64 => {
            arch::skip_a64(&mut ctx.vcpu.regs);
            ctx
        }
        Outcome::Advance { il } => {
            arch::skip_instruction(&mut ctx.vcpu.regs, il);
            ctx
        }
        Outcome::Abort(Abort { kind: AbortKind::Data, walk: false }) => inject_sea(ctx),
        Outcome::Abort(abort) => inject_rare_sea(ctx, abort),
        Outcome::Wait { advance, il } => wait(ctx, advance, il),
        Outcome::ResolveIpa => retry_with_translated_ipa(ctx),
        other => apply_cold(ctx, other),
    }
}

/// The outcomes that are off the fast path.
#[cold]
#[inline(never)]
fn apply_cold(ctx: &mut VcpuContext, outcome: Outcome) -> *mut VcpuContext {
    match outcome {
        Outcome::Undefined => {
            // An AArch32 instruction may trap though its condition fails; it would not have run.
            let info = exit_info();
            if arch::condition_failed(info.esr, ctx.vcpu.regs.spsr) {
                arch::skip_instruction(&mut ctx.vcpu.regs, info.il());
                return ctx;
            }
            let (pc, return_address) = (ctx.vcpu.regs.elr, inject::return_address());
            let entry = arch::undefined(&ctx.vcpu.regs, &inject::entry_state(), &ctx.pstate);
            ctx.enter_el1(&entry);
            crash::undefined(ctx, pc, return_address);
            ctx
        }
        Outcome::WaitForServer => scheduler::wait_for_server(ctx),
        Outcome::Yield { il } => {
            arch::skip_instruction(&mut ctx.vcpu.regs, il);
            scheduler::yield_now(ctx)
        }
        Outcome::Timer => {
            arch::skip_instruction(&mut ctx.vcpu.regs, true);
            scheduler::reschedule(ctx)
        }
        Outcome::Off | Outcome::Stop(_) => scheduler::vcpu_off(ctx),
        // `apply` has handled these.
        Outcome::Resume
        | Outcome::Advance { .. }
        | Outcome::Abort(_)
        | Outcome::Wait { .. }
        | Outcome::ResolveIpa => ctx,
    }
}

#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn wait(ctx: &mut VcpuContext, advance: bool, il: bool) -> *mut VcpuContext {
    if advance {
        arch::skip_instruction(&mut ctx.vcpu.regs, il);
    }
    scheduler::wait_for_interrupt(ctx)
}

/// HPFAR_EL2 does not hold the IPA of this access: the MMU translates it, then the exit takes the slow path. Without an
/// answer of the MMU the guest has changed its tables, and tries again.
#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn retry_with_translated_ipa(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let info = exit_info();
    let from_el0 = ctx.vcpu.regs.spsr & 0xf == 0;
    let Some(ipa) = address_translation::stage1(Va::new(info.far), from_el0) else {
        return tail(ctx);
    };
    handle_exit(ctx, arch::decode(info, &ctx.errata).with_ipa(ipa))
}

/// The second half of an exit that the fast path has recognised. Each kind has a function, so that it has its own stack
/// frame and the fast path has none.
macro_rules! deferred {
    ($($kind:ident $(($argument:ident: $type:ty))? => $name:ident,)*) => {
        #[inline(always)]
        fn run_deferred(ctx: &mut VcpuContext, deferred: Deferred) -> *mut VcpuContext {
            match deferred {
                $(Deferred::$kind $(($argument))? => $name(ctx $(, $argument)?),)*
            }
        }

        $(
            #[unsafe(link_section = ".text.hot")]
            #[inline(never)]
            fn $name(ctx: &mut VcpuContext $(, $argument: $type)?) -> *mut VcpuContext {
                finish_deferred(ctx, Deferred::$kind $(($argument))?)
            }
        )*
    };
}

deferred! {
    Map => map,
    Unmap => unmap,
    Call => call,
    Sgi(register: u8) => send_sgi,
    Sgis(register: u8) => send_sgis,
    GicdStore(store: GicdStore) => gicd_store,
    Gic(access: GicAccess) => gic_access,
    Served(esr: u32) => served,
}

#[inline(always)]
fn finish_deferred(ctx: &mut VcpuContext, deferred: Deferred) -> *mut VcpuContext {
    match checked::run_deferred(deferred, &mut ctx.vcpu, &ctx.guest.vm) {
        FastPath::Done(outcome) => tail(apply::<true>(ctx, outcome)),
        // Nothing else is deferred twice.
        FastPath::Deferred(Deferred::Sgis(register)) => send_sgis(ctx, register),
        FastPath::Deferred(_) => tail(ctx),
        FastPath::Fallback => fall_back(ctx),
    }
}

/// Hides from the compiler that a function returns its argument. Otherwise it would return the argument itself, and no
/// longer make a tail call.
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

/// The slow path.
#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn fall_back(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let info = exit_info();
    if ctx.enable_lazy_debug(info.esr) {
        checked::drop_exit();
        return ctx;
    }
    ctx.record.note(info.esr, ctx.vcpu.regs.elr);
    handle_exit(ctx, arch::decode(info, &ctx.errata))
}

#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn handle_exit(ctx: &mut VcpuContext, exit: Exit) -> *mut VcpuContext {
    let outcome = checked::on_exit(exit, &mut ctx.vcpu, &ctx.guest.vm);
    apply::<false>(ctx, outcome)
}

/// Injects a synchronous external abort (SEA) of a data access, and reports why.
#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn inject_sea(ctx: &mut VcpuContext) -> *mut VcpuContext {
    ctx.enter_abort(AbortKind::Data, None);
    tail(ctx)
}

/// [`inject_sea`] of an instruction fetch, or of an access that hit a stage-1 walk.
#[cold]
#[inline(never)]
fn inject_rare_sea(ctx: &mut VcpuContext, abort: Abort) -> *mut VcpuContext {
    let level = if abort.walk { walk_level(ctx) } else { None };
    // Without a level the guest has changed its tables, and tries again.
    if !abort.walk || level.is_some() {
        ctx.enter_abort(abort.kind, level);
    }
    ctx
}

/// At which level the guest's stage-1 walk left its memory.
#[cold]
#[inline(never)]
fn walk_level(ctx: &VcpuContext) -> Option<i8> {
    let stage1 = Stage1 {
        sctlr: SCTLR_EL1.get(),
        tcr: TCR_EL1.get(),
        ttbr0: TTBR0_EL1.get(),
        ttbr1: TTBR1_EL1.get(),
    };
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

/// Physical interrupt while a guest ran. Under GICv3 the guest's timer and kicks are handled here, with tail calls alone.
/// Other pending interrupts come again after the ERET.
#[unsafe(link_section = ".text.hot")]
pub extern "C" fn irq_from_guest(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let Some(gic) = gic::system_registers() else { return any_interrupt(ctx) };
    let iar = gic.acknowledge();
    if iar == timer::virtual_timer() {
        gic.drop_priority(iar);
        return match ctx.try_forward(timer::GUEST_VIRTUAL, iar, gic.empty_list_registers()) {
            Some((n, lr)) => place(ctx, gic, n, lr),
            None => forward_timer(ctx),
        };
    }
    let queue = &cpu::current().queue;
    if iar != gic::SGI_KICK || queue.shared() {
        return other_interrupt(ctx, iar);
    }
    // Before the state that it announces is read (`sched::Wake`).
    queue.wake.take();
    if scheduler::must_leave_guest(ctx) {
        return other_interrupt(ctx, iar);
    }
    // For interrupts of the loaded vCPU, which is alone on its CPU.
    gic.drop_priority(gic::SGI_KICK);
    gic.deactivate(gic::SGI_KICK);
    match ctx.try_flush_kick(gic.empty_list_registers()) {
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

/// Slow path of the timer's interrupt, its priority dropped.
#[cold]
#[inline(never)]
fn forward_timer(ctx: &mut VcpuContext) -> *mut VcpuContext {
    ctx.forward(timer::GUEST_VIRTUAL, timer::virtual_timer());
    tail(ctx)
}

/// Slow path of a kick for interrupts of the loaded vCPU.
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
    let queue = &cpu::current().queue;
    if interrupts::intid(iar) == gic::SGI_KICK && !queue.shared() {
        queue.wake.take();
        if !scheduler::must_leave_guest(ctx) {
            gic.drop_priority(iar);
            gic.deactivate(iar);
            return plan(ctx);
        }
    }
    other_interrupt(ctx, iar)
}

/// An interrupt that has been acknowledged.
#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn other_interrupt(ctx: &mut VcpuContext, iar: u32) -> *mut VcpuContext {
    let Some(gic) = gic::get() else { return ctx };
    interrupts::handle_one(gic, iar, Some(ctx));
    if cpu::current().queue.take_need_resched() { scheduler::reschedule(ctx) } else { ctx }
}

/// FIQs are group 0: none is configured for EL2.
pub extern "C" fn fiq_from_guest(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let cpu = cpu::current().index.get();
    vm_log::stray(format_args!("a FIQ on CPU {cpu}: none is configured for EL2"));
    irq_from_guest(ctx)
}

/// An SError with a vCPU loaded.
pub extern "C" fn serror_from_guest(ctx: &mut VcpuContext) -> *mut VcpuContext {
    ctx.stop_by_serror(exit_info().esr);
    scheduler::leave_guest_as_asked(ctx)
}
