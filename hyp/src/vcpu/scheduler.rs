// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which vCPU a CPU runs: `sched` chooses among those that share the CPU. A vCPU alone on its CPU is never interrupted for
//! this, and its WFI is the CPU's own. docs/scheduling.md

use core::sync::atomic::{AtomicBool, Ordering};

use aarch64_cpu::registers::{CNTV_CTL_EL0, Writeable};
use arch::{GuestRegs, VcpuSet};
use vm::Host;

use sched::{Reason, VcpuState, vcpus_of};

use crate::console::ring;
use crate::cpu::{self, Cpu};
use crate::cpu::{barrier, timer};
use crate::gic::{self, Gic};
use crate::guest::{console_events, passthrough};
use crate::vcpu::context::VcpuContext;
use crate::vcpu::{answer, interrupts, lifecycle};

/// Set once all VMs are made: before that no CPU touches its vCPUs.
static RELEASED: AtomicBool = AtomicBool::new(false);

/// Lets the CPUs schedule.
pub fn release_all() {
    RELEASED.store(true, Ordering::Release);
    barrier::dsb_ish();
    barrier::sev();
}

/// Enters a guest for the first time on this CPU. What is on the stack is discarded.
pub fn first_entry() -> ! {
    unsafe extern "C" {
        fn enter_guest(regs: *mut GuestRegs) -> !;
    }
    while !RELEASED.load(Ordering::Acquire) {
        barrier::wfe();
    }
    // vCPUs that were turned on before the CPUs knew them.
    let _ = cpu::current().queue.wake.signal(u32::MAX, Reason::Power);
    let ctx = schedule(None);
    // SAFETY: `schedule` returns one of this CPU's own vCPUs, loaded; the vectors expect SP_EL2 to point to it.
    unsafe { enter_guest(ctx.cast()) }
}

/// Continues `ctx` or switches to another vCPU, after an interrupt that asked for it.
#[unsafe(link_section = ".text.hot")]
#[inline(never)]
pub fn reschedule(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let cpu = cpu::current();
    // Taken before the state that they announce is read: a sender that finds its bit set sends no kick.
    let bits = cpu.queue.wake.take();
    if must_leave_guest(ctx) {
        return leave_guest_as_asked(ctx);
    }
    ctx.guest.vm.tick(&mut ctx.vcpu, true);
    if cpu.queue.shared() {
        if check_others(cpu, ctx, bits) {
            return schedule(Some((ctx, VcpuState::Ready)));
        }
    } else {
        set_timer(ctx, u64::MAX);
    }
    ctx.plan();
    ctx
}

/// Updates the vCPUs of this CPU whose wake `bits` were set or whose timers have expired. Returns whether another one than
/// `ctx`, which is loaded, is to run.
#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn check_others(cpu: &Cpu, ctx: &mut VcpuContext, bits: u64) -> bool {
    let queue = &cpu.queue;
    let now = timer::now();
    queue.account(now);
    let own = !(1 << ctx.number);
    let told = vcpus_of(bits) & own;
    let due = queue.with(|scheduler| scheduler.take_due(now));
    if told | due != 0 {
        update_vcpus(cpu, told | due, now);
    }
    if queue.holding.get() {
        passthrough::release(Some(ctx.loaded()), now);
    }
    if queue.with(|scheduler| scheduler.wants_switch(now)) {
        return true;
    }
    if told | due != 0 {
        // No switch came of it, and the loaded vCPU did not cause it.
        let cause = (told | due).trailing_zeros() as usize;
        // SAFETY: one of this CPU's own vCPUs, not the loaded one.
        let vcpu = unsafe { VcpuContext::on(cpu, cause).as_ref() };
        let used = vcpu.map(|vcpu| vcpu.guest.cpu_time(vcpu.vcpu.index));
        queue.account_to(cause, used, timer::now(), told != 0);
    }
    publish_heed(cpu, ctx);
    false
}

/// Updates these vCPUs, none of which is loaded: each may want the CPU now, or is parked because its VM stops.
#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn update_vcpus(cpu: &Cpu, mut vcpus: u32, now: u64) {
    while vcpus != 0 {
        let number = vcpus.trailing_zeros() as usize;
        vcpus &= vcpus.wrapping_sub(1);
        // SAFETY: one of this CPU's own vCPUs, used by no other CPU; the caller holds a reference to another one at most.
        let Some(vcpu) = (unsafe { VcpuContext::on(cpu, number).as_mut() }) else { continue };
        let before = vcpu.state;
        lifecycle::park_if_asked(vcpu);
        let until = vcpu.wake_deadline(now);
        update_scheduler(cpu, vcpu, before, until);
    }
}

/// Tells the scheduler the state of a vCPU that was in the state `before`.
#[inline(always)]
fn update_scheduler(cpu: &Cpu, vcpu: &VcpuContext, before: VcpuState, until: Option<u64>) {
    cpu.queue.with(|scheduler| scheduler.update(vcpu.number, before, vcpu.state, until));
}

/// Publishes which vCPUs this CPU is kicked for while `ctx` runs, and sets EL2's timer to the next choice.
#[inline(always)]
fn publish_heed(cpu: &Cpu, ctx: &VcpuContext) {
    let now = timer::now();
    let (heed, until) = cpu.queue.with(|scheduler| scheduler.next_choice(now));
    // A bit that was set before is announced by no kick.
    let at = if cpu.queue.wake.listen(heed) { now } else { until };
    set_timer(ctx, at);
}

/// The vCPU was turned off or its VM stops: its register state is discarded, and another vCPU runs.
pub fn vcpu_off(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let cpu = cpu::current();
    ctx.synchronize_errors();
    // Its timer and its list registers must not reach the next vCPU.
    CNTV_CTL_EL0.set(0);
    if let Some(gic) = gic::get() {
        ctx.save_list_registers();
        gic.write_hcr(0);
        gic.set_ppi_active(ctx.cpu, timer::virtual_timer(), false);
    }
    cpu.queue.account(timer::now());
    ctx.state = VcpuState::Off;
    // If its VM stops, the vCPU is still on, and is parked here.
    lifecycle::park_if_asked(ctx);
    cpu.queue.with(|scheduler| scheduler.turn_off(ctx.number));
    update_scheduler(cpu, ctx, VcpuState::Off, None);
    schedule(None)
}

/// The vCPU waits for an interrupt (CPU_SUSPEND, or WFI where it shares its CPU).
#[inline(always)]
pub fn wait_for_interrupt(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let cpu = cpu::current();
    if cpu.queue.shared() {
        return schedule(Some((ctx, VcpuState::Waiting)));
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
        if must_leave_guest(ctx) {
            return leave_guest_as_asked(ctx);
        }
        ctx.guest.vm.tick(&mut ctx.vcpu, true);
        ctx.plan();
        if ctx.guest.vm.vgic().lock(&ctx.vcpu.order).deliverable(ctx.vcpu.index) {
            return ctx;
        }
        set_timer(ctx, u64::MAX);
        barrier::wfi();
    }
}

/// The VM that serves this one is to answer an access of the vCPU. Others run meanwhile.
#[cold]
#[inline(never)]
pub fn wait_for_server(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let cpu = cpu::current();
    let Some(gic) = gic::get() else { return ctx };
    if cpu.queue.shared() {
        answer::put_waiting(ctx, cpu, gic);
        return schedule(None);
    }
    loop {
        interrupts::handle(gic, Some(ctx));
        cpu.queue.wake.take();
        if must_leave_guest(ctx) {
            return leave_guest_as_asked(ctx);
        }
        ctx.guest.vm.tick(&mut ctx.vcpu, true);
        let now = timer::now();
        let until = ctx.waits_for_server(now);
        if until.is_none() && ctx.take_answer(now) {
            ctx.plan();
            set_timer(ctx, u64::MAX);
            return ctx;
        }
        set_timer(ctx, until.unwrap_or(now));
        barrier::wfi();
    }
}

/// The vCPU has executed WFE: another one may go first.
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
            return schedule(Some((ctx, VcpuState::Ready)));
        }
        publish_heed(cpu, ctx);
    }
    ctx
}

/// The loaded vCPU leaves the guest: for good if its VM stops; if its VM is paused, its registers are kept.
#[cold]
#[inline(never)]
pub fn leave_guest_as_asked(ctx: &mut VcpuContext) -> *mut VcpuContext {
    if ctx.guest.vm.lifecycle().stopping().is_some() {
        return vcpu_off(ctx);
    }
    // The scheduler updates it once it is unloaded: it is paused then, unless its VM has resumed already.
    ctx.guest.vm.host().power_changed(VcpuSet::single(ctx.vcpu.index));
    if ctx.vcpu.forwarded.is_some() {
        let Some(gic) = gic::get() else { no_controller() };
        let _ = ctx.put(VcpuState::Ready, gic);
        ctx.state = VcpuState::Answered;
        return schedule(None);
    }
    schedule(Some((ctx, VcpuState::Ready)))
}

/// Whether the loaded vCPU must leave the guest: its VM stops or is paused.
#[inline(always)]
pub fn must_leave_guest(ctx: &VcpuContext) -> bool {
    ctx.guest.vm.lifecycle().is_asked()
}

/// Puts the loaded vCPU, if there is one, waits until a vCPU is ready, and loads that.
#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn schedule(loaded: Option<(&mut VcpuContext, VcpuState)>) -> *mut VcpuContext {
    let cpu = cpu::current();
    let queue = &cpu.queue;
    let Some(gic) = gic::get() else { no_controller() };
    let mut waits = None;
    if let Some((ctx, state)) = loaded {
        let until = ctx.put(state, gic);
        if state == VcpuState::Waiting {
            waits = Some((ctx.number, ctx.state, until));
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
        if let Some((number, state, until)) = waits.take() {
            queue.with(|scheduler| scheduler.wait(number, state, until));
        }
        if queue.holding.get() {
            passthrough::release(None, now);
        }
        let bits = if queue.wake.any() { queue.wake.take() } else { 0 };
        let due = queue.with(|scheduler| scheduler.take_due(now));
        let told = vcpus_of(bits) | due;
        if told != 0 {
            update_vcpus(cpu, told, now);
        }
        let Some(number) = queue.with(|scheduler| scheduler.choose(now)) else {
            queue.charge_to(None, now);
            let (heed, until) = queue.with(|scheduler| scheduler.next_choice(now));
            if !queue.wake.listen(heed) {
                set_timer_at(until);
                barrier::wfi();
            }
            continue;
        };
        // SAFETY: as in `update_vcpus`; nothing is loaded.
        let Some(vcpu) = (unsafe { VcpuContext::on(cpu, number).as_mut() }) else { continue };
        queue.charge_to(Some(vcpu.guest.cpu_time(vcpu.vcpu.index)), now);
        if vcpu.state != VcpuState::Ready {
            if vcpu.state == VcpuState::Preparing {
                reset_pieces(cpu, vcpu, now);
                continue;
            }
            if !load_answered(cpu, gic, vcpu, now) {
                continue;
            }
        } else {
            vcpu.load(cpu, gic, now);
        }
        let (heed, until) = queue.with(|scheduler| scheduler.next_choice(now));
        let until = if queue.wake.listen(heed) { now } else { until };
        set_timer(vcpu, until);
        return vcpu;
    }
}

/// Loads a vCPU that had an access under way, and ends that. `false`: it waits on.
#[cold]
#[inline(never)]
fn load_answered(cpu: &Cpu, gic: &Gic, vcpu: &mut VcpuContext, now: u64) -> bool {
    let Some(outcome) = answer::take(vcpu, cpu, now) else { return false };
    vcpu.load(cpu, gic, now);
    vcpu.apply_answer(outcome);
    true
}

/// Lets a vCPU do pieces of its VM's reset, until something else may want the CPU.
#[cold]
#[inline(never)]
fn reset_pieces(cpu: &Cpu, vcpu: &mut VcpuContext, now: u64) {
    let (_, until) = cpu.queue.with(|scheduler| scheduler.next_choice(now));
    loop {
        lifecycle::reset_piece(vcpu);
        let others = interrupts::pending() || cpu.queue.wake.any() || ring::backlog();
        if vcpu.state != VcpuState::Preparing || others || timer::now() >= until {
            break;
        }
    }
    if vcpu.state == VcpuState::Off {
        cpu.queue.account(timer::now());
        cpu.queue.with(|scheduler| scheduler.turn_off(vcpu.number));
    }
}

/// Not reached: boot stops without an interrupt controller.
#[cold]
fn no_controller() -> ! {
    loop {
        barrier::wfi();
    }
}

/// Sets EL2's timer to `until`, or to the expiry of a timer of `ctx`, which is loaded.
#[inline(always)]
fn set_timer(ctx: &VcpuContext, until: u64) {
    set_timer_at(until.min(ctx.vcpu.physical_timer.deadline().unwrap_or(u64::MAX)));
}

/// Sets EL2's timer to CNTPCT_EL0 `at`, or earlier if the console or a restart asks for it.
#[inline(always)]
fn set_timer_at(mut at: u64) {
    if ring::backlog() {
        at = at.min(timer::now().saturating_add(timer::frequency() / 1000));
    }
    if let Some(look) = crate::console::guest_input::next_poll() {
        at = at.min(look);
    }
    // 0, for never, becomes `u64::MAX`.
    timer::wake_at(at.min(cpu::current().restart.get().wrapping_sub(1)));
}
