// SPDX-License-Identifier: MIT OR Apache-2.0
//! A vCPU with what EL2 needs to run it.

use alloc::boxed::Box;
use core::arch::asm;
use core::sync::atomic::Ordering;

use arch::{Errata, PstateFeatures};
use vm::{Host, Vcpu, Vm};

use crate::cpu::CPUS;
use crate::guest::Guest;
use crate::host::GuestHost;
use crate::{el1, gic};

/// A vCPU. Only its CPU touches it, but for the boot CPU before that CPU looks for work.
#[repr(C)]
pub struct VcpuContext {
    /// Registers first: the vectors find them through SP_EL2.
    pub vcpu: Vcpu,
    /// The VM it belongs to.
    pub guest: &'static Guest,
    /// Errata that decoding minds.
    pub errata: Errata,
    /// PSTATE fields that an injected exception minds.
    pub pstate: PstateFeatures,
    /// Number of its CPU.
    pub cpu: usize,
}

impl VcpuContext {
    /// Makes vCPU `index` of `guest` and gives it to `cpu`.
    #[inline(never)]
    pub fn assign(guest: &'static Guest, index: usize, cpu: usize) {
        let context = Box::leak(Box::new(Self {
            vcpu: Vcpu::new(index),
            guest,
            errata: crate::ids::errata(),
            pstate: crate::ids::pstate_features(),
            cpu,
        }));
        if let Some(area) = CPUS.get(cpu) {
            area.cpu.assigned.store(context, Ordering::Release);
        }
    }

    /// Puts the vCPU into this CPU, as after a reset; its general registers are set already (`Vm::take_start`).
    pub fn load(&mut self) {
        let guest = self.guest;
        let host = guest.vm.host();
        let vmpidr = 1 << 31 | Vm::<GuestHost>::mpidr(self.vcpu.index).raw();
        let epoch = guest.epoch.load(Ordering::Relaxed);
        // SAFETY: registers that decide what EL1 and EL0 see; EL2's own translation does not depend on them. The VMID
        // is this VM's alone, its root and tables live as long as the machine runs.
        unsafe {
            asm!("msr vmpidr_el2, {}", "msr vtcr_el2, {}", "msr vttbr_el2, {}", "msr cntvoff_el2, {}", "isb",
                in(reg) vmpidr, in(reg) guest.vtcr, in(reg) host.vttbr(), in(reg) epoch,
                options(nostack));
        }
        el1::reset(&el1::Features::read());
        if let Some(gic) = gic::get() {
            gic.clear_ppi(self.cpu, crate::time::virtual_timer());
            gic.reset_virtual();
        }
        // Instructions and translations of a former life.
        // SAFETY: drops copies only.
        unsafe { asm!("ic iallu", "tlbi vmalle1", "dsb nsh", "isb", options(nostack)) };
        self.plan();
    }

    /// A physical interrupt, acknowledged and left active, becomes the guest's.
    pub fn forward(&mut self, intid: u32, pintid: u32) {
        let vm = &self.guest.vm;
        let mut vgic = vm.vgic().lock(&self.vcpu.order);
        // It is this vCPU's alone, so that nobody else must be planned.
        vgic.forward(self.vcpu.index, intid, pintid);
        vm.host().plan_interrupts(self.vcpu.index, &mut vgic);
    }

    /// Takes the list registers' state back and fills them again, where that is due.
    pub fn plan(&mut self) {
        let vm = &self.guest.vm;
        let mut vgic = vm.vgic().lock(&self.vcpu.order);
        vm.host().plan_interrupts(self.vcpu.index, &mut vgic);
    }
}
