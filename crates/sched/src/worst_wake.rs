// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long a VM may wait for its CPU after it woke, from the owner's words alone.
//!
//! Response-time analysis for fixed priorities (Audsley and others, 1993). A budget may be used at the end of one period and at
//! the beginning of the next: that is its jitter. Windows of others count as one more budget above. All times have one unit,
//! which the caller chooses.

use crate::Budget;

/// A VM on a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its priority.
    pub priority: u8,
    /// Its budget, if it has one.
    pub budget: Option<Budget>,
}

/// What fixed windows mean to the VM in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// There are no windows.
    None,
    /// It has windows of its own, and waits at most this long for the next one. In them it goes before all others.
    Own(u64),
    /// It has none: so much of each frame may be kept for others.
    Others(Budget),
}

/// What EL2 itself may take of the time from an interrupt to a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Costs {
    /// The longest section with interrupts masked, and what may follow it before a vCPU is chosen.
    pub section: u64,
    /// One vCPU out, another in.
    pub switch: u64,
    /// The time for which no equal interrupts a vCPU.
    pub turn: u64,
}

/// When a VM that wakes runs at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorstWake {
    /// Within this time, while it has budget and quantum left.
    Within(u64),
    /// Perhaps never: the tenant with this number has a higher priority and no budget.
    Behind(usize),
    /// Perhaps never: budgets of higher priorities and windows may use all of the CPU.
    Full,
}

/// Rounds of the iteration. Each adds at least one budget: more of them mean that the CPU is nearly full.
const ROUNDS: u32 = 1000;

/// The worst wake-up of `tenants[index]`, on a CPU that has these tenants. Those with windows of their own are no tenants for
/// a VM that has none.
pub fn worst_wake(tenants: &[Tenant], index: usize, frame: Frame, costs: Costs) -> WorstWake {
    let Some(own) = tenants.get(index) else { return WorstWake::Full };
    let start = costs.section.saturating_add(costs.switch);
    let windows = match frame {
        Frame::Own(gap) => return WorstWake::Within(start.saturating_add(gap)),
        Frame::Others(budget) => Some(budget),
        Frame::None => None,
    };
    let others = || tenants.iter().enumerate().filter(|(other, _)| *other != index);
    let above = || others().filter(|(_, tenant)| tenant.priority > own.priority);
    if let Some((number, _)) = above().find(|(_, tenant)| tenant.budget.is_none()) {
        return WorstWake::Behind(number);
    }
    let interfering = || above().filter_map(|(_, tenant)| tenant.budget).chain(windows);
    // Equals that wake at once have a turn each before it; one that runs has its own.
    let equals = others().filter(|(_, tenant)| tenant.priority == own.priority).count() as u64;
    let turns = equals.saturating_mul(costs.turn.saturating_add(costs.switch));
    let base = start.saturating_add(turns);
    let mut within = base;
    for _ in 0..ROUNDS {
        let mut next = base;
        for budget in interfering() {
            match taken(budget, within, costs) {
                Some(time) => next = next.saturating_add(time),
                None => return WorstWake::Full,
            }
        }
        if next == within {
            return WorstWake::Within(within);
        }
        within = next;
    }
    WorstWake::Full
}

/// What `budget` takes at most of any `time`, with the switches to it and back. `None` if it has no period.
fn taken(budget: Budget, time: u64, costs: Costs) -> Option<u64> {
    let jitter = budget.period.saturating_sub(budget.ticks);
    let times = time.saturating_add(jitter).checked_add(budget.period)?.saturating_sub(1);
    let times = times.checked_div(budget.period)?;
    let once = budget.ticks.saturating_add(costs.switch.saturating_mul(2));
    Some(times.saturating_mul(once))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: Costs = Costs { section: 10, switch: 1, turn: 50 };

    fn budget(ticks: u64, period: u64) -> Budget {
        Budget { ticks, period }
    }

    fn tenant(priority: u8, of: Option<(u64, u64)>) -> Tenant {
        Tenant { priority, budget: of.map(|(ticks, period)| budget(ticks, period)) }
    }

    fn wake(tenants: &[Tenant], index: usize) -> WorstWake {
        worst_wake(tenants, index, Frame::None, COSTS)
    }

    #[test]
    fn the_highest_waits_for_el2_alone() {
        let tenants = [tenant(24, Some((100, 1000))), tenant(8, None), tenant(8, None)];
        assert_eq!(wake(&tenants, 0), WorstWake::Within(11));
    }

    #[test]
    fn equals_have_a_turn_each() {
        let tenants = [tenant(8, None), tenant(8, None), tenant(8, None), tenant(3, None)];
        assert_eq!(wake(&tenants, 0), WorstWake::Within(11 + 2 * 51));
    }

    #[test]
    fn a_budget_above_may_come_twice_in_a_row() {
        for ticks in [100, 400] {
            let tenants = [tenant(24, Some((ticks, 1000))), tenant(8, None)];
            assert_eq!(wake(&tenants, 1), WorstWake::Within(11 + 2 * (ticks + 2)));
        }
        // The wait ends before the second one can begin.
        let tenants = [tenant(24, Some((30, 1000))), tenant(8, None)];
        assert_eq!(wake(&tenants, 1), WorstWake::Within(11 + 2 * 32));
        let tenants = [tenant(24, Some((999, 1000))), tenant(8, None)];
        assert_eq!(wake(&tenants, 1), WorstWake::Full);
    }

    #[test]
    fn one_above_without_a_budget_may_keep_the_cpu() {
        let tenants = [tenant(8, None), tenant(9, None)];
        assert_eq!(wake(&tenants, 0), WorstWake::Behind(1));
        assert_eq!(wake(&tenants, 1), WorstWake::Within(11));
    }

    #[test]
    fn budgets_that_fill_the_cpu_leave_nothing() {
        let tenants =
            [tenant(24, Some((600, 1000))), tenant(24, Some((400, 1000))), tenant(8, None)];
        assert_eq!(wake(&tenants, 2), WorstWake::Full);
        let none = [tenant(24, Some((1, 0))), tenant(8, None)];
        assert_eq!(wake(&none, 1), WorstWake::Full);
        assert_eq!(wake(&none, 2), WorstWake::Full);
    }

    #[test]
    fn a_vm_with_windows_waits_for_the_next_one() {
        let tenants = [tenant(8, None), tenant(9, None)];
        let own = worst_wake(&tenants, 0, Frame::Own(600), COSTS);
        assert_eq!(own, WorstWake::Within(611));
    }

    #[test]
    fn windows_of_others_are_a_budget_above() {
        let tenants = [tenant(8, None)];
        let frame = Frame::Others(budget(400, 1000));
        assert_eq!(worst_wake(&tenants, 0, frame, COSTS), WorstWake::Within(11 + 2 * 402));
        let all = Frame::Others(budget(1000, 1000));
        assert_eq!(worst_wake(&tenants, 0, all, COSTS), WorstWake::Full);
    }
}
