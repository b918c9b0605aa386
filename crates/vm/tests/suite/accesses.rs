// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of accesses of docs/abi.md, cell by cell, in both dialects.

use crate::common::*;
use arch::{AbortKind, DataAbort, Exit, Fault, FaultKind, InstructionAbort, Ipa, Va, Width};
use mmio_guard::Dialect;
use vm::{Abort, Outcome, Reason};

const DATA: Outcome = Outcome::Abort(Abort { kind: AbortKind::Data, walk: false });
const FETCH: Outcome = Outcome::Abort(Abort { kind: AbortKind::Instruction, walk: false });

/// What an access came to: whether it was aborted, and whether that counts as refused.
#[derive(Debug, PartialEq, Clone, Copy)]
enum Got {
    Served,
    Skipped,
    Retried,
    Aborted(Reason),
    Refused,
}
use Got::*;

fn try_access(rig: &mut Rig, exit: Exit) -> Got {
    let refused = rig.refused();
    rig.vcpus[0].regs.x[5] = 0x5555;
    let before = rig.vcpus[0].regs.clone();
    let outcome = rig.exit(0, exit);
    let counted = rig.refused() - refused;
    match outcome {
        Outcome::Advance { .. } if rig.vcpus[0].regs.x[5] == 0x5555 => Skipped,
        Outcome::Advance { .. } => Served,
        Outcome::Resume => Retried,
        Outcome::Abort(_) => {
            assert_eq!(rig.vcpus[0].regs, before, "an aborted access changes no register");
            let reason = rig.vcpus[0].refusal.reason;
            assert_eq!(counted, u64::from(reason == Reason::Undeclared), "R counts refusals only");
            if reason == Reason::Undeclared { Refused } else { Aborted(reason) }
        }
        other => panic!("{other:?}"),
    }
}

fn no_isv(ipa: u64, write: bool) -> Exit {
    Exit::DataAbort(arch::DataAbort { access: None, ..data(ipa, Width::B8, write) })
}

/// One row: what the access gives when the guard is not active; active and not declared; active and declared.
fn row(ipa: u64, also: Option<u64>, exit: impl Fn(bool) -> Exit, want: [Got; 3]) {
    everywhere(&[OFF, ENROL], |rig, policy, dialect| {
        for write in [false, true] {
            let served_store = |got| if write && got == Served { Skipped } else { got };
            assert_eq!(try_access(rig, exit(write)), served_store(want[0]), "{policy} {dialect}");
        }
    });
    everywhere(&[ENROL, ENFORCE], |rig, policy, dialect| {
        let ids = ids(dialect);
        rig.call(ids.enroll, [0; 3]);
        for write in [false, true] {
            let served_store = |got| if write && got == Served { Skipped } else { got };
            let context = format!("{policy} {dialect} write={write}");
            assert_eq!(try_access(rig, exit(write)), served_store(want[1]), "undeclared {context}");
            for page in [Some(ipa & !0xfff), also].into_iter().flatten() {
                assert_eq!(rig.call(ids.map, [page, 0, 0]), done(dialect));
            }
            assert_eq!(try_access(rig, exit(write)), served_store(want[2]), "declared {context}");
            for page in [Some(ipa & !0xfff), also].into_iter().flatten() {
                assert_eq!(rig.call(ids.unmap, [page, 0, 0]), done(dialect));
            }
            assert_eq!(try_access(rig, exit(write)), served_store(want[1]), "again {context}");
        }
    });
}

// bug: 42
#[test]
fn device_with_syndrome_is_served_unless_undeclared() {
    for ipa in [GICD, GICD + 0x100, GICR + 8, UART, UART + 0x18, TEST, TEST + 0x800] {
        let exit = |write| if write { store(ipa, Width::B4) } else { load(ipa, Width::B4) };
        row(ipa, None, exit, [Served, Refused, Served]);
    }
}

// bug: 42
#[test]
fn nothing_behind_the_page_is_no_device_unless_undeclared() {
    for ipa in [VOID, 0, 0xff_ffff_f000, UART + 0x1000, GICR + 2 * 0x2_0000] {
        let exit = |write| if write { store(ipa, Width::B8) } else { load(ipa, Width::B8) };
        let none = Aborted(Reason::NoDevice);
        row(ipa, None, exit, [none, Refused, none]);
    }
}

// bug: 32 43
#[test]
fn without_syndrome_nothing_is_served() {
    for ipa in [UART, GICD + 4, TEST + 0x800, VOID] {
        let none = Aborted(Reason::NoSyndrome);
        row(ipa, None, |write| no_isv(ipa, write), [none, Refused, none]);
    }
}

#[test]
fn crossing_into_another_page_is_never_served() {
    for (ipa, width) in [
        (GICD + 0xffc, Width::B8),
        (UART + 0xfff, Width::B2),
        (TEST + 0xffd, Width::B4),
        (VOID + 0xff9, Width::B8),
    ] {
        let exit = |write| if write { store(ipa, width) } else { load(ipa, width) };
        let crosses = Aborted(Reason::CrossesPage);
        row(ipa, Some((ipa & !0xfff) + 0x1000), exit, [crosses, Refused, crosses]);
        // The second page not declared: refused, and nothing reached the device.
        row(ipa, None, exit, [crosses, Refused, Refused]);
    }
}

// bug: 32
#[test]
fn crossing_names_the_page_that_is_not_declared() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    let exit = load(TEST + 0xffc, Width::B8);
    assert_eq!(rig.exit(0, exit), DATA);
    assert_eq!(rig.vcpus[0].refusal.ipa, Some(Ipa::new(TEST + 0xffc)), "first page");
    rig.call(0xc600_0007, [TEST, 0, 0]);
    assert_eq!(rig.exit(0, exit), DATA);
    assert_eq!(rig.vcpus[0].refusal.ipa, Some(Ipa::new(TEST + 0x1000)), "second page");
    assert_eq!(rig.vcpus[0].refusal.va.raw(), 0xffff_0000_0000_0000 | (TEST + 0xffc), "first byte");
}

#[test]
fn crossing_into_memory_is_refused() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    rig.call(0xc600_0007, [RAM - 0x1000, 0, 0]);
    assert_eq!(rig.read(RAM - 4, Width::B8), Err(Reason::Undeclared));
}

#[test]
fn an_access_that_ends_with_its_page_does_not_cross() {
    for width in [Width::B1, Width::B2, Width::B4, Width::B8] {
        let ipa = TEST + 0x1000 - width.bytes();
        let mut rig = rig(ENROL, Dialect::Pkvm);
        assert!(rig.read(ipa, width).is_ok(), "{width:?}");
        assert!(rig.write(ipa, width, 1).is_ok(), "{width:?}");
    }
}

#[test]
fn crossing_the_end_of_the_ipa_space() {
    let last = (1 << 40) - 4;
    let mut rig = rig(ENROL, Dialect::Pkvm);
    assert_eq!(rig.read(last, Width::B8), Err(Reason::CrossesPage));
    rig.call(0xc600_0007, [last & !0xfff, 0, 0]);
    rig.call(0xc600_0006, [0; 3]);
    assert_eq!(rig.read(last, Width::B8), Err(Reason::Undeclared), "there is no second page");
    assert_eq!(rig.read(last - 4, Width::B8), Err(Reason::NoDevice));
}

#[test]
fn beyond_the_ipa_size_is_never_declared() {
    for ipa in [1 << 40, (1 << 47) + 0x1000] {
        let mut off = rig(OFF, Dialect::Pkvm);
        assert_eq!(off.read(ipa, Width::B4), Err(Reason::NoDevice));
        let mut on = rig(ENFORCE, Dialect::Pkvm);
        assert_eq!(on.read(ipa, Width::B4), Err(Reason::Undeclared));
        assert_eq!(on.vcpus[0].refusal.ipa, Some(Ipa::new(ipa)));
    }
}

// bug: 47
#[test]
fn fetch_outside_memory_is_aborted_whatever_is_declared() {
    everywhere(&[OFF, ENROL, ENFORCE], |rig, policy, dialect| {
        for ipa in [VOID, UART, GICD, 0, (1 << 40) + 8] {
            for _ in 0..2 {
                assert_eq!(rig.exit(0, Exit::InstructionAbort(fetch(ipa))), FETCH, "{policy}");
                assert_eq!(rig.vcpus[0].refusal.reason, Reason::Fetch);
                assert_eq!(rig.vcpus[0].refusal.kind, AbortKind::Instruction);
                rig.call(ids(dialect).map, [ipa, 0, 0]);
            }
        }
        assert_eq!(rig.refused(), 0);
        assert_eq!(rig.vm.counts().mmio, 0, "a fetch is no MMIO exit");
    });
}

#[test]
fn fetch_from_memory_is_tried_again() {
    let config = Config { roms: vec![range(0, 0x1000)], ..Config::default() };
    let mut rig = config.build();
    for ipa in [RAM, RAM + RAM_SIZE - 4, 0, 0xffc] {
        assert_eq!(rig.exit(0, Exit::InstructionAbort(fetch(ipa))), Outcome::Resume);
    }
}

fn walk(ipa: u64, kind: FaultKind) -> Exit {
    Exit::DataAbort(arch::DataAbort {
        ipa: Some(Ipa::new(ipa)),
        va: Va::new(0xffff_8000_0000_0123),
        access: None,
        s1ptw: true,
        fault: Fault { kind, level: 2 },
        ..data(ipa, Width::B8, false)
    })
}

// bug: 37
#[test]
fn walk_outside_memory_is_aborted_as_a_walk() {
    everywhere(&[OFF, ENROL, ENFORCE], |rig, _, dialect| {
        for ipa in [VOID, UART, 0, 1 << 41] {
            for _ in 0..2 {
                let outcome = rig.exit(0, walk(ipa, FaultKind::Translation));
                assert_eq!(outcome, Outcome::Abort(Abort { kind: AbortKind::Data, walk: true }));
                let refusal = rig.vcpus[0].refusal;
                assert_eq!(refusal.reason, Reason::Walk);
                assert_eq!(refusal.va.raw(), 0xffff_8000_0000_0123);
                rig.call(ids(dialect).map, [ipa, 0, 0]);
            }
        }
        assert_eq!(rig.refused(), 0);
    });
}

// bug: 37
#[test]
fn walk_of_a_fetch_is_an_instruction_abort() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    let abort = InstructionAbort { s1ptw: true, ..fetch(VOID) };
    let outcome = rig.exit(0, Exit::InstructionAbort(abort));
    assert_eq!(outcome, Outcome::Abort(Abort { kind: AbortKind::Instruction, walk: true }));
}

/// What the memory system answered with an error is the guest's own, whatever the tables say of the address.
// bug: 48
#[test]
fn external_aborts_go_back_to_the_guest_and_stop_nothing() {
    for kind in [FaultKind::External, FaultKind::ExternalOnWalk] {
        let mut rig = rig(ENFORCE, Dialect::Pkvm);
        let fault = Fault { kind, level: 0 };
        for write in [false, true] {
            let abort = DataAbort { fault, ipa: None, ..data(RAM, Width::B8, write) };
            assert_eq!(try_access(&mut rig, Exit::DataAbort(abort)), Aborted(Reason::External));
        }
        let outcome = rig
            .exit(0, Exit::InstructionAbort(InstructionAbort { fault, ipa: None, ..fetch(RAM) }));
        assert!(matches!(outcome, Outcome::Abort(abort) if abort.kind == AbortKind::Instruction));
        assert!(rig.machine.log().kicked.is_empty());
        assert_eq!(rig.call(0x8000_0000, [0; 3]), [0x1_0001, 0, 0, 0], "the VM goes on");
    }
}

#[test]
fn walk_in_memory_is_tried_again_unless_it_wants_to_write_rom() {
    let config = Config { roms: vec![range(0, 0x1000)], ..Config::default() };
    let mut rig = config.build();
    for kind in [FaultKind::Translation, FaultKind::AccessFlag] {
        assert_eq!(rig.exit(0, walk(RAM, kind)), Outcome::Resume);
        assert_eq!(rig.exit(0, walk(0, kind)), Outcome::Resume);
    }
    assert_eq!(rig.exit(0, walk(RAM, FaultKind::Permission)), Outcome::Resume);
    let abort = Outcome::Abort(Abort { kind: AbortKind::Data, walk: true });
    assert_eq!(rig.exit(0, walk(0, FaultKind::Permission)), abort);
}

// scenario: D10
// bug: 38
#[test]
fn cache_maintenance_outside_memory_is_stepped_over() {
    everywhere(&[OFF, ENROL, ENFORCE], |rig, _, dialect| {
        for ipa in [VOID, UART, GICD, 1 << 41] {
            for _ in 0..2 {
                // CM=1 comes with WnR=1 and without a syndrome, at any offset.
                let abort = arch::DataAbort {
                    access: None,
                    cm: true,
                    ..data(ipa + 0xfff, Width::B1, true)
                };
                assert_eq!(rig.exit(0, Exit::DataAbort(abort)), Outcome::Advance { il: true });
                rig.call(ids(dialect).map, [ipa, 0, 0]);
            }
        }
        assert_eq!(rig.refused(), 0);
    });
}

fn permission(ipa: Option<u64>, va: u64, write: bool) -> arch::DataAbort {
    arch::DataAbort {
        ipa: ipa.map(Ipa::new),
        va: Va::new(va),
        fault: Fault { kind: FaultKind::Permission, level: 3 },
        ..data(va, Width::B4, write)
    }
}

// bug: 34
#[test]
fn store_to_rom_asks_for_the_ipa_and_is_aborted_as_read_only() {
    for (policy, dialect) in
        [(OFF, Dialect::Pkvm), (ENFORCE, Dialect::Pkvm), (ENFORCE, Dialect::Series)]
    {
        let roms = vec![range(0x40_0000, 0x2000)];
        let mut rig = Config { roms, ..Config::of(policy, dialect) }.build();
        let abort = permission(None, 0x40_0010, true);
        assert_eq!(rig.exit(0, Exit::DataAbort(abort)), Outcome::ResolveIpa, "HPFAR is UNKNOWN");
        // As EL2 does it then: the same exit, with the IPA that AT found.
        for write in [true, false] {
            let found = permission(Some(0x40_0010), 0x40_0010, write);
            assert_eq!(
                rig.exit_slow(0, Exit::DataAbort(found)),
                DATA,
                "an atomic may report a load"
            );
            let refusal = rig.vcpus[0].refusal;
            assert_eq!((refusal.reason, refusal.write), (Reason::ReadOnly, true));
        }
        assert_eq!((rig.refused(), rig.vm.counts().mmio), (0, 0));
    }
}

#[test]
fn store_that_misses_in_rom_is_read_only_too() {
    let mut rig = Config { roms: vec![range(0, 0x1000)], ..Config::default() }.build();
    assert_eq!(rig.write(8, Width::B4, 1), Err(Reason::ReadOnly));
    assert_eq!(rig.load(8, Width::B4), Outcome::Resume);
}

// scenario: D10
#[test]
fn cache_maintenance_of_rom_is_stepped_over() {
    let mut rig = Config { roms: vec![range(0, 0x1000)], ..Config::default() }.build();
    let abort = arch::DataAbort { access: None, cm: true, ..permission(Some(8), 8, true) };
    assert_eq!(rig.exit_slow(0, Exit::DataAbort(abort)), Outcome::Advance { il: true });
}

#[test]
fn an_ipa_that_is_not_known_is_asked_for_whatever_the_fault() {
    // Cortex-A57 erratum 834220: decoding gives no IPA for a translation fault.
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    let abort = arch::DataAbort { ipa: None, ..data(UART, Width::B4, false) };
    assert_eq!(rig.exit_slow(0, Exit::DataAbort(abort)), Outcome::ResolveIpa);
    let abort = InstructionAbort { ipa: None, ..fetch(VOID) };
    assert_eq!(rig.exit_slow(0, Exit::InstructionAbort(abort)), Outcome::ResolveIpa);
    assert_eq!(rig.vm.counts(), vm::Counts::default(), "not judged, so not counted");
}

// bug: 46
#[test]
fn an_access_to_ram_that_is_mapped_is_tried_again() {
    everywhere(&[OFF, ENROL, ENFORCE], |rig, _, _| {
        for ipa in [RAM, RAM + 0x1234, RAM + RAM_SIZE - 8] {
            assert_eq!(try_access(rig, load(ipa, Width::B8)), Retried);
            assert_eq!(try_access(rig, store(ipa, Width::B8)), Retried);
            assert_eq!(try_access(rig, no_isv(ipa, true)), Retried);
        }
        assert_eq!(rig.vm.counts().mmio, 0);
    });
}

#[test]
fn a_locked_entry_is_tried_again() {
    // What a reader sees while another CPU takes a leaf away: type 1 in bits 63:60.
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    rig.call(0xc600_0007, [VOID, 0, 0]);
    let found = find_entry(&rig, VOID);
    stage2::TableMemory::store(&rig.machine.fake, found.0, found.1, 1 << 60);
    assert_eq!(try_access(&mut rig, load(VOID, Width::B4)), Retried);
    assert_eq!(try_access(&mut rig, no_isv(VOID, false)), Retried);
    assert_eq!(rig.exit(0, Exit::InstructionAbort(fetch(VOID))), Outcome::Resume);
    assert_eq!(rig.exit(0, walk(VOID, FaultKind::Translation)), Outcome::Resume);
}

// bug: 46
#[test]
fn memory_that_was_given_away_is_aborted_and_not_refused() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    let gone = range(RAM + 0x20_0000, 0x1000);
    rig.vm.stage2().unmap(&rig.order, gone, stage2::Annotation::Owner(3)).unwrap();
    assert_eq!(rig.read(RAM + 0x20_0000, Width::B4), Err(Reason::GivenAway));
    assert_eq!(rig.exit(0, Exit::InstructionAbort(fetch(RAM + 0x20_0000))), FETCH);
    assert_eq!(rig.vcpus[0].refusal.reason, Reason::GivenAway);
    assert_eq!(rig.call(0xc600_0007, [RAM + 0x20_0000, 0, 0]), INVALID, "RAM by the memory map");
    assert_eq!(rig.load(RAM + 0x20_1000, Width::B4), Outcome::Resume, "its neighbour stays");
    assert_eq!(rig.refused(), 0);
}

#[test]
fn an_owner_outside_memory_is_undeclared() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    rig.call(0xc600_0007, [VOID, 0, 0]);
    let found = find_entry(&rig, VOID);
    for raw in [2 << 60 | 5 << 2, 0xf << 60, 3 << 60 | 1 << 40] {
        stage2::TableMemory::store(&rig.machine.fake, found.0, found.1, raw);
        assert_eq!(rig.read(VOID, Width::B4), Err(Reason::Undeclared), "{raw:#x}");
    }
}

#[test]
fn what_the_machine_answered_goes_back_to_the_guest() {
    for kind in [FaultKind::External, FaultKind::ExternalOnWalk, FaultKind::Other] {
        let mut rig = rig(ENFORCE, Dialect::Pkvm);
        let fault = Fault { kind, level: 0 };
        let abort =
            arch::DataAbort { fault, ipa: None, access: None, ..data(RAM, Width::B4, true) };
        assert_eq!(rig.exit(0, Exit::DataAbort(abort)), DATA, "{kind:?}");
        assert_eq!(rig.vcpus[0].refusal.reason, Reason::External);
        let abort = InstructionAbort { fault, ipa: None, ..fetch(RAM) };
        assert_eq!(rig.exit(0, Exit::InstructionAbort(abort)), FETCH);
        assert_eq!(rig.vcpus[0].refusal.reason, Reason::External);
        assert_eq!(rig.vm.counts(), vm::Counts::default());
    }
}

// bug: 41
#[test]
fn a_device_error_is_an_abort_and_not_a_refusal() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    assert_eq!(rig.read(TEST + 0x400, Width::B4), Err(Reason::Undeclared), "the guard comes first");
    rig.call(0xc600_0007, [TEST, 0, 0]);
    assert_eq!(rig.read(TEST + 0x400, Width::B4), Err(Reason::DeviceError));
    assert_eq!(rig.write(TEST + 0x7ff, Width::B1, 1), Err(Reason::DeviceError));
    assert_eq!(rig.read(TEST + 0x18, Width::B8), Ok(2), "the refused one never arrived");
    assert_eq!(rig.refused(), 1);
}

#[test]
fn a_refusal_says_everything() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    for (width, write) in
        [(Width::B1, false), (Width::B2, true), (Width::B4, false), (Width::B8, true)]
    {
        rig.vcpus[0].regs.elr = 0xffff_8000_1234_5678;
        let exit = if write { store(VOID + 0x10, width) } else { load(VOID + 0x10, width) };
        assert_eq!(rig.exit(0, exit), DATA);
        let want = vm::Refusal {
            pc: 0xffff_8000_1234_5678,
            va: Va::new(0xffff_0000_0000_0000 | (VOID + 0x10)),
            ipa: Some(Ipa::new(VOID + 0x10)),
            reason: Reason::Undeclared,
            kind: AbortKind::Data,
            width: Some(width),
            write,
        };
        assert_eq!(rig.vcpus[0].refusal, want);
    }
    rig.exit(0, no_isv(VOID, true));
    assert_eq!(rig.vcpus[0].refusal.width, None, "no syndrome, no size");
}

// bug: 42 44
#[test]
fn what_is_refused_reaches_no_device() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    for width in [Width::B1, Width::B2, Width::B4, Width::B8] {
        for offset in [0x800, 0x400, 0x38, 0xff9] {
            assert_eq!(rig.write(TEST + offset, width, 0xa5), Err(Reason::Undeclared));
            assert_eq!(rig.read(TEST + offset, width), Err(Reason::Undeclared));
        }
        assert_eq!(rig.write(UART, width, 0x41), Err(Reason::Undeclared));
    }
    assert!(rig.machine.log().output.is_empty());
    rig.call(0xc600_0007, [TEST, 0, 0]);
    for register in [0x08, 0x10, 0x18, 0x20, 0x28] {
        assert_eq!(rig.read(TEST + register, Width::B8), Ok(0), "{register:#x}");
    }
}

#[test]
fn counters_count_what_they_say() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    rig.call(0xc600_0007, [TEST, 0, 0]);
    rig.call(0xdead_beef, [0; 3]);
    rig.read(TEST, Width::B4).unwrap();
    rig.read(TEST + 0x400, Width::B4).unwrap_err();
    rig.read(VOID, Width::B4).unwrap_err();
    rig.load(RAM, Width::B4);
    let cm = arch::DataAbort { access: None, cm: true, ..data(VOID, Width::B1, true) };
    rig.exit(0, Exit::DataAbort(cm));
    rig.exit(0, Exit::Smc { imm: 0 });
    let counts = rig.vm.counts();
    assert_eq!((counts.hypercalls, counts.mmio, counts.refused), (3, 4, 1));
}

/// Table and index of the level-3 entry of `ipa`.
pub fn find_entry(rig: &Rig, ipa: u64) -> (arch::Pa, usize) {
    let mut table = stage2::fake::TABLES;
    let mut level = 1;
    let mut index = (ipa >> 30) as usize;
    loop {
        let raw = stage2::TableMemory::load(&rig.machine.fake, table, index);
        if level == 3 {
            return (table, index);
        }
        assert_eq!(raw & 3, 3, "a table at level {level}");
        table = arch::Pa::new(raw & 0xffff_ffff_f000);
        level += 1;
        index = (ipa >> (39 - 9 * level)) as usize & 511;
    }
}
