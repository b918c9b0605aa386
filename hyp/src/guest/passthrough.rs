// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interrupts of passthrough devices (`vm.dev`). Each is forwarded to its VM and stays active until the guest deactivates
//! its own, so that a high level comes again only then. While the VM is stopped they are masked.

use core::sync::atomic::{AtomicU32, Ordering};

use platform::PassedInterrupt;

use crate::cpu::{self, timer};
use crate::gic;
use crate::guest::instance::{self, VmInstance};
use crate::guest::loaded::Loaded;

/// Owner of each physical SPI: VM index plus 1 in bits 31:16, guest INTID in bits 15:0; 0 is unassigned.
static ROUTES: [AtomicU32; gic::SPECIAL as usize] =
    [const { AtomicU32::new(0) }; gic::SPECIAL as usize];

/// Interrupts that are held because their VM may not interrupt others now.
static HELD: [AtomicU32; (gic::SPECIAL as usize).div_ceil(32)] =
    [const { AtomicU32::new(0) }; (gic::SPECIAL as usize).div_ceil(32)];

fn of(guest: &VmInstance) -> impl Iterator<Item = &PassedInterrupt> {
    guest.config.devices.iter().flat_map(|device| &device.interrupts)
}

/// Routes the interrupts of a VM's devices to the CPU of its first vCPU, masked until it starts. Boot CPU, once for each VM.
pub fn route(guest: &'static VmInstance, cpu: usize) {
    if !guest.config.devices.is_empty() {
        guest.vm.host().set_devices(&guest.config.devices);
    }
    for interrupt in of(guest) {
        let number = interrupt.physical;
        if let (Some(gic), Some(route)) = (gic::get(), ROUTES.get(number as usize)) {
            route.store(
                (guest.index as u32).saturating_add(1) << 16 | interrupt.intid,
                Ordering::Relaxed,
            );
            gic.enable_spi(cpu, number, interrupt.flags & 1 != 0);
        }
    }
    mask(guest, true);
}

/// Masks the VM's interrupts and makes them neither pending nor active, or unmasks them.
pub fn mask(guest: &VmInstance, masked: bool) {
    for interrupt in of(guest) {
        if let Some(gic) = gic::get() {
            gic.mask_spi(interrupt.physical, masked);
        }
        if let Some(word) = HELD.get(interrupt.physical as usize / 32) {
            word.fetch_and(!(1 << (interrupt.physical & 31)), Ordering::Relaxed);
        }
    }
}

/// Forwards an acknowledged interrupt, its priority dropped, to the VM that has the device; `false` if none has it.
///
/// If another VM runs here, the owner is charged for the work. An owner that may not interrupt others now has used its
/// quantum, or interrupted less than 50 us ago: its interrupt is held, active, so that it does not come again.
pub fn forward(physical: u32, loaded: Option<Loaded>) -> bool {
    let Some((guest, intid)) = owner(physical) else { return false };
    let foreign = loaded.is_some_and(|it| !core::ptr::eq(it.guest, guest));
    if !foreign {
        deliver(guest, intid, physical, loaded);
        return true;
    }
    let queue = &cpu::current().queue;
    let (_, number) = guest.vm.host().first_place();
    let now = timer::now();
    if queue.with(|scheduler| scheduler.may_interrupt(number, now)) {
        queue.account(now);
        deliver(guest, intid, physical, loaded);
        queue.account_to(number, Some(guest.cpu_time(0)), timer::now(), true);
    } else if let Some(word) = HELD.get(physical as usize / 32) {
        word.fetch_or(1 << (physical & 31), Ordering::Relaxed);
        queue.holding.set(true);
    }
    // So that the timer is set to when it may.
    queue.set_need_resched();
    true
}

/// Delivers the held interrupts of this CPU whose VM may interrupt `loaded` at `now`, or all if nothing is loaded.
#[cold]
#[inline(never)]
pub fn release(loaded: Option<Loaded>, now: u64) {
    let here = cpu::current();
    here.queue.holding.set(false);
    for (n, word) in HELD.iter().enumerate() {
        let mut held = word.load(Ordering::Relaxed);
        while held != 0 {
            let bit = held & held.wrapping_neg();
            held &= !bit;
            let physical = (n as u32).saturating_mul(32).saturating_add(bit.trailing_zeros());
            let Some((guest, intid)) = owner(physical) else { continue };
            let (cpu, number) = guest.vm.host().first_place();
            if cpu != here.index.get() {
                continue;
            }
            if here.queue.with(|scheduler| scheduler.may_interrupt(number, now)) {
                word.fetch_and(!bit, Ordering::Relaxed);
                deliver(guest, intid, physical, loaded);
            } else {
                here.queue.holding.set(true);
            }
        }
    }
}

/// The VM that has a device with this interrupt, and its INTID there.
fn owner(physical: u32) -> Option<(&'static VmInstance, u32)> {
    let route = ROUTES.get(physical as usize)?.load(Ordering::Relaxed);
    let guest = instance::all().get((route >> 16).wrapping_sub(1) as usize)?;
    Some((guest, route & 0xffff))
}

fn deliver(guest: &VmInstance, intid: u32, physical: u32, loaded: Option<Loaded>) {
    // An SPI goes to whichever vCPU the guest has routed it to.
    let (order, me) = (&cpu::current().order, Loaded::vcpu_of(loaded, guest));
    guest.vm.interrupts(order, me, |vgic| vgic.forward(0, intid, physical));
}
