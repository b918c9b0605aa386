// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state of one VM's interrupts, and their inputs.

use crate::bank::{Bank, Completion, Groups};
use crate::bits::{Bits, bit};
use crate::config::NO_VCPU;
use crate::{Config, MAX_LIST_REGISTERS, MAX_SPIS, PRIVATE, SGIS, State};
use arch::{MAX_VCPUS, VcpuSet};

/// SGIs are edge-triggered, PPIs level-sensitive until the guest says otherwise.
const PRIVATE_EDGE: u32 = 0xffff;
/// SGIs are enabled from the start, as on GIC-400 and under KVM; guests may disable them.
const PRIVATE_ENABLED: u32 = 0xffff;

/// What a list register holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    pub intid: u16,
    /// GICv2 SGIs: who sent it.
    pub source: u8,
}

/// What belongs to one vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cpu {
    pub private: Bank,
    /// Those of `private` that wait for the EOI maintenance of their own list register.
    pub waiting: u32,
    /// A bit per slot that holds an interrupt.
    pub used: u16,
    /// A bit per slot that was placed with HW=1.
    pub hw: u16,
    /// A bit per slot that asks for EOI maintenance: ICH_ELRSR_EL2 does not tell when its interrupt has ended.
    pub eoi_maintenance: u16,
    /// A bit per slot that was placed as pending.
    pub pending: u16,
    /// Interrupts in the list registers have changed, or not all were placed: the slow path must see to them.
    pub stale: bool,
    /// The last [`Vgic::flush_to_lrs`] left something out.
    pub overflow: bool,
    /// How many active ones were left out: so many deactivations EOIcount can mean.
    pub left_active: u16,
    /// Groups that the guest's CPU interface has enabled, as last read.
    pub enabled_groups: [bool; 2],
    /// GICR_WAKER.ProcessorSleep.
    pub asleep: bool,
    /// A bit per bank of SPIs that may have one for this vCPU to take. Never too few; cleared when looked at.
    pub ready_banks: u32,
    /// A bit per bank of SPIs that may have one active for this vCPU and in no list register. Never too few; cleared when all of them
    /// have been placed.
    pub active_banks: u32,
    /// The SPIs that go to this vCPU.
    pub targeted: [u32; MAX_SPIS / 32],
    pub slots: [Slot; MAX_LIST_REGISTERS],
    /// GICv2: for each SGI, a bit per sender that waits.
    pub sources: [u8; SGIS as usize],
    /// GICv2: for each SGI, the sender of the active one.
    pub active_source: [u8; SGIS as usize],
}

impl Cpu {
    const fn new(config: &Config, vcpu: usize) -> Self {
        let (_, target) = config.reset_route();
        Self {
            private: Bank::new(PRIVATE_ENABLED, config.reset_group(), PRIVATE_EDGE),
            waiting: 0,
            used: 0,
            hw: 0,
            eoi_maintenance: 0,
            pending: 0,
            stale: false,
            overflow: false,
            left_active: 0,
            enabled_groups: [true; 2],
            asleep: false,
            ready_banks: 0,
            active_banks: 0,
            targeted: [if target as usize == vcpu { u32::MAX } else { 0 }; MAX_SPIS / 32],
            slots: [Slot { intid: 0, source: 0 }; MAX_LIST_REGISTERS],
            sources: [0; SGIS as usize],
            active_source: [0; SGIS as usize],
        }
    }

    /// List register `s` holds `slot` from now on, in this state.
    #[inline(always)]
    pub fn occupy(&mut self, s: usize, slot: Slot, state: State, completion: Completion) {
        let mask = bit(s as u32) as u16;
        let set = |condition| if condition { mask } else { 0 };
        if let Some(old) = self.slots.get_mut(s) {
            *old = slot;
        }
        self.used |= mask;
        self.hw = self.hw & !mask | set(matches!(completion, Completion::Physical(_)));
        self.eoi_maintenance =
            self.eoi_maintenance & !mask | set(matches!(completion, Completion::Maintenance));
        self.pending = self.pending & !mask | set(state.pending());
    }

    /// Whether a private interrupt in a list register is pending once more, since it was placed.
    #[inline(always)]
    pub fn repending(&self) -> u32 {
        self.private.repending() & !self.waiting
    }
}

/// The shared interrupts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shared {
    pub banks: [Bank; MAX_SPIS / 32],
    /// GICv3: affinity as in IROUTER, packed like [`Config::affinity`]. GICv2: target list.
    pub route: [u32; MAX_SPIS],
    /// The vCPU that gets it when it is pending, or [`NO_VCPU`].
    pub target: [u8; MAX_SPIS],
    /// The vCPU whose list registers have it, or that has it active. Otherwise it has no meaning.
    pub holder: [u8; MAX_SPIS],
    /// A bit per bank in which something is to be released.
    pub released: u32,
}

impl Shared {
    const fn new(config: &Config) -> Self {
        let (route, target) = config.reset_route();
        Self {
            banks: [Bank::new(0, config.reset_group(), 0); MAX_SPIS / 32],
            route: [route; MAX_SPIS],
            target: [target; MAX_SPIS],
            holder: [NO_VCPU; MAX_SPIS],
            released: 0,
        }
    }
}

/// Where an interrupt's state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// The private ones of a vCPU.
    Private(usize),
    /// A bank of shared ones.
    Shared(usize),
}

/// The state of one VM's interrupts: distributor, redistributors, and the contents of list registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vgic {
    pub(crate) config: Config,
    pub(crate) groups: Groups,
    pub(crate) cpus: [Cpu; MAX_VCPUS],
    pub(crate) shared: Shared,
}

impl Vgic {
    /// A GIC as it comes out of reset.
    pub const fn new(config: Config) -> Self {
        let mut cpus = [Cpu::new(&config, 1); MAX_VCPUS];
        let [first, ..] = &mut cpus;
        *first = Cpu::new(&config, 0);
        Self { config, groups: Groups { group0: 0, group1: 0 }, cpus, shared: Shared::new(&config) }
    }

    /// Its configuration.
    #[inline]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Back to the state of [`Vgic::new`], but for the physical interrupts that were forwarded: drain
    /// [`Vgic::take_released`] of every vCPU afterwards. All vCPUs must be stopped, their list registers discarded.
    pub fn reset(&mut self) {
        for vcpu in 0..MAX_VCPUS {
            self.reset_vcpu(vcpu);
        }
        self.reset_shared();
    }

    /// The part of [`Vgic::reset`] that is private to `vcpu`.
    pub fn reset_vcpu(&mut self, vcpu: usize) {
        let Some(cpu) = self.cpus.get_mut(vcpu) else { return };
        let mut private = cpu.private;
        private.reset(Bank::new(PRIVATE_ENABLED, self.config.reset_group(), PRIVATE_EDGE));
        *cpu = Cpu { private, ..Cpu::new(&self.config, vcpu) };
    }

    /// The part of [`Vgic::reset`] that all vCPUs share.
    pub fn reset_shared(&mut self) {
        let Shared { banks, route, target, holder, released } = &mut self.shared;
        *released = 0;
        for (k, bank) in (0u32..).zip(banks.iter_mut()) {
            bank.reset(Bank::new(0, self.config.reset_group(), 0));
            if bank.released != 0 {
                *released |= bit(k);
            }
        }
        let (reset_route, reset_target) = self.config.reset_route();
        route.fill(reset_route);
        target.fill(reset_target);
        holder.fill(NO_VCPU);
        self.groups = Groups::default();
    }

    /// The input line of an emulated device: PPI of `vcpu`, or SPI (then `vcpu` does not matter). SGIs and INTIDs that
    /// the GIC does not have are ignored. Returns the vCPUs whose list registers are out of date.
    ///
    /// For a level-sensitive interrupt that is forwarded, `false` withdraws it if the guest has not acknowledged it yet.
    #[inline(never)]
    pub fn set_level(&mut self, vcpu: usize, intid: u32, high: bool) -> VcpuSet {
        let Some((at, mask)) = self.input(vcpu, intid) else { return VcpuSet::EMPTY };
        let Some(bank) = self.bank_mut(at) else { return VcpuSet::EMPTY };
        let edge = bank.edge & mask != 0;
        let forwarded = bank.forwarded & mask != 0;
        if high {
            if bank.line_level & mask != 0 {
                return VcpuSet::EMPTY;
            }
            bank.line_level |= mask;
            if edge {
                bank.pending_latch |= mask;
                if let At::Shared(k) = at
                    && bank.in_lr & !bank.active & mask != 0
                    && let Some(vcpu) = self.edge_behind(k, intid)
                {
                    return VcpuSet::single(vcpu);
                }
            } else if bank.lr_eoi & mask != 0 {
                // Its EOI maintenance finds the line.
                return VcpuSet::EMPTY;
            }
        } else {
            let fell = bank.line_level & mask != 0;
            bank.line_level &= !mask;
            if edge {
                return VcpuSet::EMPTY;
            }
            if forwarded && (bank.pending_latch | bank.lr_latch) & mask != 0 {
                bank.pending_latch &= !mask;
                bank.lr_latch &= !mask;
                bank.release_idle(mask);
            } else if !fell {
                return VcpuSet::EMPTY;
            }
        }
        self.touch(at, mask)
    }

    /// The physical interrupt `pintid`, acknowledged, priority dropped and left active, becomes PPI or SPI `intid`. The guest's
    /// deactivation deactivates it (HW=1), or [`Vgic::take_released`] names it. An INTID that the GIC does not have, or an SGI's,
    /// is ignored: then the caller deactivates.
    #[inline(always)]
    pub fn forward(&mut self, vcpu: usize, intid: u32, pintid: u32) -> VcpuSet {
        let Some((at, mask)) = self.input(vcpu, intid) else { return VcpuSet::EMPTY };
        let Some(bank) = self.bank_mut(at) else { return VcpuSet::EMPTY };
        let n = intid & 31;
        let old = bank.slot.get(n as usize).copied().unwrap_or(0);
        let resident = bank.in_lr & bank.forwarded & mask != 0;
        bank.pending_latch |= mask;
        if let Some(physical) = bank.physical.get_mut(n as usize) {
            *physical = (pintid & 0x1fff) as u16;
        }
        if resident {
            // It fires again, so with HW=1 the guest has deactivated it in its list register.
            let holder = match at {
                At::Private(v) => v,
                At::Shared(_) => usize::from(self.holder_of(intid)),
            };
            let slot = bit(u32::from(old)) as u16;
            if let Some(cpu) = self.cpus.get_mut(holder)
                && cpu.used & cpu.hw & slot != 0
            {
                cpu.used &= !slot;
                if let Some(bank) = self.bank_mut(at) {
                    bank.retire(mask, true);
                }
            }
        }
        if let Some(bank) = self.bank_mut(at) {
            bank.forwarded |= mask;
        }
        self.touch(at, mask)
    }

    /// Whether a physical interrupt is behind `intid`. It is active until the guest deactivates its own. As last read back.
    #[inline(always)]
    pub fn is_forwarded(&self, vcpu: usize, intid: u32) -> bool {
        if intid < PRIVATE {
            // SGIs never are.
            let private = self.cpus.get(vcpu).map(|cpu| &cpu.private);
            return private.is_some_and(|bank| bank.forwarded & bit(intid) != 0);
        }
        self.input(vcpu, intid)
            .and_then(|(at, mask)| Some(self.bank(at)?.forwarded & mask != 0))
            .unwrap_or(false)
    }

    /// Whether the line of the physical interrupt behind the level-sensitive `intid` must be sampled before the list
    /// registers of `vcpu`, which runs on this CPU, are filled or its GIC is read: it is pending, and perhaps not acknowledged. If the line has fallen,
    /// `set_level(.., false)` withdraws it. `empty` is ICH_ELRSR_EL2: an interrupt in a free list register has ended.
    #[inline(never)]
    pub fn awaits_level(&self, vcpu: usize, intid: u32, empty: u16) -> bool {
        let Some((at, mask)) = self.input(vcpu, intid) else { return false };
        let Some(bank) = self.bank(at) else { return false };
        if bank.forwarded & !bank.edge & (bank.pending_latch | bank.lr_latch) & mask == 0 {
            return false;
        }
        let here = match at {
            At::Private(_) => true,
            At::Shared(_) => usize::from(self.holder_of(intid)) == vcpu,
        };
        let slot = bank.slot.get(intid as usize & 31).copied().unwrap_or(0);
        let ended = here && empty & bit(u32::from(slot)) as u16 != 0;
        bank.pending_latch & mask != 0 || bank.in_lr & mask != 0 && !ended
    }

    /// Whether the physical interrupt behind the private `intid` may be active: it [is forwarded](Vgic::is_forwarded), or
    /// [`Vgic::take_released`] has still to name it. As last read back.
    #[inline(always)]
    pub fn is_out(&self, vcpu: usize, intid: u32) -> bool {
        self.cpus
            .get(vcpu)
            .is_some_and(|cpu| (cpu.private.forwarded | cpu.private.released) & bit(intid) != 0)
    }

    /// A physical interrupt that must be deactivated by software; a PPI on the CPU of `vcpu`. Call it until it returns `None`.
    pub fn take_released(&mut self, vcpu: usize) -> Option<u32> {
        fn take(bank: &mut Bank) -> Option<u32> {
            let n = Bits(bank.released).next()?;
            bank.released &= !bit(n);
            let pintid = bank.physical.get_mut(n as usize).map(core::mem::take)?;
            Some(u32::from(pintid))
        }
        if let Some(pintid) = self.cpus.get_mut(vcpu).and_then(|cpu| take(&mut cpu.private)) {
            return Some(pintid);
        }
        let k = Bits(self.shared.released).next()?;
        let bank = self.shared.banks.get_mut(k as usize)?;
        let pintid = take(bank);
        if bank.released == 0 {
            self.shared.released &= !bit(k);
        }
        pintid
    }

    /// State and bit of an interrupt that has an input: PPI or SPI.
    #[inline(always)]
    fn input(&self, vcpu: usize, intid: u32) -> Option<(At, u32)> {
        if intid < SGIS { None } else { self.locate(vcpu, intid) }
    }

    /// State and bit of an interrupt.
    #[inline(always)]
    pub(crate) fn locate(&self, vcpu: usize, intid: u32) -> Option<(At, u32)> {
        let at = if intid < PRIVATE {
            if vcpu >= self.config.vcpus() {
                return None;
            }
            At::Private(vcpu)
        } else {
            let k = (intid as usize >> 5).wrapping_sub(1);
            if k >= self.config.spi_banks() {
                return None;
            }
            At::Shared(k)
        };
        Some((at, bit(intid)))
    }

    #[inline(always)]
    pub(crate) fn bank(&self, at: At) -> Option<&Bank> {
        match at {
            At::Private(v) => self.cpus.get(v).map(|cpu| &cpu.private),
            At::Shared(k) => self.shared.banks.get(k),
        }
    }

    #[inline(always)]
    pub(crate) fn bank_mut(&mut self, at: At) -> Option<&mut Bank> {
        match at {
            At::Private(v) => self.cpus.get_mut(v).map(|cpu| &mut cpu.private),
            At::Shared(k) => self.shared.banks.get_mut(k),
        }
    }

    /// The vCPU whose list registers have an SPI, or that has it active.
    #[inline(always)]
    pub(crate) fn holder_of(&self, intid: u32) -> u8 {
        let spi = intid.wrapping_sub(PRIVATE) as usize;
        self.shared.holder.get(spi).copied().unwrap_or(NO_VCPU)
    }

    /// The vCPU to which an SPI goes when it is pending.
    #[inline(always)]
    pub(crate) fn target_of(&self, intid: u32) -> u8 {
        let spi = intid.wrapping_sub(PRIVATE) as usize;
        self.shared.target.get(spi).copied().unwrap_or(NO_VCPU)
    }

    /// After a change to the interrupts of `mask`: updates what is derived from them, and returns the vCPUs that it concerns.
    #[inline(always)]
    pub(crate) fn touch(&mut self, at: At, mask: u32) -> VcpuSet {
        match at {
            At::Private(v) => self.touch_private(v, mask),
            At::Shared(k) => self.touch_shared(k, mask),
        }
    }

    #[inline(always)]
    fn touch_private(&mut self, vcpu: usize, mask: u32) -> VcpuSet {
        let groups = self.groups;
        let Some(cpu) = self.cpus.get_mut(vcpu) else { return VcpuSet::EMPTY };
        let bank = &cpu.private;
        let replan = (bank.in_lr | bank.active | bank.released) & mask != 0;
        if replan || bank.ready(groups) & mask != 0 {
            cpu.stale |= replan || cpu.overflow;
            VcpuSet::single(vcpu)
        } else {
            VcpuSet::EMPTY
        }
    }

    #[inline(always)]
    fn touch_shared(&mut self, k: usize, mask: u32) -> VcpuSet {
        let Some(bank) = self.shared.banks.get(k) else { return VcpuSet::EMPTY };
        let ready = bank.ready(self.groups) & mask;
        let replan = (bank.in_lr | bank.active) & mask;
        let released = bank.released & mask;
        if ready | replan | released == 0 {
            // The frequent case: nothing is pending or in a list register.
            return VcpuSet::EMPTY;
        }
        self.concern(k, ready, replan, released)
    }

    /// The edge of an SPI of bank `k` that is in a list register of the vCPU that gets it: that vCPU, which finds it behind what the
    /// guest has ended. `None`, with no state changed, if it is to read its list registers back.
    #[inline]
    fn edge_behind(&mut self, k: usize, intid: u32) -> Option<usize> {
        let spi = intid.wrapping_sub(PRIVATE) as usize;
        let holder = *self.shared.holder.get(spi)?;
        let cpu = self.cpus.get_mut(usize::from(holder))?;
        if self.shared.target.get(spi) != Some(&holder) || cpu.overflow {
            return None;
        }
        cpu.ready_banks |= bit(k as u32);
        Some(holder.into())
    }

    /// The vCPUs that a change of SPIs of bank `k` concerns: they are ready, in a list register, or to be released.
    #[inline(never)]
    fn concern(&mut self, k: usize, ready: u32, replan: u32, released: u32) -> VcpuSet {
        let mut set = VcpuSet::EMPTY;
        if ready != 0 {
            for (v, cpu) in self.cpus.iter_mut().enumerate().take(self.config.vcpus()) {
                if cpu.targeted.get(k).copied().unwrap_or(0) & ready != 0 {
                    cpu.ready_banks |= bit(k as u32);
                    cpu.stale |= cpu.overflow;
                    set.insert(v);
                }
            }
        }
        let mut concerns = |vcpu: u8| {
            if let Some(cpu) = self.cpus.get_mut(usize::from(vcpu)) {
                cpu.stale = true;
                set.insert(usize::from(vcpu));
            }
        };
        let first = k.wrapping_shl(5);
        for n in Bits(replan) {
            let spi = first.wrapping_add(n as usize);
            concerns(self.shared.holder.get(spi).copied().unwrap_or(NO_VCPU));
        }
        if released != 0 {
            self.shared.released |= bit(k as u32);
            // Any CPU can deactivate an SPI.
            concerns(0);
        }
        set
    }

    /// The SPIs of bank `k` that `vcpu` is to take.
    #[inline(always)]
    pub(crate) fn ready_shared(&self, cpu: &Cpu, k: u32) -> u32 {
        let ready = self.shared.banks.get(k as usize).map_or(0, |bank| bank.ready(self.groups));
        ready & cpu.targeted.get(k as usize).copied().unwrap_or(0)
    }

    /// After a change that concerns every interrupt, as of GICD_CTLR.
    pub(crate) fn touch_all(&mut self) -> VcpuSet {
        let mut set = VcpuSet::EMPTY;
        for v in 0..self.config.vcpus() {
            set = set.union(self.touch_private(v, u32::MAX));
        }
        for k in 0..self.config.spi_banks() {
            set = set.union(self.touch_shared(k, u32::MAX));
        }
        set
    }
}
