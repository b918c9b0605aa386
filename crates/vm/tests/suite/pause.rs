// SPDX-License-Identifier: MIT OR Apache-2.0
//! A VM with a holder is paused; one that has stopped starts again.

use crate::common::*;
use arch::{Ipa, VcpuSet};
use mmio_guard::Dialect;
use vm::{Held, Holder, Holders, Parked, Phase, StopReason};

const USER: Holders = Holders::NONE.with(Holder::User);
const CRASH: Holders = Holders::NONE.with(Holder::Crash);
const CPU_ON: u32 = 0xc400_0003;

/// A VM with vCPUs 0 and 1 on.
fn two() -> Rig {
    let mut rig = Config { vcpus: 3, dialect: Dialect::Pkvm, ..Config::default() }.build();
    assert_eq!(rig.call(CPU_ON, [1, RAM, 0])[0], 0);
    assert!(rig.vm.take_start(&mut rig.vcpus[1]));
    assert_eq!(rig.vm.lifecycle().on(&rig.order), VcpuSet::first(2));
    rig
}

#[test]
fn it_stands_still_once_the_last_vcpu_has_left() {
    let rig = two();
    let lifecycle = rig.vm.lifecycle();
    assert_eq!(rig.vm.hold(&rig.vcpus[0]), Held::No);
    assert!(rig.vm.pause(&rig.order, Holder::User, None));
    assert!(lifecycle.is_asked() && lifecycle.stopping().is_none());
    assert!(!lifecycle.stands_still(&rig.order));
    assert_eq!(rig.vm.hold(&rig.vcpus[1]), Held::Yes);
    // A vCPU that looks again is not counted twice, and one that is off does not count.
    assert_eq!(rig.vm.hold(&rig.vcpus[1]), Held::Yes);
    assert_eq!(rig.vm.hold(&rig.vcpus[2]), Held::Yes);
    assert!(!lifecycle.stands_still(&rig.order));
    assert_eq!(rig.vm.hold(&rig.vcpus[0]), Held::Last);
    assert_eq!(rig.vm.hold(&rig.vcpus[0]), Held::Yes);
    assert!(lifecycle.stands_still(&rig.order));
    assert_eq!(lifecycle.phase(&rig.order), Phase::Running);
    assert!(rig.vm.resume(&rig.order, USER));
    assert!(!lifecycle.is_asked() && !lifecycle.stands_still(&rig.order));
    assert_eq!(rig.vm.hold(&rig.vcpus[0]), Held::No);
    assert!(!rig.vm.resume(&rig.order, USER), "nothing to end");
}

#[test]
fn it_goes_on_when_the_last_holder_lets_go() {
    let rig = two();
    let lifecycle = rig.vm.lifecycle();
    assert_eq!(lifecycle.pause(&rig.order, Holder::Crash), Some(VcpuSet::first(2)));
    // They have been told already.
    assert_eq!(lifecycle.pause(&rig.order, Holder::User), Some(VcpuSet::EMPTY));
    assert_eq!(lifecycle.pause(&rig.order, Holder::User), Some(VcpuSet::EMPTY));
    assert_eq!(lifecycle.holders(&rig.order).count(), 2);
    assert_eq!(lifecycle.resume(&rig.order, USER), None);
    assert!(lifecycle.holders(&rig.order).has(Holder::Crash));
    assert_eq!(lifecycle.resume(&rig.order, USER), None);
    assert_eq!(lifecycle.resume(&rig.order, CRASH), Some(VcpuSet::first(2)));
    assert_eq!(lifecycle.holders(&rig.order), Holders::NONE);
    let both = USER.with(Holder::Crash);
    lifecycle.pause(&rig.order, Holder::Crash);
    lifecycle.pause(&rig.order, Holder::User);
    assert!(lifecycle.resume(&rig.order, both).is_some());
}

#[test]
fn a_vcpu_that_is_turned_on_meanwhile_waits_for_the_end_of_the_pause() {
    let mut rig = two();
    assert!(rig.vm.pause(&rig.order, Holder::User, None));
    // Called on the way out.
    assert_eq!(rig.call(CPU_ON, [2, RAM, 7])[0], 0);
    assert!(!rig.vm.take_start(&mut rig.vcpus[2]));
    let kick = rig.vm.lifecycle().resume(&rig.order, USER);
    assert_eq!(kick, Some(VcpuSet::first(3)), "the new one is to look, too");
    assert!(rig.vm.take_start(&mut rig.vcpus[2]));
    assert_eq!(rig.vcpus[2].regs.get(0), 7);
}

#[test]
fn a_stop_wins_over_a_pause() {
    let rig = two();
    let lifecycle = rig.vm.lifecycle();
    assert!(rig.vm.pause(&rig.order, Holder::User, None));
    assert_eq!(rig.vm.hold(&rig.vcpus[0]), Held::Yes);
    let stop = rig.vm.stop(&rig.order, StopReason::Operator, None).unwrap();
    assert_eq!((stop.reason, stop.kick), (StopReason::Operator, VcpuSet::first(2)));
    assert_eq!(lifecycle.holders(&rig.order), Holders::NONE);
    assert!(!rig.vm.pause(&rig.order, Holder::User, None), "it is stopping");
    assert!(!rig.vm.resume(&rig.order, USER));
    assert_eq!(rig.vm.hold(&rig.vcpus[1]), Held::No);
    assert_eq!(rig.vm.park(&rig.vcpus[1]), Parked::Others);
    assert_eq!(rig.vm.park(&rig.vcpus[0]), Parked::Last(StopReason::Operator));
    // And the restarted VM is not paused.
    rig.vm.reset(&rig.order).unwrap();
    assert!(rig.vm.start(&rig.order, Ipa::new(RAM), 0));
    assert!(!lifecycle.is_asked());
}

#[test]
fn a_vm_that_has_stopped_begins_again_when_asked() {
    let mut rig = two();
    assert!(!rig.vm.revive(&rig.order), "it runs");
    rig.vm.stop(&rig.order, StopReason::PowerOff, None);
    assert!(!rig.vm.revive(&rig.order), "it is stopping");
    for vcpu in 0..2 {
        rig.vm.park(&rig.vcpus[vcpu]);
    }
    assert!(!rig.vm.revive(&rig.order), "the vCPU that parked last decides");
    let lifecycle = rig.vm.lifecycle();
    assert!(lifecycle.finish(&rig.order) && lifecycle.finished(&rig.order));
    assert!(!lifecycle.is_asked() && !lifecycle.take_request(&rig.order));
    assert!(rig.vm.revive(&rig.order));
    assert!(!lifecycle.finished(&rig.order), "it keeps the machine on");
    assert!(lifecycle.is_asked());
    assert!(!rig.vm.revive(&rig.order), "once");
    assert!(lifecycle.take_request(&rig.order));
    assert!(!lifecycle.take_request(&rig.order) && !lifecycle.is_asked());
    rig.vm.reset(&rig.order).unwrap();
    assert!(rig.vm.start(&rig.order, Ipa::new(RAM), 0));
    assert!(rig.vm.take_start(&mut rig.vcpus[0]));
}

#[test]
fn a_vm_that_waits_for_its_next_life_can_be_stopped_or_begun_early() {
    let rig = two();
    let lifecycle = rig.vm.lifecycle();
    assert!(!lifecycle.rest(&rig.order), "it runs");
    rig.vm.stop(&rig.order, StopReason::Crash, None);
    for vcpu in 0..2 {
        rig.vm.park(&rig.vcpus[vcpu]);
    }
    assert!(lifecycle.rest(&rig.order));
    assert_eq!(lifecycle.phase(&rig.order), Phase::Resting);
    assert!(!rig.vm.start(&rig.order, Ipa::new(RAM), 0), "it is not prepared");
    assert!(rig.vm.stop(&rig.order, StopReason::Operator, None).is_none());
    assert!(rig.vm.revive(&rig.order));
    // Too late: the end takes the request away.
    assert!(lifecycle.finish(&rig.order));
    assert!(!lifecycle.take_request(&rig.order));
    assert!(rig.vm.revive(&rig.order) && lifecycle.take_request(&rig.order));
    assert!(lifecycle.rest(&rig.order) && lifecycle.finish(&rig.order));
}
