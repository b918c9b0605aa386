// SPDX-License-Identifier: MIT OR Apache-2.0
//! The specification says what docs/abi.md and docs/vm.md say, line by line, in their numbers.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::panic)]

use proptest::prelude::*;
use spec::*;

const RAM: u64 = 0x4000_0000;
const ROM: u64 = 0x40_0000;
const UART: u64 = 0x0900_0000;
const TEST: u64 = 0x0a00_0000;
const VOID: u64 = 0x0c00_0000;
const GICV: u64 = 0x0801_0000;
const LIMIT: u64 = 1 << 40;

fn config(policy: Policy, dialect: Dialect) -> Config {
    Config {
        ipa_bits: 40,
        policy,
        dialect,
        ram: Region::new(RAM, 0x80_0000),
        roms: vec![Region::new(ROM, 0x2000)],
        allow: vec![],
        preset: vec![],
        mapped_mmio: vec![MappedMmio { at: Region::new(GICV, 0x2000), pa: 0x1234_0000 }],
        flash: vec![],
        devices: vec![
            Device { at: Region::new(0x0800_0000, 0x1_0000), kind: DeviceKind::Gic },
            Device { at: Region::new(UART, 0x1000), kind: DeviceKind::Uart },
            Device { at: Region::new(TEST, 0x1000), kind: DeviceKind::Test },
        ],
        served: None,
        peers: None,
        windows: Vec::new(),
        vcpus: 2,
        trng: true,
        workarounds: [-1, -2, 0],
    }
}

fn built(config: Config, pool: u64) -> Vm {
    let mut tables = Tables::new(config.ipa_bits, pool);
    tables.map(RAM, 0x8_0000_0000, 0x80_0000, Leaf::Ram).unwrap();
    for rom in &config.roms {
        tables.map(rom.start, 0x9_0000_0000, rom.end - rom.start, Leaf::Rom).unwrap();
    }
    let mut vm = Vm::new(config, tables);
    vm.reset().unwrap();
    assert!(vm.start(RAM, 0));
    assert_eq!(vm.take_start(0), Some((RAM, 0)));
    vm
}

fn vm(policy: Policy, dialect: Dialect) -> Vm {
    built(config(policy, dialect), 60)
}

fn call(vm: &mut Vm, id: u64, [a, b, c]: [u64; 3]) -> Outcome {
    vm.call(&Call {
        vcpu: 0,
        conduit: Conduit::Hvc,
        imm: 0,
        x: [id, a, b, c],
        x4: 0,
        now: Moment::default(),
        mair_el1: 0x8877_6655_4433_2211,
        entropy: Some([u64::MAX; 3]),
    })
}

fn x(vm: &mut Vm, id: u64, arguments: [u64; 3]) -> [u64; 4] {
    match call(vm, id, arguments) {
        Outcome::Answer(x) => x,
        other => panic!("{id:#x}: {other:?}"),
    }
}

fn load(ipa: u64, bytes: u64) -> Data {
    Data {
        vcpu: 0,
        now: Moment::default(),
        ipa: Some(ipa),
        fault: Fault::Stage2,
        walk: false,
        write: false,
        maintenance: false,
        access: Some((bytes, 5)),
        value: 0,
        big_endian: false,
        signed: false,
        wide: true,
        long: true,
    }
}

fn reason(outcome: Outcome) -> Reason {
    match outcome {
        Outcome::Abort { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

const NOT_SUPPORTED: [u64; 4] = [u64::MAX, 0, 0, 0];
const INVALID: [u64; 4] = [u64::MAX - 2, 0, 0, 0];
const OK: [u64; 4] = [0; 4];
const OK_1: [u64; 4] = [0, 1, 0, 0];
const POLICIES: [Policy; 3] = [Policy::Off, Policy::Enrol, Policy::Enforce];

#[test]
fn finding_it() {
    for policy in POLICIES {
        for (dialect, map) in [(Dialect::Pkvm, 0xffd), (Dialect::Series, 0x3d)] {
            let mut vm = vm(policy, dialect);
            let uid = x(&mut vm, 0x8600_ff01, [7; 3]);
            assert_eq!(uid, [0xb66f_b428, 0xe911_c52e, 0x564b_caa9, 0x743a_004d]);
            let map = if policy == Policy::Off { 1 } else { map };
            assert_eq!(x(&mut vm, 0x8600_0000, [7; 3]), [map, 0, 0, 0]);
            assert_eq!(x(&mut vm, 0xc600_f000, [7; 3]), [0x1_0000, 7, 0, 0]);
        }
    }
}

#[test]
fn nothing_of_the_guard_is_there_under_policy_off() {
    for dialect in [Dialect::Pkvm, Dialect::Series] {
        let mut vm = vm(Policy::Off, dialect);
        for function in 2..=11 {
            assert_eq!(x(&mut vm, 0xc600_0000 + function, [0; 3]), NOT_SUPPORTED, "{function}");
        }
        assert!(!vm.active());
    }
}

#[test]
fn unknown_ids_other_widths_and_immediates_are_not_supported() {
    let mut vm = vm(Policy::Enforce, Dialect::Pkvm);
    let ids =
        [0x8600_0007, 0x4600_0007, 0xc601_0007, 0xc600_000c, 0xc600_0001, 0xc600_0000, 0xc600_f003];
    for id in ids {
        assert_eq!(x(&mut vm, id, [UART, 0, 0]), NOT_SUPPORTED, "{id:#x}");
    }
    let before = vm.clone();
    let exit = Call {
        vcpu: 0,
        conduit: Conduit::Smc,
        imm: 1,
        x: [0xc600_0007, UART, 0, 0],
        x4: 0,
        now: Moment::default(),
        mair_el1: 0,
        entropy: None,
    };
    assert_eq!(vm.call(&exit), Outcome::Answer(NOT_SUPPORTED));
    assert_eq!(vm.tables, before.tables);
    assert_eq!(x(&mut vm, 0xffff_ffff_c600_0007, [UART, 0, 0]), OK_1, "only W0 counts");
}

#[test]
fn info_of_both_dialects() {
    let mut android = vm(Policy::Enrol, Dialect::Pkvm);
    for id in [0xc600_0002, 0xc600_0005] {
        assert_eq!(x(&mut android, id, [0; 3]), [4096, 1, 0, 0]);
        for n in 0..3 {
            let mut arguments = [0; 3];
            arguments[n] = 1;
            assert_eq!(x(&mut android, id, arguments), INVALID);
        }
    }
    let mut series = vm(Policy::Enrol, Dialect::Series);
    assert_eq!(x(&mut series, 0xc600_0002, [1, 2, 3]), [4096, 0, 0, 0]);
}

#[test]
fn map_and_unmap_of_both_dialects() {
    // ENROLL, MAP, UNMAP; what a success and a failure answer.
    let dialects = [
        (Dialect::Pkvm, [0xc600_0006, 0xc600_0007, 0xc600_0008], OK_1, INVALID),
        (Dialect::Series, [0xc600_0003, 0xc600_0004, 0xc600_0005], OK, NOT_SUPPORTED),
    ];
    for (dialect, [enroll, map, unmap], done, failed) in dialects {
        let series = dialect == Dialect::Series;
        let mut vm = vm(Policy::Enrol, dialect);
        assert_eq!(x(&mut vm, map, [UART, 0, 0]), if series { failed } else { done });
        assert_eq!(x(&mut vm, unmap, [UART, 0, 0]), if series { failed } else { done });
        assert_eq!(x(&mut vm, enroll, [9; 3]), OK);
        assert_eq!(x(&mut vm, enroll, [9; 3]), OK);
        for bad in [UART + 1, LIMIT, u64::MAX - 4095, RAM, RAM + 0x7f_f000, ROM, ROM + 0x1000] {
            assert_eq!(x(&mut vm, map, [bad, 0, 0]), failed, "{bad:#x}");
        }
        assert_eq!(x(&mut vm, map, [UART, 0x1c, 9]), done);
        assert_eq!(x(&mut vm, 0xc600_f001, [UART + 5, 0, 0]), [0, 3, 7 << 2 | 0x88 << 8, 0]);
        assert_eq!(x(&mut vm, map, [UART, 0, 0]), done, "again");
        assert_eq!(x(&mut vm, unmap, [UART + 4, 0, 0]), if series { done } else { failed });
        assert_eq!(x(&mut vm, unmap, [UART, 0, 0]), if series { failed } else { done });
        assert_eq!(x(&mut vm, unmap, [LIMIT, 0, 0]), if series { failed } else { done });
        assert_eq!(vm.declared(), 0);
    }
}

#[test]
fn an_allow_list_limits_declarations_and_presets_are_not_limited() {
    let limited = Config {
        allow: vec![Region::new(UART, 0x1000), Region::new(VOID, 0x3000)],
        preset: vec![Region::new(TEST, 0x1000)],
        ..config(Policy::Enforce, Dialect::Pkvm)
    };
    let mut vm = built(limited, 60);
    assert_eq!(x(&mut vm, 0xc600_f001, [TEST, 0, 0]), [0, 3, 1 << 16, 0]);
    assert_eq!(x(&mut vm, 0xc600_0007, [UART, 0, 0]), OK_1);
    assert_eq!(x(&mut vm, 0xc600_0007, [TEST, 0, 0]), INVALID);
    assert_eq!(x(&mut vm, 0xc600_000a, [VOID, 9, 0]), [0, 3, 0, 0]);
    assert_eq!(x(&mut vm, 0xc600_000a, [VOID + 0x3000, 9, 0]), INVALID);
    vm.stop(StopReason::Reset).unwrap();
    assert_eq!(vm.park(0), Parked::Last(StopReason::Reset));
    vm.reset().unwrap();
    assert_eq!(vm.declared(), 1);
}

#[test]
fn ranges() {
    let mut vm = vm(Policy::Enforce, Dialect::Pkvm);
    let (map, unmap) = (0xc600_000a, 0xc600_000b);
    for bad in [
        [VOID, 0, 0],
        [VOID, 1, 1],
        [VOID + 8, 1, 0],
        [LIMIT - 4096, 2, 0],
        [LIMIT, 1, 0],
        [VOID, 1 << 52, 0],
        [VOID, u64::MAX, 0],
    ] {
        assert_eq!(x(&mut vm, map, bad), INVALID, "{bad:x?}");
        assert_eq!(x(&mut vm, unmap, bad), INVALID, "{bad:x?}");
    }
    assert_eq!(x(&mut vm, map, [RAM, 1, 0]), INVALID, "RAM is never declared");
    assert_eq!(x(&mut vm, map, [VOID, 3, 0]), [0, 3, 0, 0]);
    assert_eq!(x(&mut vm, map, [RAM - 0x1000, 3, 0]), [0, 1, 0, 0], "stops at RAM");
    assert_eq!(x(&mut vm, map, [GICV - 0x1000, 3, 0]), [0, 1, 0, 0], "stops at GICV");
    assert_eq!(x(&mut vm, map, [GICV, 3, 0]), [0, 2, 0, 0], "stops behind GICV");
    assert_eq!(x(&mut vm, unmap, [GICV, 3, 0]), [0, 2, 0, 0]);
    // 512 descriptors: 511 pages, then 2 MiB in one; an aligned gibibyte is one too.
    assert_eq!(x(&mut vm, map, [VOID + 0x1000, 1500, 0]), [0, 1023, 0, 0]);
    let left = vm.tables.free();
    assert_eq!(x(&mut vm, map, [1 << 32, 1 << 20, 0]), [0, 1 << 20, 0, 0]);
    assert_eq!(vm.tables.free(), left, "no table for 4 GiB");
    // A page of it undone: two cuts.
    assert_eq!(x(&mut vm, unmap, [1 << 32, 1, 0]), OK_1);
    assert_eq!(vm.tables.free(), left - 2);
}

#[test]
fn an_empty_pool_is_an_error_and_changes_nothing() {
    let mut vm = built(config(Policy::Enforce, Dialect::Pkvm), 60);
    let mut at = 1 << 32;
    while x(&mut vm, 0xc600_0007, [at, 0, 0]) == OK_1 {
        at += 1 << 30;
    }
    let before = vm.clone();
    assert_eq!(x(&mut vm, 0xc600_0007, [at, 0, 0]), INVALID);
    assert_eq!(x(&mut vm, 0xc600_000a, [at, 5, 0]), INVALID);
    assert_eq!((&vm.tables, vm.declared()), (&before.tables, before.declared()));
    assert_eq!(x(&mut vm, 0xc600_0007, [(1 << 32) + 0x1000, 0, 0]), OK_1, "beside another");
}

#[test]
fn shares() {
    let mut vm = vm(Policy::Enrol, Dialect::Pkvm);
    let (share, unshare, relinquish) = (0xc600_0003, 0xc600_0004, 0xc600_0009);
    assert_eq!(x(&mut vm, share, [RAM, 0, 0]), OK_1);
    assert_eq!(x(&mut vm, share, [RAM, 1, 0]), INVALID, "twice");
    assert_eq!(x(&mut vm, unshare, [RAM + 0x1000, 1, 0]), INVALID);
    assert_eq!(x(&mut vm, share, [RAM + 0x1000, 3000, 0]), [0, 128, 0, 0]);
    assert_eq!(x(&mut vm, unshare, [RAM, 3000, 0]), [0, 128, 0, 0]);
    assert_eq!(x(&mut vm, relinquish, [RAM, 9, 9]), OK);
    assert_eq!(x(&mut vm, relinquish, [RAM + 128 * 4096, 0, 0]), INVALID, "still shared");
    assert_eq!(x(&mut vm, relinquish, [VOID, 0, 0]), OK);
    assert_eq!(x(&mut vm, relinquish, [VOID + 1, 0, 0]), INVALID);
    for bad in [[VOID, 1, 0], [ROM, 1, 0], [RAM + 8, 1, 0], [RAM, 1, 1], [RAM, u64::MAX, 0]] {
        assert_eq!(x(&mut vm, share, bad), INVALID, "{bad:x?}");
    }
}

#[test]
fn the_table_of_accesses() {
    for active in [false, true] {
        let mut vm = vm(Policy::Enrol, Dialect::Pkvm);
        if active {
            call(&mut vm, 0xc600_0006, [0; 3]);
        }
        let if_active = |a, b| if active { a } else { b };
        let served = Outcome::Served(Some(Load { register: 5 }));
        // Not declared.
        let outcome = vm.data(&load(UART, 4));
        if active {
            assert_eq!(reason(outcome), Reason::Undeclared);
        } else {
            assert_eq!(outcome, served);
        }
        assert_eq!(
            reason(vm.data(&load(VOID, 4))),
            if_active(Reason::Undeclared, Reason::NoDevice)
        );
        let pair = Data { access: None, ..load(VOID, 8) };
        assert_eq!(reason(vm.data(&pair)), if_active(Reason::Undeclared, Reason::NoSyndrome));
        let crossing = load(VOID + 0xfff, 2);
        assert_eq!(reason(vm.data(&crossing)), if_active(Reason::Undeclared, Reason::CrossesPage));
        assert_eq!(
            reason(vm.data(&load(LIMIT, 4))),
            if_active(Reason::Undeclared, Reason::NoDevice)
        );
        assert_eq!(
            reason(vm.data(&load(TEST + 0x400, 4))),
            if_active(Reason::Undeclared, Reason::DeviceError)
        );
        let refused = vm.counters.refused;
        assert_eq!(refused, if active { 6 } else { 0 });
        assert_eq!(vm.counters.mmio, 6);
        // Declared.
        for page in [UART, VOID, TEST] {
            assert_eq!(x(&mut vm, 0xc600_0007, [page, 0, 0]), OK_1);
        }
        assert_eq!(vm.data(&load(UART, 4)), served);
        assert_eq!(vm.data(&Data { write: true, ..load(UART, 4) }), Outcome::Served(None));
        assert_eq!(reason(vm.data(&load(VOID, 4))), Reason::NoDevice);
        assert_eq!(reason(vm.data(&pair)), Reason::NoSyndrome);
        assert_eq!(reason(vm.data(&crossing)), if_active(Reason::Undeclared, Reason::CrossesPage));
        assert_eq!(reason(vm.data(&load(TEST + 0x400, 4))), Reason::DeviceError);
        // Both pages.
        assert_eq!(x(&mut vm, 0xc600_0007, [VOID + 0x1000, 0, 0]), OK_1);
        assert_eq!(reason(vm.data(&crossing)), Reason::CrossesPage);
        // Maintenance, memory, rom.
        let maintenance = Data { maintenance: true, write: true, ..pair };
        assert_eq!(vm.data(&maintenance), Outcome::Skipped);
        assert_eq!(vm.data(&load(RAM, 4)), Outcome::Retry);
        let rom = Data { write: true, fault: Fault::Permission, ..load(ROM, 4) };
        assert_eq!(reason(vm.data(&rom)), Reason::ReadOnly);
        assert_eq!(vm.data(&Data { ipa: None, ..rom }), Outcome::ResolveIpa);
        // Fetches and walks.
        let fetch = Fetch { ipa: Some(UART), fault: Fault::Stage2, walk: false };
        assert_eq!(reason(vm.fetch(&fetch)), Reason::Fetch, "declared or not");
        assert_eq!(vm.fetch(&Fetch { ipa: Some(ROM), ..fetch }), Outcome::Retry);
        let walk = Data { walk: true, ..load(VOID, 8) };
        let expected =
            Outcome::Abort { reason: Reason::Walk, ipa: Some(VOID), walk: true, fetch: false };
        assert_eq!(vm.data(&walk), expected);
        assert_eq!(reason(vm.data(&Data { fault: Fault::External, ..walk })), Reason::External);
    }
}

const BANK: u64 = 0x0400_0000;
const BANK_SIZE: u64 = 256 << 10;

fn vm_with_flash(policy: Policy, protected: bool) -> Vm {
    let flash = vec![Flash { at: Region::new(BANK, BANK_SIZE), pa: 0x9_4000_0000, protected }];
    built(Config { flash, ..config(policy, Dialect::Pkvm) }, 60)
}

fn command(vm: &mut Vm, offset: u64, value: u64) {
    let store = Data { write: true, value, ..load(BANK + offset, 4) };
    assert_eq!(vm.data(&store), Outcome::Served(None));
}

/// Whether a bank has leaves: for all of its pages, or for none.
fn has_leaves(vm: &Vm) -> bool {
    let is_leaf = |page| matches!(vm.tables.at(page).entry, Entry::Leaf { leaf: Leaf::Rom, .. });
    let pages = || Region::new(BANK, BANK_SIZE).pages();
    assert!(pages().all(is_leaf) || !pages().any(is_leaf), "a part of a bank has leaves");
    is_leaf(BANK)
}

#[test]
fn flash_is_mapped_while_it_shows_what_it_holds_and_the_guard_agrees() {
    let pages = BANK_SIZE / PAGE;
    let mut vm = vm_with_flash(Policy::Enrol, false);
    assert!(has_leaves(&vm), "the guard is not active");
    assert_eq!(x(&mut vm, 0xc600_f001, [BANK, 0, 0]), [0, 4, 0, 0]);
    assert_eq!(vm.data(&load(BANK, 4)), Outcome::Retry);
    // MAP of a part takes its leaves away, until the part is not declared any more.
    assert_eq!(x(&mut vm, 0xc600_0007, [BANK, 0, 0]), OK_1);
    assert!(!has_leaves(&vm));
    assert_eq!((vm.declared(), vm.tables.declared()), (1, 1));
    assert_eq!(vm.data(&load(BANK, 8)), Outcome::Served(Some(Load { register: 5 })));
    assert_eq!(x(&mut vm, 0xc600_0008, [BANK, 0, 0]), OK_1);
    assert!(has_leaves(&vm));
    call(&mut vm, 0xc600_0006, [0; 3]);
    assert!(!has_leaves(&vm), "nothing is declared");
    assert_eq!(reason(vm.data(&load(BANK, 4))), Reason::Undeclared);
    let fetch = Fetch { ipa: Some(BANK), fault: Fault::Stage2, walk: false };
    assert_eq!(reason(vm.fetch(&fetch)), Reason::Fetch);
    // All of it, with what follows it left for another call.
    assert_eq!(x(&mut vm, 0xc600_000a, [BANK, pages + 1, 0]), [0, pages, 0, 0]);
    assert!(has_leaves(&vm));
    assert_eq!(vm.fetch(&fetch), Outcome::Retry, "read-only and executable");
    assert_eq!((vm.declared(), vm.tables.declared()), (pages, 0));
    // Stores trap all the same, and commands hide what it holds.
    for (begun, ended) in [(0x70, 0xff), (0x90, 0xff), (0x98, 0xff)] {
        command(&mut vm, 0, begun);
        assert!(!has_leaves(&vm), "{begun:#x}");
        assert_eq!((vm.declared(), vm.tables.declared()), (pages, pages));
        command(&mut vm, 0, ended);
        assert!(has_leaves(&vm));
    }
    command(&mut vm, 0, 0x50);
    command(&mut vm, 0, 0x33);
    assert!(has_leaves(&vm), "one clears errors, one is no command");
    // One page less: all of it traps.
    assert_eq!(x(&mut vm, 0xc600_0008, [BANK + PAGE, 0, 0]), OK_1);
    assert!(!has_leaves(&vm));
    assert_eq!(vm.declared(), pages - 1);
    assert_eq!(reason(vm.data(&load(BANK + PAGE, 4))), Reason::Undeclared);
}

#[test]
fn sentences_to_flash_end_where_they_should() {
    let mut vm = vm_with_flash(Policy::Off, false);
    // The word 0xff is data here, and no command.
    let sentences: [&[(u64, u64)]; 5] = [
        &[(0, 0x40), (8, 0xff)],
        &[(0, 0x20), (0, 0xff)],
        &[(0, 0x60), (0, 0xff)],
        &[(0, 0xe8), (0, 1), (0x40, 0xff), (0x44, 0xff), (0, 0xff)],
        // No more than 32 words, and none that lies elsewhere.
        &[(0, 0xe8), (0, 32)],
    ];
    for sentence in sentences {
        for (offset, value) in sentence {
            assert!(*offset == 0 && *value != 0xff || !has_leaves(&vm));
            command(&mut vm, *offset, *value);
        }
        assert!(!has_leaves(&vm), "{sentence:x?}");
        command(&mut vm, 0, 0xff);
        assert!(has_leaves(&vm), "{sentence:x?}");
    }
    for wrong in [0x3c, 0x48] {
        for (offset, value) in [(0, 0xe8), (0, 1), (0x40, 0), (wrong, 0)] {
            command(&mut vm, offset, value);
        }
        command(&mut vm, 0, 0xff);
        assert!(has_leaves(&vm), "a word that lies elsewhere ends it");
    }
    // 32 bits, aligned, in the guest's byte order.
    for store in [load(BANK + 2, 4), load(BANK, 2), load(BANK, 8)] {
        let store = Data { write: true, value: 0x70, ..store };
        assert_eq!(reason(vm.data(&store)), Reason::DeviceError);
    }
    let turned = |value| Data { write: true, value, big_endian: true, ..load(BANK, 4) };
    vm.data(&turned(0x70));
    assert!(has_leaves(&vm));
    vm.data(&turned(0x7000_0000));
    assert!(!has_leaves(&vm));
}

#[test]
fn protected_flash_ignores_every_store() {
    let mut vm = vm_with_flash(Policy::Off, true);
    for bytes in [1, 2, 4, 8] {
        let store = Data { write: true, value: 0x70, ..load(BANK + 1, bytes) };
        assert_eq!(vm.data(&store), Outcome::Served(None));
    }
    assert!(has_leaves(&vm));
}

#[test]
fn pages_without_a_trap_come_and_go() {
    let mut vm = vm(Policy::Enrol, Dialect::Pkvm);
    let leaf = |vm: &Vm, page| matches!(vm.tables.at(page).entry, Entry::Leaf { .. });
    assert!(leaf(&vm, GICV) && leaf(&vm, GICV + 0x1000), "the guard is not active");
    assert_eq!(x(&mut vm, 0xc600_0007, [GICV, 0, 0]), OK_1);
    call(&mut vm, 0xc600_0006, [0; 3]);
    assert!(leaf(&vm, GICV) && !leaf(&vm, GICV + 0x1000));
    assert_eq!(x(&mut vm, 0xc600_f001, [GICV, 0, 0]), [0, 4, 0, 0]);
    assert_eq!(x(&mut vm, 0xc600_0008, [GICV, 0, 0]), OK_1);
    assert!(!leaf(&vm, GICV));
}

#[test]
fn power() {
    let mut vm = vm(Policy::Enforce, Dialect::Pkvm);
    let errno = |n: i64| [n as u64, 0, 0, 0];
    assert_eq!(x(&mut vm, 0x8400_0000, [0; 3]), [0x1_0001, 0, 0, 0]);
    assert_eq!(x(&mut vm, 0xc400_0003, [2, RAM, 0]), errno(-2));
    assert_eq!(x(&mut vm, 0xc400_0003, [1 << 31, RAM, 0]), errno(-2));
    assert_eq!(x(&mut vm, 0xc400_0003, [1, RAM + 2, 0]), errno(-9));
    assert_eq!(x(&mut vm, 0xc400_0003, [1, VOID, 0]), errno(-9));
    assert_eq!(x(&mut vm, 0xc400_0003, [0, RAM, 0]), errno(-4));
    assert_eq!(x(&mut vm, 0xc400_0004, [1, 0, 0]), errno(1));
    assert_eq!(x(&mut vm, 0xc400_0003, [1, RAM, 77]), OK);
    assert_eq!(x(&mut vm, 0xc400_0003, [1, RAM, 77]), errno(-5));
    assert_eq!(x(&mut vm, 0xc400_0004, [1, 0, 0]), errno(2));
    assert_eq!(x(&mut vm, 0xc400_0004, [1, 1, 0]), errno(-2));
    assert_eq!(vm.take_start(1), Some((RAM, 77)));
    assert_eq!(call(&mut vm, 0x8400_0002, [0; 3]), Outcome::Off);
    assert_eq!(vm.take_start(0), None);
    assert_eq!(x(&mut vm, 0xc400_0012, [1, 0, 0]), errno(-2));
    assert_eq!(call(&mut vm, 0x8400_0009, [0; 3]), Outcome::Stop(StopReason::Reset));
    assert_eq!(call(&mut vm, 0x8400_0008, [0; 3]), Outcome::Stop(StopReason::Reset), "the first");
    assert_eq!(vm.park(0), Parked::Others, "it is off");
    assert_eq!(vm.park(1), Parked::Last(StopReason::Reset));
    assert!(vm.finish());
    assert!(!vm.start(RAM, 0));
}

#[test]
fn the_last_vcpu_that_turns_itself_off_stops_the_vm() {
    let mut vm = vm(Policy::Enforce, Dialect::Pkvm);
    assert_eq!(call(&mut vm, 0x8400_0002, [0; 3]), Outcome::Stop(StopReason::AllOff));
}

#[test]
fn entropy_is_cut_to_what_was_asked_for() {
    let mut vm = vm(Policy::Enforce, Dialect::Pkvm);
    assert_eq!(x(&mut vm, 0xc400_0053, [65, 0, 0]), [0, 0, 1, u64::MAX]);
    assert_eq!(x(&mut vm, 0x8400_0053, [33, 0, 0]), [0, 0, 1, 0xffff_ffff]);
    for (id, bits) in [(0xc400_0053, 0), (0xc400_0053, 193), (0x8400_0053, 97)] {
        assert_eq!(x(&mut vm, id, [bits, 0, 0]), [-2_i64 as u64, 0, 0, 0]);
    }
}

#[test]
fn workarounds_are_told_and_the_second_is_not_served() {
    let mut vm = vm(Policy::Enforce, Dialect::Pkvm);
    for (id, told) in [(0x8000_8000, -1_i64), (0x8000_7fff, -2), (0x8000_3fff, 0)] {
        assert_eq!(x(&mut vm, 0x8000_0001, [id, 0, 0]), [told as u64, 0, 0, 0]);
    }
    assert_eq!(call(&mut vm, 0x8000_3fff, [0; 3]), Outcome::AnswerX0(0));
    assert_eq!(x(&mut vm, 0x8000_7fff, [1, 0, 0]), NOT_SUPPORTED);
    assert_eq!(x(&mut vm, 0x8000_8000, [0; 3]), NOT_SUPPORTED);
}

fn address() -> impl Strategy<Value = u64> {
    let edge = prop_oneof![
        Just(VOID),
        Just(RAM),
        Just(RAM + 0x80_0000),
        Just(ROM),
        Just(GICV),
        Just(LIMIT),
        Just(1_u64 << 30),
        Just(1 << 32),
        Just(0)
    ];
    (edge, -3_i64..4, prop_oneof![9 => Just(0), 1 => 1..4096_u64])
        .prop_map(|(edge, pages, offset)| edge.wrapping_add_signed(pages * 4096) | offset)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Promise P5, of the specification itself; and the two countings that it keeps are right.
    #[test]
    fn what_fails_changes_nothing(
        series in any::<bool>(),
        pool in 6..20_u64,
        calls in proptest::collection::vec((2..12_u64, address(), 0..1600_u64, 0..9_u64), 1..80),
    ) {
        let dialect = if series { Dialect::Series } else { Dialect::Pkvm };
        let mut vm = built(config(Policy::Enrol, dialect), pool);
        for (function, ipa, granules, zero) in calls {
            let before = vm.clone();
            let zero = u64::from(zero == 8);
            let [x0, ..] = x(&mut vm, 0xc600_0000 + function, [ipa, granules, zero]);
            if x0 != 0 {
                vm.counters = before.counters;
                prop_assert_eq!(&vm, &before);
            }
            let declared: u64 = vm.tables.carried()
                .filter(|found| matches!(found.entry, Entry::Declared(_)))
                .map(|found| size_of_level(found.level) / 4096).sum();
            prop_assert_eq!(vm.tables.declared(), declared);
            prop_assert_eq!(vm.tables.free() + vm.tables.cuts().count() as u64, pool);
            let marks = vm.tables.carried()
                .map(|found| Tables::mark(found.base, found.level, Some(found.entry)))
                .chain(vm.tables.cuts().map(|(base, level)| Tables::mark(base, level, None)))
                .fold(0_u64, u64::wrapping_add);
            prop_assert_eq!(vm.tables.marks(), marks);
            for found in vm.tables.carried() {
                prop_assert_eq!(vm.tables.at(found.base), found, "none hides another");
            }
        }
    }
}
