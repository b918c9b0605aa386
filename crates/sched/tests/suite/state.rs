// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changes of a vCPU's state while it is not loaded.

use sched::{DEFAULT_PRIORITY, Reason, Scheduler, VcpuState, vcpus_of};

use crate::cpu::{QUANTUM, US};

/// A scheduler with two vCPUs of two VMs, both off.
fn two() -> Scheduler {
    let mut scheduler = Scheduler::new();
    scheduler.set_turn(50 * US);
    for vm in 0..2 {
        scheduler.add(vm, DEFAULT_PRIORITY, QUANTUM).unwrap();
    }
    scheduler
}

#[test]
fn a_vcpu_that_becomes_ready_is_chosen() {
    for now in [VcpuState::Ready, VcpuState::Preparing] {
        for before in [VcpuState::Off, VcpuState::Waiting] {
            let mut scheduler = two();
            scheduler.update(1, before, now, None);
            assert_eq!(scheduler.choose(0), Some(1), "{before:?} -> {now:?}");
        }
    }
}

#[test]
fn a_vcpu_that_is_turned_off_is_not_chosen() {
    let mut scheduler = two();
    scheduler.update(0, VcpuState::Off, VcpuState::Ready, None);
    scheduler.update(0, VcpuState::Ready, VcpuState::Off, None);
    assert_eq!(scheduler.choose(0), None);
    // Nothing changes for one that is off already.
    scheduler.update(1, VcpuState::Off, VcpuState::Off, None);
    assert_eq!(scheduler.choose(0), None);
}

#[test]
fn a_waiting_vcpu_is_due_at_its_deadline() {
    let mut scheduler = two();
    scheduler.update(0, VcpuState::Off, VcpuState::Ready, None);
    assert_eq!(scheduler.choose(0), Some(0));
    scheduler.wait(0, VcpuState::Waiting, 100 * US);
    assert_eq!(scheduler.choose(0), None);
    assert_eq!(scheduler.take_due(99 * US), 0);
    assert_eq!(scheduler.take_due(100 * US), 1);
    // Its timer was set again meanwhile.
    scheduler.update(0, VcpuState::Waiting, VcpuState::Waiting, Some(200 * US));
    assert_eq!((scheduler.take_due(150 * US), scheduler.take_due(200 * US)), (0, 1));
}

#[test]
fn a_vcpu_without_a_timer_is_never_due() {
    for deadline in [None, Some(u64::MAX)] {
        let mut scheduler = two();
        scheduler.update(0, VcpuState::Off, VcpuState::Ready, None);
        assert_eq!(scheduler.choose(0), Some(0));
        scheduler.wait(0, VcpuState::Waiting, u64::MAX);
        scheduler.update(0, VcpuState::Waiting, VcpuState::Waiting, deadline);
        assert_eq!(scheduler.take_due(u64::MAX), 0, "{deadline:?}");
    }
}

#[test]
fn a_vcpu_that_waits_with_an_interrupt_to_take_stays_ready() {
    let mut scheduler = two();
    scheduler.update(0, VcpuState::Off, VcpuState::Ready, None);
    assert_eq!(scheduler.choose(0), Some(0));
    scheduler.wait(0, VcpuState::Ready, 100 * US);
    assert_eq!(scheduler.choose(0), Some(0));
}

#[test]
fn the_next_choice_is_what_is_heeded_and_until_when() {
    let mut scheduler = two();
    for vcpu in 0..2 {
        scheduler.update(vcpu, VcpuState::Off, VcpuState::Ready, None);
    }
    let running = scheduler.choose(0).unwrap();
    let (heed, until) = scheduler.next_choice(10 * US);
    assert_eq!((heed, until), (scheduler.heed(10 * US), scheduler.until(10 * US)));
    // The running vCPU is heeded, and the other one has its turn before the clock ends.
    assert_ne!(heed & 1 << running, 0);
    assert!(until > 10 * US && until < u64::MAX, "{until}");
}

#[test]
fn both_reasons_name_the_same_vcpus() {
    let bits = |reason: Reason, vcpus: u64| vcpus << reason as u8;
    assert_eq!(vcpus_of(bits(Reason::Interrupt, 0b01) | bits(Reason::Power, 0b10)), 0b11);
    assert_eq!(vcpus_of(bits(Reason::Power, 1 << 31)), 1 << 31);
    assert_eq!(vcpus_of(0), 0);
}
