// SPDX-License-Identifier: MIT OR Apache-2.0
//! Beginnings and ends: the state machine, and its races.

use crate::common::*;
use arch::{Exit, Ipa, VcpuSet};
use mmio_guard::Dialect;
use proptest::prelude::*;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use vm::{Outcome, Parked, StopReason, Vcpu};

fn fresh(vcpus: usize) -> Rig {
    Config { vcpus, policy: OFF, pool: 8, ..Config::default() }.build()
}

/// CPU_ON by HVC, from any thread.
fn cpu_on(vcpu: &mut Vcpu, vm: &vm::Vm<Machine>, target: u64) -> i64 {
    vcpu.regs.x[..4].copy_from_slice(&[0xc400_0003, target, RAM, target]);
    assert_eq!(vm::on_exit(Exit::Hvc { imm: 0 }, vcpu, vm), Outcome::Resume);
    vcpu.regs.x[0] as i64
}

fn hvc(vcpu: &mut Vcpu, vm: &vm::Vm<Machine>, id: u64) -> Outcome {
    vcpu.regs.x[0] = id;
    vcpu.regs.x[1] = 0;
    vm::on_exit(Exit::Hvc { imm: 0 }, vcpu, vm)
}

fn all_on(rig: &mut Rig) {
    for n in 1..rig.vcpus.len() {
        assert_eq!(cpu_on(&mut rig.vcpus[0], &rig.vm, n as u64), 0);
        assert!(rig.vm.take_start(&mut rig.vcpus[n]));
    }
    rig.machine.log().kicked.clear();
}

#[test]
fn a_vm_starts_once_per_life() {
    let mut rig = Config { policy: OFF, ..Config::default() }.try_build().unwrap();
    rig.vm.reset(&rig.order).unwrap();
    assert!(!rig.vm.take_start(&mut rig.vcpus[0]), "not started");
    assert!(rig.vm.start(&rig.order, Ipa::new(RAM + 8), 3));
    assert!(!rig.vm.start(&rig.order, Ipa::new(RAM), 3), "running");
    assert!(!rig.vm.lifecycle().finish(&rig.order), "running");
    assert!(!rig.vm.take_start(&mut rig.vcpus[1]), "vCPU 0 comes first");
    assert!(rig.vm.take_start(&mut rig.vcpus[0]));
    assert_eq!((rig.vcpus[0].regs.elr, rig.vcpus[0].regs.x[0]), (RAM + 8, 3));
    assert_eq!(rig.vm.lifecycle().on(&rig.order), VcpuSet::single(0));
}

#[test]
fn the_last_to_park_acts_alone() {
    let mut rig = fresh(4);
    all_on(&mut rig);
    assert_eq!(hvc(&mut rig.vcpus[2], &rig.vm, 0x8400_0008), Outcome::Stop(StopReason::PowerOff));
    assert_eq!(rig.machine.log().kicked, [VcpuSet::from_bits(0b1011)]);
    for n in [1, 2, 0] {
        assert_eq!(rig.vm.park(&rig.vcpus[n]), Parked::Others);
        assert_eq!(rig.vm.park(&rig.vcpus[n]), Parked::Others, "twice is once");
        assert_eq!(rig.vm.lifecycle().stopping(), Some(StopReason::PowerOff));
    }
    assert_eq!(rig.vm.park(&rig.vcpus[3]), Parked::Last(StopReason::PowerOff));
    assert_eq!(rig.vm.lifecycle().stopping(), None);
    assert_eq!(rig.vm.park(&rig.vcpus[3]), Parked::Others);
    assert!(rig.vm.lifecycle().finish(&rig.order));
    assert!(rig.vm.lifecycle().finished(&rig.order));
    assert!(!rig.vm.start(&rig.order, Ipa::new(RAM), 0), "the end is the end");
    assert!(!rig.vm.lifecycle().finish(&rig.order));
}

#[test]
fn the_first_reason_wins() {
    let mut rig = fresh(3);
    all_on(&mut rig);
    assert_eq!(hvc(&mut rig.vcpus[0], &rig.vm, 0x8400_0009), Outcome::Stop(StopReason::Reset));
    assert_eq!(hvc(&mut rig.vcpus[1], &rig.vm, 0x8400_0008), Outcome::Stop(StopReason::Reset));
    let stop = rig.vm.stop(&rig.order, StopReason::SError, None).unwrap();
    assert_eq!((stop.reason, stop.parked, stop.kick), (StopReason::Reset, false, VcpuSet::EMPTY));
    assert_eq!(rig.machine.log().kicked.len(), 1, "kicked once");
    for n in 0..2 {
        assert_eq!(rig.vm.park(&rig.vcpus[n]), Parked::Others);
    }
    assert_eq!(rig.vm.park(&rig.vcpus[2]), Parked::Last(StopReason::Reset));
}

#[test]
fn while_stopping_nobody_starts() {
    let mut rig = fresh(3);
    cpu_on(&mut rig.vcpus[0], &rig.vm, 1);
    hvc(&mut rig.vcpus[0], &rig.vm, 0x8400_0008);
    assert!(!rig.vm.take_start(&mut rig.vcpus[1]), "on pending is off again");
    cpu_on(&mut rig.vcpus[0], &rig.vm, 2);
    assert!(!rig.vm.take_start(&mut rig.vcpus[2]));
    assert_eq!(
        rig.vm.park(&rig.vcpus[0]),
        Parked::Last(StopReason::PowerOff),
        "no other vCPU is on"
    );
}

#[test]
fn cpu_off_while_stopping_is_parking() {
    let mut rig = fresh(2);
    all_on(&mut rig);
    hvc(&mut rig.vcpus[0], &rig.vm, 0x8400_0009);
    assert_eq!(hvc(&mut rig.vcpus[1], &rig.vm, 0x8400_0002), Outcome::Stop(StopReason::Reset));
    assert_eq!(rig.vm.park(&rig.vcpus[1]), Parked::Others);
    assert_eq!(rig.vm.park(&rig.vcpus[0]), Parked::Last(StopReason::Reset));
}

#[test]
fn stop_from_outside_with_nobody_on_parks_at_once() {
    let rig = Config { policy: OFF, ..Config::default() }.try_build().unwrap();
    rig.vm.reset(&rig.order).unwrap();
    assert_eq!(rig.vm.stop(&rig.order, StopReason::Failure, None), None, "does not run");
    rig.vm.start(&rig.order, Ipa::new(RAM), 0);
    let stop = rig.vm.stop(&rig.order, StopReason::Failure, None).unwrap();
    assert!(stop.parked && stop.kick.is_empty());
    assert!(rig.machine.log().kicked.is_empty());
    assert!(rig.vm.lifecycle().finish(&rig.order));
    assert_eq!(rig.vm.stop(&rig.order, StopReason::Failure, None), None);
}

#[test]
fn whoever_parks_last_gets_the_reason_that_was_given() {
    use StopReason::*;
    for reason in [PowerOff, Reset, AllOff, SError, Failure] {
        let rig = fresh(2);
        let stop = rig.vm.stop(&rig.order, reason, None).unwrap();
        assert!(!stop.parked, "{reason}");
        assert_eq!(rig.vm.park(&rig.vcpus[0]), Parked::Last(reason));
    }
}

// bug: 67
#[test]
fn a_new_life_starts_with_vcpu_0_and_clean_registers() {
    let mut rig = fresh(2);
    all_on(&mut rig);
    rig.vcpus[0].regs.x = [0xbad; 31];
    crate::threats::reboot(&mut rig);
    assert_eq!(rig.vm.lifecycle().on(&rig.order), VcpuSet::single(0));
    let regs = &rig.vcpus[0].regs;
    assert_eq!((regs.x[0], regs.elr, regs.spsr), (0xd7b, RAM, 0x3c5));
    assert!(regs.x[1..].iter().all(|x| *x == 0));
    assert!(!rig.vm.take_start(&mut rig.vcpus[1]));
    assert_eq!(cpu_on(&mut rig.vcpus[0], &rig.vm, 1), 0, "off after the restart");
}

#[test]
fn counters_begin_anew_with_each_life_and_the_log_limit_does_not() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    for _ in 0..12 {
        rig.read(VOID, arch::Width::B4).unwrap_err();
        rig.vm.log_limit().admit(5, 100);
    }
    assert_eq!(rig.vm.log_limit().left_out(), 2);
    assert!(rig.refused() > 0);
    crate::threats::reboot(&mut rig);
    assert_eq!(rig.vm.counts(), vm::Counts::default());
    assert_eq!(rig.vm.log_limit().admit(5, 100), None, "no lines for resetting oneself");
}

#[test]
fn stop_lines() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    rig.call(0x8400_0000, [0; 3]);
    rig.read(VOID, arch::Width::B4).unwrap_err();
    let line = |reason| rig.vm.stop_line(reason).to_string();
    assert_eq!(
        line(StopReason::PowerOff),
        "guest: stopped (power off): 1 hypercalls, 1 MMIO exits, 1 refused"
    );
    assert!(line(StopReason::Reset).starts_with("guest: stopped (reset): "));
    assert!(line(StopReason::AllOff).starts_with("guest: stopped (all vCPUs off): "));
    assert!(line(StopReason::SError).starts_with("guest: stopped (SError): "));
}

// bug: 67
#[test]
fn e4_one_target_three_callers() {
    for _ in 0..300 {
        let mut rig = fresh(4);
        for n in 1..3 {
            cpu_on(&mut rig.vcpus[0], &rig.vm, n);
            assert!(rig.vm.take_start(&mut rig.vcpus[n as usize]));
        }
        let vm = &rig.vm;
        let (target, callers) = rig.vcpus.split_last_mut().unwrap();
        let (gate, started) = (Barrier::new(4), AtomicUsize::new(0));
        let answers: Vec<i64> = std::thread::scope(|scope| {
            let threads: Vec<_> = callers
                .iter_mut()
                .map(|caller| {
                    scope.spawn(|| {
                        gate.wait();
                        cpu_on(caller, vm, 3)
                    })
                })
                .collect();
            scope.spawn(|| {
                gate.wait();
                for _ in 0..1000 {
                    if vm.take_start(target) {
                        started.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(answers.iter().filter(|answer| **answer == 0).count(), 1, "{answers:?}");
        assert!(answers.iter().all(|answer| [0, -4, -5].contains(answer)), "{answers:?}");
        let late = vm.take_start(target);
        assert_eq!(started.load(Ordering::Relaxed) + usize::from(late), 1, "started once");
    }
}

// bug: 67
#[test]
fn e5_cpu_on_against_cpu_off() {
    for _ in 0..60 {
        let mut rig = fresh(2);
        all_on(&mut rig);
        let vm = &rig.vm;
        let [caller, target] = &mut rig.vcpus[..] else { panic!() };
        let gate = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                gate.wait();
                loop {
                    match cpu_on(caller, vm, 1) {
                        -4 => std::thread::yield_now(),
                        0 => return,
                        other => panic!("{other}"),
                    }
                }
            });
            scope.spawn(|| {
                gate.wait();
                assert_eq!(hvc(target, vm, 0x8400_0002), Outcome::Off);
                while !vm.take_start(target) {
                    std::thread::yield_now();
                }
            });
        });
        assert_eq!(vm.lifecycle().on(&rig.order), VcpuSet::from_bits(0b11));
    }
}

#[test]
fn vcpus_that_all_go_off_at_once_stop_the_vm() {
    for _ in 0..300 {
        let mut rig = fresh(3);
        all_on(&mut rig);
        let (vm, gate) = (&rig.vm, Barrier::new(3));
        let ends: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = rig
                .vcpus
                .iter_mut()
                .map(|vcpu| {
                    scope.spawn(|| {
                        gate.wait();
                        match hvc(vcpu, vm, 0x8400_0002) {
                            Outcome::Off => None,
                            Outcome::Stop(StopReason::AllOff) => Some(vm.park(vcpu)),
                            other => panic!("{other:?}"),
                        }
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let stopped: Vec<_> = ends.into_iter().flatten().collect();
        assert_eq!(stopped, [Parked::Last(StopReason::AllOff)], "exactly one stays for the end");
    }
}

#[test]
fn vcpus_that_all_stop_at_once_agree_on_a_reason() {
    for round in 0..300 {
        let mut rig = fresh(4);
        all_on(&mut rig);
        let (vm, gate) = (&rig.vm, Barrier::new(4));
        let ends: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = rig
                .vcpus
                .iter_mut()
                .enumerate()
                .map(|(n, vcpu)| {
                    let gate = &gate;
                    scope.spawn(move || {
                        gate.wait();
                        let id = if (n + round) % 2 == 0 { 0x8400_0008 } else { 0x8400_0009 };
                        let Outcome::Stop(reason) = hvc(vcpu, vm, id) else { panic!() };
                        (reason, vm.park(vcpu))
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let reason = ends[0].0;
        assert!(ends.iter().all(|(r, _)| *r == reason), "{ends:?}");
        let last = ends.iter().filter(|(_, parked)| *parked == Parked::Last(reason)).count();
        assert_eq!(last, 1, "{ends:?}");
    }
}

// bug: 10
#[test]
fn e2_two_vcpus_declare_the_same_new_area() {
    for round in 0..200_u64 {
        let mut rig = Config { pool: 12, ..Config::default() }.build();
        cpu_on(&mut rig.vcpus[0], &rig.vm, 1);
        assert!(rig.vm.take_start(&mut rig.vcpus[1]));
        let (vm, gate) = (&rig.vm, Barrier::new(2));
        std::thread::scope(|scope| {
            for vcpu in &mut rig.vcpus {
                scope.spawn(|| {
                    gate.wait();
                    for page in 0..4 {
                        let ipa = VOID + round * 0x20_0000 + page * 0x1000;
                        vcpu.regs.x[..4].copy_from_slice(&[0xc600_0007, ipa, 0, 0]);
                        vm::on_exit(Exit::Hvc { imm: 0 }, vcpu, vm);
                        assert_eq!(vcpu.regs.x[0], 0);
                    }
                });
            }
        });
        assert_eq!(rig.vm.declared_pages(), 4);
        // RAM's level-2 table; one path of two tables more (or one, within RAM's GiB).
        assert!(rig.snapshot().pool >= 9, "no table leaked");
        rig.machine.fake.assert_quiet();
    }
}

// bug: 64
#[test]
fn e9_two_vcpus_share_the_same_page() {
    for _ in 0..200 {
        let mut rig = rig(ENFORCE, Dialect::Pkvm);
        cpu_on(&mut rig.vcpus[0], &rig.vm, 1);
        assert!(rig.vm.take_start(&mut rig.vcpus[1]));
        let (vm, gate) = (&rig.vm, Barrier::new(2));
        let answers: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = rig
                .vcpus
                .iter_mut()
                .map(|vcpu| {
                    scope.spawn(|| {
                        gate.wait();
                        vcpu.regs.x[..4].copy_from_slice(&[0xc600_0003, RAM, 1, 0]);
                        vm::on_exit(Exit::Hvc { imm: 0 }, vcpu, vm);
                        vcpu.regs.x[0]
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(answers.iter().filter(|x| **x == 0).count(), 1, "one wins, one is told");
        assert_eq!(rig.vm.shared_pages(), 1);
    }
}

#[test]
fn b12_e1_accesses_while_another_vcpu_changes_the_guard() {
    // After a call has returned, and that was told, no access is judged by the old state.
    for (policy, id, before) in [
        (ENROL, 0xc600_0006_u64, true),
        (ENFORCE, 0xc600_0008, true),
        (ENFORCE, 0xc600_0007, false),
    ] {
        for _ in 0..100 {
            let mut rig = rig(policy, Dialect::Pkvm);
            cpu_on(&mut rig.vcpus[0], &rig.vm, 1);
            assert!(rig.vm.take_start(&mut rig.vcpus[1]));
            if policy == ENFORCE && before {
                rig.call(0xc600_0007, [TEST, 0, 0]);
            }
            let vm = &rig.vm;
            let [caller, other] = &mut rig.vcpus[..] else { panic!() };
            let told = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    caller.regs.x[..4].copy_from_slice(&[id, TEST, 0, 0]);
                    vm::on_exit(Exit::Hvc { imm: 0 }, caller, vm);
                    told.store(1, Ordering::Release);
                });
                scope.spawn(|| {
                    loop {
                        let known = told.load(Ordering::Acquire) == 1;
                        let outcome = vm::on_exit(load(TEST + 0x800, arch::Width::B4), other, vm);
                        let served = matches!(outcome, Outcome::Advance { .. });
                        assert!(served || matches!(outcome, Outcome::Abort(_)), "{outcome:?}");
                        if known {
                            assert_eq!(served, !before, "judged by the old state");
                            return;
                        }
                    }
                });
            });
        }
    }
}

/// One step: a vCPU's call, its CPU's look for work, its parking, or a request from outside.
#[derive(Debug, Clone, Copy)]
enum Step {
    On(usize, usize),
    Off(usize),
    Take(usize),
    Stop(usize, bool),
    Park(usize),
    OutsideStop,
    Begin,
    Finish,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let v = 0..3_usize;
    let step = prop_oneof![
        4 => (v.clone(), v.clone()).prop_map(|(a, b)| Step::On(a, b)),
        2 => v.clone().prop_map(Step::Off),
        5 => v.clone().prop_map(Step::Take),
        2 => (v.clone(), any::<bool>()).prop_map(|(a, b)| Step::Stop(a, b)),
        4 => v.prop_map(Step::Park),
        1 => Just(Step::OutsideStop),
        3 => Just(Step::Begin),
        1 => Just(Step::Finish),
    ];
    proptest::collection::vec(step, 1..60)
}

/// The lifecycle said once more, as simply as possible.
#[derive(Debug, Default)]
struct Model {
    running: bool,
    stopping: Option<StopReason>,
    finished: bool,
    power: [u8; 3], // 0 off, 1 pending, 2 on
}

impl Model {
    fn alive(&self) -> bool {
        self.running && self.stopping.is_none()
    }
    fn stop(&mut self, reason: StopReason) -> bool {
        if !self.alive() {
            return false;
        }
        for power in &mut self.power {
            if *power == 1 {
                *power = 0;
            }
        }
        if self.power.contains(&2) {
            self.stopping = Some(reason);
        } else {
            self.running = false;
        }
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_steps_agrees_with_the_model(steps in steps()) {
        let mut rig = Config { vcpus: 3, policy: OFF, pool: 4, ..Config::default() }.try_build().unwrap();
        let mut model = Model::default();
        for step in steps {
            match step {
                // Only a vCPU that is on executes; one that is stopping may still be on its way out.
                Step::On(caller, target) if model.power[caller] == 2 => {
                    let want = match model.power[target] {
                        0 => {
                            if model.alive() {
                                model.power[target] = 1;
                            }
                            0
                        }
                        1 => -5,
                        _ => -4,
                    };
                    prop_assert_eq!(cpu_on(&mut rig.vcpus[caller], &rig.vm, target as u64), want);
                }
                Step::Off(caller) if model.power[caller] == 2 => {
                    let outcome = hvc(&mut rig.vcpus[caller], &rig.vm, 0x8400_0002);
                    let others = (0..3).any(|n| n != caller && model.power[n] != 0);
                    if let Some(reason) = model.stopping {
                        prop_assert_eq!(outcome, Outcome::Stop(reason));
                    } else if others {
                        model.power[caller] = 0;
                        prop_assert_eq!(outcome, Outcome::Off);
                    } else {
                        model.stop(StopReason::AllOff);
                        prop_assert_eq!(outcome, Outcome::Stop(StopReason::AllOff));
                    }
                }
                Step::Take(n) => {
                    let want = model.alive() && model.power[n] == 1;
                    if want {
                        model.power[n] = 2;
                    }
                    prop_assert_eq!(rig.vm.take_start(&mut rig.vcpus[n]), want);
                }
                Step::Stop(caller, off) if model.power[caller] == 2 => {
                    let (id, reason) = if off {
                        (0x8400_0008, StopReason::PowerOff)
                    } else {
                        (0x8400_0009, StopReason::Reset)
                    };
                    model.stop(reason);
                    let want = Outcome::Stop(model.stopping.unwrap());
                    prop_assert_eq!(hvc(&mut rig.vcpus[caller], &rig.vm, id), want);
                }
                Step::Park(n) => {
                    let want = match model.stopping {
                        Some(reason) if model.power[n] == 2 => {
                            model.power[n] = 0;
                            if model.power.contains(&2) {
                                Parked::Others
                            } else {
                                model.running = false;
                                model.stopping = None;
                                Parked::Last(reason)
                            }
                        }
                        _ => Parked::Others,
                    };
                    prop_assert_eq!(rig.vm.park(&rig.vcpus[n]), want);
                }
                Step::OutsideStop => {
                    let on = model.power.contains(&2);
                    let was_stopping = model.stopping.is_some();
                    let stop = rig.vm.stop(&rig.order, StopReason::SError, None);
                    if model.stop(StopReason::SError) {
                        prop_assert_eq!(stop.map(|s| s.parked), Some(!on));
                    } else {
                        prop_assert_eq!(stop.is_some(), was_stopping);
                    }
                }
                Step::Begin => {
                    let want = !model.running && !model.finished;
                    if want {
                        model.running = true;
                        model.power[0] = 1;
                    }
                    prop_assert_eq!(rig.vm.start(&rig.order, Ipa::new(RAM), 0), want);
                }
                Step::Finish => {
                    let want = !model.running && !model.finished;
                    model.finished |= want;
                    prop_assert_eq!(rig.vm.lifecycle().finish(&rig.order), want);
                }
                _ => {}
            }
            let on: VcpuSet = {
                let mut set = VcpuSet::EMPTY;
                (0..3).filter(|n| model.power[*n] == 2).for_each(|n| set.insert(n));
                set
            };
            prop_assert_eq!(rig.vm.lifecycle().on(&rig.order), on);
            prop_assert_eq!(rig.vm.lifecycle().stopping(), model.stopping);
        }
    }
}
