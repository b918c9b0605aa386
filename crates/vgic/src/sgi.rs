// SPDX-License-Identifier: MIT OR Apache-2.0
//! Software-generated interrupts: ICC_SGI1R_EL1 and its siblings, GICD_SGIR.

use crate::Vgic;
use crate::bank::Groups;
use crate::bits::bit;
use crate::vgic::Cpu;
use arch::VcpuSet;

/// ICC_SGI1R_EL1.IRM: all but the sender.
pub(crate) const IRM: u64 = 1 << 40;
/// Aff3, RS, Aff2 and Aff1: all 0 for vCPUs, which have affinities 0.0.0.0 to 0.0.0.7.
pub(crate) const ELSEWHERE: u64 = 0xff << 48 | 0xf << 44 | 0xff << 32 | 0xff << 16;

impl Cpu {
    /// GICv3: an SGI becomes pending. Returns whether the list registers are out of date.
    #[inline(always)]
    pub(crate) fn add_sgi(&mut self, mask: u32, groups: Groups) -> bool {
        let bank = &mut self.private;
        bank.pending_latch |= mask;
        // SGIs have no line. Most are still in a list register that the guest has ended.
        let news = if bank.in_lr & mask != 0 {
            bank.enabled & !self.waiting
        } else {
            bank.allowed(groups) & !bank.active
        };
        if news & mask == 0 {
            return false;
        }
        if self.overflow {
            self.stale = true;
        }
        true
    }
}

impl Vgic {
    /// A write of ICC_SGI1R_EL1 (IHI 0069 section 12.2.25): an SGI to a list of vCPUs or to all others. With one security state it
    /// reaches SGIs of either group. Targets that do not exist are ignored. Returns the vCPUs whose list registers
    /// are out of date.
    #[inline]
    pub fn sgi1r(&mut self, vcpu: usize, value: u64) -> VcpuSet {
        self.sgi(vcpu, value, u32::MAX)
    }

    /// A write of ICC_SGI0R_EL1 or ICC_ASGI1R_EL1: as [`Vgic::sgi1r`], but reaches only SGIs that their receiver has in group 0.
    pub fn sgi0r(&mut self, vcpu: usize, value: u64) -> VcpuSet {
        self.sgi(vcpu, value, 0)
    }

    #[inline(always)]
    fn sgi(&mut self, vcpu: usize, value: u64, group1: u32) -> VcpuSet {
        let mut set = VcpuSet::EMPTY;
        let all = self.config.sgi1r_reaches();
        if all == 0 {
            return set;
        }
        let targets = if value & IRM != 0 {
            VcpuSet::from_bits(all).without(VcpuSet::single(vcpu))
        } else if value & ELSEWHERE != 0 {
            return set;
        } else {
            VcpuSet::from_bits(value as u8 & all)
        };
        let mask = bit((value >> 24) as u32 & 0xf);
        let groups = self.groups;
        for target in targets {
            let Some(cpu) = self.cpus.get_mut(target) else { continue };
            if mask & (!cpu.private.group1 | group1) != 0 && cpu.add_sgi(mask, groups) {
                set.insert(target);
            }
        }
        set
    }

    /// A write of GICD_SGIR (IHI 0048 section 4.3.15). The reserved filter 0b11 does nothing.
    pub(crate) fn sgir(&mut self, vcpu: usize, value: u32) -> VcpuSet {
        let all = VcpuSet::from_bits(self.config.all_vcpus());
        let this = VcpuSet::single(vcpu);
        let targets = match value >> 24 & 3 {
            0 => VcpuSet::from_bits((value >> 16) as u8).intersection(all),
            1 => all.without(this),
            2 => this,
            _ => VcpuSet::EMPTY,
        };
        let mut set = VcpuSet::EMPTY;
        for target in targets {
            set = set.union(self.add_sources(target, value & 0xf, this.bits()));
        }
        set
    }

    /// GICv2: SGI `intid` becomes pending at `target`, from each vCPU of `sources`.
    #[inline]
    pub(crate) fn add_sources(&mut self, target: usize, intid: u32, sources: u8) -> VcpuSet {
        let groups = self.groups;
        let mask = bit(intid);
        let Some(cpu) = self.cpus.get_mut(target) else { return VcpuSet::EMPTY };
        // Only the list register tells whether it is still the same one, or one more after an acknowledge.
        cpu.stale |= cpu.waiting & mask != 0 && cpu.source_in_lr(intid) & sources != 0;
        let Some(waiting) = cpu.sources.get_mut(intid as usize & 15) else {
            return VcpuSet::EMPTY;
        };
        *waiting |= sources;
        if *waiting == 0 {
            return VcpuSet::EMPTY;
        }
        cpu.private.pending_latch |= mask;
        if (cpu.private.ready(groups) | cpu.repending()) & mask != 0 {
            cpu.stale |= cpu.overflow;
        } else if !cpu.stale {
            return VcpuSet::EMPTY;
        }
        VcpuSet::single(target)
    }
}
