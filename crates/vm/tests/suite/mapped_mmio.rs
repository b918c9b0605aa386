// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pages that a guest reaches without a trap: GICV under GICv2, later devices passed through.

use crate::common::*;
use arch::{Ipa, Pa, Width};
use mmio_guard::{Dialect, Policy};
use stage2::fake::Event;
use stage2::{Attr, Entry};
use vgic::Version;
use vm::{MappedMmio, Outcome, Reason};

const GICC: u64 = 0x0801_0000;
const GICV_PA: u64 = 0x0804_0000;

fn config(policy: Policy, dialect: Dialect) -> Config {
    let mapped_mmio = vec![MappedMmio { ipa: range(GICC, 0x2000), pa: Pa::new(GICV_PA) }];
    Config { mapped_mmio, version: Version::V2, ..Config::of(policy, dialect) }
}

fn leaf(rig: &Rig, ipa: u64) -> Option<Pa> {
    match rig.vm.stage2().lookup(Ipa::new(ipa)).unwrap().entry {
        Entry::Leaf { pa, attr: Attr::Device } => Some(pa),
        Entry::Leaf { .. } => panic!("a device page as memory"),
        _ => None,
    }
}

fn everywhere_direct(policies: &[Policy], mut test: impl FnMut(&mut Rig, Policy, Dialect)) {
    for dialect in [Dialect::Pkvm, Dialect::Series] {
        for policy in policies {
            let mut rig = config(*policy, dialect).build();
            test(&mut rig, *policy, dialect);
            rig.machine.fake.assert_quiet();
        }
    }
}

#[test]
fn reached_from_the_start_while_the_guard_is_not_active() {
    everywhere_direct(&[OFF, ENROL], |rig, _, _| {
        assert_eq!(leaf(rig, GICC), Some(Pa::new(GICV_PA)));
        assert_eq!(leaf(rig, GICC + 0x1000), Some(Pa::new(GICV_PA + 0x1000)));
        assert_eq!(rig.load(GICC + 0xc, Width::B4), Outcome::Resume, "a late trap");
        assert_eq!(rig.vm.declared_pages(), 0);
    });
}

#[test]
fn not_reached_under_enforce_before_map() {
    everywhere_direct(&[ENFORCE], |rig, _, dialect| {
        assert_eq!((leaf(rig, GICC), leaf(rig, GICC + 0x1000)), (None, None));
        assert_eq!(rig.read(GICC, Width::B4), Err(Reason::Undeclared));
        assert_eq!(rig.call(ids(dialect).map, [GICC, 0, 0]), done(dialect));
        assert_eq!(leaf(rig, GICC), Some(Pa::new(GICV_PA)), "MAP installs the leaf");
        assert_eq!(leaf(rig, GICC + 0x1000), None, "of this page alone");
        assert_eq!(rig.load(GICC, Width::B4), Outcome::Resume);
        assert_eq!(rig.vm.declared_pages(), 1);
        assert_eq!(rig.call(ids(dialect).map, [GICC, 0, 0]), done(dialect), "again");
        assert_eq!(rig.vm.declared_pages(), 1);
    });
}

#[test]
fn enroll_takes_away_what_is_not_declared() {
    let mut rig = config(ENROL, Dialect::Pkvm).build();
    assert_eq!(rig.call(0xc600_0007, [GICC, 0, 0]), OK_1, "recorded before ENROLL");
    rig.machine.fake.take_events();
    rig.call(0xc600_0006, [0; 3]);
    assert_eq!(leaf(&rig, GICC), Some(Pa::new(GICV_PA)));
    assert_eq!(leaf(&rig, GICC + 0x1000), None);
    assert_eq!(rig.read(GICC + 0x1000, Width::B4), Err(Reason::Undeclared));
    let events = rig.machine.fake.take_events();
    let gone =
        |ipa| events.iter().any(|e| matches!(e, Event::TlbiIpa { ipa: i, .. } if i.raw() == ipa));
    assert!(gone(GICC + 0x1000) && !gone(GICC), "invalidated before ENROLL returns: {events:?}");
    rig.machine.fake.assert_quiet();
}

#[test]
fn enroll_in_series_takes_all_of_them_away() {
    let mut rig = config(ENROL, Dialect::Series).build();
    rig.call(0xc600_0003, [0; 3]);
    assert_eq!((leaf(&rig, GICC), leaf(&rig, GICC + 0x1000)), (None, None));
    assert_eq!(rig.call(0xc600_0004, [GICC, 0, 0]), OK);
    assert_eq!(leaf(&rig, GICC), Some(Pa::new(GICV_PA)));
}

#[test]
fn unmap_takes_the_leaf_away() {
    everywhere_direct(&[ENFORCE], |rig, _, dialect| {
        rig.call(ids(dialect).map, [GICC, 0, 0]);
        assert_eq!(rig.call(ids(dialect).unmap, [GICC, 0, 0]), done(dialect));
        assert_eq!(leaf(rig, GICC), None);
        assert_eq!(rig.read(GICC, Width::B4), Err(Reason::Undeclared));
        assert_eq!(rig.vm.declared_pages(), 0);
        let again = if dialect == Dialect::Pkvm { OK_1 } else { NOT_SUPPORTED };
        assert_eq!(rig.call(ids(dialect).unmap, [GICC, 0, 0]), again, "not declared any more");
    });
}

#[test]
fn unmap_before_enroll_leaves_the_leaf_and_forgets_the_declaration() {
    let mut rig = config(ENROL, Dialect::Pkvm).build();
    rig.call(0xc600_0007, [GICC, 0, 0]);
    assert_eq!(rig.call(0xc600_0008, [GICC, 0, 0]), OK_1);
    assert!(leaf(&rig, GICC).is_some(), "the guard is not active");
    rig.call(0xc600_0006, [0; 3]);
    assert_eq!(leaf(&rig, GICC), None);
}

#[test]
fn ranges_go_by_kind() {
    let mut rig = config(ENFORCE, Dialect::Pkvm).build();
    // A GICv2 guest's 32 pages: distributor, direct ones, the rest.
    assert_eq!(rig.call(RANGE_MAP, [GICD, 32, 0]), [0, 16, 0, 0], "up to the direct pages");
    assert_eq!(rig.call(RANGE_MAP, [GICC, 16, 0]), [0, 2, 0, 0], "these");
    assert_eq!(rig.call(RANGE_MAP, [GICC + 0x2000, 14, 0]), [0, 14, 0, 0], "and behind them");
    assert_eq!(rig.vm.declared_pages(), 32);
    assert!(leaf(&rig, GICC).is_some() && leaf(&rig, GICC + 0x1000).is_some());
    assert_eq!(rig.call(RANGE_UNMAP, [GICD, 32, 0]), [0, 16, 0, 0]);
    assert_eq!(rig.call(RANGE_UNMAP, [GICC + 0x1000, 15, 0]), [0, 1, 0, 0]);
    assert_eq!(rig.call(RANGE_UNMAP, [GICC + 0x2000, 14, 0]), [0, 14, 0, 0]);
    assert_eq!(rig.vm.declared_pages(), 1);
    assert!(leaf(&rig, GICC).is_some() && leaf(&rig, GICC + 0x1000).is_none());
    rig.machine.fake.assert_quiet();
}

#[test]
fn the_allow_list_holds_for_them_too() {
    let mut config = config(ENFORCE, Dialect::Pkvm);
    config.allow = vec![range(GICC + 0x1000, 0x1000)];
    let mut rig = config.build();
    rig.fails(0xc600_0007, [GICC, 0, 0], INVALID);
    rig.fails(RANGE_MAP, [GICC, 2, 0], INVALID);
    assert_eq!(rig.call(RANGE_MAP, [GICC + 0x1000, 1, 0]), OK_1);
}

#[test]
fn presets_cover_them_and_come_back_after_a_reset() {
    let mut config = config(ENFORCE, Dialect::Pkvm);
    config.preset = vec![range(GICD + 0xf000, 0x3000)];
    let mut rig = config.build();
    let fresh = rig.snapshot();
    assert_eq!(rig.vm.declared_pages(), 3);
    assert!(leaf(&rig, GICC).is_some() && leaf(&rig, GICC + 0x1000).is_some());
    rig.call(0xc600_0008, [GICC, 0, 0]);
    rig.call(0xc600_0008, [GICD + 0xf000, 0, 0]);
    assert_eq!(rig.vm.declared_pages(), 1);
    crate::threats::reboot(&mut rig);
    assert_eq!(rig.snapshot(), fresh);
    rig.machine.fake.assert_quiet();
}

#[test]
fn reset_takes_them_away_or_brings_them_back() {
    everywhere_direct(&[ENROL, ENFORCE], |rig, policy, dialect| {
        let fresh = rig.snapshot();
        rig.call(ids(dialect).enroll, [0; 3]);
        rig.call(ids(dialect).map, [GICC, 0, 0]);
        crate::threats::reboot(rig);
        assert_eq!(rig.snapshot(), fresh);
        assert_eq!(leaf(rig, GICC).is_some(), policy == ENROL);
    });
}

#[test]
fn crossing_into_one_of_them_goes_by_its_declaration() {
    let mut rig = config(ENFORCE, Dialect::Pkvm).build();
    rig.call(0xc600_0007, [GICD + 0xf000, 0, 0]);
    assert_eq!(rig.read(GICC - 4, Width::B8), Err(Reason::Undeclared));
    rig.call(0xc600_0007, [GICC, 0, 0]);
    assert_eq!(rig.read(GICC - 4, Width::B8), Err(Reason::CrossesPage));
}

#[test]
fn a_pool_that_is_empty_fails_the_map() {
    // RAM's table, and nothing for the path to the page.
    let mut config = config(ENFORCE, Dialect::Pkvm);
    config.pool = 1;
    let mut rig = config.build();
    rig.fails(0xc600_0007, [GICC, 0, 0], INVALID);
    rig.fails(RANGE_MAP, [GICC, 2, 0], INVALID);
}

#[test]
fn their_walks_and_fetches_are_aborted() {
    let mut rig = config(ENROL, Dialect::Pkvm).build();
    let fetch = arch::InstructionAbort {
        fault: arch::Fault { kind: arch::FaultKind::Permission, level: 3 },
        ..fetch(GICC)
    };
    let outcome = rig.exit_slow(0, arch::Exit::InstructionAbort(fetch));
    assert!(matches!(outcome, Outcome::Abort(_)), "execute-never");
    assert_eq!(rig.vcpus[0].refusal.reason, Reason::Fetch);
}

#[test]
fn enroll_against_map_from_another_vcpu() {
    // Whatever the order, a declared page has its leaf and an undeclared one has none.
    for round in 0..200 {
        let mut rig = config(ENROL, Dialect::Pkvm).build();
        rig.call(0xc400_0003, [1, RAM, 0]);
        assert!(rig.vm.take_start(&mut rig.vcpus[1]));
        let vm = &rig.vm;
        let [first, second] = &mut rig.vcpus[..] else { panic!() };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if round % 2 == 0 {
                    std::thread::yield_now();
                }
                call_now(first, vm, [0xc600_0006, 0, 0, 0]);
            });
            scope.spawn(|| {
                for n in 0..4 {
                    call_now(second, vm, [0xc600_0007 + n % 2, GICC + (n & 2) * 0x800, 0, 0]);
                }
                call_now(second, vm, [0xc600_0007, GICC, 0, 0]);
            });
        });
        assert!(leaf(&rig, GICC).is_some(), "declared");
        assert!(leaf(&rig, GICC + 0x1000).is_none(), "not declared");
        assert_eq!(rig.vm.declared_pages(), 1);
        rig.machine.fake.assert_quiet();
    }
}

fn call_now(vcpu: &mut vm::Vcpu, vm: &vm::Vm<Machine>, regs: [u64; 4]) {
    vcpu.regs.x[..4].copy_from_slice(&regs);
    let outcome = vm::on_exit(arch::Exit::Hvc { imm: 0 }, vcpu, vm);
    assert_eq!(outcome, Outcome::Resume);
    assert_eq!(vcpu.regs.x[0], 0);
}
