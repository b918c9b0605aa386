// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a CPU does when it has no vCPU to run, and how it gets one.

use core::sync::atomic::{AtomicBool, Ordering};

use aarch64_cpu::registers::{CNTV_CTL_EL0, Writeable};

use arch::GuestRegs;

use crate::vcpu::VcpuContext;
use crate::{barrier, console, cpu, gic, interrupts, lives};

/// Set when all VMs are ready: before that no CPU touches its vCPU.
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
    let ctx = next();
    // SAFETY: `next` returns this CPU's own vCPU, started; the vectors expect SP_EL2 to point to it.
    unsafe { enter_guest(ctx.cast()) }
}

/// The vCPU has stopped running, by its own wish or its VM's: waits until this CPU has something to run.
pub fn leave(_ctx: &mut VcpuContext) -> *mut VcpuContext {
    // Its timer and its list registers go on otherwise.
    CNTV_CTL_EL0.set(0);
    if let Some(gic) = gic::get() {
        gic.write_hcr(0);
    }
    cpu::current().loaded.set(core::ptr::null_mut());
    next()
}

/// The vCPU waits for an interrupt (CPU_SUSPEND; WFI is not trapped while a vCPU owns its CPU).
pub fn wait_for_interrupt(ctx: &mut VcpuContext) -> *mut VcpuContext {
    let Some(gic) = gic::get() else { return ctx };
    loop {
        interrupts::handle(gic, Some(ctx));
        if ctx.guest.vm.lifecycle().stopping().is_some() {
            return leave(ctx);
        }
        ctx.plan();
        if ctx.guest.vm.vgic().lock(&ctx.vcpu.order).deliverable(ctx.vcpu.index) {
            return ctx;
        }
        barrier::wfi();
    }
}

/// Waits for a vCPU of this CPU to be runnable, and loads it.
fn next() -> *mut VcpuContext {
    let cpu = cpu::current();
    let assigned = cpu.assigned.load(Ordering::Acquire);
    loop {
        if let Some(gic) = gic::get() {
            interrupts::handle(gic, None);
        }
        console::pump();
        // SAFETY: this CPU's own vCPU, made before RELEASED was set, and used by no other CPU; no other reference to it
        // lives here.
        if let Some(ctx) = unsafe { assigned.as_mut() } {
            lives::tend(ctx);
            if ctx.guest.vm.take_start(&mut ctx.vcpu) {
                ctx.load();
                cpu.loaded.set(ctx);
                return ctx;
            }
        }
        barrier::wfi();
    }
}
