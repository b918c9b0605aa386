// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which vCPU a CPU runs: what `sched` chooses, where several share it. A vCPU alone on its CPU is never interrupted for
//! this, and its WFI is the CPU's own. docs/scheduling.md

use core::sync::atomic::{AtomicBool, Ordering};

use aarch64_cpu::registers::{CNTV_CTL_EL0, Writeable};
use arch::{GuestRegs, VcpuSet};
use vm::Host;

use sched::Reason;

use crate::console::ring;
use crate::cpu::{self, Cpu};
use crate::cpu::{barrier, timer};
use crate::gic;
use crate::guest::{console_events, passthrough};
use crate::vcpu::context::{State, VcpuContext};
use crate::vcpu::{interrupts, lifecycle};

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
    // What was turned on before the CPUs knew their vCPUs.
    let _ = cpu::current().queue.wake.signal(u32::MAX, Reason::Power);
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
    // Before what they are about is looked at: a sender that finds its bit set sends no kick.
    let bits = cpu.queue.wake.take();
    if must_leave(ctx) {
        return leave_as_asked(ctx);
    }
    ctx.guest.vm.tick(&mut ctx.vcpu, true);
    if cpu.queue.shared() {
        if look(cpu, ctx, bits) {
            return next(Some((ctx, State::Ready)));
        }
    } else {
        arm(ctx, u64::MAX);
    }
    ctx.plan();
    ctx
}

/// Looks at vCPUs of this CPU for which there may be something new: those of the `bits` that were taken, and those whose
/// timers have expired. Whether another one than `ctx`, which is loaded, is to run.
#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn look(cpu: &Cpu, ctx: &mut VcpuContext, bits: u64) -> bool {
    let queue = &cpu.queue;
    let now = timer::now();
    queue.account(now);
    let own = !(1 << ctx.number);
    let told = (bits | bits >> 32) as u32 & own;
    let due = queue.with(|scheduler| scheduler.take_due(now));
    if told | due != 0 {
        look_at(cpu, told | due, now);
    }
    if queue.holding.get() {
        passthrough::release(Some(ctx.loaded()), now);
    }
    if queue.with(|scheduler| scheduler.wants_switch(now)) {
        return true;
    }
    if told | due != 0 {
        // It was for nothing, and is not the loaded one's doing.
        let cause = (told | due).trailing_zeros() as usize;
        // SAFETY: one of this CPU's own vCPUs, not the loaded one.
        let vcpu = unsafe { VcpuContext::on(cpu, cause).as_ref() };
        let used = vcpu.map(|vcpu| vcpu.guest.cpu_time(vcpu.vcpu.index));
        queue.account_to(cause, used, timer::now(), told != 0);
    }
    listen(cpu, ctx);
    false
}

/// Each of these vCPUs, none of which is loaded: it may want the CPU now, or be parked because its VM is stopping.
#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn look_at(cpu: &Cpu, mut vcpus: u32, now: u64) {
    while vcpus != 0 {
        let number = vcpus.trailing_zeros() as usize;
        vcpus &= vcpus.wrapping_sub(1);
        // SAFETY: one of this CPU's own vCPUs, used by no other CPU; the caller holds a reference to another one at most.
        let Some(vcpu) = (unsafe { VcpuContext::on(cpu, number).as_mut() }) else { continue };
        let before = vcpu.state;
        lifecycle::park_if_asked(vcpu);
        let until = vcpu.waits_until(now);
        settle(cpu, vcpu, before, until);
    }
}

/// Tells the scheduler what has become of a vCPU that was in the state `before`.
#[inline(always)]
fn settle(cpu: &Cpu, vcpu: &VcpuContext, before: State, until: Option<u64>) {
    cpu.queue.with(|scheduler| match vcpu.state {
        State::Ready | State::Preparing => {
            if matches!(before, State::Off | State::Waiting) {
                scheduler.wake(vcpu.number);
            }
        }
        State::Waiting => scheduler.set_deadline(vcpu.number, deadline(until)),
        State::Off => {
            if before != State::Off {
                scheduler.turn_off(vcpu.number);
            }
        }
    });
}

/// As the scheduler has it.
#[inline(always)]
fn deadline(until: Option<u64>) -> Option<u64> {
    until.filter(|at| *at != u64::MAX)
}

/// Says for what this CPU is to be kicked while `ctx` runs, and sets EL2's timer to when it has to choose again.
#[inline(always)]
fn listen(cpu: &Cpu, ctx: &VcpuContext) {
    let now = timer::now();
    let (heed, until) = cpu.queue.with(|scheduler| (scheduler.heed(now), scheduler.until(now)));
    // Who has set a bit that was not listened for has sent no kick.
    let at = if cpu.queue.wake.listen(heed) { now } else { until };
    arm(ctx, at);
}

/// The vCPU has stopped running, by its own wish or its VM's, and its registers are of no use: waits until this CPU has
/// something to run.
pub fn leave(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let cpu = cpu::current();
    ctx.synchronize_errors();
    // Its timer and its list registers would go on otherwise.
    CNTV_CTL_EL0.set(0);
    if let Some(gic) = gic::get() {
        ctx.take_back_interrupts();
        gic.write_hcr(0);
        gic.set_ppi_active(ctx.cpu, timer::virtual_timer(), false);
    }
    cpu.queue.account(timer::now());
    ctx.state = State::Off;
    // Where its VM is stopping it is still on, and is parked here.
    lifecycle::park_if_asked(ctx);
    cpu.queue.with(|scheduler| scheduler.turn_off(ctx.number));
    settle(cpu, ctx, State::Off, None);
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
        cpu.queue.wake.take();
        if must_leave(ctx) {
            return leave_as_asked(ctx);
        }
        ctx.guest.vm.tick(&mut ctx.vcpu, true);
        ctx.plan();
        if ctx.guest.vm.vgic().lock(&ctx.vcpu.order).deliverable(ctx.vcpu.index) {
            return ctx;
        }
        arm(ctx, u64::MAX);
        barrier::wfi();
    }
}

/// The vCPU has nothing to do right now (WFE): another one may go first.
pub fn yield_now(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let cpu = cpu::current();
    if cpu.queue.shared() {
        let now = timer::now();
        cpu.queue.account(now);
        let chosen = cpu.queue.with(|scheduler| {
            scheduler.give_way();
            scheduler.choose(now)
        });
        if chosen != Some(ctx.number) {
            return next(Some((ctx, State::Ready)));
        }
        listen(cpu, ctx);
    }
    ctx
}

/// The loaded vCPU is asked to leave: for good where its VM is stopping; else its VM is paused, and it keeps its registers.
#[cold]
#[inline(never)]
pub fn leave_as_asked(ctx: &mut VcpuContext) -> *mut VcpuContext {
    if ctx.guest.vm.lifecycle().stopping().is_some() {
        return leave(ctx);
    }
    // The scheduler looks at it once it is unloaded: it stands still then, unless its VM goes on already.
    ctx.guest.vm.host().power_changed(VcpuSet::single(ctx.vcpu.index));
    next(Some((ctx, State::Ready)))
}

/// Whether the loaded vCPU is to leave the guest: its VM is stopping, or paused.
#[inline(always)]
pub fn must_leave(ctx: &VcpuContext) -> bool {
    ctx.guest.vm.lifecycle().is_asked()
}

/// Takes the loaded vCPU, if there is one, out of this CPU, waits for one to be ready, and loads that.
#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn next(loaded: Option<(&mut VcpuContext, State)>) -> *mut VcpuContext {
    let cpu = cpu::current();
    let queue = &cpu.queue;
    let Some(gic) = gic::get() else { no_controller() };
    let mut waits = None;
    if let Some((ctx, state)) = loaded {
        let until = ctx.put(state, gic);
        if state == State::Waiting {
            waits = Some((ctx.number, ctx.state == State::Ready, until));
        }
    }
    loop {
        if interrupts::pending() {
            interrupts::handle(gic, None);
        }
        queue.take_need_resched();
        if ring::backlog() {
            console_events::pump();
        }
        let now = timer::now();
        queue.account(now);
        if let Some((number, awake, until)) = waits.take() {
            queue.with(|scheduler| {
                scheduler.sleep(number, deadline(Some(until)));
                if awake {
                    scheduler.wake(number);
                }
            });
        }
        if queue.holding.get() {
            passthrough::release(None, now);
        }
        let bits = if queue.wake.any() { queue.wake.take() } else { 0 };
        let due = queue.with(|scheduler| scheduler.take_due(now));
        let told = (bits | bits >> 32) as u32 | due;
        if told != 0 {
            look_at(cpu, told, now);
        }
        let Some(number) = queue.with(|scheduler| scheduler.choose(now)) else {
            queue.charge_to(None, now);
            let (heed, until) = queue.with(|scheduler| (scheduler.heed(now), scheduler.until(now)));
            if !queue.wake.listen(heed) {
                wake(until);
                barrier::wfi();
            }
            continue;
        };
        // SAFETY: as in `look_at`; nothing is loaded.
        let Some(vcpu) = (unsafe { VcpuContext::on(cpu, number).as_mut() }) else { continue };
        queue.charge_to(Some(vcpu.guest.cpu_time(vcpu.vcpu.index)), now);
        if vcpu.state == State::Preparing {
            prepare(cpu, vcpu);
            continue;
        }
        vcpu.load(cpu, gic, now);
        let (heed, until) = queue.with(|scheduler| (scheduler.heed(now), scheduler.until(now)));
        let until = if queue.wake.listen(heed) { now } else { until };
        arm(vcpu, until);
        return vcpu;
    }
}

/// Lets a vCPU that prepares its VM's next life do a piece of that.
#[cold]
#[inline(never)]
fn prepare(cpu: &Cpu, vcpu: &mut VcpuContext) {
    lifecycle::reset_slice(vcpu);
    if vcpu.state == State::Off {
        cpu.queue.account(timer::now());
        cpu.queue.with(|scheduler| scheduler.turn_off(vcpu.number));
    }
}

/// Boot has refused to go on without an interrupt controller.
#[cold]
fn no_controller() -> ! {
    loop {
        barrier::wfi();
    }
}

/// Sets EL2's timer to `until`, or to when a timer of `ctx`, which is loaded, expires.
#[inline(always)]
fn arm(ctx: &VcpuContext, until: u64) {
    wake(until.min(ctx.vcpu.physical_timer.deadline().unwrap_or(u64::MAX)));
}

/// Sets EL2's timer to CNTPCT_EL0 `at`, or earlier where the console asks for it.
#[inline(always)]
fn wake(mut at: u64) {
    if ring::backlog() {
        at = at.min(timer::now().saturating_add(timer::frequency() / 1000));
    }
    if let Some(look) = crate::console::guest_input::next_poll() {
        at = at.min(look);
    }
    // 0, for never, becomes the end of time.
    timer::wake_at(at.min(cpu::current().restart.get().wrapping_sub(1)));
}
