// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which vCPU a CPU runs: each in turn, for a slice of time where several want it. A vCPU alone on its CPU is never
//! interrupted for this, and its WFI is the CPU's own.

use core::sync::atomic::{AtomicBool, Ordering};

use aarch64_cpu::registers::{CNTV_CTL_EL0, Writeable};
use arch::GuestRegs;

use crate::cpu::{self, Cpu};
use crate::vcpu::{State, VcpuContext};
use crate::{barrier, console, gic, interrupts, lives, time};

/// Set when all VMs are ready: before that no CPU touches its vCPUs.
static RELEASED: AtomicBool = AtomicBool::new(false);

/// Lets the CPUs look for work.
pub fn release_all() {
    RELEASED.store(true, Ordering::Release);
    barrier::dsb_ish();
    barrier::sev();
}

/// A CPU's first step into a guest; its stack is of no use any more.
pub fn first_entry() -> ! {
    unsafe extern "C" {
        fn enter_guest(regs: *mut GuestRegs) -> !;
    }
    while !RELEASED.load(Ordering::Acquire) {
        barrier::wfe();
    }
    let ctx = next(None);
    // SAFETY: `next` returns one of this CPU's own vCPUs, loaded; the vectors expect SP_EL2 to point to it.
    unsafe { enter_guest(ctx.cast()) }
}

/// Interrupts have been handled while `ctx` was loaded, and one of them was a reason to look around: goes on with it, or
/// with another vCPU.
#[unsafe(link_section = ".text.hot")]
#[inline(never)]
pub fn look_around(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let cpu = cpu::current();
    if is_stopping(ctx) {
        return leave(ctx);
    }
    ctx.guest.vm.tick(&mut ctx.vcpu, true);
    if cpu.queue.shared() {
        let now = time::now();
        if another_ready(cpu, ctx, now) {
            if now >= cpu.queue.slice_end.get() {
                return next(Some((ctx, State::Ready)));
            }
            // Whoever has just woken does not wait for a whole slice.
            let soon = now.saturating_add(time::slice() / 4);
            cpu.queue.slice_end.set(cpu.queue.slice_end.get().min(soon));
            arm(cpu, Some(ctx), cpu.queue.slice_end.get());
        } else {
            arm(cpu, Some(ctx), u64::MAX);
        }
    } else {
        arm(cpu, Some(ctx), u64::MAX);
    }
    ctx.plan();
    ctx
}

/// The vCPU has stopped running, by its own wish or its VM's, and its registers are of no use: waits until this CPU has
/// something to run.
pub fn leave(ctx: &mut VcpuContext) -> *mut VcpuContext {
    // Its timer and its list registers would go on otherwise.
    CNTV_CTL_EL0.set(0);
    if let Some(gic) = gic::get() {
        ctx.take_back_interrupts();
        gic.write_hcr(0);
        gic.set_ppi_active(ctx.cpu, time::virtual_timer(), false);
    }
    ctx.account();
    // Still on where its VM is stopping: `lives::tend` parks it.
    ctx.state = State::Off;
    cpu::current().loaded.set(core::ptr::null_mut());
    next(None)
}

/// The vCPU waits for an interrupt (CPU_SUSPEND, or WFI where it shares its CPU).
#[inline(always)]
pub fn wait_for_interrupt(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let cpu = cpu::current();
    if cpu.queue.shared() {
        return next(Some((ctx, State::Waiting)));
    }
    sleep(cpu, ctx)
}

/// [`wait_for_interrupt`] of a vCPU alone on its CPU.
#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn sleep(cpu: &Cpu, ctx: &mut VcpuContext) -> *mut VcpuContext {
    let Some(gic) = gic::get() else { return ctx };
    loop {
        interrupts::handle(gic, Some(ctx));
        if is_stopping(ctx) {
            return leave(ctx);
        }
        ctx.guest.vm.tick(&mut ctx.vcpu, true);
        ctx.plan();
        if ctx.guest.vm.vgic().lock(&ctx.vcpu.order).deliverable(ctx.vcpu.index) {
            return ctx;
        }
        arm(cpu, Some(ctx), u64::MAX);
        barrier::wfi();
    }
}

/// The vCPU has nothing to do right now (WFE): another one may go first.
pub fn yield_now(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let cpu = cpu::current();
    if cpu.queue.shared() && another_ready(cpu, ctx, time::now()) {
        return next(Some((ctx, State::Ready)));
    }
    ctx
}

#[inline(always)]
pub fn is_stopping(ctx: &VcpuContext) -> bool {
    ctx.guest.vm.lifecycle().is_stopping()
}

/// Whether a vCPU other than the loaded one wants the CPU. Those of stopping VMs are parked on the way.
#[unsafe(link_section = ".text.hot")]
fn another_ready(cpu: &Cpu, loaded: *const VcpuContext, now: u64) -> bool {
    let mut ready = false;
    let mut turn = cpu.queue.in_turn();
    while let Some((_, other)) = turn.next() {
        if core::ptr::eq(other, loaded) {
            continue;
        }
        // SAFETY: one of this CPU's own vCPUs, used by no other CPU; the caller holds a reference to `loaded` only.
        if let Some(other) = unsafe { other.as_mut() } {
            lives::tend(other);
            ready |= other.sleeps_until(now).is_none();
        }
    }
    ready
}

/// Takes the loaded vCPU, if there is one, out of this CPU, waits for one to be ready, and loads that.
#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn next(loaded: Option<(&mut VcpuContext, State)>) -> *mut VcpuContext {
    let cpu = cpu::current();
    let Some(gic) = gic::get() else { no_controller() };
    if let Some((ctx, state)) = loaded {
        ctx.unload(state, cpu, gic);
    }
    loop {
        if interrupts::pending() {
            interrupts::handle(gic, None);
        }
        cpu.queue.take_stirred();
        if console::backlog() {
            console::pump();
        }
        let now = time::now();
        let mut found = None;
        // When somebody else wants the CPU.
        let mut until = u64::MAX;
        let end = now.saturating_add(time::slice());
        let mut turn = cpu.queue.in_turn();
        while let Some((place, vcpu)) = turn.next() {
            // SAFETY: as in `another_ready`; nothing is loaded.
            let Some(vcpu) = (unsafe { vcpu.as_mut() }) else { continue };
            lives::tend(vcpu);
            if let Some(at) = vcpu.sleeps_until(now) {
                until = until.min(at);
            } else if found.is_none() {
                found = Some((place, vcpu));
            } else {
                until = until.min(end);
            }
        }
        if let Some((place, vcpu)) = found {
            cpu.queue.chose(place);
            if vcpu.state == State::Preparing {
                lives::prepare(vcpu);
                let spent = time::now().saturating_sub(now);
                vcpu.guest.cpu_time(vcpu.vcpu.index).charge(spent);
                continue;
            }
            vcpu.load(cpu, gic, now);
            cpu.queue.slice_end.set(end);
            wake(until.min(vcpu.vcpu.physical_timer.deadline().unwrap_or(u64::MAX)));
            return vcpu;
        }
        wake(until);
        barrier::wfi();
    }
}

/// Boot has refused to go on without an interrupt controller.
#[cold]
fn no_controller() -> ! {
    loop {
        barrier::wfi();
    }
}

/// Sets EL2's timer to the next thing that needs this CPU: the end of a slice, a timer of an unloaded vCPU, the console.
#[unsafe(link_section = ".text.hot")]
fn arm(cpu: &Cpu, loaded: Option<&VcpuContext>, slice_end: u64) {
    let mut at = slice_end;
    if let Some(deadline) = loaded.and_then(|l| l.vcpu.physical_timer.deadline()) {
        at = at.min(deadline);
    }
    if cpu.queue.shared() || loaded.is_none() {
        let mut turn = cpu.queue.in_turn();
        while let Some((_, vcpu)) = turn.next() {
            if loaded.is_some_and(|l| core::ptr::eq(l, vcpu)) {
                continue;
            }
            // SAFETY: as in `another_ready`; read only.
            if let Some(vcpu) = unsafe { vcpu.as_ref() }
                && vcpu.state == State::Waiting
                && let Some(deadline) = vcpu.deadline()
            {
                at = at.min(deadline);
            }
        }
    }
    wake(at);
}

/// Sets EL2's timer to CNTPCT_EL0 `at`, or earlier where the console asks for it.
#[inline(always)]
fn wake(mut at: u64) {
    if console::backlog() {
        at = at.min(time::now().saturating_add(time::frequency() / 1000));
    }
    if let Some(look) = crate::input::next_look() {
        at = at.min(look);
    }
    time::wake_at(at);
}
