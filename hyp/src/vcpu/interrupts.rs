// SPDX-License-Identifier: MIT OR Apache-2.0
//! Physical interrupts: EL2 handles its own, and forwards the others to vCPUs.

use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::console::guest_input;
use crate::cpu::{self, barrier, timer};
use crate::gic::{self, Gic, SGI_KICK, SGI_PANIC, SPECIAL};
use crate::guest::{console_events, keyboard, lifecycle, passthrough, vm_log};
use crate::vcpu::context::VcpuContext;

/// Maintenance interrupt of the GIC; 0 is none.
static MAINTENANCE: AtomicU32 = AtomicU32::new(0);

/// Stores the maintenance interrupt and sets up the boot CPU's private interrupts.
pub fn init(gic: &platform::Gic) {
    MAINTENANCE.store(gic.maintenance().unwrap_or(0), Ordering::Relaxed);
    init_cpu(0);
}

/// Enables the private interrupts that EL2 uses on this CPU: both timers' and the maintenance interrupt.
pub fn init_cpu(cpu: usize) {
    let Some(gic) = gic::get() else { return };
    gic.set_ppi_active(cpu, timer::virtual_timer(), false);
    gic.enable_ppi(cpu, timer::virtual_timer());
    gic.enable_ppi(cpu, timer::hypervisor_timer());
    if let maintenance @ 16..32 = MAINTENANCE.load(Ordering::Relaxed) {
        gic.enable_ppi(cpu, maintenance);
    }
}

/// Whether an interrupt is pending on this CPU (ISR_EL1.I: at EL2 the physical one).
#[inline(always)]
pub fn pending() -> bool {
    let isr: u64;
    // SAFETY: reads a status register.
    unsafe { asm!("mrs {}, isr_el1", out(reg) isr, options(nostack, preserves_flags)) };
    isr & 1 << 7 != 0
}

/// Interrupts that EL2 handles at most before it continues.
const AT_ONCE: usize = 4;

/// Handles up to [`AT_ONCE`] interrupts of this CPU; the rest stays pending. `loaded` is the loaded vCPU, if any.
#[unsafe(link_section = ".text.hot")]
pub fn handle(gic: &Gic, mut loaded: Option<&mut VcpuContext>) {
    for _ in 0..AT_ONCE {
        if !handle_one(gic, gic.acknowledge(), loaded.as_deref_mut()) {
            return;
        }
    }
}

/// INTID of what [`Gic::acknowledge`] returned: GICv2 keeps the sender of an SGI in bits 12:10.
#[inline(always)]
pub const fn intid(iar: u32) -> u32 {
    iar & 0x3ff
}

/// Handles an acknowledged interrupt; `false` if there was none.
#[unsafe(link_section = ".text.hot")]
#[inline(never)]
pub fn handle_one(gic: &Gic, iar: u32, mut loaded: Option<&mut VcpuContext>) -> bool {
    let intid = intid(iar);
    if intid >= SPECIAL {
        return false;
    }
    gic.drop_priority(iar);
    if intid == timer::virtual_timer() {
        if let Some(ctx) = loaded.as_deref_mut() {
            // Stays active until the guest deactivates it.
            ctx.forward(timer::GUEST_VIRTUAL, intid);
        } else {
            gic.deactivate(iar);
        }
        return true;
    }
    if intid == MAINTENANCE.load(Ordering::Relaxed) {
        // A level: it falls when the list registers are updated, which must come first.
        if let Some(ctx) = loaded.as_deref_mut() {
            ctx.plan();
        }
    } else if intid == timer::hypervisor_timer() {
        timer::disarm();
        console_events::pump();
        if matches!(cpu::current().restart.get(), at @ 1.. if at <= timer::now()) {
            lifecycle::restart_due();
        }
        if guest_input::next_poll().is_some() {
            keyboard::collect(loaded.as_deref().map(VcpuContext::loaded));
        }
        cpu::current().queue.set_need_resched();
    } else if intid == guest_input::intid() {
        keyboard::collect(loaded.as_deref().map(VcpuContext::loaded));
    } else if intid == SGI_PANIC {
        barrier::park();
    } else if intid == SGI_KICK {
        cpu::current().queue.set_need_resched();
    } else if passthrough::forward(intid, loaded.as_deref().map(VcpuContext::loaded)) {
        // Stays active until the guest deactivates it.
        return true;
    } else {
        vm_log::stray(format_args!("unexpected interrupt {intid}"));
    }
    gic.deactivate(iar);
    true
}
