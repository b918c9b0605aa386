// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls of the guard against accesses, and calls against calls.

use crate::common::*;
use crate::{at_once, explore};
use arch::{Exit, Width};
use mmio_guard::{Dialect, Policy};
use shuttle::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use vm::{Outcome, Vcpu, Vm};

fn call(vcpu: &mut Vcpu, vm: &Vm<Machine>, id: u64, x1: u64, x2: u64) -> [u64; 2] {
    vcpu.regs.x[..4].copy_from_slice(&[id, x1, x2, 0]);
    assert_eq!(vm::on_exit(Exit::Hvc { imm: 0 }, vcpu, vm), Outcome::Resume);
    [vcpu.regs.x[0], vcpu.regs.x[1]]
}

fn two(policy: Policy) -> Rig {
    let mut rig = Config { pool: 12, ..Config::of(policy, Dialect::Pkvm) }.build();
    call(&mut rig.vcpus[0], &rig.vm, 0xc400_0003, 1, RAM);
    assert!(rig.vm.take_start(&mut rig.vcpus[1]));
    rig
}

/// After a call has returned, and that was told, no access is judged by the old state.
fn judged_by_the_new_state(policy: Policy, id: u64, served_before: bool) {
    let mut rig = two(policy);
    if policy == ENFORCE && served_before {
        call(&mut rig.vcpus[0], &rig.vm, 0xc600_0007, TEST, 0);
    }
    let (mut other, mut caller) = (rig.vcpus.pop().unwrap(), rig.vcpus.pop().unwrap());
    let told = Arc::new(AtomicBool::new(false));
    let (vm, vm2, told2) = (rig.vm.clone(), rig.vm.clone(), told.clone());
    at_once::<()>(vec![
        Box::new(move || {
            call(&mut caller, &vm, id, TEST, 0);
            told.store(true, Ordering::SeqCst);
        }),
        Box::new(move || {
            loop {
                let known = told2.load(Ordering::SeqCst);
                let outcome = vm::on_exit(load(TEST + 0x800, Width::B4), &mut other, &vm2);
                let served = matches!(outcome, Outcome::Advance { .. });
                assert!(served || matches!(outcome, Outcome::Abort(_)), "{outcome:?}");
                if known {
                    assert_eq!(served, !served_before, "judged by the old state");
                    return;
                }
                shuttle::thread::yield_now();
            }
        }),
    ]);
    rig.machine.fake.assert_quiet();
}

// scenario: B12
#[test]
fn enroll_against_accesses() {
    explore(|| judged_by_the_new_state(ENROL, 0xc600_0006, true));
}

// scenario: E1
#[test]
fn unmap_against_accesses() {
    explore(|| judged_by_the_new_state(ENFORCE, 0xc600_0008, true));
}

#[test]
fn map_against_accesses() {
    explore(|| judged_by_the_new_state(ENFORCE, 0xc600_0007, false));
}

// scenario: E2
// bug: 10
#[test]
fn two_declare_in_one_new_area() {
    explore(|| {
        let rig = two(ENFORCE);
        let before = rig.snapshot().pool;
        let threads = rig.vcpus.into_iter().enumerate().map(|(n, mut vcpu)| {
            let vm = rig.vm.clone();
            Box::new(move || {
                // One page that both declare where there is no table yet, neighbours, and one where there is.
                for page in [0, 2 * n as u64, 5] {
                    let ipa = 0x2_0000_0000 + page * 0x1000;
                    assert_eq!(call(&mut vcpu, &vm, 0xc600_0007, ipa, 0)[0], 0);
                }
            }) as Box<dyn FnOnce() + Send>
        });
        at_once(threads.collect());
        assert_eq!(rig.vm.declared_pages(), 3, "counted once each");
        let order = lock::Order::new();
        assert_eq!(before - rig.vm.stage2().pool_free(&order), 2, "one path of tables");
        rig.machine.fake.assert_quiet();
    });
}

// scenario: E9
// bug: 64
#[test]
fn two_share_one_page_and_one_relinquishes_it() {
    explore(|| {
        let rig = two(ENFORCE);
        let threads = rig.vcpus.into_iter().map(|mut vcpu| {
            let vm = rig.vm.clone();
            Box::new(move || {
                let shared = call(&mut vcpu, &vm, u64::from(MEM_SHARE), RAM, 1)[0] == 0;
                call(&mut vcpu, &vm, u64::from(RELINQUISH), RAM, 0);
                shared
            }) as Box<dyn FnOnce() -> bool + Send>
        });
        let won = at_once(threads.collect()).into_iter().filter(|shared| *shared).count();
        assert_eq!(won, 1, "one wins, one is told");
        assert_eq!(rig.vm.shared_pages(), 1);
        assert!(rig.machine.log().wiped.is_empty(), "what is shared is not wiped");
    });
}

/// Two ranges that overlap, one declared and one undeclared: the count is that of the pages.
#[test]
fn the_count_of_declared_pages_is_theirs() {
    explore(|| {
        let rig = two(ENFORCE);
        let threads = rig.vcpus.into_iter().enumerate().map(|(n, mut vcpu)| {
            let vm = rig.vm.clone();
            Box::new(move || {
                let (map, unmap) = (u64::from(RANGE_MAP), u64::from(RANGE_UNMAP));
                let start = VOID + n as u64 * 0x1000;
                assert_eq!(call(&mut vcpu, &vm, map, start, 2), [0, 2]);
                if n == 0 {
                    assert_eq!(call(&mut vcpu, &vm, unmap, start, 2), [0, 2]);
                }
            }) as Box<dyn FnOnce() + Send>
        });
        at_once(threads.collect());
        let mut declared = 0;
        rig.vm.stage2().visit(|_, _, entry| {
            declared += u64::from(matches!(entry, stage2::Entry::Guard(_)));
        });
        assert_eq!(rig.vm.declared_pages(), declared);
        rig.machine.fake.assert_quiet();
    });
}
