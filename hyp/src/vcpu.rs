// SPDX-License-Identifier: MIT OR Apache-2.0
//! A vCPU with what EL2 needs to run it.

use alloc::boxed::Box;
use alloc::string::String;
use core::arch::asm;
use core::sync::atomic::Ordering;

use arch::{Errata, PstateRule};
use vm::{Host, Vcpu, Vm};

use crate::context::{Context, Features};
use crate::cpu::CPUS;
use crate::guest::Guest;
use crate::host::GuestHost;
use crate::{el2, gic, judged, time};

/// What a vCPU is up to while its CPU does not run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not turned on (`vm::Lifecycle` knows).
    Off,
    /// Wants the CPU.
    Ready,
    /// Sleeps until an interrupt is deliverable.
    Waiting,
    /// Parked, and its share of the CPU goes into the next life of its VM (`lives::prepare`).
    Preparing,
}

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
    pub pstate: PstateRule,
    /// Number of its CPU.
    pub cpu: usize,
    /// While it is not loaded.
    pub state: State,
    /// Its first entry of this life is still to come.
    fresh: bool,
    context: Context,
    features: Features,
}

impl VcpuContext {
    /// Makes vCPU `index` of `guest` and gives it to `cpu`.
    ///
    /// # Errors
    /// Where the CPU has no room for it.
    #[inline(never)]
    pub fn assign(guest: &'static Guest, index: usize, cpu: usize) -> Result<(), String> {
        let context = Box::leak(Box::new(Self {
            vcpu: Vcpu::new(index),
            guest,
            errata: crate::ids::errata(),
            pstate: crate::ids::pstate_features().rule(),
            cpu,
            state: State::Off,
            fresh: true,
            context: Context::reset(),
            features: Features::default(),
        }));
        guest.vm.host().place(index, cpu);
        match CPUS.get(cpu) {
            Some(area) if area.cpu.queue.add(context) => Ok(()),
            _ => Err(alloc::format!("VM '{}': CPU {cpu} has no room for it", guest.config.name)),
        }
    }

    /// Becomes ready if it was turned on meanwhile, with the registers of a CPU out of reset.
    pub fn take_start(&mut self) {
        if self.state == State::Off && judged::take_start(&mut self.vcpu, &self.guest.vm) {
            self.context = Context::reset();
            self.fresh = true;
            self.state = State::Ready;
        }
    }

    /// Puts the vCPU into this CPU.
    #[unsafe(link_section = ".text.hot")]
    pub fn load(&mut self) {
        let guest = self.guest;
        let host = guest.vm.host();
        let cpu = crate::cpu::current();
        self.features = Features::read();
        let vmpidr = 1 << 31 | Vm::<GuestHost>::mpidr(self.vcpu.index).raw();
        let epoch = guest.epoch.load(Ordering::Relaxed);
        let hcr = el2::hcr(cpu.queue.shared());
        // SAFETY: registers that decide what EL1 and EL0 see; EL2's own translation does not depend on them. The VMID
        // is this VM's alone, its root and tables live as long as the machine runs. No stage-1 walk may mix the former
        // guest's stage 1 with this one's stage 2 (Cortex-A57 1319537 and others): walks are off until TCR_EL1 is
        // restored with the rest.
        unsafe {
            if self.errata.speculative_at {
                asm!("msr tcr_el1, {}", "isb", in(reg) 1_u64 << 7 | 1 << 23, options(nostack));
            }
            asm!("msr vmpidr_el2, {}", "msr vtcr_el2, {}", "msr vttbr_el2, {}", "msr cntvoff_el2, {}",
                "msr hcr_el2, {}", "isb",
                in(reg) vmpidr, in(reg) guest.vtcr, in(reg) host.vttbr(), in(reg) epoch, in(reg) hcr,
                options(nostack));
        }
        if cpu.queue.take_residence(guest.index, self.vcpu.index, self.fresh) {
            // Another vCPU of this VMID has run here, with other tables under the same ASIDs perhaps.
            // SAFETY: drops copies only.
            unsafe { asm!("tlbi vmalle1", "ic iallu", "dsb nsh", "isb", options(nostack)) };
        }
        self.fresh = false;
        self.context.restore(&self.features);
        let mut vgic = guest.vm.vgic().lock(&self.vcpu.order);
        if let Some(gic) = gic::get() {
            // The timer's interrupt is active as long as the guest has not deactivated its own.
            let active = vgic.is_forwarded(self.vcpu.index, time::GUEST_VIRTUAL);
            gic.set_ppi_active(self.cpu, time::virtual_timer(), active);
        }
        host.refill(self.vcpu.index, &mut vgic);
        drop(vgic);
        cpu.loaded.set(self);
        cpu.queue.slice_end.set(time::now().saturating_add(time::slice()));
    }

    /// Takes the vCPU out of this CPU; it goes on later.
    #[unsafe(link_section = ".text.hot")]
    pub fn unload(&mut self, state: State) {
        {
            let vm = &self.guest.vm;
            let mut vgic = vm.vgic().lock(&self.vcpu.order);
            vm.host().fold_interrupts(self.vcpu.index, &mut vgic);
        }
        self.context.save(&self.features);
        if let Some(gic) = gic::get() {
            gic.set_ppi_active(self.cpu, time::virtual_timer(), false);
        }
        self.state = state;
        crate::cpu::current().loaded.set(core::ptr::null_mut());
    }

    /// Takes back what stands in the list registers of a vCPU that leaves its CPU for good: what was pending waits for its
    /// next life, as in the redistributor of a CPU that is off. Its timer is off, so that line is low.
    pub fn take_back_interrupts(&mut self) {
        let (vm, index) = (&self.guest.vm, self.vcpu.index);
        let mut vgic = vm.vgic().lock(&self.vcpu.order);
        vm.host().fold_interrupts(index, &mut vgic);
        let _ = vgic.set_level(index, time::GUEST_VIRTUAL, false);
    }

    /// CNTPCT_EL0 at which a timer of an unloaded vCPU expires, unless its interrupt is on its way already.
    pub fn deadline(&self) -> Option<u64> {
        let (one, other) = (self.virtual_deadline(), self.vcpu.physical_timer.deadline());
        one.into_iter().chain(other).min()
    }

    fn virtual_deadline(&self) -> Option<u64> {
        let deadline = self.context.deadline()?;
        let vgic = self.guest.vm.vgic().lock(&self.vcpu.order);
        if vgic.is_forwarded(self.vcpu.index, time::GUEST_VIRTUAL) {
            return None;
        }
        Some(deadline.wrapping_add(self.guest.epoch.load(Ordering::Relaxed)))
    }

    /// Whether an unloaded vCPU wants the CPU now. Its timers count.
    #[unsafe(link_section = ".text.hot")]
    pub fn is_ready(&mut self, now: u64) -> bool {
        if matches!(self.state, State::Off | State::Preparing) {
            return self.state == State::Preparing;
        }
        self.guest.vm.tick(&mut self.vcpu, false);
        if self.virtual_deadline().is_some_and(|deadline| deadline <= now) {
            let mut vgic = self.guest.vm.vgic().lock(&self.vcpu.order);
            vgic.forward(self.vcpu.index, time::GUEST_VIRTUAL, time::virtual_timer());
        }
        if self.state == State::Waiting {
            let vgic = self.guest.vm.vgic().lock(&self.vcpu.order);
            if !vgic.deliverable(self.vcpu.index) {
                return false;
            }
            self.state = State::Ready;
        }
        true
    }

    /// [`VcpuContext::forward`] of a private interrupt where one list register is all it takes: which one, and its
    /// value; `None`, and nothing has changed, where not. `empty` is ICH_ELRSR_EL2.
    #[inline(always)]
    pub fn forward_short(
        &mut self,
        intid: u32,
        pintid: u32,
        empty: u16,
    ) -> Option<(usize, vgic::ListRegister)> {
        let mut vgic = self.guest.vm.vgic().lock(&self.vcpu.order);
        vgic.forward_short(self.vcpu.index, intid, pintid, empty)
    }

    /// After a kick, where one list register is all it takes; as [`VcpuContext::forward_short`].
    #[inline(always)]
    pub fn kicked_short(&mut self, empty: u16) -> Option<(usize, vgic::ListRegister)> {
        let mut vgic = self.guest.vm.vgic().lock(&self.vcpu.order);
        vgic.kicked_now(self.vcpu.index, empty)
    }

    /// A physical interrupt, acknowledged and left active, becomes the guest's.
    #[inline]
    pub fn forward(&mut self, intid: u32, pintid: u32) {
        let vm = &self.guest.vm;
        let mut vgic = vm.vgic().lock(&self.vcpu.order);
        vm.host().forward(self.vcpu.index, intid, pintid, &mut vgic);
    }

    /// Takes the list registers' state back and fills them again, where that is due.
    pub fn plan(&mut self) {
        let vm = &self.guest.vm;
        let mut vgic = vm.vgic().lock(&self.vcpu.order);
        vm.host().plan_interrupts(self.vcpu.index, &mut vgic);
    }
}
