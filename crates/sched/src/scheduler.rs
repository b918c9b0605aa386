// SPDX-License-Identifier: MIT OR Apache-2.0
//! The vCPUs of one CPU, and which of them runs next.

mod heed;
mod limits;

use crate::budget::Budgets;
use crate::seat::{LEVELS, Level, Levels, PRIORITIES, SEATS, Seat, Table, bit, first, level_bit};
use crate::windows::Windows;

/// vCPUs that a CPU can have.
pub const VCPUS: usize = 32;

/// The part of a quantum that a seat runs ahead of others after it woke: a quarter.
const AHEAD_SHIFT: u32 = 2;
/// Turns of 50 us that a vCPU has at least before another one of its VM has its own.
const TURNS_OF_A_VCPU: u64 = 10;

/// The scheduler of one CPU; only that CPU uses it.
///
/// A VM with vCPUs on the CPU has a *seat*. Seats of the highest priority that wants the CPU share it: each may use its
/// quantum once per epoch, whether in one piece or in many, and an epoch ends when all that want the CPU have used theirs.
/// So a VM that sleeps keeps what is left of its quantum until the epoch ends, and gains nothing by the way it sleeps.
///
/// A seat that wakes with quantum left goes ahead of those that run, for a quarter of its quantum; several that have woken
/// take turns of 50 us. No seat is interrupted by an equal before it has run for 50 us.
///
/// All bits zero is the initial state; [`Scheduler::set_turn`] and [`Scheduler::add`] complete it.
pub struct Scheduler {
    seats: Table<Seat>,
    levels: Levels,
    /// Deadlines of the vCPUs in `timed`.
    deadlines: Table<u64>,
    /// Seat of each vCPU.
    seat_of: Table<u8>,
    /// The earliest deadline, where `timed` is not empty.
    next_deadline: u64,
    /// Ticks of 50 us.
    turn: u64,
    /// Up to when time has been charged.
    accounted: u64,
    /// When the running seat got the CPU.
    since: u64,
    /// When the running vCPU got it.
    vcpu_since: u64,
    /// Until when no equal's kick is heeded.
    quiet_until: u64,
    /// vCPUs that wait for an interrupt.
    waiting: u32,
    /// Those of them that wake at a deadline.
    timed: u32,
    /// vCPUs that are off.
    off: u32,
    /// Levels with a seat that wants the CPU.
    busy: u64,
    /// The running seat (its bit), or 0.
    seat: u32,
    /// The running vCPU (its bit), or 0.
    running: u32,
    /// How many vCPUs there are.
    vcpus: u32,
    /// How many seats there are.
    seat_count: u32,
    budgets: Budgets,
    windows: Windows,
    /// Whether there are budgets or windows: without them they cost a test each time.
    limited: bool,
}

impl Scheduler {
    /// No vCPUs.
    pub const fn new() -> Self {
        Self {
            seats: Table([Seat::NONE; SEATS]),
            levels: Levels([Level::EMPTY; LEVELS]),
            deadlines: Table([0; VCPUS]),
            seat_of: Table([0; VCPUS]),
            next_deadline: 0,
            turn: 0,
            accounted: 0,
            since: 0,
            vcpu_since: 0,
            quiet_until: 0,
            waiting: 0,
            timed: 0,
            off: 0,
            busy: 0,
            seat: 0,
            running: 0,
            vcpus: 0,
            seat_count: 0,
            budgets: Budgets::NONE,
            windows: Windows::NONE,
            limited: false,
        }
    }

    /// Sets the least time between two switches among equals: 50 us.
    pub fn set_turn(&mut self, ticks: u64) {
        self.turn = ticks;
    }

    /// Adds a vCPU of VM `vm`, which is off; returns its number on this CPU. All vCPUs of a VM have its `priority` and
    /// share its `quantum`, of at least two turns. `None` where there is no room.
    pub fn add(&mut self, vm: u16, priority: u8, quantum: u64) -> Option<usize> {
        self.add_to(usize::from(priority) & (PRIORITIES - 1), vm, quantum)
    }

    /// [`Scheduler::add`], for a VM that has windows of its own (`number`, below 32, counts such VMs): it has the CPU there before
    /// any other.
    pub fn add_windowed(&mut self, vm: u16, number: u8, quantum: u64) -> Option<usize> {
        let level = PRIORITIES.saturating_add(usize::from(number) & (PRIORITIES - 1));
        self.add_to(level, vm, quantum)
    }

    fn add_to(&mut self, level: usize, vm: u16, quantum: u64) -> Option<usize> {
        let vcpu = self.vcpus as usize;
        let seats = self.seat_count as usize;
        let known = self.seats.0.iter().take(seats).position(|seat| seat.vm == vm);
        let index = known.unwrap_or(seats);
        let quantum = quantum.max(self.turn.saturating_mul(2));
        let seat = self.seats.0.get_mut(index)?;
        let seat_of = self.seat_of.0.get_mut(vcpu)?;
        if known.is_none() {
            let quantum = i64::try_from(quantum).unwrap_or(i64::MAX);
            *seat = Seat { left: quantum, quantum, vm, level: level as u8, ..Seat::NONE };
            self.seat_count = self.seat_count.saturating_add(1);
        }
        let level = usize::from(seat.level);
        *seat_of = index as u8;
        seat.vcpus |= bit(vcpu);
        for (number, other) in self.levels.0.iter_mut().enumerate() {
            if number < level {
                other.above |= bit(vcpu);
            } else if number == level {
                other.vcpus |= bit(vcpu);
            }
        }
        self.off |= bit(vcpu);
        self.vcpus = self.vcpus.saturating_add(1);
        Some(vcpu)
    }

    #[inline(always)]
    fn seat_index(&self, vcpu: usize) -> usize {
        usize::from(*self.seat_of.at(vcpu))
    }

    /// A seat and its level.
    #[inline(always)]
    fn at(&mut self, index: usize) -> (&mut Seat, &mut Level) {
        let seat = self.seats.at_mut(index);
        let level = self.levels.at_mut(usize::from(seat.level));
        (seat, level)
    }

    /// The vCPU wants the CPU.
    #[inline(always)]
    pub fn wake(&mut self, vcpu: usize) {
        let (index, mask) = (self.seat_index(vcpu), bit(vcpu));
        self.waiting &= !mask;
        self.off &= !mask;
        self.forget_deadline(vcpu);
        let (seat, level) = self.at(index);
        let slept = seat.ready == 0;
        seat.ready |= mask;
        seat.fresh |= mask;
        if slept {
            seat.begin(level.epoch);
            seat.since_wake = 0;
            if seat.left > 0 {
                level.woken |= bit(index);
            } else {
                level.used |= bit(index);
            }
            let level = usize::from(seat.level);
            self.busy |= level_bit(level);
        }
    }

    /// The vCPU does not want the CPU any more.
    #[inline(always)]
    fn block(&mut self, vcpu: usize) {
        let (index, mask) = (self.seat_index(vcpu), bit(vcpu));
        let (seat, level) = self.at(index);
        seat.ready &= !mask;
        seat.fresh &= !mask;
        if seat.ready == 0 {
            level.remove(bit(index));
            if level.ready() == 0 {
                let level = usize::from(seat.level);
                self.busy &= !level_bit(level);
            }
            if self.seat == bit(index) {
                self.seat = 0;
            }
        }
        if self.running == mask {
            self.running = 0;
        }
    }

    /// The vCPU waits for an interrupt, and has to be looked at at `deadline`, if there is one. Time has been accounted
    /// for before.
    #[inline(always)]
    pub fn sleep(&mut self, vcpu: usize, deadline: Option<u64>) {
        self.block(vcpu);
        self.waiting |= bit(vcpu);
        self.set_deadline(vcpu, deadline);
    }

    /// A waiting vCPU has to be looked at at `deadline`, or at none.
    #[inline(always)]
    pub fn set_deadline(&mut self, vcpu: usize, deadline: Option<u64>) {
        self.forget_deadline(vcpu);
        if let Some(deadline) = deadline
            && self.waiting & bit(vcpu) != 0
        {
            *self.deadlines.at_mut(vcpu) = deadline;
            if self.timed == 0 || deadline < self.next_deadline {
                self.next_deadline = deadline;
            }
            self.timed |= bit(vcpu);
        }
    }

    #[inline(always)]
    fn forget_deadline(&mut self, vcpu: usize) {
        if self.timed & bit(vcpu) != 0 {
            self.timed &= !bit(vcpu);
            if self.timed != 0 && *self.deadlines.at(vcpu) <= self.next_deadline {
                self.find_deadline();
            }
        }
    }

    #[inline(never)]
    fn find_deadline(&mut self) {
        let (mut next, mut rest) = (u64::MAX, self.timed);
        while rest != 0 {
            next = next.min(*self.deadlines.at(first(rest, 0)));
            rest &= rest.wrapping_sub(1);
        }
        self.next_deadline = next;
    }

    /// The vCPU is off. Time has been accounted for before.
    pub fn turn_off(&mut self, vcpu: usize) {
        self.block(vcpu);
        self.forget_deadline(vcpu);
        self.waiting &= !bit(vcpu);
        self.off |= bit(vcpu);
    }

    /// Waiting vCPUs whose deadline has come. Each is to be woken or to have another deadline; it has none now.
    #[inline(always)]
    pub fn take_due(&mut self, now: u64) -> u32 {
        if self.timed == 0 || now < self.next_deadline { 0 } else { self.find_due(now) }
    }

    #[inline(never)]
    fn find_due(&mut self, now: u64) -> u32 {
        let (mut due, mut rest) = (0, self.timed);
        while rest != 0 {
            let vcpu = first(rest, 0);
            if *self.deadlines.at(vcpu) <= now {
                due |= bit(vcpu);
            }
            rest &= rest.wrapping_sub(1);
        }
        self.timed &= !due;
        self.find_deadline();
        due
    }

    /// Charges the time since the last call to the running seat; returns it, or 0 if the CPU was idle.
    #[inline(always)]
    pub fn account(&mut self, now: u64) -> u64 {
        let ticks = now.saturating_sub(self.accounted);
        self.accounted = now;
        if self.seat == 0 {
            return 0;
        }
        self.charge_seat(first(self.seat, 0), ticks, now);
        ticks
    }

    /// Charges the time since the last call to the seat of `vcpu`, which caused it, rather than to the running one;
    /// returns it. `more` ticks, of work that cannot be measured, are charged as well.
    pub fn account_to(&mut self, vcpu: usize, now: u64, more: u64) -> u64 {
        let ticks = now.saturating_sub(self.accounted);
        self.accounted = now;
        self.charge_seat(self.seat_index(vcpu), ticks.saturating_add(more), now);
        ticks
    }

    #[inline(always)]
    fn charge_seat(&mut self, index: usize, ticks: u64, now: u64) {
        if self.limited {
            self.budgets.charge(index, ticks, now);
        }
        let turn = self.turn as i64;
        let mask = bit(index);
        let (seat, level) = self.at(index);
        seat.begin(level.epoch);
        seat.left = seat.left.saturating_sub_unsigned(ticks);
        seat.since_wake = seat.since_wake.saturating_add(ticks);
        if seat.left <= 0 {
            if level.ready() == mask {
                // Alone at its priority: the epoch ends here, and what it overran was wanted by no other.
                level.renew(!0);
                level.remove(mask);
                level.active |= mask;
                seat.epoch = level.epoch;
                seat.left = seat.quantum;
                return;
            }
            // So that a whole quantum always clears the debt.
            seat.left = seat.left.max(turn.wrapping_sub(seat.quantum));
            level.spent |= seat.vcpus;
            if seat.ready != 0 {
                level.remove(mask);
                level.used |= mask;
            }
        } else if level.woken & mask != 0
            && seat.since_wake > seat.quantum.unsigned_abs() >> AHEAD_SHIFT
        {
            level.woken &= !mask;
            level.active |= mask;
        }
    }

    /// The running vCPU has nothing to do right now: others go first, its own VM's before those of other VMs.
    pub fn give_way(&mut self) {
        let (index, running) = (first(self.seat, 0), self.running);
        if self.seat == 0 {
            return;
        }
        let mask = self.seat;
        self.running = 0;
        let (seat, level) = self.at(index);
        if seat.ready & !running == 0 {
            if level.woken & mask != 0 {
                level.woken &= !mask;
                level.active |= mask;
            }
            level.at = index.wrapping_add(1) as u8;
            self.seat = 0;
        }
    }

    /// The vCPU that has the CPU from `now` on; `None` where no one wants it. Time has been accounted for before.
    #[inline(always)]
    pub fn choose(&mut self, now: u64) -> Option<usize> {
        if self.busy == 0 {
            (self.seat, self.running) = (0, 0);
            return None;
        }
        let mut highest = 63_u32.wrapping_sub(self.busy.leading_zeros());
        let mut eligible = u32::MAX;
        if self.limited {
            let Some(level) = self.highest_eligible(now) else {
                (self.seat, self.running) = (0, 0);
                return None;
            };
            (highest, eligible) = (level, self.eligible());
        }
        let (seat, turn) = (self.seat, self.turn);
        let held = now < self.since.saturating_add(turn);
        let level = self.levels.at_mut(highest as usize);
        if (level.woken | level.active) & eligible == 0 {
            level.renew(eligible);
        }
        let (woken, active) = (level.woken & eligible, level.active & eligible);
        let index = if seat & (woken | active) != 0 && held {
            first(seat, 0)
        } else if woken != 0 {
            let index = first(woken, u32::from(level.last).wrapping_add(1));
            level.last = index as u8;
            index
        } else {
            let index = first(active, u32::from(level.at));
            level.at = index as u8;
            index
        };
        if seat != bit(index) {
            self.seat = bit(index);
            self.since = now;
        }
        let (seat, level) = self.at(index);
        seat.begin(level.epoch);
        let ready = seat.ready;
        let vcpu = if ready & ready.wrapping_sub(1) == 0 {
            first(ready, 0)
        } else {
            self.choose_vcpu(index, now)
        };
        let (seat, _) = self.at(index);
        seat.last = vcpu as u8;
        seat.fresh &= !bit(vcpu);
        if self.running != bit(vcpu) {
            self.running = bit(vcpu);
            self.vcpu_since = now;
        }
        Some(vcpu)
    }

    /// Which of several vCPUs of a VM.
    #[inline(never)]
    fn choose_vcpu(&mut self, index: usize, now: u64) -> usize {
        let ran = now.saturating_sub(self.vcpu_since);
        let (turn, running, share) = (self.turn, self.running, self.vcpu_share(index));
        let (seat, _) = self.at(index);
        let behind = u32::from(seat.last).wrapping_add(1);
        let fresh = seat.fresh & !running;
        if running & seat.ready == 0 || ran >= share {
            first(seat.ready, behind)
        } else if fresh != 0 && ran >= turn {
            first(fresh, behind)
        } else {
            first(running, 0)
        }
    }

    /// The turn of one of several vCPUs of a VM.
    fn vcpu_share(&self, index: usize) -> u64 {
        let seat = self.seats.at(index);
        let count = u64::from(seat.ready.count_ones()).max(1);
        let share = seat.quantum.unsigned_abs().checked_div(count).unwrap_or(0);
        share.max(self.turn.saturating_mul(TURNS_OF_A_VCPU))
    }

    /// Whether another vCPU is to run at `now` than the running one.
    #[inline(always)]
    pub fn wants_switch(&mut self, now: u64) -> bool {
        let running = self.running;
        self.choose(now).is_none_or(|vcpu| bit(vcpu) != running)
    }

    /// When the CPU has to choose again if nothing happens before; `u64::MAX` for never.
    #[inline(always)]
    pub fn until(&self, now: u64) -> u64 {
        let mut until = if self.timed != 0 { self.next_deadline } else { u64::MAX };
        if self.seat == 0 {
            // Ready, but without budget or outside of its windows. Without such a one both may be out of date.
            if self.limited && self.busy != 0 {
                until = until.min(self.budgets.renewed(!0)).min(self.windows.edge());
            }
            return until;
        }
        let index = first(self.seat, 0);
        let seat = self.seats.at(index);
        let level = self.levels.at(usize::from(seat.level));
        let turn_end = self.since.saturating_add(self.turn);
        if self.timed & (level.above | level.vcpus) == 0 {
            // Lower ones do not matter while this one runs.
            until = u64::MAX;
        } else if self.timed & level.above == 0 {
            // An equal that wakes would have to wait for this anyway.
            until = until.max(turn_end);
        }
        let mut others = level.ready() & !self.seat;
        if self.limited {
            others &= self.eligible();
            until = until.min(self.limits_end(index, now));
        }
        // One that has used its quantum is not heard before the epoch ends.
        let unheard = level.spent & (self.waiting | self.off);
        if others | unheard != 0 {
            until = until.min(now.saturating_add(seat.left.max(0).unsigned_abs()));
        }
        if others & level.woken != 0 {
            until = until.min(turn_end);
        } else if level.woken & self.seat != 0 && others & level.active != 0 {
            let ahead = seat.quantum.unsigned_abs() >> AHEAD_SHIFT;
            let rest = ahead.saturating_sub(seat.since_wake).saturating_add(1);
            until = until.min(now.saturating_add(rest));
        }
        if now < self.quiet_until {
            until = until.min(self.quiet_until);
        }
        if seat.ready & !self.running != 0 {
            let turn =
                if seat.fresh & !self.running == 0 { self.vcpu_share(index) } else { self.turn };
            until = until.min(self.vcpu_since.saturating_add(turn));
        }
        until.max(now)
    }
}

impl Default for Scheduler {
    fn default() -> Self {
        Self::new()
    }
}
