// SPDX-License-Identifier: MIT OR Apache-2.0
//! Enrolment keeps the early console alive.
#![allow(clippy::arithmetic_side_effects)]

mod common;

use common::{DEV, Host, PAGE, RAM, UART, attr};
use mmio_guard::client::{CallError, EnrolError, Ioremap, IoremapError, Region};
use mmio_guard::{Call, Dialect, Policy};
use std::error::Error as _;

const GIC: u64 = 0x0800_0000;

fn region(ipa: u64, bytes: u64) -> Region {
    Region { ipa, bytes, attribute: attr(4) }
}

fn fresh<const N: usize>(host: &Host) -> Ioremap<'static, &Host, N> {
    const BANKS: &[std::ops::Range<u64>] = &[RAM];
    Ioremap::new(host.guard(), BANKS)
}

#[test]
fn the_console_is_declared_right_after_enroll() {
    for (host, [enroll, map]) in
        Host::both().into_iter().zip([[0xC600_0006, 0xC600_0007], [0xC600_0003, 0xC600_0004]])
    {
        let mut devices = fresh::<4>(&host);
        assert!(host.access(UART), "early output before enrolment");
        devices.enrol(&[region(UART, 8)]).unwrap();
        assert_eq!(host.asked(), [(enroll, [0; 3]), (map, [UART, 4 << 2, 0])]);
        assert!(host.access(UART), "the first output after it");
        assert!(!host.access(DEV), "and nothing else");
    }
}

#[test]
fn the_driver_takes_over_from_the_early_console() {
    for host in Host::both() {
        let mut devices = fresh::<4>(&host);
        devices.enrol(&[region(UART, 8)]).unwrap();
        devices.map(UART, PAGE, attr(4)).unwrap();
        devices.unmap(UART, 8).unwrap();
        assert!(host.access(UART));
        devices.unmap(UART, PAGE).unwrap();
        assert!(!host.access(UART));
    }
}

#[test]
fn several_regions_in_use_are_declared() {
    for host in Host::both() {
        let mut devices = fresh::<4>(&host);
        devices.enrol(&[region(UART, 8), region(GIC, 0x2_0000)]).unwrap();
        assert!(host.access(UART) && host.access(GIC) && host.access(GIC + 0x1_FFFF));
        assert_eq!(devices.mappings().count(), 2);
    }
}

#[test]
fn nothing_early_is_fine() {
    for host in Host::both() {
        fresh::<0>(&host).enrol(&[]).unwrap();
        assert!(host.is_enrolled());
        assert_eq!(host.calls().len(), 1);
    }
}

#[test]
fn enrolling_again_maps_again() {
    let host = Host::pkvm();
    let mut devices = fresh::<1>(&host);
    devices.enrol(&[region(UART, 8)]).unwrap();
    devices.enrol(&[region(UART, 8)]).unwrap();
    assert_eq!(devices.count(UART), 2);
}

#[test]
fn what_can_never_be_mapped_is_found_before_enroll() {
    for host in Host::both() {
        let mut devices = fresh::<2>(&host);
        for (bad, error) in [
            (region(RAM.start, 8), IoremapError::Ram(RAM.start)),
            (region(DEV, 0), IoremapError::BadRange { ipa: DEV, bytes: 0 }),
            (region(u64::MAX, 2), IoremapError::BadRange { ipa: u64::MAX, bytes: 2 }),
        ] {
            let result = devices.enrol(&[region(UART, 8), bad]);
            assert_eq!(result, Err(EnrolError::Region { index: 1, error }));
        }
        let three = [region(UART, 8), region(DEV, 8), region(GIC, 8)];
        let error = EnrolError::Region { index: 2, error: IoremapError::Full };
        assert_eq!(devices.enrol(&three), Err(error));
        assert_eq!(host.asked(), []);
        assert!(!host.is_enrolled() && host.access(DEV));
    }
}

#[test]
fn equal_regions_need_room_once() {
    let host = Host::pkvm();
    let mut devices = fresh::<2>(&host);
    devices.map(GIC, PAGE, attr(0)).unwrap();
    devices.enrol(&[region(UART, 8), region(UART, 16), region(GIC, 8)]).unwrap();
    assert_eq!((devices.count(UART), devices.count(GIC)), (2, 2));
}

#[test]
fn a_refused_enrolment_leaves_the_guest_as_it_was() {
    for (host, enroll) in Host::both().into_iter().zip([0xC600_0006, 0xC600_0003]) {
        let host = host.answer(enroll, [u64::MAX, 0, 0, 0]);
        let mut devices = fresh::<4>(&host);
        let error = devices.enrol(&[region(UART, 8)]).unwrap_err();
        assert!(matches!(error, EnrolError::Enroll(CallError::Refused { call: Call::Enroll, .. })));
        assert_eq!((host.calls().len(), devices.mappings().count()), (1, 0));
        assert!(host.access(UART) && host.access(DEV));
    }
}

#[test]
fn a_refused_console_is_reported_and_the_others_stay() {
    for host in Host::both() {
        host.change(|state| state.allow = Some(UART..UART + PAGE));
        let mut devices = fresh::<4>(&host);
        let error = devices.enrol(&[region(UART, 8), region(DEV, 8), region(GIC, 8)]).unwrap_err();
        assert!(matches!(error, EnrolError::Early { index: 1, error: IoremapError::Host(_) }));
        assert!(host.is_enrolled(), "there is no way back");
        assert!(host.access(UART) && !host.access(DEV));
        assert_eq!(host.declared(), [UART]);
    }
}

#[test]
fn declarations_made_before_survive_in_pkvm() {
    let host = Host::pkvm();
    let mut devices = fresh::<4>(&host);
    devices.map(DEV, PAGE, attr(0)).unwrap();
    devices.enrol(&[]).unwrap();
    assert!(host.access(DEV));
}

#[test]
fn under_enforce_enrolment_changes_nothing() {
    for dialect in [Dialect::Pkvm, Dialect::Series] {
        let host = Host::new(dialect, Policy::Enforce);
        let mut devices = fresh::<4>(&host);
        assert!(!host.access(UART), "refused from the first instruction");
        devices.enrol(&[region(UART, 8)]).unwrap();
        assert!(host.access(UART));
    }
}

#[test]
fn a_host_without_enroll_says_so() {
    let host = Host::new(Dialect::Pkvm, Policy::Enforce).answer(0x8600_0000, [0x9D, 0, 0, 0]);
    let mut devices = fresh::<4>(&host);
    let error = EnrolError::Enroll(CallError::NotOffered(Call::Enroll));
    assert_eq!(devices.enrol(&[region(UART, 8)]), Err(error));
    devices.map(UART, 8, attr(0)).unwrap();
    assert!(host.access(UART));
}

#[test]
fn errors_say_whether_the_vm_is_enrolled() {
    let error = IoremapError::Full;
    assert_eq!(
        EnrolError::Region { index: 0, error }.to_string(),
        "not enrolled, early region 0: too many ranges are mapped"
    );
    assert_eq!(
        EnrolError::Early { index: 2, error }.to_string(),
        "enrolled, but without early region 2: too many ranges are mapped"
    );
    let error = EnrolError::Enroll(CallError::NotOffered(Call::Enroll));
    assert_eq!(error.to_string(), "not enrolled: the host does not offer Enroll");
    assert!(error.source().is_some());
}
