// SPDX-License-Identifier: MIT OR Apache-2.0
//! Budgets: exact in each period, whatever the guest and its neighbours do.

use crate::cpu::*;
use proptest::prelude::*;
use sched::{Budget, Costs, DEFAULT_PRIORITY, Frame, Tenant, WorstWake, worst_wake};

const HIGH: u8 = 24;
/// What EL2's pieces of work may add to a budget, or take from it, in a period.
const TOLERANCE: u64 = 12 * US;

/// Each whole period of `guest`: at most its budget, and all of it if `all`.
fn exact(cpu: &Cpu, budget: u64, all: bool) {
    let tolerance = TOLERANCE.max(budget / 100);
    let periods = &cpu.periods[0];
    let whole = (cpu.now / periods.period) as usize;
    for (number, ran) in periods.ran.iter().take(whole).enumerate() {
        assert!(*ran <= budget + tolerance, "period {number}: {} us", ran / US);
        assert!(!all || *ran + tolerance >= budget, "period {number}: {} us", ran / US);
    }
    assert!(!all || periods.ran.len() >= whole, "it ran in {} of {whole}", periods.ran.len());
}

#[test]
fn one_that_spins_has_its_budget_in_each_of_ten_thousand_periods() {
    let mut cpu = Cpu::new();
    let guest = cpu.add_with(1, HIGH, QUANTUM, spin());
    cpu.add(2, spin());
    cpu.limit(guest, 200 * US, MS);
    cpu.run(10_000 * MS);
    exact(&cpu, 200 * US, true);
    assert_eq!(cpu.periods[0].ran.len(), 10_000);
}

#[test]
fn one_alone_has_its_budget_and_no_more() {
    let mut cpu = Cpu::new();
    let guest = cpu.add_with(1, HIGH, QUANTUM, spin());
    cpu.limit(guest, 2 * MS, 10 * MS);
    cpu.run(1000 * MS);
    exact(&cpu, 2 * MS, true);
    assert!(cpu.share(guest) <= 2_010, "{}", cpu.share(guest));
}

#[test]
fn two_budgets_and_a_spinner() {
    let mut cpu = Cpu::new();
    let first = cpu.add_with(1, HIGH, QUANTUM, spin());
    let second = cpu.add_with(2, HIGH, QUANTUM, spin());
    let rest = cpu.add(3, spin());
    cpu.limit(first, 2 * MS, 10 * MS);
    cpu.limit(second, 3 * MS, 20 * MS);
    cpu.run(2000 * MS);
    assert!((1_980..=2_010).contains(&cpu.share(first)), "{}", cpu.share(first));
    assert!((1_480..=1_510).contains(&cpu.share(second)), "{}", cpu.share(second));
    assert!(cpu.share(rest) >= 6_400, "{}", cpu.share(rest));
}

#[test]
fn a_budget_of_an_equal_ends_too() {
    let mut cpu = Cpu::new();
    let guest = cpu.add(1, spin());
    let other = cpu.add(2, spin());
    cpu.limit(guest, MS, 10 * MS);
    cpu.run(1000 * MS);
    exact(&cpu, MS, false);
    assert!(cpu.share(other) >= 8_900, "{}", cpu.share(other));
}

#[test]
fn one_that_wakes_with_its_budget_used_up_waits_for_the_next_period() {
    let mut cpu = Cpu::new();
    // It asks for twice its budget.
    let guest = cpu.add_with(1, HIGH, QUANTUM, naps(400 * US, 600 * US));
    cpu.add(2, spin());
    cpu.limit(guest, 200 * US, MS);
    cpu.run(1000 * MS);
    exact(&cpu, 200 * US, false);
    assert!(cpu.share(guest) >= 1_950, "{}", cpu.share(guest));
}

#[test]
fn a_storm_for_one_without_budget_left_costs_the_others_nothing() {
    let mut cpu = Cpu::new();
    let guest = cpu.add_with(1, HIGH, QUANTUM, script(vec![Step::Run(10 * US), Step::Wait]));
    let other = cpu.add(2, spin());
    cpu.limit(guest, 100 * US, 10 * MS);
    cpu.storm = Some(Storm { to: guest, every: 20 * US, end: 1000 * MS });
    cpu.run(1000 * MS);
    exact(&cpu, 100 * US, false);
    assert!(cpu.share(guest) >= 80, "{}", cpu.share(guest));
    assert!(cpu.share(other) >= 9_700, "{}", cpu.share(other));
}

#[test]
fn an_idle_cpu_has_nothing_to_do_when_a_period_begins() {
    let mut cpu = Cpu::new();
    // It uses its budget up, and sleeps for several periods.
    let guest = cpu.add_with(1, HIGH, QUANTUM, naps(150 * US, 50 * MS));
    cpu.limit(guest, 100 * US, MS);
    cpu.run(1000 * MS);
    exact(&cpu, 100 * US, false);
    assert!(cpu.guests[guest].late.len() >= 18, "{}", cpu.guests[guest].late.len());
    assert!(cpu.looks <= 200, "{} looks", cpu.looks);
}

/// One budget at the end of a period, the next at the beginning of the following one: the analysis has to know.
#[test]
fn two_budgets_in_a_row_are_waited_for_and_no_more() {
    let mut cpu = Cpu::new();
    // It wakes where 350 us of a period are left, and runs for as long in the next one.
    let mut steps = 0;
    let high = cpu.add_with(1, HIGH, QUANTUM, move || {
        steps += 1;
        match steps {
            1 => Step::Sleep(1650 * US),
            _ if steps % 2 == 0 => Step::Run(700 * US),
            _ => Step::Sleep(1299 * US),
        }
    });
    // It wakes at every phase of the period.
    let (mut sleeps, mut runs) = (false, 0);
    let sleeper = cpu.add(2, move || {
        sleeps = !sleeps;
        runs += 1;
        if sleeps { Step::Sleep(300 * US + runs * 7 * US % MS) } else { Step::Run(3 * US) }
    });
    cpu.limit(high, 400 * US, MS);
    cpu.run(300 * MS);
    let worst = cpu.guests[sleeper].late.iter().max().copied().unwrap_or(0);
    let budget = Budget { ticks: 400 * US, period: MS };
    let tenants = [
        Tenant { priority: DEFAULT_PRIORITY, budget: None },
        Tenant { priority: HIGH, budget: Some(budget) },
    ];
    let costs = Costs { section: 2 * LOOK, switch: SWITCH, turn: TURN };
    let within = worst_wake(&tenants, 0, Frame::None, costs);
    assert!(matches!(within, WorstWake::Within(limit) if worst <= limit), "{worst} of {within:?}");
    assert!(worst > 650 * US, "{} us", worst / US);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_budget_is_exact_whatever_its_guest_does(
        part in 5..40_u64,
        period in 500 * US..20 * MS,
        run in US..3 * MS,
        sleep in US..500 * US,
        spins in any::<bool>(),
        neighbours in 0..3_u16,
    ) {
        let budget = period * part / 100;
        let mut cpu = Cpu::new();
        let guest = if spins {
            cpu.add_with(30, HIGH, QUANTUM, spin())
        } else {
            cpu.add_with(30, HIGH, QUANTUM, naps(run, sleep))
        };
        for vm in 0..neighbours {
            cpu.add(vm, naps(700 * US * u64::from(vm + 1), 30 * US));
        }
        cpu.limit(guest, budget, period);
        cpu.run(period * 40);
        exact(&cpu, budget, spins);
        prop_assert_eq!(cpu.charged.iter().sum::<u64>() + cpu.idle, cpu.now);
    }

    #[test]
    fn none_wakes_later_than_the_analysis_says(
        above in prop::collection::vec((2..35_u64, 300 * US..10 * MS, any::<bool>()), 0..3),
        equals in 0..3_u16,
        window in prop::option::of(200 * US..4 * MS),
        sleep in 700 * US..7 * MS,
    ) {
        let mut cpu = Cpu::new();
        let sleeper = cpu.add(30, naps(3 * US, sleep));
        let mut tenants = vec![Tenant { priority: DEFAULT_PRIORITY, budget: None }];
        for vm in 0..equals {
            cpu.add(vm, naps(900 * US, 100 * US * u64::from(vm + 1)));
            tenants.push(Tenant { priority: DEFAULT_PRIORITY, budget: None });
        }
        for (vm, (part, period, spins)) in (10..).zip(&above) {
            let ticks = period * part / 100;
            let guest = if *spins {
                cpu.add_with(vm, HIGH, QUANTUM, spin())
            } else {
                cpu.add_with(vm, HIGH, QUANTUM, naps(ticks / 3 + US, 40 * US))
            };
            cpu.limit(guest, ticks, *period);
            tenants.push(Tenant { priority: HIGH, budget: Some(Budget { ticks, period: *period }) });
        }
        let mut frame = Frame::None;
        if let Some(ticks) = window {
            cpu.add_windowed(20, 0, spin());
            cpu.sched.set_windows(10 * MS, [(ticks, Some(20), false)].into_iter());
            frame = Frame::Others(Budget { ticks, period: 10 * MS });
        }
        cpu.run(300 * MS);
        let costs = Costs { section: 2 * LOOK, switch: SWITCH, turn: TURN };
        let WorstWake::Within(limit) = worst_wake(&tenants, 0, frame, costs) else { return Ok(()) };
        // At first all have just woken, and take turns.
        let worst = cpu.guests[sleeper].late.iter().skip(8).max().copied().unwrap_or(0);
        prop_assert!(worst <= limit, "{} us of {} us", worst / US, limit / US);
    }

    #[test]
    fn a_vm_with_a_window_wakes_within_the_time_without_it(
        window in 200 * US..4 * MS,
        sleep in 700 * US..7 * MS,
        neighbours in 1..4_u16,
    ) {
        let mut cpu = Cpu::new();
        let sleeper = cpu.add_windowed(1, 0, naps(3 * US, sleep));
        for vm in 0..neighbours {
            cpu.add_with(10 + vm, HIGH, QUANTUM, spin());
        }
        cpu.sched.set_windows(10 * MS, [(window, Some(1), false)].into_iter());
        cpu.run(300 * MS);
        let costs = Costs { section: 2 * LOOK, switch: SWITCH, turn: TURN };
        let tenants = [Tenant { priority: DEFAULT_PRIORITY, budget: None }];
        let within = worst_wake(&tenants, 0, Frame::Own(10 * MS - window), costs);
        let worst = cpu.guests[sleeper].late.iter().max().copied().unwrap_or(0);
        prop_assert!(
            matches!(within, WorstWake::Within(limit) if worst <= limit),
            "{} us of {within:?}",
            worst / US
        );
    }
}
