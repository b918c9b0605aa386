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
