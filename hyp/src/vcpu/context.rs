// SPDX-License-Identifier: MIT OR Apache-2.0
//! A vCPU with what EL2 needs to run it.

use alloc::boxed::Box;
use core::arch::asm;

use arch::esr::{self, ec};
use arch::vcpu_switch::SwitchFeatures;
use arch::{Errata, PstateRule, VcpuSet};
use sched::VcpuState;
use vgic::{Event, Sync};
use vm::{Host, StopReason, Vcpu, Vm};

use crate::cpu::{CPUS, Cpu};
use crate::cpu::{barrier, timer, trap_controls};
use crate::gic::{self, Gic};
use crate::guest::host::GuestHost;
use crate::guest::instance::VmInstance;
use crate::guest::lifecycle;
use crate::guest::loaded::Loaded;
use crate::guest::vm_error::{Cause, VmError};
use crate::guest::vm_log;
use crate::oracle::checked;
use crate::vcpu::crash_record::Record;
use crate::vcpu::registers::{self, Context};
use crate::vcpu::serror::Errors;

/// A vCPU. Only its CPU touches it, but for the boot CPU before that CPU schedules.
#[repr(C)]
pub struct VcpuContext {
    /// Registers first: the vectors find them through SP_EL2.
    pub vcpu: Vcpu,
    /// The VM it belongs to.
    pub guest: &'static VmInstance,
    /// Errata that affect syndrome decoding.
    pub errata: Errata,
    /// PSTATE fields that an injected exception sets.
    pub pstate: PstateRule,
    /// Number of its CPU.
    pub cpu: usize,
    /// Its number among the vCPUs of its CPU.
    pub number: usize,
    /// Its state while it is not loaded.
    pub state: VcpuState,
    /// It is on but paused with its VM; its state is `Off` meanwhile.
    pub paused: bool,
    /// It has not run since it was turned on.
    fresh: bool,
    context: Context,
    features: SwitchFeatures,
    /// HCR_EL2 and VMPIDR_EL2 while it runs.
    hcr: u64,
    vmpidr: u64,
    /// Its exits and exceptions, for a crash report.
    pub record: Box<Record>,
}

impl VcpuContext {
    /// What code below this folder sees of it while it is loaded.
    #[inline(always)]
    pub fn loaded(&self) -> Loaded {
        Loaded { guest: self.guest, vcpu: self.vcpu.index }
    }

    /// vCPU `number` of `cpu`; null if there is none.
    #[inline(always)]
    pub fn on(cpu: &Cpu, number: usize) -> *mut Self {
        // `assign` alone adds vCPUs to a run queue.
        cpu.queue.vcpu(number).cast()
    }

    /// Makes vCPU `index` of `guest` and gives it to `cpu`.
    ///
    /// # Errors
    /// Where the CPU has no room for it.
    #[inline(never)]
    pub fn assign(
        guest: &'static VmInstance,
        index: usize,
        cpu: usize,
        window: Option<usize>,
    ) -> Result<(), VmError> {
        let context = Box::leak(Box::new(Self {
            vcpu: Vcpu::new(index),
            guest,
            errata: crate::cpu::id_registers::errata(),
            pstate: crate::cpu::id_registers::pstate_features().rule(),
            cpu,
            number: 0,
            state: VcpuState::Off,
            paused: false,
            fresh: true,
            context: Context::reset(),
            features: SwitchFeatures::default(),
            hcr: 0,
            vmpidr: 1 << 31 | Vm::<GuestHost>::mpidr(index).raw(),
            record: Box::new(Record::new()),
        }));
        let share = &guest.config.share;
        let number = CPUS
            .get(cpu)
            .and_then(|a| a.cpu.queue.add((&raw mut *context).cast(), guest.index, share, window));
        let Some(number) = number else {
            return Err(Cause::CpuFull(cpu).of(&guest.config.name));
        };
        context.number = number;
        guest.vm.host().place(index, cpu, number);
        Ok(())
    }

    /// Becomes ready if it was turned on, with the registers of a reset CPU.
    #[inline(never)]
    fn start(&mut self) {
        if checked::take_start(&mut self.vcpu, &self.guest.vm) {
            self.context = Context::reset();
            *self.record = Record::new();
            self.fresh = true;
            self.state = VcpuState::Ready;
        }
    }

    /// Puts the vCPU into `cpu`, this one, at CNTPCT_EL0 `now`.
    #[inline(always)]
    pub fn load(&mut self, cpu: &Cpu, gic: &Gic, now: u64) {
        let (guest, index) = (self.guest, self.vcpu.index);
        let host = guest.vm.host();
        if self.fresh {
            self.features = registers::features();
            self.hcr = trap_controls::hcr(cpu.queue.shared());
        }
        self.expire_timers(now);
        let offset = guest.counter_offset().raw();
        // SAFETY: registers that decide what EL1 and EL0 see; EL2's own translation does not depend on them. The VMID
        // is this VM's alone, its root and tables are never freed. No stage-1 walk may mix the former
        // guest's stage 1 with this one's stage 2 (Cortex-A57 1319537 and others): walks are off until TCR_EL1 is
        // restored with the rest.
        unsafe {
            if self.errata.speculative_at {
                asm!("msr tcr_el1, {}", "isb", in(reg) 1_u64 << 7 | 1 << 23, options(nostack));
            }
            asm!("msr vmpidr_el2, {}", "msr vtcr_el2, {}", "msr vttbr_el2, {}", "msr cntvoff_el2, {}",
                "msr hcr_el2, {}", "isb",
                in(reg) self.vmpidr, in(reg) guest.vtcr, in(reg) host.vttbr(), in(reg) offset, in(reg) self.hcr,
                options(nostack));
        }
        cpu.queue.take_residence(guest.index, index, self.fresh, || {
            // Another vCPU of this VMID has run here, with other tables under the same ASIDs perhaps.
            // SAFETY: drops copies only.
            unsafe { asm!("tlbi vmalle1", "ic iallu", "dsb nsh", "isb", options(nostack)) };
        });
        self.fresh = false;
        self.context.restore(&self.features, gic);
        {
            let mut vgic = guest.vm.vgic().lock(&self.vcpu.order);
            // The timer's interrupt is active as long as the guest has not deactivated its own; it is not now.
            if vgic.is_forwarded(index, timer::GUEST_VIRTUAL) {
                if self.virtual_expiry().is_none_or(|expiry| expiry > now) {
                    // The guest has turned it off since: withdrawn, if it was not acknowledged.
                    let _ = vgic.set_level(index, timer::GUEST_VIRTUAL, false);
                }
                gic.set_ppi_active(self.cpu, timer::virtual_timer(), true);
            }
            let kept = core::mem::take(&mut self.context.gic.first);
            if kept == 0 {
                host.restore_list_registers(gic, index, &mut vgic);
            } else if let Sync::Full = vgic.sync(index, Event::Load { kept: true }, 0) {
                host.restore_list_registers_anew(gic, index, &self.context.gic, &mut vgic);
            } else {
                gic.put_first(kept);
                barrier::isb();
            }
        }
    }

    /// Takes the vCPU out of `cpu`, this one; it goes on later. One that waits with an interrupt to take does not wait.
    /// Returns until when one that waits does so ([`VcpuContext::wake_deadline`]).
    #[inline(always)]
    pub fn put(&mut self, state: VcpuState, gic: &Gic) -> u64 {
        self.synchronize_errors();
        self.state = state;
        let (timer_is_out, forwarded);
        {
            let (vm, index) = (&self.guest.vm, self.vcpu.index);
            let mut vgic = vm.vgic().lock(&self.vcpu.order);
            let (first, pending) = gic.first();
            if let Sync::Unchanged = vgic.sync(index, Event::Put(pending), 0) {
                self.context.gic.first = first;
                gic.free_first();
                self.state = VcpuState::Ready;
            } else {
                vm.host().save_list_registers(gic, index, &mut vgic);
                if vgic.deliverable(index) {
                    self.state = VcpuState::Ready;
                }
            }
            timer_is_out = vgic.is_out(index, timer::GUEST_VIRTUAL);
            forwarded = vgic.is_forwarded(index, timer::GUEST_VIRTUAL);
        }
        self.context.save(&self.features, gic);
        if timer_is_out {
            gic.set_ppi_active(self.cpu, timer::virtual_timer(), false);
        }
        self.timer_deadline(forwarded)
    }

    /// An SError that this vCPU has caused and that comes late stops its VM, not the next one on this CPU.
    #[inline(always)]
    pub fn synchronize_errors(&self) {
        if let Some(esr) = arch::serror::synchronize(self.features.ras(), &Errors) {
            self.stop_by_late_serror(esr);
        }
    }

    /// The scheduler looks at this vCPU again, which is on its way out, and parks it.
    #[cold]
    #[inline(never)]
    fn stop_by_late_serror(&self, esr: u64) {
        self.stop_by_serror(esr);
        self.guest.vm.host().power_changed(VcpuSet::single(self.vcpu.index));
    }

    /// An SError stops or pauses the VM (`vm.oncrash`): its effect is not known.
    #[cold]
    #[inline(never)]
    pub fn stop_by_serror(&self, esr: u64) {
        vm_log::about(
            self.guest,
            log::Level::Warn,
            format_args!(
                "{}: SError (ESR {esr:#010x}) while vCPU {} ran at {:#x}; the VM goes on no more",
                self.guest.config.name, self.vcpu.index, self.vcpu.regs.elr
            ),
        );
        lifecycle::crashed(self.guest, &self.vcpu.order, StopReason::SError);
    }

    /// CNTPCT_EL0 at which a timer of the unloaded vCPU expires. With `forwarded` the virtual timer's interrupt is with the
    /// guest already, and it does not expire again.
    #[inline(always)]
    fn timer_deadline(&self, forwarded: bool) -> u64 {
        let physical = self.vcpu.physical_timer.deadline().unwrap_or(u64::MAX);
        match self.virtual_expiry() {
            Some(expiry) if !forwarded => physical.min(expiry),
            _ => physical,
        }
    }

    /// Whether the exit with this ESR_EL2 is the vCPU's first access to a debug register: the vCPU then owns the debug
    /// registers and tries again. What traps for another reason traps once more.
    #[inline(always)]
    pub fn enable_lazy_debug(&mut self, esr: u64) -> bool {
        let debug = match esr::ec_of(esr) {
            ec::SYS64 => esr & esr::SYS_OP0 == 2 << 20,
            ec::CP14_32 | ec::CP14_LOAD_STORE | ec::CP14_64 => true,
            _ => false,
        };
        debug && self.context.enable_lazy_debug(&self.features)
    }

    /// Saves the list registers and disables the debug registers of a vCPU that is turned off. Pending interrupts stay
    /// pending, as in the redistributor of a CPU that is off. Its timer is off, so that line is low.
    pub fn save_list_registers(&mut self) {
        let (vm, index) = (&self.guest.vm, self.vcpu.index);
        if let Some(gic) = gic::get() {
            let mut vgic = vm.vgic().lock(&self.vcpu.order);
            vm.host().sync_interrupts(index, &mut vgic);
            gic.free_list_registers();
            let _ = vgic.set_level(index, timer::GUEST_VIRTUAL, false);
        }
        self.context.disable_lazy_debug(&self.features);
    }

    /// CNTPCT_EL0 at which the virtual timer of an unloaded vCPU expires; `None` if it does not.
    #[inline(always)]
    fn virtual_expiry(&self) -> Option<u64> {
        let compare = self.context.compare()?;
        Some(self.guest.counter_offset().deadline(compare))
    }

    /// CNTPCT_EL0 until which an unloaded vCPU does not want the CPU: `u64::MAX` if no timer wakes it, `None` if it wants the
    /// CPU now. Starts it if it was turned on meanwhile, and raises the interrupts of expired timers.
    #[unsafe(link_section = ".text.hot")]
    #[inline(never)]
    pub fn wake_deadline(&mut self, now: u64) -> Option<u64> {
        if self.state == VcpuState::Off {
            self.start();
        }
        match self.state {
            VcpuState::Ready | VcpuState::Answered | VcpuState::Preparing => return None,
            VcpuState::Off => return Some(u64::MAX),
            VcpuState::Waiting => {}
        }
        if self.vcpu.forwarded.is_some() {
            let until = self.waits_for_server(now);
            if until.is_none() {
                self.state = VcpuState::Answered;
            }
            return until;
        }
        self.expire_timers(now);
        let index = self.vcpu.index;
        let vgic = self.guest.vm.vgic().lock(&self.vcpu.order);
        if vgic.deliverable(index) {
            self.state = VcpuState::Ready;
            return None;
        }
        let forwarded = vgic.is_forwarded(index, timer::GUEST_VIRTUAL);
        drop(vgic);
        Some(self.timer_deadline(forwarded))
    }

    /// Raises the interrupts of an unloaded vCPU's timers that have expired.
    #[inline(always)]
    fn expire_timers(&mut self, now: u64) {
        if !self.vcpu.physical_timer.is_quiet() {
            self.guest.vm.tick(&mut self.vcpu, false);
        }
        if self.virtual_expiry().is_some_and(|expiry| expiry <= now) {
            self.expire_virtual_timer();
        }
    }

    #[inline(never)]
    fn expire_virtual_timer(&mut self) {
        let index = self.vcpu.index;
        let mut vgic = self.guest.vm.vgic().lock(&self.vcpu.order);
        if !vgic.is_forwarded(index, timer::GUEST_VIRTUAL) {
            vgic.forward(index, timer::GUEST_VIRTUAL, timer::virtual_timer());
        }
    }

    /// [`VcpuContext::forward`] of a private interrupt by one list register: its number and value. `None`,
    /// with no state changed, if the slow path must decide. `empty` is ICH_ELRSR_EL2.
    #[inline(always)]
    pub fn try_forward(
        &mut self,
        intid: u32,
        pintid: u32,
        empty: u16,
    ) -> Option<(usize, vgic::ListRegister)> {
        self.try_sync(Event::Forward { intid, pintid }, empty)
    }

    /// The same after a kick; as [`VcpuContext::try_forward`].
    #[inline(always)]
    pub fn try_flush_kick(&mut self, empty: u16) -> Option<(usize, vgic::ListRegister)> {
        self.try_sync(Event::Kick, empty)
    }

    /// One list register to write, if the lock is free and the event takes no more.
    #[inline(always)]
    fn try_sync(&mut self, event: Event, empty: u16) -> Option<(usize, vgic::ListRegister)> {
        let mut vgic = self.guest.vm.vgic().lock_now(&self.vcpu.order)?;
        match vgic.sync(self.vcpu.index, event, empty) {
            Sync::Write(n, lr) => Some((n, lr)),
            _ => None,
        }
    }

    /// A physical interrupt, acknowledged and left active, becomes the guest's.
    #[inline]
    pub fn forward(&mut self, intid: u32, pintid: u32) {
        let vm = &self.guest.vm;
        let mut vgic = vm.vgic().lock(&self.vcpu.order);
        vm.host().forward(self.vcpu.index, intid, pintid, &mut vgic);
    }

    /// Updates the list registers.
    pub fn plan(&mut self) {
        let vm = &self.guest.vm;
        let mut vgic = vm.vgic().lock(&self.vcpu.order);
        vm.host().flush_interrupts(self.vcpu.index, &mut vgic);
    }
}
