// SPDX-License-Identifier: MIT OR Apache-2.0
//! The entry point for list registers, and its fast paths: one list register at once, without reading the others back.
//!
//! The slow path is `sync.rs`. `tests/model.rs` and `tests/regressions.rs` hold both equal.

use crate::bank::Completion;
use crate::bits::{Bits, bit};
use crate::config::NO_VCPU;
use crate::dist::intid_of;
use crate::sgi::{ELSEWHERE, IRM};
use crate::vgic::Slot;
use crate::{ListRegister, PRIVATE, SGIS, State, Vgic};
use arch::MAX_VCPUS;

/// What has happened to a vCPU's interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A [`VcpuSet`](arch::VcpuSet) names the vCPU that runs on this CPU, or a kick for it or a maintenance interrupt has come.
    Marked,
    /// A kick has come (GICv3). The fast path serves it if it is about one SGI.
    Kick,
    /// The vCPU writes this value to ICC_SGI1R_EL1.
    Sgi1r(u64),
    /// A physical interrupt was acknowledged, its priority dropped, and left active: it becomes this PPI.
    Forward {
        /// INTID for the guest.
        intid: u32,
        /// INTID of the machine.
        pintid: u32,
    },
    /// The vCPU leaves its CPU and comes back. The state that its first list register has.
    Put(State),
    /// The vCPU comes to this CPU. `kept`: its last [`Event::Put`] found that the first list register can be kept.
    Load {
        /// Whether a value was kept.
        kept: bool,
    },
}

/// What the caller of [`Vgic::sync`] has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// The list registers are right as they are. After [`Event::Put`] and [`Event::Load`]: the first one's value is kept.
    Unchanged,
    /// Write this list register. All else is right as it is; after [`Event::Load`] the others are free and ICH_HCR_EL2 is 1.
    Write(usize, ListRegister),
    /// Kick this vCPU.
    Kick(usize),
    /// [`Vgic::sync_from_lrs`]; then, unless the vCPU leaves, [`Vgic::flush_to_lrs`].
    Full,
    /// Nothing has changed. The slow path decides: [`Event::Marked`] for a kick, [`Vgic::sgi1r`], [`Vgic::forward`].
    Fallback,
}

impl Vgic {
    /// The entry point for list registers: what `event` changes in those of `vcpu`. `empty` is ICH_ELRSR_EL2 (GICH_ELRSR):
    /// the list registers that are free in hardware. [`Event::Put`] and [`Event::Load`] do not look at it.
    ///
    /// Inlined, so that only the code of one event is left where that is a constant.
    #[inline(always)]
    pub fn sync(&mut self, vcpu: usize, event: Event, empty: u16) -> Sync {
        match event {
            Event::Marked => self.flush_one(vcpu, empty),
            Event::Kick => Self::written(self.flush_kick(vcpu, empty)),
            Event::Sgi1r(value) => self.flush_sgi(vcpu, value, empty).unwrap_or(Sync::Fallback),
            Event::Forward { intid, pintid } => {
                Self::written(self.flush_forwarded(vcpu, intid, pintid, empty))
            }
            Event::Put(first) if self.may_keep_first(vcpu, first) => Sync::Unchanged,
            Event::Load { kept: true } if !self.needs_flush(vcpu) => Sync::Unchanged,
            Event::Load { kept: false } => match self.load_first(vcpu) {
                Some(lr) => Sync::Write(0, lr),
                None => Sync::Full,
            },
            Event::Put(_) | Event::Load { .. } => Sync::Full,
        }
    }

    #[inline(always)]
    fn written(placed: Option<(usize, ListRegister)>) -> Sync {
        match placed {
            Some((s, lr)) => Sync::Write(s, lr),
            None => Sync::Fallback,
        }
    }

    /// An SGI to the sender alone that can be placed at once, or to one other vCPU. Else `None`, with no state changed.
    #[inline(always)]
    fn flush_sgi(&mut self, vcpu: usize, value: u64, empty: u16) -> Option<Sync> {
        let targets = value & (ELSEWHERE | IRM | 0xffff);
        let reached = u64::from(self.config.sgi1r_reaches());
        // No vCPU, or several, or an affinity that no vCPU has.
        if targets & reached == 0 || targets & targets.wrapping_sub(1) != 0 {
            return None;
        }
        let target = targets.trailing_zeros() as usize & (MAX_VCPUS - 1);
        let intid = (value >> 24) as u32 & 0xf;
        if target == vcpu {
            let (s, lr) = self.place_now(target, intid, empty, None, None)?;
            return Some(Sync::Write(s, lr));
        }
        let cpu = self.cpus.get_mut(target)?;
        Some(if cpu.add_sgi(bit(intid), self.groups) {
            Sync::Kick(target)
        } else {
            Sync::Unchanged
        })
    }

    /// A kick, where all that is new is one SGI that can be placed at once. Else `None`, with no state changed.
    #[inline(always)]
    fn flush_kick(&mut self, vcpu: usize, empty: u16) -> Option<(usize, ListRegister)> {
        let reached = self.config.sgi1r_reaches();
        let cpu = self.cpus.get(vcpu)?;
        let latch = cpu.private.pending_latch;
        // One SGI, no PPI, no SPI, no EOI maintenance.
        let less = latch.wrapping_sub(1);
        if latch & less != 0
            || less >= 0xffff
            || cpu.private.line_level | cpu.ready_banks | u32::from(cpu.eoi_maintenance) != 0
            || reached == 0
        {
            return None;
        }
        self.place_now(vcpu, latch.trailing_zeros(), empty, None, None)
    }

    /// A forwarded PPI that can be placed at once. Else `None`, with no state changed.
    #[inline(always)]
    fn flush_forwarded(
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

    /// Places a private interrupt that has just become pending: an SGI (of GICv2: with its source), or a forwarded PPI.
    /// Returns `None`, with no state changed, if the slow path must decide.
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
            // The list register in which it was pending last, if the guest has ended it there. A change since then would have
            // marked the vCPU stale: it is still enabled, and forwarded and without a line as it was then.
            s = u32::from(bank.slot.get(n as usize).copied()?);
            let slot = bit(s) as u16;
            if empty & slot == 0 || hw.is_some() != (cpu.hw & slot != 0) {
                return None;
            }
            if let Some(source) = source {
                cpu.slots.get_mut(s as usize)?.source = source;
            }
            // It may have become pending again before.
            bank.pending_latch &= !mask;
        } else {
            let groups = self.groups;
            let slots = self.config.all_slots();
            let free = empty & slots & !cpu.used;
            if free == 0 || (bank.active | bank.in_lr | !bank.allowed(groups)) & mask != 0 {
                return None;
            }
            if hw.is_some() {
                if (bank.line_level & !bank.edge | bank.released) & mask != 0 {
                    return None;
                }
                bank.forwarded |= mask;
            }
            s = free.trailing_zeros();
            bank.pending_latch |= mask;
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

    /// Delivers one new interrupt without reading list registers back. What may have caused a maintenance interrupt gives
    /// [`Sync::Full`].
    #[inline]
    fn flush_one(&mut self, vcpu: usize, empty: u16) -> Sync {
        let groups = self.groups;
        let slots = self.config.all_slots();
        let Some(cpu) = self.cpus.get_mut(vcpu) else { return Sync::Unchanged };
        if cpu.stale || cpu.overflow || cpu.eoi_maintenance & cpu.used != 0 {
            return Sync::Full;
        }
        // The frequent case: one private interrupt.
        let bank = &cpu.private;
        let allowed = bank.allowed(groups) & !bank.active;
        let latched = bank.pending_latch & allowed;
        if cpu.ready_banks == 0
            && latched & latched.wrapping_sub(1) == 0
            && latched != 0
            && bank.line_level & !(bank.edge | bank.in_lr) & allowed == 0
        {
            let n = latched.trailing_zeros();
            let forwarded = bank.forwarded & latched != 0;
            let hw = if forwarded { Some(u32::from(bank.physical_of(n))) } else { None };
            // Zero for all but GICv2 SGIs.
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
                return Sync::Write(s, lr);
            }
        }
        let Some(cpu) = self.cpus.get_mut(vcpu) else { return Sync::Unchanged };
        // What the guest has ended. A change meanwhile would have marked the vCPU stale.
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
                    *holder = NO_VCPU;
                }
            }
        }
        cpu.used &= !empty;
        cpu.pending &= cpu.used;
        if cpu.repending() != 0 {
            return Sync::Full;
        }
        // An edge behind one that the guest has not ended: that is read back.
        if cpu.ready_banks != 0
            && Bits(u32::from(cpu.used)).any(|s| {
                let intid = cpu.slots.get(s as usize).map_or(0, |slot| u32::from(slot.intid));
                let k = (intid as usize >> 5).checked_sub(1);
                k.and_then(|k| self.shared.banks.get(k))
                    .is_some_and(|bank| bank.pending_latch & bit(intid & 31) != 0)
            })
        {
            return Sync::Full;
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
        let Some(intid) = next else { return Sync::Unchanged };
        if more {
            return Sync::Full;
        }
        let free = empty & slots & !cpu.used;
        if free == 0 {
            return Sync::Full;
        }
        let s = free.trailing_zeros() as usize;
        Sync::Write(s, self.place(vcpu, intid, s, true))
    }
}
