// SPDX-License-Identifier: MIT OR Apache-2.0
//! Budgets and windows: which seats may have the CPU, and until when.

use super::Scheduler;
use crate::budget::Budget;
use crate::seat::{PRIORITIES, Seat, bit, first, level_bit};
use crate::windows::{MAX_WINDOWS, Window};

impl Scheduler {
    /// Limits the VM of `vcpu` on this CPU to a budget.
    pub fn set_budget(&mut self, vcpu: usize, budget: Budget, now: u64) {
        self.budgets.set(self.seat_index(vcpu), budget, now);
        self.limited = true;
    }

    /// Sets fixed windows: in each frame of `frame` ticks of the counter, those of `windows`, from its beginning. Each is a length
    /// and the VM that has it, and whether VMs without windows may use what it leaves idle; without a VM it is theirs. They also
    /// have the rest of the frame. All vCPUs have been added before.
    pub fn set_windows(
        &mut self,
        frame: u64,
        windows: impl Iterator<Item = (u64, Option<u16>, bool)>,
    ) {
        let others = self.window(0, |seat| usize::from(seat.level) < PRIORITIES);
        let mut list = [others; MAX_WINDOWS];
        let mut count = 0_usize;
        for (slot, (ticks, vm, open)) in list.iter_mut().zip(windows) {
            let own = self.window(ticks, |seat| Some(seat.vm) == vm);
            let open = open || vm.is_none();
            let (seats, vcpus) = if open { (others.seats, others.vcpus) } else { (0, 0) };
            *slot = Window { ticks, seats: own.seats | seats, vcpus: own.vcpus | vcpus };
            count = count.saturating_add(1);
        }
        self.windows.set(frame, list.get(..count).unwrap_or_default(), others);
        self.limited = true;
    }

    /// A window of all seats that `admits` names.
    fn window(&self, ticks: u64, admits: impl Fn(&Seat) -> bool) -> Window {
        let seats = self.seats.0.iter().take(self.seat_count as usize).enumerate();
        let mut window = Window { ticks, seats: 0, vcpus: 0 };
        for (index, seat) in seats.filter(|(_, seat)| admits(seat)) {
            window.seats |= bit(index);
            window.vcpus |= seat.vcpus;
        }
        window
    }

    /// Seats that have budget left, in whose windows it is.
    pub(super) fn eligible(&self) -> u32 {
        !self.budgets.used_up() & self.windows.seats()
    }

    /// The highest level with a seat that wants the CPU and may have it at `now`.
    #[inline(never)]
    pub(super) fn highest_eligible(&mut self, now: u64) -> Option<u32> {
        self.budgets.roll(now);
        self.windows.roll(now);
        let (mut busy, eligible) = (self.busy, self.eligible());
        while busy != 0 {
            let highest = 63_u32.wrapping_sub(busy.leading_zeros());
            if self.levels.at(highest as usize).ready() & eligible != 0 {
                return Some(highest);
            }
            busy &= !level_bit(highest as usize);
        }
        None
    }

    /// When budgets and windows ask for another choice while the seat `index` runs.
    #[inline(never)]
    pub(super) fn limits_end(&self, index: usize, now: u64) -> u64 {
        let level = self.seats.at(index).level;
        let seats = self.seats.0.iter().take(self.seat_count as usize).enumerate();
        // One of a lower priority would not run anyway.
        let rivals = seats.filter(|(_, seat)| seat.level >= level);
        let rivals = rivals.fold(0, |mask, (index, _)| mask | bit(index));
        let end = self.budgets.end(index, now).min(self.windows.edge());
        end.min(self.budgets.renewed(rivals))
    }

    /// vCPUs that may have the CPU. Others wait for their VM's next period or window.
    #[inline(never)]
    pub(super) fn eligible_vcpus(&self) -> u32 {
        let (mut rest, mut vcpus) = (self.budgets.used_up(), self.windows.vcpus());
        while rest != 0 {
            vcpus &= !self.seats.at(first(rest, 0)).vcpus;
            rest &= rest.wrapping_sub(1);
        }
        vcpus
    }
}
