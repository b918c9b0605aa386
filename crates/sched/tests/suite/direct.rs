// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scheduler alone: two VMs with a vCPU each, by hand.

use crate::cpu::{MS, QUANTUM, TURN};
use sched::{DEFAULT_PRIORITY, Scheduler};

/// Two vCPUs that want the CPU, the second with this priority, behind their first turns.
fn two(priority: u8) -> Scheduler {
    let mut sched = Scheduler::new();
    sched.set_turn(TURN);
    for (vm, priority) in [(0, DEFAULT_PRIORITY), (1, priority)] {
        let vcpu = sched.add(vm, priority, QUANTUM).unwrap();
        sched.wake(vcpu);
    }
    sched
}

/// Lets the one that has the CPU run until `now`.
fn run(sched: &mut Scheduler, now: u64) -> Option<usize> {
    sched.account(now);
    sched.choose(now)
}

#[test]
fn an_overrun_is_repaid() {
    let mut sched = two(DEFAULT_PRIORITY);
    let first = sched.choose(0).unwrap();
    // EL2 was 2 ms late.
    let second = run(&mut sched, 6 * MS).unwrap();
    assert_ne!(first, second);
    assert_eq!(run(&mut sched, 10 * MS), Some(first), "the next epoch");
    assert_eq!(sched.until(10 * MS), 12 * MS);
}

#[test]
fn one_that_has_used_its_quantum_wakes_behind_the_others() {
    let mut sched = two(DEFAULT_PRIORITY);
    let first = sched.choose(0).unwrap();
    let second = run(&mut sched, QUANTUM).unwrap();
    sched.account(QUANTUM + MS);
    sched.sleep(first, None);
    assert_eq!(sched.heed(QUANTUM + MS) >> first & 1, 0, "no kick for it");
    sched.wake(first);
    assert!(!sched.wants_switch(QUANTUM + MS));
    assert_eq!(run(&mut sched, QUANTUM + 3 * MS), Some(second));
    assert_eq!(run(&mut sched, 2 * QUANTUM), Some(first));
}

#[test]
fn no_kick_for_a_lower_priority() {
    let mut sched = two(20);
    assert_eq!(sched.choose(0), Some(1));
    sched.account(MS);
    sched.sleep(0, None);
    assert_eq!(sched.heed(MS) & 1, 0);
    // When the higher one sleeps, it is listened for.
    sched.sleep(1, None);
    assert_eq!(sched.choose(MS), None);
    assert_eq!(sched.heed(MS) & 3, 3);
    // And the higher one is, while the lower one runs.
    sched.wake(0);
    assert_eq!(sched.choose(MS), Some(0));
    assert_eq!(sched.heed(MS) & 3, 3);
}

/// What EL2 does with interrupts of a passed-through device (`hyp/src/guest/passthrough.rs`), one every 5 us, that cost 10 us each,
/// until `end`: the CPU time of the device's VM 0, which sleeps, and of VM 1, which runs; how many were delivered at
/// once, and the longest time that one was held.
fn device_storm(end: u64) -> ([u64; 2], u64, u64) {
    const EVERY: u64 = 5 * MS / 1000;
    const COST: u64 = 10 * MS / 1000;
    let mut sched = two(DEFAULT_PRIORITY);
    sched.sleep(0, None);
    assert_eq!(sched.choose(0), Some(1));
    let (mut now, mut used, mut delivered) = (0, [0, 0], 0);
    let (mut held, mut longest) = (None::<u64>, 0);
    while now < end {
        if sched.may_interrupt(0, now) {
            used[1] += sched.account(now);
            now += COST;
            used[0] += sched.account_to(0, now, 0);
            sched.be_quiet(now);
            longest = longest.max(now - held.take().unwrap_or(now));
            delivered += 1;
        } else {
            held = held.or(Some(now));
            // EL2's timer: it looks again then.
            let until = sched.until(now);
            assert!(until > now && until <= now + QUANTUM, "it is held without end");
            now = until.min(now + EVERY);
            used[1] += sched.account(now);
        }
        assert!(!sched.wants_switch(now), "VM 0 sleeps");
    }
    (used, delivered, longest)
}

#[test]
fn interrupts_of_a_device_are_held_for_50_us_and_cost_its_vm() {
    let (used, delivered, longest) = device_storm(10 * MS);
    // 10 us of work in each 60 us.
    assert!(delivered <= 10 * MS / TURN, "{delivered}");
    assert!(delivered > 150, "{delivered}");
    assert!(longest <= 2 * TURN, "{longest}");
    assert!(used[0] <= used[1] / 4, "{used:?}");
    assert_eq!(used[0], delivered * MS / 100);
}

#[test]
fn interrupts_of_a_device_whose_vm_has_used_its_quantum_are_held_until_the_epoch_ends() {
    let mut sched = two(DEFAULT_PRIORITY);
    let owner = sched.choose(0).unwrap();
    let other = run(&mut sched, QUANTUM).unwrap();
    assert_ne!(owner, other);
    sched.sleep(owner, None);
    let late = QUANTUM + MS;
    sched.account(late);
    assert!(!sched.may_interrupt(owner, late));
    assert_eq!(sched.until(late), 2 * QUANTUM, "EL2 looks when the epoch ends");
    assert_eq!(run(&mut sched, 2 * QUANTUM), Some(other));
    assert!(sched.may_interrupt(owner, 2 * QUANTUM));
    // What EL2 does for it uses its quantum up, not the other's.
    sched.account_to(owner, 3 * QUANTUM, 0);
    assert!(!sched.may_interrupt(owner, 3 * QUANTUM));
    assert_eq!(sched.until(3 * QUANTUM), 4 * QUANTUM);
}

#[test]
fn interrupts_of_a_device_of_the_running_vm_are_never_held() {
    let mut sched = two(DEFAULT_PRIORITY);
    let runs = sched.choose(0).unwrap();
    sched.be_quiet(0);
    assert!(sched.may_interrupt(runs, 1));
    assert!(!sched.may_interrupt(1 - runs, 1));
    assert!(sched.may_interrupt(1 - runs, TURN));
}
