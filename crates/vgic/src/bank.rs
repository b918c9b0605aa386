// SPDX-License-Identifier: MIT OR Apache-2.0
//! State of 32 interrupts, a bit of each word per interrupt.

use crate::bits::bit;
use crate::{ListRegister, State};

/// Which groups the distributor forwards (GICD_CTLR.EnableGrp0 and EnableGrp1), as masks of a bank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Groups {
    pub group0: u32,
    pub group1: u32,
}

/// 32 interrupts: a vCPU's private ones, or 32 shared ones.
///
/// While an interrupt is in a list register (`in_lr`), that register holds what it was pending or active for, and
/// `pending_latch` and `active` say what came since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bank {
    pub enabled: u32,
    pub group1: u32,
    /// Edge-triggered (ICFGR); otherwise level-sensitive.
    pub edge: u32,
    /// Pending until acknowledged: an edge, an SGI, ISPENDR, or a forwarded interrupt.
    pub pending_latch: u32,
    /// Input line is high.
    pub line_level: u32,
    pub active: u32,
    pub in_lr: u32,
    /// In a list register as pending, because of `pending_latch`.
    pub lr_latch: u32,
    /// In a list register as active, as far as known here.
    pub lr_active: u32,
    /// In a list register that asks for EOI maintenance.
    pub lr_eoi: u32,
    /// In a list register; the guest has cleared its active state since (ICACTIVER).
    pub lr_inactive: u32,
    /// Forwarded from a physical interrupt, which is active.
    pub forwarded: u32,
    /// The physical interrupt in `physical` is to be deactivated by software.
    pub released: u32,
    pub priority: [u8; 32],
    /// Physical INTID, where `forwarded` or `released`.
    pub physical: [u16; 32],
    /// Index of the list register, where `in_lr`.
    pub slot: [u8; 32],
}

/// What the guest's deactivation of an interrupt leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completion {
    /// Nothing.
    None,
    /// The hardware deactivates this physical interrupt (HW=1).
    Physical(u32),
    /// A maintenance interrupt.
    Maintenance,
}

/// What [`Bank::place`] made.
pub(crate) struct Placed {
    pub lr: ListRegister,
    pub completion: Completion,
    /// GICv2 SGIs: the sources that still wait.
    pub sources: u8,
    /// More is pending than the list register could take; it asks for EOI maintenance.
    pub waits: bool,
}

impl Bank {
    pub const fn new(enabled: u32, group1: u32, edge: u32) -> Self {
        Self {
            enabled,
            group1,
            edge,
            pending_latch: 0,
            line_level: 0,
            active: 0,
            in_lr: 0,
            lr_latch: 0,
            lr_active: 0,
            lr_eoi: 0,
            lr_inactive: 0,
            forwarded: 0,
            released: 0,
            priority: [0; 32],
            physical: [0; 32],
            slot: [0; 32],
        }
    }

    /// Back to `fresh`, except that every forwarded interrupt becomes one to release.
    pub fn reset(&mut self, fresh: Self) {
        let released = self.forwarded | self.released;
        let physical = self.physical;
        *self = fresh;
        self.released = released;
        self.physical = physical;
    }

    /// What ISPENDR reads.
    #[inline]
    pub fn pending(&self) -> u32 {
        self.pending_latch | self.line_level & !self.edge | self.lr_latch
    }

    /// What ISACTIVER reads.
    #[inline]
    pub fn acknowledged(&self) -> u32 {
        self.active | self.lr_active
    }

    /// Interrupts that the distributor would forward if they were pending.
    #[inline(always)]
    pub fn allowed(&self, groups: Groups) -> u32 {
        self.enabled & (self.group1 & groups.group1 | !self.group1 & groups.group0)
    }

    /// Interrupts to place as pending.
    #[inline(always)]
    pub fn ready(&self, groups: Groups) -> u32 {
        (self.pending_latch | self.line_level & !self.edge)
            & !(self.active | self.in_lr)
            & self.allowed(groups)
    }

    /// Interrupts in a list register that have become pending once more.
    #[inline(always)]
    pub fn repending(&self) -> u32 {
        self.pending_latch & self.in_lr & self.enabled
    }

    #[inline(always)]
    pub fn priority_of(&self, n: u32) -> u8 {
        self.priority.get(n as usize & 31).copied().unwrap_or(0)
    }

    #[inline(always)]
    pub fn physical_of(&self, n: u32) -> u16 {
        self.physical.get(n as usize & 31).copied().unwrap_or(0)
    }

    /// Marks the physical interrupts of `mask` for deactivation, if the virtual one is neither pending, active nor placed.
    #[inline(always)]
    pub fn release_idle(&mut self, mask: u32) {
        let idle = mask & self.forwarded & !(self.pending_latch | self.active | self.in_lr);
        self.forwarded &= !idle;
        self.released |= idle;
    }

    /// The list register is free again: the guest has ended the interrupt.
    #[inline(always)]
    pub fn retire(&mut self, mask: u32, was_hw: bool) {
        self.in_lr &= !mask;
        self.lr_latch &= !mask;
        self.lr_active &= !mask;
        self.lr_eoi &= !mask;
        self.lr_inactive &= !mask;
        if was_hw {
            // The guest's deactivation has deactivated the physical interrupt.
            self.forwarded &= !mask;
        } else if self.forwarded & mask != 0 {
            self.release_idle(mask);
        }
    }

    /// Takes over the state of its list register. Returns whether it is pending again because of a latch, and whether active.
    #[inline(always)]
    pub fn fold(&mut self, mask: u32, state: State, was_hw: bool) -> (bool, bool) {
        let latch = state.pending() && self.lr_latch & mask != 0;
        let active = state.active() && self.lr_inactive & mask == 0;
        if latch {
            self.pending_latch |= mask;
        }
        if active {
            self.active |= mask;
        }
        // Last, as it releases what neither of them keeps.
        self.retire(mask, was_hw && matches!(state, State::Invalid));
        (latch, active)
    }

    /// What the list register of interrupt `n` asks for. `more`: the interrupt is pending again behind what the list
    /// register holds.
    ///
    /// A level-sensitive interrupt whose line is high may be pending still when the guest ends it: maintenance looks at the
    /// line again. HW=1 excludes maintenance, so software deactivates the physical interrupt then.
    #[inline(always)]
    pub fn completion(&self, n: u32, more: bool) -> Completion {
        let mask = bit(n);
        if more || self.line_level & !self.edge & mask != 0 {
            Completion::Maintenance
        } else if self.forwarded & mask != 0 {
            Completion::Physical(self.physical_of(n).into())
        } else {
            Completion::None
        }
    }

    /// The value of a list register with interrupt `n` of this bank, INTID `intid`. Every list register is made here.
    #[inline(always)]
    pub fn list_register(
        &self,
        n: u32,
        intid: u32,
        state: State,
        completion: Completion,
        source: u8,
    ) -> ListRegister {
        let hw = match completion {
            Completion::Physical(pintid) => Some(pintid),
            _ => None,
        };
        ListRegister {
            intid,
            state,
            priority: self.priority_of(n),
            group1: self.group1 & bit(n) != 0,
            hw,
            eoi_maintenance: matches!(completion, Completion::Maintenance),
            source,
        }
    }

    /// Interrupt `n` moves into list register `slot` in this state.
    #[inline(always)]
    pub fn occupy(&mut self, n: u32, slot: u8, state: State, completion: Completion) {
        let mask = bit(n);
        self.in_lr |= mask;
        if state.pending() {
            self.lr_latch |= self.pending_latch & mask;
            self.pending_latch &= !mask;
        }
        if state.active() {
            self.lr_active |= mask;
            self.active &= !mask;
        }
        if matches!(completion, Completion::Maintenance) {
            self.lr_eoi |= mask;
        }
        if let Some(s) = self.slot.get_mut(n as usize & 31) {
            *s = slot;
        }
    }

    /// Moves interrupt `n` of this bank, INTID `intid`, into list register `slot`. `both`: it may be pending and active there.
    /// `sgi` is of a GICv2 SGI: the sources that wait, and the source of the active one.
    #[inline(always)]
    pub fn place(
        &mut self,
        n: u32,
        intid: u32,
        slot: u8,
        groups: Groups,
        both: bool,
        sgi: Option<(u8, u8)>,
    ) -> Placed {
        let mask = bit(n);
        let active = self.active & mask != 0;
        let level = self.line_level & !self.edge & mask != 0;
        let wants = (self.pending_latch & mask != 0 || level) && self.allowed(groups) & mask != 0;
        let (mut source, mut sources) = (0, 0);
        let (pending, more);
        if let Some((waiting, active_source)) = sgi {
            // One register per SGI, so one source at a time; the others follow its deactivation.
            source = if active { active_source } else { waiting.trailing_zeros() as u8 & 7 };
            let own = bit(u32::from(source)) as u8;
            pending = wants && waiting & own != 0 && (both || !active);
            sources = if pending { waiting & !own } else { waiting };
            more = sources != 0;
        } else {
            // Pending and active would deliver a line that has fallen; and HW=1 has no such state.
            let both = both && self.edge & !self.forwarded & mask != 0;
            pending = wants && (both || !active);
            more = active && !pending && self.pending_latch & mask != 0;
        }
        let state = State::of(pending, active);
        let completion = self.completion(n, more);
        let lr = self.list_register(n, intid, state, completion, source);
        self.occupy(n, slot, state, completion);
        if sgi.is_some() {
            // Pending as long as a source waits.
            self.pending_latch = self.pending_latch & !mask | if more { mask } else { 0 };
        }
        Placed { lr, completion, sources, waits: self.pending_latch & mask != 0 }
    }
}
