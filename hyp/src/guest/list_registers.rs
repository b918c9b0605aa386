// SPDX-License-Identifier: MIT OR Apache-2.0
//! List registers and forwarded interrupts of the vCPU that is loaded on this CPU.

use core::sync::atomic::Ordering;

use arch::VcpuSet;
use vgic::{Event, ListRegister, State, Sync, Vgic};
use vm::Host;

use crate::cpu::{barrier, timer};
use crate::gic::{self, Gic, MAX_LIST_REGISTERS, VirtualInterface};
use crate::guest::host::GuestHost;

impl GuestHost {
    /// [`Host::sample_lines`]. `empty` is ICH_ELRSR_EL2.
    #[inline(always)]
    pub fn sample(&self, gic: &Gic, vcpu: usize, empty: u16, vgic: &mut Vgic) -> VcpuSet {
        if !self.devices.load(Ordering::Relaxed).is_null()
            || vgic.is_forwarded(vcpu, timer::GUEST_VIRTUAL)
        {
            self.sample_forwarded(gic, vcpu, empty, vgic)
        } else {
            VcpuSet::EMPTY
        }
    }

    #[cold]
    #[inline(never)]
    fn sample_forwarded(&self, gic: &Gic, vcpu: usize, empty: u16, vgic: &mut Vgic) -> VcpuSet {
        let mut fallen = VcpuSet::EMPTY;
        if vgic.awaits_level(vcpu, timer::GUEST_VIRTUAL, empty) && !timer::virtual_line() {
            fallen = vgic.set_level(vcpu, timer::GUEST_VIRTUAL, false);
        }
        // SAFETY: null, or what `set_devices` was given, which is static and never changes.
        let devices = unsafe { self.devices.load(Ordering::Relaxed).as_ref() };
        for interrupt in devices.into_iter().flatten().flat_map(|device| &device.interrupts) {
            // An edge has no level.
            if interrupt.flags & 1 == 0
                && vgic.awaits_level(vcpu, interrupt.intid, empty)
                && !gic.spi_line(interrupt.physical)
            {
                fallen = fallen.union(vgic.set_level(vcpu, interrupt.intid, false));
            }
        }
        fallen
    }

    /// Forwards a physical interrupt, acknowledged and left active, to `vcpu`, which is loaded here.
    #[inline]
    pub fn forward(&self, vcpu: usize, intid: u32, pintid: u32, vgic: &mut Vgic) {
        let Some(gic) = gic::get() else { return };
        let event = Event::Forward { intid, pintid };
        if let Sync::Write(n, lr) = vgic.sync(vcpu, event, gic.empty_list_registers()) {
            gic.write_list_register(n, lr);
            barrier::isb();
            return;
        }
        // A private interrupt concerns no other vCPU.
        let _ = vgic.forward(vcpu, intid, pintid);
        self.flush_interrupts(vcpu, vgic);
    }

    /// [`Host::sync_interrupts`] of a vCPU that is put: it frees all list registers, and clearing HCR clears EOIcount.
    #[inline(always)]
    pub fn save_list_registers(&self, gic: &Gic, vcpu: usize, vgic: &mut Vgic) {
        let others = match gic {
            Gic::V2(_) => {
                self.sync_interrupts(vcpu, vgic);
                return gic.free_list_registers();
            }
            Gic::V3(gic) => {
                let registers = gic.interrupts();
                vgic.sync_from_lrs_with(vcpu, gic.interface(), |n| registers.take_list_register(n))
            }
        };
        if !others.is_empty() {
            self.kick(others);
        }
    }

    /// Fills the list registers of a vCPU whose first one was kept but must change.
    #[unsafe(link_section = ".text.hot")]
    #[inline(never)]
    pub fn restore_list_registers_anew(
        &self,
        gic: &Gic,
        vcpu: usize,
        kept: &VirtualInterface,
        vgic: &mut Vgic,
    ) {
        let first = ListRegister { state: State::Pending, ..ListRegister::FREE };
        let others = vgic.sync_from_lrs(vcpu, kept.interface(), &[first]);
        if !others.is_empty() {
            self.kick(others);
        }
        self.restore_list_registers(gic, vcpu, vgic);
    }

    /// Fills the list registers, all free, of a vCPU that is loaded.
    #[inline(always)]
    pub fn restore_list_registers(&self, gic: &Gic, vcpu: usize, vgic: &mut Vgic) {
        match vgic.sync(vcpu, Event::Load { kept: false }, 0) {
            Sync::Write(_, lr) => {
                gic.write_first(lr);
                barrier::isb();
            }
            _ => self.flush(gic, vcpu, vgic),
        }
    }

    #[unsafe(link_section = ".text.hot")]
    #[inline(never)]
    pub fn sync_and_flush(&self, gic: &Gic, vcpu: usize, vgic: &mut Vgic) {
        self.sync_interrupts(vcpu, vgic);
        self.flush(gic, vcpu, vgic);
    }

    #[unsafe(link_section = ".text.hot")]
    #[inline(never)]
    fn flush(&self, gic: &Gic, vcpu: usize, vgic: &mut Vgic) {
        let mut lrs = [ListRegister::FREE; MAX_LIST_REGISTERS];
        let plan = vgic.flush_to_lrs(vcpu, &mut lrs);
        for (n, lr) in lrs.iter().enumerate().take(gic.list_registers()) {
            gic.write_list_register(n, *lr);
        }
        gic.write_hcr(plan.hcr);
        if plan.release {
            while let Some(intid) = vgic.take_released(vcpu) {
                gic.deactivate(intid);
            }
        }
        barrier::isb();
    }
}
