// SPDX-License-Identifier: MIT OR Apache-2.0
//! CPU time that a seat may use in each period, on a fixed grid of the counter.

use crate::seat::{Table, bit, first};

/// So much CPU time in each period. Periods begin at multiples of `period` of the counter, the same on all CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Ticks in each period.
    pub ticks: u64,
    /// Ticks of a period.
    pub period: u64,
}

/// A seat's budget in the current period.
#[derive(Clone, Copy)]
struct Account {
    ticks: i64,
    period: u64,
    /// Counter value at which the next period begins.
    next: u64,
    /// What is left; negative after an overrun, which the next period repays.
    left: i64,
}

impl Account {
    const NONE: Self = Self { ticks: 0, period: 0, next: 0, left: 0 };

    /// Begins the period of `now`. What the former one left is lost, what it overran is repaid.
    ///
    /// A debt is at most a whole budget: at worst the next period is lost.
    fn roll(&mut self, now: u64) {
        let passed = now.saturating_sub(self.next).checked_div(self.period).unwrap_or(0);
        let periods = passed.saturating_add(1);
        self.next = self.next.saturating_add(self.period.saturating_mul(periods));
        self.left = self.ticks.saturating_add(if passed == 0 { self.left.min(0) } else { 0 });
    }
}

/// The budgets of the seats of one CPU.
pub(crate) struct Budgets {
    accounts: Table<Account>,
    /// Seats with a budget.
    limited: u32,
    /// Those that have used it up in this period.
    used_up: u32,
    /// When the next period of any of them begins.
    next: u64,
}

impl Budgets {
    pub const NONE: Self =
        Self { accounts: Table([Account::NONE; 32]), limited: 0, used_up: 0, next: 0 };

    /// Gives a seat a budget. Its current period has begun before `now`, and it has all of it.
    pub fn set(&mut self, seat: usize, budget: Budget, now: u64) {
        let period = budget.period.max(1);
        let begun = now.checked_rem(period).unwrap_or(0);
        let ticks = i64::try_from(budget.ticks.min(period)).unwrap_or(i64::MAX);
        let next = now.wrapping_sub(begun).saturating_add(period);
        *self.accounts.at_mut(seat) = Account { ticks, period, next, left: ticks };
        if self.limited == 0 || next < self.next {
            self.next = next;
        }
        self.limited |= bit(seat);
    }

    /// Seats that have used up their budget.
    #[inline(always)]
    pub const fn used_up(&self) -> u32 {
        self.used_up
    }

    /// Begins the periods that have come.
    #[inline(always)]
    pub fn roll(&mut self, now: u64) {
        if self.limited != 0 && now >= self.next {
            self.roll_due(now);
        }
    }

    #[inline(never)]
    fn roll_due(&mut self, now: u64) {
        let (mut rest, mut next) = (self.limited, u64::MAX);
        while rest != 0 {
            let seat = first(rest, 0);
            let account = self.accounts.at_mut(seat);
            if now >= account.next {
                account.roll(now);
                if account.left > 0 {
                    self.used_up &= !bit(seat);
                }
            }
            next = next.min(account.next);
            rest &= rest.wrapping_sub(1);
        }
        self.next = next;
    }

    /// Charges `ticks`, which have passed up to `now`, to a seat: to each period its own.
    #[inline(always)]
    pub fn charge(&mut self, seat: usize, ticks: u64, now: u64) {
        if self.limited & bit(seat) != 0 {
            self.charge_limited(seat, ticks, now);
        }
    }

    #[inline(never)]
    fn charge_limited(&mut self, seat: usize, ticks: u64, now: u64) {
        let account = self.accounts.at_mut(seat);
        let mut ticks = ticks;
        if now >= account.next {
            // Of the period that has ended, up to its end.
            let here = now.wrapping_sub(account.next);
            account.left = account.left.saturating_sub_unsigned(ticks.saturating_sub(here));
            account.roll(now);
            let begun = now.wrapping_sub(account.next.wrapping_sub(account.period));
            ticks = ticks.min(begun);
        }
        // A machine that stood still for long must not keep the VM from its budget for as long.
        let debt = account.ticks.saturating_neg();
        account.left = account.left.saturating_sub_unsigned(ticks).max(debt);
        if account.left > 0 {
            self.used_up &= !bit(seat);
        } else {
            self.used_up |= bit(seat);
        }
    }

    /// When the running seat has to stop: its budget ends; `u64::MAX` without one.
    #[inline(always)]
    pub fn end(&self, seat: usize, now: u64) -> u64 {
        if self.limited & bit(seat) == 0 {
            return u64::MAX;
        }
        let account = self.accounts.at(seat);
        now.saturating_add(account.left.max(0).unsigned_abs())
    }

    /// When one of `seats`, which have used up their budgets, has one again.
    pub fn renewed(&self, seats: u32) -> u64 {
        let (mut rest, mut next) = (seats & self.used_up, u64::MAX);
        while rest != 0 {
            next = next.min(self.accounts.at(first(rest, 0)).next);
            rest &= rest.wrapping_sub(1);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Budget = Budget { ticks: 2, period: 10 };

    #[test]
    fn periods_begin_on_the_grid_and_unused_time_is_lost() {
        let mut budgets = Budgets::NONE;
        budgets.set(3, TEN, 17);
        budgets.charge(3, 1, 18);
        assert_eq!((budgets.end(3, 18), budgets.used_up()), (19, 0));
        budgets.roll(19);
        assert_eq!(budgets.end(3, 19), 20, "the same period");
        budgets.roll(20);
        assert_eq!(budgets.end(3, 20), 22, "a whole budget, and no more");
        budgets.roll(57);
        assert_eq!(budgets.end(3, 57), 59);
        assert_eq!(budgets.next, 60, "the grid has not moved");
    }

    #[test]
    fn an_overrun_is_repaid() {
        let mut budgets = Budgets::NONE;
        budgets.set(0, TEN, 0);
        budgets.charge(0, 3, 3);
        assert_eq!((budgets.used_up(), budgets.renewed(1)), (1, 10));
        budgets.roll(10);
        assert_eq!((budgets.used_up(), budgets.end(0, 10)), (0, 11));
        // All that the next period has: it is lost.
        budgets.charge(0, 3, 13);
        budgets.roll(20);
        assert_eq!(budgets.used_up(), 1);
        budgets.roll(30);
        assert_eq!((budgets.used_up(), budgets.end(0, 30)), (0, 32));
    }

    #[test]
    fn a_debt_is_at_most_one_budget() {
        let mut budgets = Budgets::NONE;
        budgets.set(0, Budget { ticks: 2, period: 1000 }, 0);
        budgets.charge(0, 900, 900);
        budgets.roll(1000);
        assert_eq!(budgets.used_up(), 1);
        budgets.roll(2000);
        assert_eq!((budgets.used_up(), budgets.end(0, 2000)), (0, 2002));
    }

    #[test]
    fn time_across_an_edge_is_charged_to_each_period() {
        let mut budgets = Budgets::NONE;
        budgets.set(0, Budget { ticks: 5, period: 10 }, 0);
        budgets.charge(0, 4, 13);
        assert_eq!(budgets.end(0, 13), 15, "one tick of the first, three of the second");
    }

    #[test]
    fn seats_without_a_budget_have_no_end() {
        let mut budgets = Budgets::NONE;
        budgets.charge(1, 1000, 1000);
        budgets.roll(1000);
        assert_eq!(
            (budgets.end(1, 5), budgets.used_up(), budgets.renewed(!0)),
            (u64::MAX, 0, u64::MAX)
        );
    }
}
