// SPDX-License-Identifier: MIT OR Apache-2.0
//! The short way for one interrupt: a list register at once, without folding the others.

use crate::bank::Completion;
use crate::bits::{Bits, bit};
use crate::config::NOBODY;
use crate::dist::intid_of;
use crate::sgi::{ELSEWHERE, IRM};
use crate::vgic::Slot;
use crate::{ListRegister, PRIVATE, SGIS, State, Vgic};
use arch::{MAX_VCPUS, VcpuSet};

/// What [`Vgic::quick`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quick {
    /// The list registers are right as they are.
    Nothing,
    /// Write this list register; all else, ICH_HCR_EL2 included, is right as it is.
    One(usize, ListRegister),
    /// Fold and plan.
    Full,
}

/// What [`Vgic::sgi1r_now`] made of an SGI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// To the sender itself: write this list register, and nothing else is to be done.
    Here(usize, ListRegister),
    /// This other vCPU's list registers must be planned again, and nobody else's.
    There(usize),
    /// To another vCPU, for which it changes nothing now.
    Nowhere,
}

impl Vgic {
    /// [`Vgic::sgi1r`] where it is an SGI of the vCPU to itself alone that can be placed at once, or to one other: the shortest ways.
    /// `empty` is ICH_ELRSR_EL2. `None`, and nothing has changed, where it takes [`Vgic::sgi1r`].
    #[inline(always)]
    pub fn sgi1r_now(&mut self, vcpu: usize, value: u64, empty: u16) -> Option<Sent> {
        let targets = value & (ELSEWHERE | IRM | 0xffff);
        let reached = u64::from(self.config.sgi1r_reaches());
        // None of the vCPUs that there are, or several, or elsewhere.
        if targets & reached == 0 || targets & targets.wrapping_sub(1) != 0 {
            return None;
        }
        let target = targets.trailing_zeros() as usize & (MAX_VCPUS - 1);
        let intid = (value >> 24) as u32 & 0xf;
        if target == vcpu {
            let (s, lr) = self.place_now(target, intid, empty, None, None)?;
            return Some(Sent::Here(s, lr));
        }
        let cpu = self.cpus.get_mut(target)?;
        Some(if cpu.add_sgi(bit(intid), self.groups) { Sent::There(target) } else { Sent::Nowhere })
    }

    /// [`Vgic::quick`] after a kick, where all that is new is one SGI that can be placed at once (GICv3); else `None`, and nothing
    /// has changed.
    #[inline(always)]
    pub fn kicked_now(&mut self, vcpu: usize, empty: u16) -> Option<(usize, ListRegister)> {
        let reached = self.config.sgi1r_reaches();
        let cpu = self.cpus.get(vcpu)?;
        let latch = cpu.private.latch;
        // One SGI, no PPI, no SPI, nothing that asks for EOI maintenance.
        let less = latch.wrapping_sub(1);
        if latch & less != 0
            || less >= 0xffff
            || cpu.private.line | cpu.ready_banks | u32::from(cpu.eoi) != 0
            || reached == 0
        {
            return None;
        }
        self.place_now(vcpu, latch.trailing_zeros(), empty, None, None)
    }

    /// [`Vgic::forward`] of a PPI and, where that is possible, its list register at once; as [`Vgic::sgi1r_now`].
    #[inline(always)]
    pub fn forward_now(
        &mut self,
        vcpu: usize,
        intid: u32,
        pintid: u32,
        empty: u16,
    ) -> Result<(usize, ListRegister), VcpuSet> {
        match self.forward_short(vcpu, intid, pintid, empty) {
            Some(placed) => Ok(placed),
            None => Err(self.forward(vcpu, intid, pintid)),
        }
    }

    /// [`Vgic::forward_now`] where it is possible at once, else `None`, and nothing has changed.
    #[inline(always)]
    pub fn forward_short(
        &mut self,
        vcpu: usize,
        intid: u32,
        pintid: u32,
        empty: u16,
    ) -> Option<(usize, ListRegister)> {
        if intid.wrapping_sub(SGIS) < PRIVATE - SGIS {
            self.place_now(vcpu, intid, empty, Some(pintid & 0x1fff), None)
        } else {
            None
        }
    }

    /// Places a private interrupt that has just become pending: an SGI (of GICv2: with its source), or a forwarded PPI. `None`, and nothing changed,
    /// where that needs more thought.
    #[inline(always)]
    fn place_now(
        &mut self,
        vcpu: usize,
        intid: u32,
        empty: u16,
        hw: Option<u32>,
        source: Option<u8>,
    ) -> Option<(usize, ListRegister)> {
        let cpu = self.cpus.get_mut(vcpu)?;
        if cpu.stale || cpu.overflow {
            return None;
        }
        let bank = &mut cpu.private;
        let mask = bit(intid);
        let n = intid & 31;
        let completion = match hw {
            Some(pintid) => Completion::Physical(pintid),
            None => Completion::None,
        };
        let s;
        if bank.lr_latch & !bank.lr_active & mask != 0 {
            // Where it was pending last, if the guest is through with it there. Had anything about it changed since, the
            // vCPU were stale: it is as allowed, as forwarded and as free of a line as it was then.
            s = u32::from(bank.slot.get(n as usize).copied()?);
            let slot = bit(s) as u16;
            if empty & slot == 0 || hw.is_some() != (cpu.hw & slot != 0) {
                return None;
            }
            if let Some(source) = source {
                cpu.slots.get_mut(s as usize)?.source = source;
            }
            // It may have become pending again before this.
            bank.latch &= !mask;
        } else {
            let groups = self.groups;
            let slots = self.config.all_slots();
            let free = empty & slots & !cpu.used;
            if free == 0 || (bank.active | bank.in_lr | !bank.allowed(groups)) & mask != 0 {
                return None;
            }
            if hw.is_some() {
                if (bank.line & !bank.edge | bank.released) & mask != 0 {
                    return None;
                }
                bank.forwarded |= mask;
            }
            s = free.trailing_zeros();
            bank.latch |= mask;
            bank.occupy(n, s as u8, State::Pending, completion);
            let slot = Slot { intid: intid as u16, source: source.unwrap_or(0) };
            cpu.occupy(s as usize, slot, State::Pending, completion);
        }
        let bank = &mut cpu.private;
        if let Some(pintid) = hw {
            *bank.physical.get_mut(n as usize)? = pintid as u16;
        }
        debug_assert_eq!(completion, bank.completion(n, false), "INTID {intid}");
        let lr = bank.list_register(n, intid, State::Pending, completion, source.unwrap_or(0));
        Some((s as usize, lr))
    }

    /// The short way to deliver one new interrupt, without a fold: `empty` is ICH_ELRSR_EL2 (or GICH_ELRSR), the list registers that
    /// are free in hardware. For a vCPU that is to go on here, when a [`VcpuSet`] has named it, after a kick, and after a maintenance
    /// interrupt: what may have caused one makes it [`Quick::Full`].
    #[inline]
    pub fn quick(&mut self, vcpu: usize, empty: u16) -> Quick {
        let groups = self.groups;
        let slots = self.config.all_slots();
        let Some(cpu) = self.cpus.get_mut(vcpu) else { return Quick::Nothing };
        if cpu.stale || cpu.overflow || cpu.eoi & cpu.used != 0 {
            return Quick::Full;
        }
        // Mostly it is one private interrupt.
        let bank = &cpu.private;
        let allowed = bank.allowed(groups) & !bank.active;
        let latched = bank.latch & allowed;
        if cpu.ready_banks == 0
            && latched & latched.wrapping_sub(1) == 0
            && latched != 0
            && bank.line & !(bank.edge | bank.in_lr) & allowed == 0
        {
            let n = latched.trailing_zeros();
            let forwarded = bank.forwarded & latched != 0;
            let hw = if forwarded { Some(u32::from(bank.physical_of(n))) } else { None };
            // None for all but GICv2 SGIs.
            let sources = cpu.sources.get(n as usize).copied().unwrap_or(0);
            if sources & sources.wrapping_sub(1) == 0
                && let source =
                    if sources == 0 { None } else { Some(sources.trailing_zeros() as u8) }
                && let Some((s, lr)) = self.place_now(vcpu, n, empty, hw, source)
            {
                if sources != 0
                    && let Some(cpu) = self.cpus.get_mut(vcpu)
                    && let Some(sources) = cpu.sources.get_mut(n as usize)
                {
                    *sources = 0;
                }
                return Quick::One(s, lr);
            }
        }
        let Some(cpu) = self.cpus.get_mut(vcpu) else { return Quick::Nothing };
        // What the guest is through with. State that changed meanwhile would have made it stale.
        for s in Bits(u32::from(cpu.used & empty)) {
            let slot = cpu.slots.get(s as usize).copied().unwrap_or_default();
            let intid = u32::from(slot.intid);
            let was_hw = u32::from(cpu.hw) & bit(s) != 0;
            if intid < PRIVATE {
                cpu.private.retire(bit(intid), was_hw);
            } else if let Some(bank) =
                self.shared.banks.get_mut((intid as usize >> 5).wrapping_sub(1))
            {
                bank.retire(bit(intid), was_hw);
                if let Some(holder) =
                    self.shared.holder.get_mut(intid.wrapping_sub(PRIVATE) as usize)
                {
                    *holder = NOBODY;
                }
            }
        }
        cpu.used &= !empty;
        cpu.pending &= cpu.used;
        if cpu.again() != 0 {
            return Quick::Full;
        }
        let private = cpu.private.ready(groups);
        let mut more = private & private.wrapping_sub(1) != 0;
        let mut next = if private == 0 { None } else { Some(private.trailing_zeros()) };
        for k in Bits(cpu.ready_banks) {
            let Some(bank) = self.shared.banks.get(k as usize) else { continue };
            let word = bank.ready(groups) & cpu.targeted.get(k as usize).copied().unwrap_or(0);
            if word == 0 {
                cpu.ready_banks &= !bit(k);
                continue;
            }
            more |= next.is_some() || word & word.wrapping_sub(1) != 0;
            next = Some(intid_of(k as usize, word.trailing_zeros()));
        }
        let Some(intid) = next else { return Quick::Nothing };
        if more {
            return Quick::Full;
        }
        let free = empty & slots & !cpu.used;
        if free == 0 {
            return Quick::Full;
        }
        let s = free.trailing_zeros() as usize;
        Quick::One(s, self.place(vcpu, intid, s, true))
    }
}
