// SPDX-License-Identifier: MIT OR Apache-2.0
//! The slow path between the state here and the list registers: reading them back, and filling them.

use crate::bits::{Bits, bit};
use crate::config::NO_VCPU;
use crate::dist::intid_of;
use crate::vgic::{At, Slot};
use crate::{ListRegister, MAX_LIST_REGISTERS, PRIVATE, SGIS, State, Version, Vgic};
use arch::VcpuSet;

/// Bits of ICH_HCR_EL2; GICH_HCR has the same but for TDIR.
const EN: u32 = 1 << 0;
const LRENPIE: u32 = 1 << 2;
const NPIE: u32 = 1 << 3;
const VGRP0EIE: u32 = 1 << 4;
const VGRP0DIE: u32 = 1 << 5;
const VGRP1EIE: u32 = 1 << 6;
const VGRP1DIE: u32 = 1 << 7;
const TDIR: u32 = 1 << 14;

/// What the hardware's virtual interface says besides the list registers, read when the vCPU has exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// ICH_HCR_EL2.EOIcount or GICH_HCR.EOICount (bits 31:27): deactivations that found no list register.
    pub eoi_count: u8,
    /// ICH_VMCR_EL2.VENG0 or GICH_VMCR.VMGrp0En (bit 0).
    pub group0: bool,
    /// ICH_VMCR_EL2.VENG1 or GICH_VMCR.VMGrp1En (bit 1).
    pub group1: bool,
}

impl Interface {
    /// Decodes ICH_HCR_EL2 and ICH_VMCR_EL2, or GICH_HCR and GICH_VMCR: the bits used are the same.
    #[inline(always)]
    pub const fn new(hcr: u32, vmcr: u32) -> Self {
        Self { eoi_count: (hcr >> 27) as u8, group0: vmcr & 1 != 0, group1: vmcr & 2 != 0 }
    }
}

/// What to program besides the list registers before the vCPU runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// A bit for each list register that holds an interrupt; the others are to be written 0.
    pub used: u16,
    /// Value for ICH_HCR_EL2 or GICH_HCR: En, and those of LRENPIE, NPIE, VGrp0EIE, VGrp0DIE, VGrp1EIE, VGrp1DIE and TDIR
    /// (GICv3 only) that are needed now. EOIcount is 0.
    pub hcr: u32,
    /// Physical interrupts wait to be deactivated: call [`Vgic::take_released`] until it returns `None`.
    pub release: bool,
}

/// The lowest keys of those offered, in order, and how many were offered.
struct Lowest {
    keys: [u32; MAX_LIST_REGISTERS],
    kept: usize,
    offered: usize,
}

impl Lowest {
    const fn new() -> Self {
        Self { keys: [0; MAX_LIST_REGISTERS], kept: 0, offered: 0 }
    }

    fn offer(&mut self, mut key: u32) {
        self.offered = self.offered.saturating_add(1);
        for kept in self.keys.iter_mut().take(self.kept) {
            if key < *kept {
                core::mem::swap(&mut key, kept);
            }
        }
        if let Some(free) = self.keys.get_mut(self.kept) {
            *free = key;
            self.kept = self.kept.saturating_add(1);
        }
    }

    fn first(&self, count: usize) -> &[u32] {
        self.keys.get(..count.min(self.kept)).unwrap_or(&[])
    }
}

/// Sorts by priority, then by INTID; a group that the guest's CPU interface has disabled comes last.
const fn key(intid: u32, priority: u8, taken: bool) -> u32 {
    (!taken as u32) << 31 | (priority as u32) << 16 | intid
}

const fn intid_of_key(key: u32) -> u32 {
    key & 0xffff
}

impl crate::vgic::Cpu {
    /// GICv2: the source that a list register holds as pending, as a bit; 0 if none.
    pub(crate) fn source_in_lr(&self, sgi: u32) -> u8 {
        if self.private.lr_latch & bit(sgi) == 0 {
            return 0;
        }
        let slot = self.private.slot.get(sgi as usize & 31).copied().unwrap_or(0);
        self.slots
            .get(usize::from(slot))
            .map_or(0, |slot| VcpuSet::single(usize::from(slot.source)).bits())
    }
}

impl Vgic {
    /// Reads the state of `vcpu`'s list registers back, of those in use. Until the next [`Vgic::flush_to_lrs`] the state of all
    /// its interrupts is here. Returns the *other* vCPUs whose list registers are out of date.
    pub fn sync_from_lrs(
        &mut self,
        vcpu: usize,
        interface: Interface,
        lrs: &[ListRegister],
    ) -> VcpuSet {
        self.sync_from_lrs_with(vcpu, interface, |slot| {
            lrs.get(slot).copied().unwrap_or_default().state
        })
    }

    /// [`Vgic::sync_from_lrs`] that reads only the states of list registers in use.
    #[inline(always)]
    pub fn sync_from_lrs_with(
        &mut self,
        vcpu: usize,
        interface: Interface,
        mut read: impl FnMut(usize) -> State,
    ) -> VcpuSet {
        let mut set = VcpuSet::EMPTY;
        let v3 = matches!(self.config.version(), Version::V3);
        let Some(cpu) = self.cpus.get_mut(vcpu) else { return set };
        if cpu.left_active != 0 {
            // First: only these deactivations, of interrupts that were left out, have an effect.
            set = self.count_deactivated(vcpu, interface.eoi_count);
        }
        let Some(cpu) = self.cpus.get_mut(vcpu) else { return VcpuSet::EMPTY };
        let (used, hw) = (cpu.used, cpu.hw);
        cpu.used = 0;
        cpu.hw = 0;
        cpu.eoi_maintenance = 0;
        cpu.pending = 0;
        cpu.waiting = 0;
        cpu.enabled_groups = [interface.group0, interface.group1];
        cpu.stale |= used != 0 || cpu.overflow;
        for s in Bits(u32::from(used)) {
            let state = read(s as usize);
            let was_hw = u32::from(hw) & bit(s) != 0;
            if let Some(cpu) = self.cpus.get_mut(vcpu)
                && let Some(slot) = cpu.slots.get(s as usize & 15)
                && u32::from(slot.intid) < PRIVATE
                && v3
            {
                // The frequent case: it concerns no other vCPU.
                cpu.private.fold(bit(u32::from(slot.intid)), state, was_hw);
            } else {
                set = set.union(self.fold_one(vcpu, s, state, was_hw));
            }
        }
        set.without(VcpuSet::single(vcpu))
    }

    /// Whether the first list register of a vCPU that leaves its CPU can be kept: no other is in use, and it holds a private
    /// interrupt that is pending (`first`) as it was placed. It may be written again when the vCPU comes back, unless
    /// [`Vgic::needs_flush`] says otherwise. Meanwhile the interrupt counts as placed.
    #[inline(always)]
    pub(crate) fn may_keep_first(&self, vcpu: usize, first: State) -> bool {
        let Some(cpu) = self.cpus.get(vcpu) else { return false };
        let [slot, ..] = &cpu.slots;
        cpu.used == 1
            && matches!(first, State::Pending)
            && !(cpu.stale | cpu.overflow)
            && cpu.pending == 1
            && u32::from(slot.intid) < PRIVATE
    }

    /// So many deactivations found no list register: they are of the active interrupts that were left out.
    #[cold]
    #[inline(never)]
    fn count_deactivated(&mut self, vcpu: usize, eoi_count: u8) -> VcpuSet {
        let mut set = VcpuSet::EMPTY;
        let Some(cpu) = self.cpus.get_mut(vcpu) else { return set };
        let left = core::mem::take(&mut cpu.left_active);
        for _ in 0..left.min(eoi_count.into()) {
            match self.highest_active(vcpu) {
                Some(intid) => set = set.union(self.deactivate(vcpu, intid)),
                None => break,
            }
        }
        set
    }

    /// Reads one list register back.
    #[inline(never)]
    fn fold_one(&mut self, vcpu: usize, s: u32, state: State, was_hw: bool) -> VcpuSet {
        let Some(slot) = self.cpus.get(vcpu).and_then(|cpu| cpu.slots.get(s as usize)).copied()
        else {
            return VcpuSet::EMPTY;
        };
        let intid = u32::from(slot.intid);
        let Some((at, mask)) = self.locate(vcpu, intid) else { return VcpuSet::EMPTY };
        let Some(bank) = self.bank_mut(at) else { return VcpuSet::EMPTY };
        let (latch, active) = bank.fold(mask, state, was_hw);
        let active_here = bank.active & mask != 0;
        if let At::Shared(k) = at {
            self.set_holder(intid, if active_here { vcpu as u8 } else { NO_VCPU });
            if active_here && let Some(cpu) = self.cpus.get_mut(vcpu) {
                cpu.active_banks |= bit(k as u32);
            }
        } else if self.is_v2_sgi(intid)
            && let Some(cpu) = self.cpus.get_mut(vcpu)
        {
            if latch && let Some(waiting) = cpu.sources.get_mut(intid as usize) {
                *waiting |= VcpuSet::single(usize::from(slot.source)).bits();
            }
            if active && let Some(source) = cpu.active_source.get_mut(intid as usize) {
                *source = slot.source;
            }
        }
        self.touch(at, mask)
    }

    /// A trapped write of ICC_DIR_EL1 (a [`Plan`] asked for TDIR), and each of EOIcount. [`Vgic::sync_from_lrs`] comes before,
    /// [`Vgic::flush_to_lrs`] after.
    /// Without effect on what is not active for `vcpu`.
    pub fn deactivate(&mut self, vcpu: usize, intid: u32) -> VcpuSet {
        let Some((at, mask)) = self.locate(vcpu, intid) else { return VcpuSet::EMPTY };
        if matches!(at, At::Shared(_)) && usize::from(self.holder_of(intid)) != vcpu {
            return VcpuSet::EMPTY;
        }
        let Some(bank) = self.bank_mut(at) else { return VcpuSet::EMPTY };
        if bank.active & !bank.in_lr & mask == 0 {
            return VcpuSet::EMPTY;
        }
        bank.active &= !mask;
        bank.release_idle(mask);
        if let At::Shared(_) = at {
            self.set_holder(intid, NO_VCPU);
        }
        self.touch(at, mask)
    }

    /// Fills `vcpu`'s list registers, after a [`Vgic::sync_from_lrs`]. All of `out` is written, free ones included; at most
    /// [`Config::list_registers`](crate::Config::list_registers) are used.
    ///
    /// What is active comes first, then what is pending, each by priority; but if anything is pending, its first has a place. What is left out
    /// is placed at the maintenance interrupts that the plan asks for.
    pub fn flush_to_lrs(&mut self, vcpu: usize, out: &mut [ListRegister]) -> Plan {
        if self.used(vcpu) != 0 {
            self.unplace(vcpu);
        }
        let room = out.len().min(self.config.list_registers());
        let mut active = Lowest::new();
        let mut pending = Lowest::new();
        let pending_taken = self.candidates(vcpu, &mut active, &mut pending);

        let reserved = usize::from(pending_taken != 0);
        let actives = active.offered.min(room.saturating_sub(reserved));
        let pendings = pending.offered.min(room.saturating_sub(actives));
        // Pending and active becomes pending by itself, maybe before what is left out: not then.
        let both = pendings == pending.offered;
        let mut plan = Plan { hcr: EN, ..Plan::default() };
        let mut slots = (0usize..).zip(out.iter_mut());
        for key in active.first(actives).iter().chain(pending.first(pendings)) {
            let Some((s, out)) = slots.next() else { break };
            plan.used |= bit(s as u32) as u16;
            *out = self.place(vcpu, intid_of_key(*key), s, both);
        }
        for (_, out) in slots {
            *out = ListRegister::FREE;
        }

        let v3 = matches!(self.config.version(), Version::V3);
        let shared_released = self.shared.released;
        let Some(cpu) = self.cpus.get_mut(vcpu) else { return plan };
        if actives < active.offered {
            plan.hcr |= LRENPIE | if v3 { TDIR } else { 0 };
        }
        if pendings < pending_taken {
            plan.hcr |= NPIE;
        }
        if pendings < pending.offered {
            // Which groups the guest has enabled decides what is first.
            let [takes0, takes1] = cpu.enabled_groups;
            plan.hcr |= if takes0 { VGRP0DIE } else { VGRP0EIE };
            plan.hcr |= if takes1 { VGRP1DIE } else { VGRP1EIE };
        }
        cpu.left_active = active.offered.saturating_sub(actives) as u16;
        cpu.overflow = actives < active.offered || pendings < pending.offered;
        cpu.stale = false;
        cpu.waiting = cpu.private.repending();
        if !cpu.overflow {
            cpu.ready_banks = 0;
            cpu.active_banks = 0;
        }
        plan.release = cpu.private.released != 0 || shared_released != 0;
        plan
    }

    /// The fast path of [`Vgic::flush_to_lrs`], where nothing is active and at most one private interrupt is pending: the value
    /// of the first list register. `None`, with no state changed, if there is more.
    #[inline(always)]
    pub(crate) fn load_first(&mut self, vcpu: usize) -> Option<ListRegister> {
        let groups = self.groups;
        let v3 = matches!(self.config.version(), Version::V3);
        let released = self.shared.released;
        let cpu = self.cpus.get_mut(vcpu)?;
        let bank = &mut cpu.private;
        let ready = bank.ready(groups);
        if (bank.active | bank.released | released | cpu.active_banks | cpu.ready_banks) != 0
            || (cpu.used | cpu.left_active) != 0
            || ready & ready.wrapping_sub(1) != 0
            // By sender.
            || !v3 && ready & bit(SGIS).wrapping_sub(1) != 0
        {
            return None;
        }
        cpu.overflow = false;
        cpu.stale = false;
        cpu.waiting = 0;
        if ready == 0 {
            return Some(ListRegister::FREE);
        }
        let n = ready.trailing_zeros() & 31;
        let completion = bank.completion(n, false);
        let lr = bank.list_register(n, n, State::Pending, completion, 0);
        bank.occupy(n, 0, State::Pending, completion);
        cpu.occupy(0, Slot { intid: n as u16, source: 0 }, State::Pending, completion);
        Some(lr)
    }

    /// Without a [`Vgic::sync_from_lrs`] before: takes everything back as it was placed, as if the guest had not run.
    #[cold]
    #[inline(never)]
    fn unplace(&mut self, vcpu: usize) {
        let Some(cpu) = self.cpus.get(vcpu) else { return };
        let [group0, group1] = cpu.enabled_groups;
        let mut lrs = [ListRegister::FREE; MAX_LIST_REGISTERS];
        for (s, (lr, slot)) in (0u32..).zip(lrs.iter_mut().zip(&cpu.slots)) {
            let active = self
                .locate(vcpu, u32::from(slot.intid))
                .and_then(|(at, mask)| Some(self.bank(at)?.lr_active & mask != 0));
            let pending = u32::from(cpu.pending) & bit(s) != 0;
            lr.state = State::of(pending, active == Some(true));
        }
        self.sync_from_lrs(vcpu, Interface { eoi_count: 0, group0, group1 }, &lrs);
    }

    /// What is active and what is pending for `vcpu`, and how much of the latter is in a group that its CPU interface has enabled.
    fn candidates(&self, vcpu: usize, active: &mut Lowest, pending: &mut Lowest) -> usize {
        let mut taken = 0usize;
        let Some(cpu) = self.cpus.get(vcpu) else { return taken };
        let mut offer = |bank: &crate::bank::Bank, n: u32, intid: u32| {
            let [takes0, takes1] = cpu.enabled_groups;
            let takes = if bank.group1 & bit(n) != 0 { takes1 } else { takes0 };
            taken = taken.saturating_add(usize::from(takes));
            pending.offer(key(intid, bank.priority_of(n), takes));
        };
        let private = &cpu.private;
        for n in Bits(private.active) {
            active.offer(key(n, private.priority_of(n), true));
        }
        for n in Bits(private.ready(self.groups)) {
            offer(private, n, n);
        }
        for k in Bits(cpu.ready_banks) {
            let ready = self.ready_shared(cpu, k);
            let k = k as usize;
            let Some(bank) = self.shared.banks.get(k) else { continue };
            for n in Bits(ready) {
                offer(bank, n, intid_of(k, n));
            }
        }
        for k in Bits(cpu.active_banks) {
            let k = k as usize;
            let Some(bank) = self.shared.banks.get(k) else { continue };
            for n in Bits(bank.active) {
                let intid = intid_of(k, n);
                if usize::from(self.holder_of(intid)) == vcpu {
                    active.offer(key(intid, bank.priority_of(n), true));
                }
            }
        }
        taken
    }

    /// Moves an interrupt into slot `s`, pending and active there if `both` and it is.
    #[inline(always)]
    pub(crate) fn place(&mut self, vcpu: usize, intid: u32, s: usize, both: bool) -> ListRegister {
        let groups = self.groups;
        let n = intid & 31;
        let sgi = match self.cpus.get(vcpu) {
            Some(cpu) if self.is_v2_sgi(intid) => {
                let of = |all: &[u8; 16]| all.get(intid as usize).copied().unwrap_or(0);
                Some((of(&cpu.sources), of(&cpu.active_source)))
            }
            _ => None,
        };
        let Some((at, mask)) = self.locate(vcpu, intid) else { return ListRegister::FREE };
        // An SPI that is active here and routed elsewhere: its next edge goes to the new target once this one is deactivated
        // (IHI 0048B.b, 4.3.12).
        let both =
            both && (matches!(at, At::Private(_)) || usize::from(self.target_of(intid)) == vcpu);
        let Some(bank) = self.bank_mut(at) else { return ListRegister::FREE };
        let placed = bank.place(n, intid, s as u8, groups, both, sgi);
        if let At::Shared(_) = at {
            self.set_holder(intid, vcpu as u8);
        }
        let Some(cpu) = self.cpus.get_mut(vcpu) else { return ListRegister::FREE };
        if sgi.is_some()
            && let Some(waiting) = cpu.sources.get_mut(intid as usize)
        {
            *waiting = placed.sources;
        }
        let slot = Slot { intid: intid as u16, source: placed.lr.source };
        cpu.occupy(s, slot, placed.lr.state, placed.completion);
        if placed.waits && matches!(at, At::Private(_)) {
            cpu.waiting |= mask;
        }
        placed.lr
    }

    /// The list registers in use, which [`Vgic::sync_from_lrs`] reads.
    #[inline]
    pub fn used(&self, vcpu: usize) -> u16 {
        self.cpus.get(vcpu).map_or(0, |cpu| cpu.used)
    }

    /// Whether `vcpu`'s list registers are out of date ([`Event::Marked`](crate::Event::Marked)).
    #[inline(always)]
    pub fn needs_flush(&self, vcpu: usize) -> bool {
        let Some(cpu) = self.cpus.get(vcpu) else { return false };
        cpu.stale
            || !cpu.overflow
                && ((cpu.private.ready(self.groups) | cpu.repending()) != 0
                    || cpu.ready_banks != 0 && self.any_shared_ready(cpu))
    }

    /// Whether an interrupt waits to be acknowledged by `vcpu`, so that its WFI does not sleep. Call
    /// [`Vgic::sync_from_lrs`] before. The guest's priority mask does not count, as WFI may end early.
    #[inline(always)]
    pub fn deliverable(&self, vcpu: usize) -> bool {
        let Some(cpu) = self.cpus.get(vcpu) else { return false };
        (cpu.private.ready(self.groups) | u32::from(cpu.pending)) != 0
            || cpu.ready_banks != 0 && self.any_shared_ready(cpu)
    }

    #[inline(never)]
    fn any_shared_ready(&self, cpu: &crate::vgic::Cpu) -> bool {
        Bits(cpu.ready_banks).any(|k| self.ready_shared(cpu, k) != 0)
    }

    /// The active interrupt of highest priority that is in no list register.
    fn highest_active(&self, vcpu: usize) -> Option<u32> {
        let cpu = self.cpus.get(vcpu)?;
        let private = &cpu.private;
        let mut first = Bits(private.active & !private.in_lr)
            .map(|n| key(n, private.priority_of(n), true))
            .min();
        for k in Bits(cpu.active_banks) {
            let k = k as usize;
            let Some(bank) = self.shared.banks.get(k) else { continue };
            for n in Bits(bank.active & !bank.in_lr) {
                let intid = intid_of(k, n);
                if usize::from(self.holder_of(intid)) == vcpu {
                    let key = key(intid, bank.priority_of(n), true);
                    first = Some(first.map_or(key, |first| first.min(key)));
                }
            }
        }
        first.map(intid_of_key)
    }

    #[inline(always)]
    fn is_v2_sgi(&self, intid: u32) -> bool {
        intid < SGIS && matches!(self.config.version(), Version::V2)
    }
}
