// SPDX-License-Identifier: MIT OR Apache-2.0
//! What each VM gets of a CPU, whatever its neighbours do.

use crate::cpu::*;

/// A spinner beside `attack`: its share, and its longest wait.
fn victim(attack: impl FnMut() -> Step + 'static) -> (Cpu, usize) {
    let mut cpu = Cpu::new();
    let victim = cpu.add(1, spin());
    cpu.add(2, attack);
    cpu.run(1000 * MS);
    (cpu, victim)
}

fn half(cpu: &Cpu, victim: usize) {
    assert!(cpu.share(victim) >= 4_800, "{} of 10000", cpu.share(victim));
    assert!(cpu.guests[victim].gap <= 2 * QUANTUM, "{} us", cpu.guests[victim].gap / US);
}

#[test]
fn two_spinners_have_a_half_each() {
    let (cpu, one) = victim(spin());
    assert!((4_980..=5_000).contains(&cpu.share(one)), "{}", cpu.share(one));
    assert!(cpu.guests[one].gap <= QUANTUM + 2 * US, "{} us", cpu.guests[one].gap / US);
    // One per quantum; and until both have had a quarter of it, turns of 50 us, as both have just woken.
    assert!((250..=295).contains(&cpu.switches), "{}", cpu.switches);
}

#[test]
fn a_nap_before_the_quantum_ends_steals_nothing() {
    for part in [20, 50, 92, 98, 99] {
        for nap in [US, 5 * US, 50 * US, 400 * US] {
            let (cpu, victim) = victim(naps(QUANTUM * part / 100, nap));
            half(&cpu, victim);
        }
    }
}

#[test]
fn naps_of_all_lengths_steal_nothing() {
    for run in [US, 5 * US, 20 * US, 60 * US, 300 * US, 3 * MS] {
        for nap in [US, 5 * US, 40 * US, 300 * US, 6 * MS] {
            let (cpu, victim) = victim(naps(run, nap));
            half(&cpu, victim);
        }
    }
}

#[test]
fn a_vcpu_that_gives_way_goes_behind_the_others_and_loses_nothing() {
    let (cpu, victim) = victim(script(vec![Step::Run(US), Step::Yield]));
    half(&cpu, victim);
    let mut cpu = Cpu::new();
    let gives = cpu.add(1, script(vec![Step::Run(US), Step::Yield]));
    let spins = cpu.add(2, spin());
    cpu.run(QUANTUM);
    assert!(cpu.guests[gives].ran <= 4 * US, "{}", cpu.guests[gives].ran);
    assert!(cpu.share(spins) >= 9_950, "{}", cpu.share(spins));
}

#[test]
fn shares_are_per_vm_not_per_vcpu() {
    let mut cpu = Cpu::new();
    let one = cpu.add(1, spin());
    for _ in 0..4 {
        cpu.add(2, spin());
    }
    cpu.run(2000 * MS);
    assert!((4_900..=5_050).contains(&cpu.share(one)), "{}", cpu.share(one));
    for vcpu in 1..5 {
        assert!((1_150..=1_300).contains(&cpu.share(vcpu)), "{}", cpu.share(vcpu));
    }
}

#[test]
fn the_quantum_is_the_weight() {
    let mut cpu = Cpu::new();
    let small = cpu.add_with(1, 8, MS, spin());
    let large = cpu.add_with(2, 8, 4 * MS, spin());
    cpu.run(1000 * MS);
    assert!((1_950..=2_050).contains(&cpu.share(small)), "{}", cpu.share(small));
    assert!((7_900..=8_050).contains(&cpu.share(large)), "{}", cpu.share(large));
}

#[test]
fn vcpus_of_one_vm_cannot_starve_each_other_by_waking() {
    let mut cpu = Cpu::new();
    let patient = cpu.add(1, spin());
    cpu.add(1, naps(10 * US, US));
    cpu.add(1, naps(10 * US, 2 * US));
    cpu.run(500 * MS);
    assert!(cpu.share(patient) >= 3_000, "{}", cpu.share(patient));
}

#[test]
fn one_that_has_time_left_runs_soon_after_its_deadline() {
    for spinners in 1..8 {
        let mut cpu = Cpu::new();
        for vm in 0..spinners {
            cpu.add(vm + 1, spin());
        }
        let sleeper = cpu.add(20, naps(5 * US, MS));
        cpu.run(500 * MS);
        let late = &cpu.guests[sleeper].late;
        assert!(late.len() > 400, "{}", late.len());
        // The first ones are at boot, where all have just woken.
        let worst = late[30..].iter().max().unwrap();
        assert!(*worst <= 60 * US, "{spinners} spinners: {worst} ns");
    }
}

#[test]
fn several_that_wake_at_once_take_turns() {
    // Were each to preempt the one before, the first would come last.
    let mut cpu = Cpu::new();
    cpu.add(1, spin());
    let sleepers: Vec<usize> =
        (0..5)
            .map(|n| {
                let mut first = true;
                let mut rest = naps(200 * US, 10 * MS);
                cpu.add(10 + n, move || {
                    if core::mem::take(&mut first) { Step::Sleep(50 * MS) } else { rest() }
                })
            })
            .collect();
    cpu.run(60 * MS);
    for sleeper in sleepers {
        let late = *cpu.guests[sleeper].late.last().unwrap();
        assert!(late <= 60 * US + 5 * 51 * US, "{late}");
    }
}

#[test]
fn a_higher_priority_waits_for_no_turn() {
    let mut cpu = Cpu::new();
    cpu.add(1, spin());
    cpu.add(2, naps(20 * US, 5 * US));
    let high = cpu.add_with(3, 20, QUANTUM, naps(100 * US, 900 * US));
    cpu.run(500 * MS);
    let late = &cpu.guests[high].late;
    assert!(late.len() > 400);
    assert!(*late.iter().max().unwrap() <= 2 * US, "{late:?}");
}

#[test]
fn a_lower_priority_does_not_disturb() {
    let mut cpu = Cpu::new();
    let high = cpu.add_with(1, 20, QUANTUM, spin());
    let low = cpu.add(2, naps(US, US));
    cpu.add(3, script(vec![Step::Wait]));
    cpu.storm = Some(Storm { to: low, every: US, end: 100 * MS });
    cpu.run(100 * MS);
    assert_eq!(cpu.kicks, 0);
    assert!(cpu.share(high) >= 9_990, "{}", cpu.share(high));
}

/// The share of a spinner, in 10,000, and the kicks during a storm of interrupts to a vCPU beside it.
fn storm(every: u64, masked: bool, to: impl FnMut() -> Step + 'static) -> (u64, u64) {
    let mut cpu = Cpu::new();
    let victim = cpu.add(1, spin());
    let to = cpu.add(2, to);
    cpu.guests[to].masked = masked;
    cpu.storm = Some(Storm { to, every, end: 400 * MS });
    cpu.run(400 * MS);
    (cpu.share(victim), cpu.kicks)
}

#[test]
fn interrupts_for_a_vcpu_that_is_off_kick_nobody() {
    let (share, kicks) = storm(156, false, script(vec![Step::Off]));
    assert_eq!(kicks, 0);
    assert!(share >= 9_990, "{share}");
}

#[test]
fn interrupts_for_a_vcpu_that_is_ready_kick_nobody() {
    let (share, kicks) = storm(156, false, spin());
    assert!(share >= 4_900, "{share}");
    assert_eq!(kicks, 0);
}

#[test]
fn interrupts_that_change_nothing_kick_once_in_50_us() {
    let (share, kicks) = storm(156, true, script(vec![Step::Wait]));
    assert!(kicks <= 400 * MS / TURN, "{kicks}");
    assert!(share >= 9_800, "{share}");
}

#[test]
fn interrupts_that_wake_cost_the_vm_that_they_wake() {
    for every in [156, US, 20 * US, 100 * US] {
        let (share, kicks) = storm(every, false, script(vec![Step::Run(500), Step::Wait]));
        assert!(share >= 4_800, "{share} at {every}");
        assert!(kicks <= 400 * MS / TURN, "{kicks}");
    }
}

#[test]
fn all_time_is_charged_once() {
    let mut cpu = Cpu::new();
    cpu.add(1, naps(300 * US, 700 * US));
    cpu.add(2, naps(20 * US, 5 * US));
    cpu.add(3, script(vec![Step::Run(3 * MS), Step::Yield, Step::Sleep(20 * MS)]));
    cpu.run(777 * MS);
    assert_eq!(cpu.charged.iter().sum::<u64>() + cpu.idle, cpu.now);
}

#[test]
fn alone_there_is_no_tick() {
    let mut cpu = Cpu::new();
    cpu.add(1, spin());
    let off = cpu.add(2, script(vec![Step::Off]));
    cpu.run(1000 * MS);
    assert_eq!((cpu.guests[off].ran, cpu.switches), (0, 2));
    assert_eq!(cpu.sched.until(cpu.now), u64::MAX);
}
