// SPDX-License-Identifier: MIT OR Apache-2.0
//! CPU_ON, CPU_OFF, stop, park and reset.

use crate::common::*;
use crate::{at_once, explore};
use arch::{Exit, Ipa};
use std::sync::Arc;
use vm::{Outcome, Parked, StopReason, Vcpu, Vm};

type Guest = Arc<Vm<Machine>>;

fn hvc(vcpu: &mut Vcpu, vm: &Vm<Machine>, id: u64, x1: u64) -> Outcome {
    vcpu.regs.x[..4].copy_from_slice(&[id, x1, RAM, x1]);
    vm::on_exit(Exit::Hvc { imm: 0 }, vcpu, vm)
}

fn cpu_on(vcpu: &mut Vcpu, vm: &Vm<Machine>, target: u64) -> i64 {
    assert_eq!(hvc(vcpu, vm, 0xc400_0003, target), Outcome::Resume);
    vcpu.regs.x[0] as i64
}

/// A VM whose first `on` of `all` vCPUs are on.
fn guest(all: usize, on: usize) -> (Guest, Vec<Vcpu>, Machine) {
    let mut rig = Config { vcpus: all, policy: OFF, pool: 8, ..Config::default() }.build();
    for n in 1..on {
        assert_eq!(cpu_on(&mut rig.vcpus[0], &rig.vm, n as u64), 0);
        assert!(rig.vm.take_start(&mut rig.vcpus[n]));
    }
    (rig.vm, rig.vcpus, rig.machine)
}

// scenario: E4
#[test]
fn one_target_has_one_caller_that_succeeds() {
    explore(|| {
        let (vm, mut vcpus, _) = guest(4, 3);
        let mut target = vcpus.pop().unwrap();
        let callers = vcpus.into_iter().map(|mut vcpu| {
            let vm = vm.clone();
            Box::new(move || cpu_on(&mut vcpu, &vm, 3)) as Box<dyn FnOnce() -> i64 + Send>
        });
        let starter = vm.clone();
        let start: Box<dyn FnOnce() -> i64 + Send> =
            Box::new(move || 100 + i64::from(starter.take_start(&mut target)));
        let answers = at_once(callers.chain([start]).collect());
        assert_eq!(answers.iter().filter(|a| **a == 0).count(), 1, "{answers:?}");
        assert!(answers[..3].iter().all(|a| [0, -4, -5].contains(a)), "{answers:?}");
    });
}

// scenario: E5
#[test]
fn a_vcpu_turned_off_and_on_starts_once() {
    explore(|| {
        let (vm, mut vcpus, _) = guest(2, 2);
        let (mut other, mut me) = (vcpus.pop().unwrap(), vcpus.pop().unwrap());
        let (a, b) = (vm.clone(), vm.clone());
        let results = at_once::<(bool, bool)>(vec![
            Box::new(move || (cpu_on(&mut me, &a, 1) == 0, false)),
            Box::new(move || {
                let off = hvc(&mut other, &b, 0x8400_0002, 0);
                assert!(matches!(off, Outcome::Off), "{off:?}");
                (false, b.take_start(&mut other))
            }),
        ]);
        let order = lock::Order::new();
        let turned_on = results[0].0;
        let started = results[1].1;
        let mut late = Vcpu::new(1);
        assert!(turned_on || !started, "it starts only if it was turned on");
        assert_eq!(vm.take_start(&mut late), turned_on && !started, "and then once");
        assert_eq!(vm.lifecycle().on(&order).contains(1), turned_on);
    });
}

// scenario: E6
// bug: 67
#[test]
fn a_vm_that_stops_while_its_vcpus_run_parks_once_and_lives_again() {
    explore(|| {
        let (vm, vcpus, _) = guest(3, 3);
        let threads = vcpus.into_iter().enumerate().map(|(n, mut vcpu)| {
            let vm = vm.clone();
            Box::new(move || {
                // One asks for a reset, one for its power off, one is in the middle of something.
                match n {
                    0 => drop(hvc(&mut vcpu, &vm, 0x8400_0009, 0)),
                    1 => drop(hvc(&mut vcpu, &vm, 0x8400_0008, 0)),
                    _ => {
                        vm::on_exit(load(UART + 0x18, arch::Width::B4), &mut vcpu, &vm);
                    }
                }
                // As hyp's scheduler does: no vCPU enters a guest that stops.
                while vm.lifecycle().stopping().is_none() {
                    shuttle::thread::yield_now();
                }
                let parked = vm.park(&vcpu);
                if let Parked::Last(reason) = parked {
                    // Alone: everything may be taken down and begun anew.
                    let order = lock::Order::new();
                    vm.reset(&order).unwrap();
                    assert!(vm.start(&order, Ipa::new(RAM), 0));
                    return Some(reason);
                }
                None
            }) as Box<dyn FnOnce() -> Option<StopReason> + Send>
        });
        let ends: Vec<StopReason> = at_once(threads.collect()).into_iter().flatten().collect();
        assert_eq!(ends.len(), 1, "one acts on the reason: {ends:?}");
        let mut first = Vcpu::new(0);
        assert!(vm.take_start(&mut first), "the next life begins");
        assert_eq!(vm.lifecycle().stopping(), None);
    });
}

#[test]
fn a_vcpu_that_is_turned_on_while_the_vm_stops_does_not_run() {
    explore(|| {
        let (vm, mut vcpus, _) = guest(3, 2);
        let mut third = vcpus.pop().unwrap();
        let (mut second, mut first) = (vcpus.pop().unwrap(), vcpus.pop().unwrap());
        let (a, b, c) = (vm.clone(), vm.clone(), vm.clone());
        let results = at_once::<bool>(vec![
            Box::new(move || {
                cpu_on(&mut first, &a, 2);
                while a.lifecycle().stopping().is_none() {
                    shuttle::thread::yield_now();
                }
                a.park(&first) != Parked::Others
            }),
            Box::new(move || {
                hvc(&mut second, &b, 0x8400_0008, 0);
                b.park(&second) != Parked::Others
            }),
            Box::new(move || {
                // Its CPU looks for work until the VM stops; if it was started it parks like the others.
                loop {
                    if c.take_start(&mut third) {
                        while c.lifecycle().stopping().is_none() {
                            shuttle::thread::yield_now();
                        }
                        return c.park(&third) != Parked::Others;
                    }
                    let order = lock::Order::new();
                    if c.lifecycle().stopping().is_some() || c.lifecycle().on(&order).is_empty() {
                        return false;
                    }
                    shuttle::thread::yield_now();
                }
            }),
        ]);
        assert_eq!(results.iter().filter(|last| **last).count(), 1, "{results:?}");
        let order = lock::Order::new();
        assert!(vm.lifecycle().on(&order).is_empty());
        vm.reset(&order).unwrap();
        assert!(vm.start(&order, Ipa::new(RAM), 0));
        assert!(!vm.take_start(&mut Vcpu::new(2)), "nor in the next life");
    });
}
