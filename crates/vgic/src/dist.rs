// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guests' loads and stores of GICD and GICR registers.

use crate::bits::{Bits, bit};
use crate::config::NO_VCPU;
use crate::regs::{Reg, Word, decode, shared_word};
use crate::vgic::At;
use crate::{Config, Frame, PRIORITY_MASK, PRIVATE, SGIS, Version, Vgic};
use arch::{VcpuSet, Width};

/// GICD_CTLR: EnableGrp0, EnableGrp1; GICv3: ARE and DS, which read as one.
const ENABLE_GROUP0: u64 = 1 << 0;
const ENABLE_GROUP1: u64 = 1 << 1;
const ARE: u64 = 1 << 4;
const DS: u64 = 1 << 6;
/// GICR_WAKER.
const PROCESSOR_SLEEP: u64 = 1 << 1;
const CHILDREN_ASLEEP: u64 = 1 << 2;

impl Vgic {
    /// A guest's load by `vcpu`. State in list registers counts as last read back: [`Vgic::stale`] names the vCPUs that matter.
    /// Reads 0 if there is no register of this size at this offset.
    pub fn read(&self, vcpu: usize, frame: Frame, offset: u64, width: Width) -> u64 {
        if vcpu >= self.config.vcpus() {
            return 0;
        }
        match decode(&self.config, frame, offset, width) {
            Reg::Constant(value) => value,
            Reg::Sgir => 0,
            Reg::Control => {
                let fixed = if self.is_v3() { ARE | DS } else { 0 };
                fixed | u64::from(self.groups.group0 & 1) | u64::from(self.groups.group1 & 1) << 1
            }
            Reg::Waker => match self.owner(vcpu, frame) {
                Some(cpu) if cpu.asleep => PROCESSOR_SLEEP | CHILDREN_ASLEEP,
                _ => 0,
            },
            Reg::Word(kind, k) => {
                let Some(bank) = self.bank(at(vcpu, frame, k)) else { return 0 };
                u64::from(match kind {
                    Word::Group => bank.group1,
                    Word::SetEnable | Word::ClearEnable => bank.enabled,
                    Word::SetPending | Word::ClearPending => bank.pending(),
                    Word::SetActive | Word::ClearActive => bank.acknowledged(),
                })
            }
            Reg::Priority(first, count) => gather(first, count, |intid| {
                self.bank(at(vcpu, frame, intid as usize >> 5))
                    .map_or(0, |bank| bank.priority_of(intid & 31))
            }),
            Reg::Targets(first, count) => gather(first, count, |intid| {
                if intid < PRIVATE { VcpuSet::single(vcpu).bits() } else { self.route(intid) as u8 }
            }),
            Reg::Trigger(first) => {
                let edge = self
                    .bank(at(vcpu, frame, first as usize >> 5))
                    .map_or(0, |bank| bank.edge.wrapping_shr(first & 16));
                Bits(edge & 0xffff)
                    .fold(0, |value, n| value | u64::from(bit(n.wrapping_shl(1))) << 1)
            }
            Reg::Router(intid, half) => {
                let route = u64::from(self.route(intid));
                let value = (route & 0xff00_0000) << 8 | route & 0x00ff_ffff;
                match half {
                    1 => value & 0xffff_ffff,
                    2 => value >> 32,
                    _ => value,
                }
            }
            Reg::Sources(_, first, count) => gather(first, count, |sgi| self.sources(vcpu, sgi)),
        }
    }

    /// The vCPUs whose list registers should be read back before this load, so that it is exact: those that hold an interrupt of
    /// an ISPENDR, ICPENDR, ISACTIVER, ICACTIVER, CPENDSGIR or SPENDSGIR.
    pub fn stale(&self, vcpu: usize, frame: Frame, offset: u64, width: Width) -> VcpuSet {
        let at = match decode(&self.config, frame, offset, width) {
            Reg::Word(
                Word::SetPending | Word::ClearPending | Word::SetActive | Word::ClearActive,
                k,
            ) => at(vcpu, frame, k),
            Reg::Sources(..) => At::Private(vcpu),
            _ => return VcpuSet::EMPTY,
        };
        let Some(bank) = self.bank(at) else { return VcpuSet::EMPTY };
        match at {
            At::Private(_) if bank.in_lr == 0 => VcpuSet::EMPTY,
            At::Private(v) => VcpuSet::single(v),
            At::Shared(k) => Bits(bank.in_lr).fold(VcpuSet::EMPTY, |mut set, n| {
                set.insert(usize::from(self.holder_of(intid_of(k, n))));
                set
            }),
        }
    }

    /// A guest's store by `vcpu`. Returns the vCPUs whose list registers are out of date.
    /// Without effect if there is no register of this size at this offset.
    #[inline(always)]
    pub fn write(
        &mut self,
        vcpu: usize,
        frame: Frame,
        offset: u64,
        width: Width,
        value: u64,
    ) -> VcpuSet {
        if matches!((frame, width), (Frame::Dist, Width::B4))
            && let Some((kind, k)) = shared_word(&self.config, offset)
            && vcpu < self.config.vcpus()
        {
            return self.write_word(at(vcpu, frame, k), kind, value as u32);
        }
        self.write_any(vcpu, frame, offset, width, value)
    }

    #[inline(never)]
    fn write_any(
        &mut self,
        vcpu: usize,
        frame: Frame,
        offset: u64,
        width: Width,
        value: u64,
    ) -> VcpuSet {
        if vcpu >= self.config.vcpus() {
            return VcpuSet::EMPTY;
        }
        match decode(&self.config, frame, offset, width) {
            Reg::Constant(_) => VcpuSet::EMPTY,
            Reg::Sgir => self.sgir(vcpu, value as u32),
            Reg::Control => self.write_control(value),
            Reg::Waker => {
                // Only read back: what PSCI says of a vCPU decides whether it runs.
                let owner = match frame {
                    Frame::Redist(owner) => owner,
                    Frame::Dist => vcpu,
                };
                if let Some(cpu) = self.cpus.get_mut(owner) {
                    cpu.asleep = value & PROCESSOR_SLEEP != 0;
                }
                VcpuSet::EMPTY
            }
            Reg::Word(kind, k) => self.write_word(at(vcpu, frame, k), kind, value as u32),
            Reg::Priority(first, count) => {
                let at = at(vcpu, frame, first as usize >> 5);
                let Some(bank) = self.bank_mut(at) else { return VcpuSet::EMPTY };
                let mut changed = 0;
                for (intid, byte) in scatter(first, count, value) {
                    if let Some(priority) = bank.priority.get_mut(intid as usize & 31)
                        && *priority != byte & PRIORITY_MASK
                    {
                        *priority = byte & PRIORITY_MASK;
                        changed |= bit(intid);
                    }
                }
                self.touch(at, changed)
            }
            Reg::Targets(first, count) => {
                let mut set = VcpuSet::EMPTY;
                for (intid, byte) in scatter(first, count, value) {
                    if intid >= PRIVATE {
                        let list = byte & self.config.all_vcpus();
                        let target = if list == 0 { NO_VCPU } else { list.trailing_zeros() as u8 };
                        set = set.union(self.set_route(intid, u32::from(list), target));
                    }
                }
                set
            }
            Reg::Trigger(first) => self.write_trigger(vcpu, frame, first, value as u32),
            Reg::Router(intid, half) => {
                let old = self.route(intid);
                // Aff3 is bits 39:32; IRM is not offered.
                let low = value as u32 & 0x00ff_ffff;
                let high = match half {
                    2 => (value as u32).wrapping_shl(24),
                    _ => ((value >> 32) as u32).wrapping_shl(24),
                };
                let route = match half {
                    1 => old & 0xff00_0000 | low,
                    2 => old & 0x00ff_ffff | high,
                    _ => high | low,
                };
                let target = (0..self.config.vcpus())
                    .find(|&v| Config::affinity(v) == route)
                    .map_or(NO_VCPU, |v| v as u8);
                self.set_route(intid, route, target)
            }
            Reg::Sources(true, first, count) => {
                let all = self.config.all_vcpus();
                scatter(first, count, value).fold(VcpuSet::EMPTY, |set, (sgi, byte)| {
                    set.union(self.add_sources(vcpu, sgi, byte & all))
                })
            }
            Reg::Sources(false, first, count) => scatter(first, count, value)
                .fold(VcpuSet::EMPTY, |set, (sgi, byte)| {
                    set.union(self.remove_sources(vcpu, sgi, byte))
                }),
        }
    }

    #[inline]
    fn is_v3(&self) -> bool {
        matches!(self.config.version(), Version::V3)
    }

    fn owner(&self, vcpu: usize, frame: Frame) -> Option<&crate::vgic::Cpu> {
        self.cpus.get(match frame {
            Frame::Redist(owner) => owner,
            Frame::Dist => vcpu,
        })
    }

    fn route(&self, intid: u32) -> u32 {
        let spi = intid.wrapping_sub(PRIVATE) as usize;
        self.shared.route.get(spi).copied().unwrap_or(0)
    }

    fn set_route(&mut self, intid: u32, route: u32, target: u8) -> VcpuSet {
        let spi = intid.wrapping_sub(PRIVATE) as usize;
        let k = spi >> 5;
        let (Some(r), Some(t)) = (self.shared.route.get_mut(spi), self.shared.target.get_mut(spi))
        else {
            return VcpuSet::EMPTY;
        };
        *r = route;
        if *t == target {
            return VcpuSet::EMPTY;
        }
        *t = target;
        for (v, cpu) in self.cpus.iter_mut().enumerate() {
            if let Some(word) = cpu.targeted.get_mut(k) {
                *word &= !bit(intid);
                if v == usize::from(target) {
                    *word |= bit(intid);
                }
            }
        }
        self.touch(At::Shared(k), bit(intid))
    }

    fn write_control(&mut self, value: u64) -> VcpuSet {
        let mask = |on: bool| if on { u32::MAX } else { 0 };
        let old = self.groups;
        self.groups.group0 = mask(value & ENABLE_GROUP0 != 0);
        self.groups.group1 = mask(value & ENABLE_GROUP1 != 0);
        if self.groups == old { VcpuSet::EMPTY } else { self.touch_all() }
    }

    /// The words of one bit per interrupt. Ones act, except in IGROUPR.
    #[inline(always)]
    fn write_word(&mut self, at: At, kind: Word, value: u32) -> VcpuSet {
        // A GICv2 SGI is pending by source: CPENDSGIR and SPENDSGIR.
        let by_source = if !self.is_v3() && matches!(at, At::Private(_)) { 0xffff } else { 0u32 };
        let Some(bank) = self.bank_mut(at) else { return VcpuSet::EMPTY };
        let changed = match kind {
            Word::Group => {
                let changed = bank.group1 ^ value;
                bank.group1 = value;
                changed
            }
            Word::SetEnable => {
                let changed = value & !bank.enabled;
                bank.enabled |= value;
                changed
            }
            Word::ClearEnable => {
                let changed = value & bank.enabled;
                bank.enabled &= !value;
                changed
            }
            Word::SetPending => {
                let changed = value & !bank.pending_latch & !by_source;
                bank.pending_latch |= changed;
                changed
            }
            Word::ClearPending => {
                let changed = value & (bank.pending_latch | bank.lr_latch) & !by_source;
                bank.pending_latch &= !changed;
                bank.lr_latch &= !changed;
                bank.release_idle(changed);
                changed
            }
            Word::SetActive => {
                // What a list register has as active may be deactivated without our knowing.
                let changed = value & !bank.active;
                bank.active |= changed;
                changed
            }
            Word::ClearActive => {
                // In a list register it may be active without our knowing.
                let changed = value & (bank.active | bank.in_lr);
                bank.active &= !changed;
                bank.lr_active &= !changed;
                bank.lr_inactive |= changed & bank.in_lr;
                bank.release_idle(changed);
                changed
            }
        };
        match (kind, at) {
            (Word::SetActive, At::Private(v)) => {
                if by_source != 0
                    && let Some(cpu) = self.cpus.get_mut(v)
                {
                    for n in Bits(changed & by_source & !cpu.private.in_lr) {
                        if let Some(source) = cpu.active_source.get_mut(n as usize) {
                            *source = 0;
                        }
                    }
                }
            }
            (Word::SetActive, At::Shared(k)) => {
                for n in Bits(changed & !self.bank(at).map_or(0, |bank| bank.in_lr)) {
                    let intid = intid_of(k, n);
                    let target = self.target_of(intid);
                    let holder = if target == NO_VCPU { 0 } else { target };
                    self.set_holder(intid, holder);
                    if let Some(cpu) = self.cpus.get_mut(usize::from(holder)) {
                        cpu.active_banks |= bit(k as u32);
                    }
                }
            }
            _ => {}
        }
        self.touch(at, changed)
    }

    #[inline]
    pub(crate) fn set_holder(&mut self, intid: u32, vcpu: u8) {
        if let Some(holder) = self.shared.holder.get_mut(intid.wrapping_sub(PRIVATE) as usize) {
            *holder = vcpu;
        }
    }

    /// ICFGR: bit 1 of each pair. SGIs are edge-triggered for good, PPIs of GICv2 level-sensitive.
    fn write_trigger(&mut self, vcpu: usize, frame: Frame, first: u32, value: u32) -> VcpuSet {
        if first < SGIS || first < PRIVATE && !self.is_v3() {
            return VcpuSet::EMPTY;
        }
        let at = at(vcpu, frame, first as usize >> 5);
        let Some(bank) = self.bank_mut(at) else { return VcpuSet::EMPTY };
        let edge = (0..16u32).fold(0, |edge, n| {
            let wants = value.wrapping_shr(n.wrapping_shl(1).wrapping_add(1)) & 1;
            edge | wants.wrapping_shl(n)
        });
        let half = 0xffffu32.wrapping_shl(first & 16);
        let new = bank.edge & !half | edge.wrapping_shl(first & 16);
        let changed = bank.edge ^ new;
        bank.edge = new;
        self.touch(at, changed)
    }

    /// GICv2: the senders that wait.
    fn sources(&self, vcpu: usize, sgi: u32) -> u8 {
        let Some(cpu) = self.cpus.get(vcpu) else { return 0 };
        cpu.sources.get(sgi as usize & 15).copied().unwrap_or(0) | cpu.source_in_lr(sgi)
    }

    /// GICv2: SGI `sgi` is no longer pending from each vCPU of `sources`.
    fn remove_sources(&mut self, vcpu: usize, sgi: u32, sources: u8) -> VcpuSet {
        let mask = bit(sgi);
        let Some(cpu) = self.cpus.get_mut(vcpu) else { return VcpuSet::EMPTY };
        let mut changed = 0;
        if cpu.source_in_lr(sgi) & sources != 0 {
            cpu.private.lr_latch &= !mask;
            changed = mask;
        }
        if let Some(waiting) = cpu.sources.get_mut(sgi as usize & 15)
            && *waiting & sources != 0
        {
            *waiting &= !sources;
            if *waiting == 0 {
                cpu.private.pending_latch &= !mask;
            }
            changed = mask;
        }
        self.touch(At::Private(vcpu), changed)
    }
}

/// Bank `k` as `vcpu` sees it in `frame`: 0 is the private one of the vCPU, or of the redistributor's.
#[inline(always)]
fn at(vcpu: usize, frame: Frame, k: usize) -> At {
    match (frame, k.checked_sub(1)) {
        (Frame::Redist(owner), _) => At::Private(owner),
        (Frame::Dist, None) => At::Private(vcpu),
        (Frame::Dist, Some(k)) => At::Shared(k),
    }
}

/// INTID of bit `n` of the shared bank `k`.
#[inline(always)]
pub(crate) fn intid_of(k: usize, n: u32) -> u32 {
    (k as u32).wrapping_add(1).wrapping_shl(5) | n
}

/// A register of a byte per interrupt.
fn gather(first: u32, count: u32, byte: impl Fn(u32) -> u8) -> u64 {
    (0..count).fold(0, |value, n| {
        value | u64::from(byte(first.wrapping_add(n))).wrapping_shl(n.wrapping_shl(3))
    })
}

/// The bytes of a store to such a register, with their interrupts.
fn scatter(first: u32, count: u32, value: u64) -> impl Iterator<Item = (u32, u8)> {
    (0..count).map(move |n| (first.wrapping_add(n), value.wrapping_shr(n.wrapping_shl(3)) as u8))
}
