// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guard is found where it is, in the right dialect, and nowhere else.
#![allow(clippy::arithmetic_side_effects)]

mod common;

use common::{Host, MINUS_1, MINUS_3, UART, attr};
use mmio_guard::client::{CallError, DetectError, Guard, Version, smccc_version};
use mmio_guard::{Call, Dialect, Policy};
use std::error::Error as _;

const UID: u32 = 0x8600_FF01;
const FEATURES: u32 = 0x8600_0000;

fn features(host: Host, map: u64) -> Host {
    host.answer(FEATURES, [map, 0, 0, 0])
}

#[test]
fn pkvm_is_found_without_being_told() {
    for told in [None, Some(Dialect::Pkvm)] {
        let host = Host::pkvm();
        let guard = Guard::detect(&host, told).unwrap();
        assert_eq!(guard.dialect(), Dialect::Pkvm);
        assert_eq!(guard.features(), 0xFFD);
        assert_eq!(guard.granule(), 4096);
        assert!(guard.has_ranges());
    }
}

#[test]
fn series_is_found_only_when_told() {
    let host = Host::series();
    assert_eq!(Guard::detect(&host, None).unwrap_err(), DetectError::Ambiguous(0x3D));
    let guard = Guard::detect(&host, Some(Dialect::Series)).unwrap();
    assert_eq!(guard.dialect(), Dialect::Series);
    assert_eq!(guard.granule(), 4096);
    assert!(!guard.has_ranges());
}

#[test]
fn a_dialect_that_the_map_contradicts_is_refused() {
    let told = Dialect::Series;
    assert_eq!(
        Guard::detect(&Host::pkvm(), Some(told)).unwrap_err(),
        DetectError::OtherDialect { told, features: 0xFFD }
    );
    let told = Dialect::Pkvm;
    assert_eq!(
        Guard::detect(&Host::series(), Some(told)).unwrap_err(),
        DetectError::OtherDialect { told, features: 0x3D }
    );
}

#[test]
fn a_vm_without_a_guard_has_none() {
    for dialect in [Dialect::Pkvm, Dialect::Series] {
        for told in [None, Some(dialect)] {
            let host = Host::new(dialect, Policy::Off);
            assert_eq!(Guard::detect(&host, told).unwrap_err(), DetectError::NoGuard(1));
        }
    }
}

#[test]
fn enforce_looks_like_enrol() {
    let host = Host::new(Dialect::Pkvm, Policy::Enforce);
    assert_eq!(Guard::detect(&host, None).unwrap().features(), 0xFFD);
}

#[test]
fn another_hypervisor_is_asked_nothing_more() {
    let uid = [0xBA8F_D0D9, 2, 3, 4];
    let host = Host::pkvm().answer(UID, uid.map(u64::from));
    assert_eq!(Guard::detect(&host, None).unwrap_err(), DetectError::OtherHypervisor(uid));
    assert_eq!(host.calls().len(), 1);

    let host = Host::pkvm().answer(UID, [MINUS_1, 0, 0, 0]);
    let none = DetectError::OtherHypervisor([u32::MAX, 0, 0, 0]);
    assert_eq!(Guard::detect(&host, None).unwrap_err(), none);
}

#[test]
fn one_wrong_word_of_the_uid_is_enough() {
    for word in 0..4 {
        let mut uid: [u64; 4] = [0xB66F_B428, 0xE911_C52E, 0x564B_CAA9, 0x743A_004D];
        uid[word] ^= 1;
        let host = Host::pkvm().answer(UID, uid);
        assert!(matches!(Guard::detect(&host, None).unwrap_err(), DetectError::OtherHypervisor(_)));
    }
}

#[test]
fn linux_part_of_the_table_is_enough() {
    // What the driver in Linux asks for: MEMINFO, MEM_SHARE, MEM_UNSHARE, MMIO_GUARD.
    let host = features(Host::new(Dialect::Pkvm, Policy::Enforce), 0x9D);
    let guard = Guard::detect(&host, None).unwrap();
    assert_eq!(host.asked().last(), Some(&(0xC600_0002, [0; 3])), "MEMINFO tells the granule");
    assert!(!guard.has_ranges());
    assert!(guard.offers(Call::Map) && !guard.offers(Call::Enroll));
    assert_eq!(guard.enrol(), Err(CallError::NotOffered(Call::Enroll)));
    assert_eq!(guard.unmap(UART), Err(CallError::NotOffered(Call::Unmap)));
    host.forget();
    assert_eq!(guard.map(UART, attr(0)), Ok(()));
    assert_eq!(host.asked(), [(0xC600_0007, [UART, 0, 0])]);
}

#[test]
fn android_13_has_no_ranges() {
    // Functions 2 to 8; INFO says nothing of ranges.
    let host = features(Host::pkvm(), 0x1FD).answer(0xC600_0005, [4096, 0, 0, 0]);
    let guard = Guard::detect(&host, None).unwrap();
    assert!(!guard.has_ranges());
    assert!(guard.offers(Call::Unmap) && !guard.offers(Call::Relinquish));
}

#[test]
fn ranges_need_the_flag_and_both_bits() {
    for (map, flag, expected) in [
        (0xFFD, 1, true),
        (0xFFD, 3, true),
        (0xFFD, 0, false),
        (0xFFD, 2, false),
        (0x3FD, 1, false), // The flag alone meant something else once.
        (0x7FD, 1, false),
        (0xBFD, 1, false),
    ] {
        let host = features(Host::pkvm(), map).answer(0xC600_0005, [4096, flag, 0, 0]);
        let guard = Guard::detect(&host, None).unwrap();
        assert_eq!(guard.has_ranges(), expected, "{map:#x} {flag}");
    }
}

#[test]
fn a_host_of_protected_vms_without_a_guard() {
    // Linux 7.2: MEMINFO, MEM_SHARE and MEM_UNSHARE.
    for told in [None, Some(Dialect::Pkvm), Some(Dialect::Series)] {
        let host = features(Host::pkvm(), 0x1D);
        assert_eq!(Guard::detect(&host, told).unwrap_err(), DetectError::NoGuard(0x1D));
    }
}

#[test]
fn an_error_is_no_feature_map() {
    for x0 in [MINUS_1, MINUS_3, 0xFFFF_FFFF] {
        let host = features(Host::pkvm(), x0);
        assert_eq!(Guard::detect(&host, None).unwrap_err(), DetectError::NoGuard(x0 as u32));
    }
}

#[test]
fn only_granules_of_the_architecture_are_used() {
    for granule in [0x1000, 0x4000, 0x1_0000] {
        let host = Host::pkvm().answer(0xC600_0005, [granule, 1, 0, 0]);
        assert_eq!(Guard::detect(&host, None).unwrap().granule(), granule);
    }
    for granule in [0, 1, 512, 0x2000, 0x1001, 0x2_0000, MINUS_1, MINUS_3, 0x1_0000_1000] {
        let host = Host::pkvm().answer(0xC600_0005, [granule, 1, 0, 0]);
        assert_eq!(Guard::detect(&host, None).unwrap_err(), DetectError::Granule(granule));
        let host = Host::series().answer(0xC600_0002, [granule, 0, 0, 0]);
        let error = Guard::detect(&host, Some(Dialect::Series)).unwrap_err();
        assert_eq!(error, DetectError::Granule(granule));
    }
}

/// Whatever the map: nothing is called that could change something, and a dialect is only spoken that
/// the map allows and the caller, where it is not proven, has named.
#[test]
fn no_feature_map_leads_to_a_guess() {
    for map in 0..0x1_0000_u64 {
        for told in [None, Some(Dialect::Pkvm), Some(Dialect::Series)] {
            let host = features(Host::pkvm(), map);
            let found = Guard::detect(&host, told).map(|guard| guard.dialect());

            let proven = map & 0x80 != 0;
            let series = map & 0x3C == 0x3C && map & 0xFFC0 == 0;
            let expected = match told {
                Some(Dialect::Series) => series.then_some(Dialect::Series),
                _ => proven.then_some(Dialect::Pkvm),
            };
            assert_eq!(found.ok(), expected, "{map:#x} {told:?}");

            for (id, args) in host.asked() {
                let reads = match expected {
                    // Function 5 undeclares in the other dialect.
                    Some(Dialect::Pkvm) => [0xC600_0002, 0xC600_0005].contains(&id),
                    Some(Dialect::Series) => id == 0xC600_0002,
                    None => false,
                };
                assert!(reads || [UID, FEATURES].contains(&id), "{map:#x} {told:?} {id:#x}");
                assert_eq!(args, [0; 3]);
            }
        }
    }
}

#[test]
fn the_calling_convention_is_asked_for_as_linux_does() {
    let host = Host::pkvm();
    assert_eq!(smccc_version(&host), Ok(Version { major: 1, minor: 1 }));
    assert_eq!(
        host.asked(),
        [(0x8400_0000, [0; 3]), (0x8400_000A, [0x8000_0000, 0, 0]), (0x8000_0000, [0; 3])]
    );
}

#[test]
fn a_later_calling_convention_is_fine() {
    for (raw, major, minor) in [(0x1_0002, 1, 2), (0x2_0000, 2, 0)] {
        let host = Host::pkvm().answer(0x8000_0000, [raw, 0, 0, 0]);
        let version = smccc_version(&host).unwrap();
        assert_eq!(version, Version { major, minor });
        assert_eq!(version.to_string(), format!("{major}.{minor}"));
    }
}

#[test]
fn an_older_firmware_is_told_apart() {
    for raw in [0, 2, MINUS_1] {
        let host = Host::pkvm().answer(0x8400_0000, [raw, 0, 0, 0]);
        assert_eq!(smccc_version(&host), Err(DetectError::Psci(raw as u32)));
        assert_eq!(host.calls().len(), 1);
    }
    // PSCI does not know SMCCC_VERSION: it must not be called.
    let host = Host::pkvm().answer(0x8400_000A, [MINUS_1, 0, 0, 0]);
    assert_eq!(smccc_version(&host), Err(DetectError::Smccc(u32::MAX)));
    assert_eq!(host.calls().len(), 2);
    for raw in [0x1_0000, 0, MINUS_1] {
        let host = Host::pkvm().answer(0x8000_0000, [raw, 0, 0, 0]);
        assert_eq!(smccc_version(&host), Err(DetectError::Smccc(raw as u32)));
    }
}

#[test]
fn upper_halves_of_32_bit_results_do_not_count() {
    let host = Host::pkvm()
        .answer(0x8400_0000, [0xFFFF_FFFF_0001_0001, 0, 0, 0])
        .answer(0x8000_0000, [0xFFFF_FFFF_0001_0001, 0, 0, 0]);
    assert!(smccc_version(&host).is_ok());
    // The UID of the test host has dirty upper halves, too.
    let host = features(host, 0xFFFF_FFFF_0000_0FFD);
    assert_eq!(Guard::detect(&host, None).unwrap().features(), 0xFFD);
}

#[test]
fn errors_say_what_to_do() {
    let error = DetectError::Ambiguous(0x3D);
    assert_eq!(error.to_string(), "features 0x3d fit more than one dialect: name the dialect");
    let error = DetectError::OtherDialect { told: Dialect::Series, features: 0xFFD };
    assert_eq!(error.to_string(), "features 0xffd are not those of dialect series");
    assert_eq!(DetectError::NoGuard(1).to_string(), "no MMIO guard is offered (features 0x1)");
    let error = DetectError::OtherHypervisor([1, 0xA2, 3, 4]);
    assert_eq!(error.to_string(), "unknown hypervisor service 00000001 000000a2 00000003 00000004");
    assert!(error.source().is_none());
    assert_eq!(DetectError::Granule(0).to_string(), "unusable protection granule 0x0");
    assert_eq!(
        DetectError::Psci(0xFFFF_FFFF).to_string(),
        "PSCI 1.0 is needed, PSCI_VERSION answered 0xffffffff"
    );
    assert_eq!(
        DetectError::Smccc(0x1_0000).to_string(),
        "SMCCC 1.1 is needed, the host answered 0x10000"
    );
}
