// SPDX-License-Identifier: MIT OR Apache-2.0
//! VMs that are refused before they exist, and those that are made.

use crate::common::*;
use arch::Pa;
use mmio_guard::Dialect;
use vm::{Features, MappedMmio, SetupError};

fn refused(config: &Config) -> SetupError {
    config.try_build().err().unwrap()
}

#[test]
fn numbers_of_vcpus() {
    for vcpus in 1..=8 {
        assert!(Config { vcpus, ..Config::default() }.try_build().is_ok());
    }
    assert_eq!(refused(&Config { vcpus: 0, ..Config::default() }), SetupError::Vcpus(0));
    assert_eq!(refused(&Config { vcpus: 9, ..Config::default() }), SetupError::Vcpus(9));
}

#[test]
fn ranges_that_are_none() {
    for bad in [
        range(VOID, 0),
        range(VOID + 1, 0x1000),
        range(VOID, 0x800),
        range((1 << 40) - 0x1000, 0x2000),
        range(1 << 40, 0x1000),
    ] {
        for (kind, config) in [
            ("rom", Config { roms: vec![bad], ..Config::default() }),
            ("allow", Config { allow: vec![bad], ..Config::default() }),
            ("preset", Config { preset: vec![bad], ..Config::default() }),
            (
                "direct",
                Config {
                    mapped_mmio: vec![MappedMmio { ipa: bad, pa: Pa::new(0) }],
                    ..Config::default()
                },
            ),
        ] {
            assert_eq!(refused(&config), SetupError::Range(kind, bad));
        }
    }
}

#[test]
fn ranges_in_each_others_way() {
    let (ram, rom) = (range(RAM + 0x1000, 0x1000), range(0x1000, 0x2000));
    let overlap = |one, other, range| SetupError::Overlap(one, other, range);
    let config = Config { roms: vec![ram], ..Config::default() };
    assert_eq!(refused(&config), overlap("rom", "ram", ram));
    let config = Config { roms: vec![rom, range(0x2000, 0x1000)], ..Config::default() };
    assert_eq!(refused(&config), overlap("rom", "rom", rom));
    for memory in [ram, range(0x2000, 0x1000), range(0, 0x10_0000)] {
        let config = Config { roms: vec![rom], preset: vec![memory], ..Config::default() };
        assert_eq!(refused(&config), overlap("preset", "memory", memory));
        let small = range(memory.start().raw(), 0x4000.min(memory.size()));
        let mapped_mmio = vec![MappedMmio { ipa: small, pa: Pa::new(0) }];
        let config = Config { roms: vec![rom], mapped_mmio, ..Config::default() };
        assert_eq!(refused(&config), overlap("direct", "memory", small));
    }
    let twice = vec![MappedMmio { ipa: range(VOID, 0x2000), pa: Pa::new(0) }; 2];
    let config = Config { mapped_mmio: twice, ..Config::default() };
    assert_eq!(refused(&config), overlap("direct", "direct", range(VOID, 0x2000)));
    let config = Config { roms: vec![range(TEST, 0x1000)], ..Config::default() };
    assert_eq!(refused(&config), overlap("test device", "memory", range(TEST, 0x1000)));
}

#[test]
fn too_many_and_too_large() {
    let ranges =
        |n: u64| (0..n).map(|k| range(0x1_0000_0000 + k * 0x2000, 0x1000)).collect::<Vec<_>>();
    assert!(Config { roms: ranges(8), ..Config::default() }.try_build().is_ok());
    assert_eq!(
        refused(&Config { roms: ranges(9), ..Config::default() }),
        SetupError::TooMany("rom")
    );
    assert!(
        Config { allow: ranges(16), preset: ranges(16), ..Config::default() }.try_build().is_ok()
    );
    assert_eq!(
        refused(&Config { allow: ranges(17), ..Config::default() }),
        SetupError::TooMany("allow")
    );
    assert_eq!(
        refused(&Config { preset: ranges(17), ..Config::default() }),
        SetupError::TooMany("preset")
    );
    let mapped_mmio =
        |n| ranges(n).into_iter().map(|ipa| MappedMmio { ipa, pa: Pa::new(0) }).collect::<Vec<_>>();
    assert!(Config { mapped_mmio: mapped_mmio(8), ..Config::default() }.try_build().is_ok());
    assert_eq!(
        refused(&Config { mapped_mmio: mapped_mmio(9), ..Config::default() }),
        SetupError::TooMany("direct")
    );
    let large = MappedMmio { ipa: range(VOID, 65 * 0x1000), pa: Pa::new(0) };
    assert_eq!(
        refused(&Config { mapped_mmio: vec![large], ..Config::default() }),
        SetupError::Range("direct", large.ipa)
    );
    let odd = MappedMmio { ipa: range(VOID, 0x1000), pa: Pa::new(0x800) };
    assert_eq!(
        refused(&Config { mapped_mmio: vec![odd], ..Config::default() }),
        SetupError::Range("direct", odd.ipa)
    );
}

#[test]
fn errors_name_what_is_wrong() {
    let config = Config { roms: vec![range(VOID + 1, 0x1000)], ..Config::default() };
    let text = refused(&config).to_string();
    assert_eq!(text, "rom 0xc000001+0x1000 is empty, not page-aligned or beyond the VM's IPA size");
    assert_eq!(SetupError::Vcpus(9).to_string(), "9 vCPUs: there can be 1 to 8");
}

#[test]
fn features_are_what_was_asked_for() {
    let features = |config: &Config| config.try_build().unwrap().vm.features();
    let plain = Config {
        trng: false,
        test_device: false,
        version: vgic::Version::V2,
        ..Config::of(OFF, Dialect::Series)
    };
    assert_eq!(features(&plain), Features::NONE);
    let all = Config {
        allow: vec![range(VOID, 0x1000)],
        preset: vec![range(VOID, 0x1000)],
        roms: vec![range(0, 0x1000)],
        mapped_mmio: vec![MappedMmio { ipa: range(0x1000, 0x1000), pa: Pa::new(0) }],
        ..Config::of(ENFORCE, Dialect::Series)
    };
    let text = features(&all).to_string();
    assert_eq!(text, "guard enforced series allow-list preset rom gicv3 direct trng test-device");
    assert!(!features(&Config::of(ENROL, Dialect::Pkvm)).has(Features::ENFORCED));
}

#[test]
fn presets_are_declared_before_the_first_instruction_whatever_is_allowed() {
    for policy in [ENROL, ENFORCE] {
        for dialect in [Dialect::Pkvm, Dialect::Series] {
            let config = Config {
                preset: vec![range(UART, 0x1000), range(0x1_0000_0000, 3 << 30)],
                allow: vec![range(VOID, 0x1000)],
                ..Config::of(policy, dialect)
            };
            let mut rig = config.build();
            assert_eq!(rig.vm.declared_pages(), 1 + (3 << 18));
            assert!(rig.read(UART + 0x18, arch::Width::B4).is_ok());
            rig.call(ids(dialect).enroll, [0; 3]);
            assert!(rig.read(UART + 0x18, arch::Width::B4).is_ok());
            assert_eq!(rig.call(ids(dialect).unmap, [UART, 0, 0]), done(dialect));
            rig.fails(ids(dialect).map, [UART, 0, 0], failed(dialect));
        }
    }
}

// bug: 85
#[test]
fn presets_that_find_no_tables_stop_the_vm_before_it_starts() {
    let config = Config { pool: 1, preset: vec![range(VOID, 0x1000)], ..Config::default() };
    let rig = config.try_build().unwrap();
    let error = rig.vm.reset(&rig.order).unwrap_err();
    assert_eq!(
        error.to_string(),
        "preset 0xc000000+0x1000 cannot be declared: the pool of table pages is empty (vm.pool)"
    );
}

#[test]
fn names_are_cut_where_a_character_ends() {
    let rig = Config::default().try_build().unwrap();
    assert_eq!(rig.vm.name(), "guest");
    assert_eq!((rig.vm.id(), rig.vm.vcpus()), (7, 2));
}

#[test]
fn ram_is_found_where_the_machine_has_it() {
    let rig = Config::default().build();
    for offset in [0, 0x1000, 0x1234, 0x20_0000, RAM_SIZE - 8] {
        assert_eq!(rig.vm.ram_pa(arch::Ipa::new(RAM + offset)), Some(Pa::new(RAM_PA + offset)));
    }
    for ipa in [RAM - 1, RAM + RAM_SIZE, VOID, UART, 1 << 40] {
        assert_eq!(rig.vm.ram_pa(arch::Ipa::new(ipa)), None);
    }
}
