// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interrupts of devices that VMs have for themselves (`vm.dev`): each becomes the VM's, and stays active until the guest
//! deactivates its own, so that a level that stays high comes again only then. While the VM is stopped they are masked.

use core::sync::atomic::{AtomicU32, Ordering};

use arch::VcpuSet;
use lock::Order;
use platform::PassedInterrupt;
use vgic::Vgic;

use crate::gic::{self, Gic};
use crate::guest::{self, Guest};
use crate::vcpu::VcpuContext;

/// Whose each interrupt of the machine is: number of the VM plus one in 31:16, INTID there in 15:0; 0 is nobody's.
static ROUTES: [AtomicU32; gic::SPECIAL as usize] =
    [const { AtomicU32::new(0) }; gic::SPECIAL as usize];

fn of(guest: &Guest) -> impl Iterator<Item = &PassedInterrupt> {
    guest.config.devices.iter().flat_map(|device| &device.interrupts)
}

/// Routes the interrupts of a VM's devices to the CPU of its first vCPU. Boot CPU, once for each VM.
pub fn route(guest: &Guest, cpu: usize) {
    for interrupt in of(guest) {
        let number = interrupt.physical;
        if let (Some(gic), Some(route)) = (gic::get(), ROUTES.get(number as usize)) {
            route.store((guest.index as u32 + 1) << 16 | interrupt.intid, Ordering::Relaxed);
            gic.enable_spi(cpu, number, interrupt.flags & 1 != 0);
        }
    }
}

/// Between two lives: nothing arrives, and what was pending or active of the former one is gone.
pub fn mask(guest: &Guest, masked: bool) {
    for interrupt in of(guest) {
        if let Some(gic) = gic::get() {
            gic.mask_spi(interrupt.physical, masked);
        }
    }
}

/// Tells `vgic`, of VM `index`, of lines that have fallen since their interrupts became the VM's; as [`vm::Host::sample_lines`].
/// An edge has no line to look at.
pub fn sample(gic: &Gic, index: usize, vcpu: usize, empty: u16, vgic: &mut Vgic) -> VcpuSet {
    let mut fallen = VcpuSet::EMPTY;
    for interrupt in guest::all().get(index).into_iter().flat_map(|guest| of(guest)) {
        if interrupt.flags & 1 == 0
            && vgic.awaits_level(vcpu, interrupt.intid, empty)
            && !gic.spi_line(interrupt.physical)
        {
            fallen = fallen.union(vgic.set_level(vcpu, interrupt.intid, false));
        }
    }
    fallen
}

/// An acknowledged interrupt, its priority dropped, becomes that of the VM whose it is; `false` where it is nobody's.
pub fn forward(physical: u32, loaded: Option<&VcpuContext>) -> bool {
    let route = ROUTES.get(physical as usize).map_or(0, |route| route.load(Ordering::Relaxed));
    let index = (route >> 16).wrapping_sub(1) as usize;
    let Some(guest) = guest::all().get(index) else { return false };
    let own = Order::new();
    let (order, me) = match loaded {
        Some(ctx) if core::ptr::eq(ctx.guest, *guest) => (&ctx.vcpu.order, Some(ctx.vcpu.index)),
        _ => (&own, None),
    };
    // An SPI goes to whichever vCPU the guest has routed it to.
    guest.vm.interrupts(order, me, |vgic| vgic.forward(0, route & 0xffff, physical));
    true
}
