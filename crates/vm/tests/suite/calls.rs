// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guard's calls of docs/abi.md, row by row, in both dialects and under every policy.

use crate::common::*;
use arch::{Exit, Ipa, Pa, Width};
use mmio_guard::{Dialect, Policy};
use stage2::{Entry, GuardAnnotation};
use vm::{Outcome, Reason};

const UID: [u64; 4] = [0xb66f_b428, 0xe911_c52e, 0x564b_caa9, 0x743a_004d];
const GARBAGE: [u64; 3] = [0xffff_ffff_ffff_ffff, 0x1234_5678_9abc_def0, 3];

#[test]
fn uid_is_kvms_whatever_the_policy() {
    everywhere(&[OFF, ENROL, ENFORCE], |rig, _, _| {
        assert_eq!(rig.call(0x8600_ff01, GARBAGE), UID);
    });
}

#[test]
fn feature_maps() {
    for (policy, dialect, map) in [
        (OFF, Dialect::Pkvm, 0x1),
        (OFF, Dialect::Series, 0x1),
        (ENROL, Dialect::Pkvm, 0xffd),
        (ENFORCE, Dialect::Pkvm, 0xffd),
        (ENROL, Dialect::Series, 0x3d),
        (ENFORCE, Dialect::Series, 0x3d),
    ] {
        assert_eq!(rig(policy, dialect).call(0x8600_0000, GARBAGE), [map, 0, 0, 0]);
    }
}

#[test]
fn under_policy_off_functions_2_to_11_do_not_exist() {
    for dialect in [Dialect::Pkvm, Dialect::Series] {
        let mut rig = rig(OFF, dialect);
        for function in 2..=11 {
            for arguments in [[0; 3], [VOID, 1, 0], [RAM, 0, 0], GARBAGE] {
                rig.fails(0xc600_0000 + function, arguments, NOT_SUPPORTED);
            }
        }
        assert_eq!(rig.read(UART + 0x18, Width::B4), Ok(0x90), "an ordinary VM's device");
    }
}

#[test]
fn info_in_series_ignores_its_arguments() {
    for policy in [ENROL, ENFORCE] {
        let mut rig = rig(policy, Dialect::Series);
        for arguments in [[0; 3], GARBAGE] {
            assert_eq!(rig.call(0xc600_0002, arguments), [4096, 0, 0, 0]);
        }
    }
}

#[test]
fn info_and_meminfo_in_pkvm_want_zeros() {
    for policy in [ENROL, ENFORCE] {
        let mut rig = rig(policy, Dialect::Pkvm);
        for id in [0xc600_0002, 0xc600_0005] {
            assert_eq!(rig.call(id, [0; 3]), [4096, 1, 0, 0]);
            for arguments in [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1 << 63], GARBAGE] {
                rig.fails(id, arguments, INVALID);
            }
        }
    }
}

#[test]
fn enroll_activates_once_and_for_all() {
    everywhere(&[ENROL, ENFORCE], |rig, policy, dialect| {
        assert_eq!(rig.vm.guard().active(), policy == ENFORCE);
        for _ in 0..3 {
            assert_eq!(rig.call(ids(dialect).enroll, GARBAGE), OK);
            assert!(rig.vm.guard().active());
        }
    });
}

#[test]
fn map_before_the_guard_is_active() {
    let mut series = rig(ENROL, Dialect::Series);
    series.fails(0xc600_0004, [UART, 0, 0], NOT_SUPPORTED);
    let mut pkvm = rig(ENROL, Dialect::Pkvm);
    assert_eq!(pkvm.call(0xc600_0007, [UART, 0, 0]), OK_1);
    assert_eq!(pkvm.vm.declared_pages(), 1);
    pkvm.call(0xc600_0006, [0; 3]);
    assert!(pkvm.read(UART + 0x18, Width::B4).is_ok(), "what was recorded is in force");
    assert_eq!(pkvm.read(TEST, Width::B4), Err(Reason::Undeclared));
}

#[test]
fn map_of_a_page_and_again() {
    everywhere(&[ENROL, ENFORCE], |rig, _, dialect| {
        let ids = ids(dialect);
        rig.call(ids.enroll, [0; 3]);
        for page in [0, VOID, UART, GICD, GICR, RAM - 0x1000, RAM + RAM_SIZE, (1 << 40) - 0x1000] {
            let pool = rig.snapshot().pool;
            for again in 0..3 {
                assert_eq!(rig.call(ids.map, [page, 0, 0]), done(dialect), "{page:#x}");
                if again > 0 {
                    let snapshot = rig.snapshot();
                    assert_eq!(rig.call(ids.map, [page, 0, 0]), done(dialect));
                    assert_eq!(rig.snapshot(), snapshot, "idempotent");
                }
            }
            assert!(pool - rig.snapshot().pool <= 2, "tables of one path");
        }
        assert_eq!(rig.vm.declared_pages(), 8);
    });
}

#[test]
fn map_fails_where_it_must() {
    let config = |policy, dialect| Config {
        roms: vec![range(0x40_0000, 0x3000)],
        ..Config::of(policy, dialect)
    };
    for dialect in [Dialect::Pkvm, Dialect::Series] {
        for policy in [ENROL, ENFORCE] {
            let mut rig = config(policy, dialect).build();
            let ids = ids(dialect);
            rig.call(ids.enroll, [0; 3]);
            for (ipa, why) in [
                (VOID + 1, "unaligned"),
                (VOID + 4095, "unaligned"),
                (VOID + 0x800, "unaligned"),
                (1 << 40, "first address beyond"),
                ((1 << 40) + 0x1000, "beyond"),
                (1 << 63, "beyond"),
                (u64::MAX - 0xfff, "the last page there is"),
                (u64::MAX, "unaligned and beyond"),
                (RAM, "RAM"),
                (RAM + 0x3000, "RAM"),
                (RAM + RAM_SIZE - 0x1000, "RAM"),
                (0x40_0000, "rom"),
                (0x40_2000, "rom"),
            ] {
                rig.fails(ids.map, [ipa, 0, 0], failed(dialect));
                assert_eq!(rig.load(RAM, Width::B4), Outcome::Resume, "{why}");
            }
            assert_eq!(rig.call(ids.map, [0x40_3000, 0, 0]), done(dialect), "behind the rom");
            assert_eq!(rig.call(ids.map, [0x3f_f000, 0, 0]), done(dialect), "before the rom");
        }
    }
}

#[test]
fn map_outside_the_allow_list_fails() {
    for dialect in [Dialect::Pkvm, Dialect::Series] {
        let allow = vec![range(UART, 0x1000), range(VOID, 0x3000)];
        let mut rig = Config { allow, ..Config::of(ENFORCE, dialect) }.build();
        let ids = ids(dialect);
        for page in [UART, VOID, VOID + 0x2000] {
            assert_eq!(rig.call(ids.map, [page, 0, 0]), done(dialect), "{page:#x}");
        }
        for page in [UART - 0x1000, UART + 0x1000, VOID - 0x1000, VOID + 0x3000, 0, GICD] {
            rig.fails(ids.map, [page, 0, 0], failed(dialect));
        }
    }
}

// bug: 32 63
#[test]
fn map_with_an_empty_pool_fails_and_leaves_the_rest() {
    for dialect in [Dialect::Pkvm, Dialect::Series] {
        // RAM in 2 MiB leaves takes one table; two more make one path.
        let mut rig = Config { pool: 3, ..Config::of(ENFORCE, dialect) }.build();
        let ids = ids(dialect);
        assert_eq!(rig.call(ids.map, [VOID, 0, 0]), done(dialect));
        assert_eq!(rig.snapshot().pool, 0);
        rig.fails(ids.map, [0x80_0000_0000, 0, 0], failed(dialect));
        assert_eq!(rig.call(ids.map, [VOID + 0x1000, 0, 0]), done(dialect), "needs no table");
        assert_eq!(rig.read(VOID, Width::B4), Err(Reason::NoDevice), "earlier ones stay declared");
    }
}

#[test]
fn map_keeps_the_hint_and_judges_nothing_by_it() {
    for dialect in [Dialect::Pkvm, Dialect::Series] {
        let mut rig = rig(ENFORCE, dialect);
        let ids = ids(dialect);
        rig.machine.log().mair = 0x7766_5544_3322_1100;
        // Linux' whole protection word (index 4), U-Boot's masked one, a selftest's PROT_READ | PROT_WRITE.
        for (x2, index, mair) in
            [(0x0068_0000_0000_0713, 4, 0x44), (7 << 2, 7, 0x77), (3, 0, 0x00), (u64::MAX, 7, 0x77)]
        {
            assert_eq!(rig.call(ids.map, [UART, x2, u64::MAX]), done(dialect));
            let found = rig.vm.stage2().lookup(Ipa::new(UART)).unwrap();
            assert_eq!(
                found.entry,
                Entry::Guard(GuardAnnotation { hint: index, mair, preset: false })
            );
            let hint = u64::from(index) << 2 | u64::from(mair) << 8;
            assert_eq!(rig.call(QUERY, [UART + 0x18, 0, 0]), [0, 3, hint, 0]);
            assert!(rig.read(UART + 0x18, Width::B4).is_ok());
        }
    }
}

// bug: 32
#[test]
fn unmap_really_undeclares() {
    everywhere(&[ENROL, ENFORCE], |rig, _, dialect| {
        let ids = ids(dialect);
        rig.call(ids.enroll, [0; 3]);
        for page in [UART, TEST, 0, (1 << 40) - 0x1000] {
            rig.call(ids.map, [page, 0, 0]);
            assert_eq!(rig.call(ids.unmap, [page, GARBAGE[1], GARBAGE[2]]), done(dialect));
            assert_eq!(rig.read(page, Width::B4), Err(Reason::Undeclared));
        }
        assert_eq!(rig.vm.declared_pages(), 0);
    });
}

#[test]
fn unmap_of_what_is_not_declared() {
    let mut pkvm = rig(ENFORCE, Dialect::Pkvm);
    let mut series = rig(ENFORCE, Dialect::Series);
    for page in [VOID, RAM, RAM + 0x1000, 0, 1 << 40, 1 << 63, u64::MAX - 0xfff] {
        let before = pkvm.snapshot();
        assert_eq!(pkvm.call(0xc600_0008, [page, 0, 0]), OK_1, "{page:#x}: declared or not");
        assert_eq!(pkvm.snapshot(), before);
        series.fails(0xc600_0005, [page, 0, 0], NOT_SUPPORTED);
    }
}

#[test]
fn unmap_of_an_unaligned_address() {
    let mut pkvm = rig(ENFORCE, Dialect::Pkvm);
    pkvm.call(0xc600_0007, [UART, 0, 0]);
    for offset in [1, 0x18, 4095] {
        pkvm.fails(0xc600_0008, [UART + offset, 0, 0], INVALID);
        let mut series = rig(ENFORCE, Dialect::Series);
        series.call(0xc600_0004, [UART, 0, 0]);
        assert_eq!(series.call(0xc600_0005, [UART + offset, 0, 0]), OK, "means its page");
        assert_eq!(series.vm.declared_pages(), 0);
    }
}

#[test]
fn unmap_before_the_guard_is_active() {
    rig(ENROL, Dialect::Series).fails(0xc600_0005, [UART, 0, 0], NOT_SUPPORTED);
    let mut pkvm = rig(ENROL, Dialect::Pkvm);
    pkvm.call(0xc600_0007, [UART, 0, 0]);
    assert_eq!(pkvm.call(0xc600_0008, [UART, 0, 0]), OK_1);
    pkvm.call(0xc600_0006, [0; 3]);
    assert_eq!(pkvm.read(UART, Width::B4), Err(Reason::Undeclared));
}

#[test]
fn unmap_of_a_page_of_a_larger_declaration() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    let (base, pages) = (0x1_0000_0000, 1 << 18);
    assert_eq!(rig.call(RANGE_MAP, [base, pages, 0]), [0, pages, 0, 0]);
    let entries = rig.snapshot().entries.len();
    assert_eq!(rig.call(0xc600_0008, [base + 0x5000, 0, 0]), OK_1);
    assert_eq!(rig.vm.declared_pages(), pages - 1);
    assert!(rig.snapshot().entries.len() > entries, "split");
    assert_eq!(rig.read(base + 0x5000, Width::B4), Err(Reason::Undeclared));
    assert_eq!(rig.read(base + 0x4000, Width::B4), Err(Reason::NoDevice));
    assert_eq!(rig.read(base + 0x6000, Width::B4), Err(Reason::NoDevice));
}

#[test]
fn unmap_that_cannot_split_fails_and_changes_nothing() {
    let mut rig = Config { pool: 1, ..Config::of(ENFORCE, Dialect::Pkvm) }.build();
    assert_eq!(rig.call(RANGE_MAP, [0x1_0000_0000, 1 << 18, 0])[0], 0);
    rig.fails(0xc600_0008, [0x1_0000_5000, 0, 0], INVALID);
    rig.fails(RANGE_UNMAP, [0x1_0000_5000, 1, 0], INVALID);
}

#[test]
fn range_map_declares_and_says_how_many() {
    for policy in [ENROL, ENFORCE] {
        let mut rig = rig(policy, Dialect::Pkvm);
        assert_eq!(rig.call(RANGE_MAP, [VOID, 3, 0]), [0, 3, 0, 0]);
        assert_eq!(rig.vm.declared_pages(), 3);
        assert_eq!(rig.call(RANGE_MAP, [VOID + 0x1000, 5, 0]), [0, 5, 0, 0], "over declared ones");
        assert_eq!(rig.vm.declared_pages(), 6);
        assert_eq!(rig.call(QUERY, [VOID, 0, 0]), [0, 3, 0, 0], "ranges carry no hint");
        assert_eq!(rig.call(RANGE_UNMAP, [VOID, 2, 0]), [0, 2, 0, 0]);
        assert_eq!(rig.vm.declared_pages(), 4);
        assert_eq!(rig.call(RANGE_UNMAP, [VOID, 512, 0]), [0, 512, 0, 0], "declared or not");
        assert_eq!(rig.vm.declared_pages(), 0);
    }
}

#[test]
fn range_calls_fail_whole_on_bad_arithmetic() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    rig.call(RANGE_MAP, [VOID, 4, 0]);
    for id in [RANGE_MAP, RANGE_UNMAP] {
        for (arguments, why) in [
            ([VOID, 0, 0], "no granules"),
            ([VOID, 1, 1], "x3"),
            ([VOID, 1, 1 << 63], "x3"),
            ([VOID + 8, 1, 0], "unaligned"),
            ([1 << 40, 1, 0], "beyond"),
            ([(1 << 40) - 0x1000, 2, 0], "one granule beyond"),
            ([VOID, 1 << 28, 0], "ends beyond"),
            ([VOID, 1 << 52, 0], "wraps"),
            ([VOID, u64::MAX, 0], "wraps"),
            ([VOID, (1 << 52) + 1, 0], "wraps to one granule"),
            ([u64::MAX - 0xfff, 1, 0], "ends at 2^64"),
            ([u64::MAX - 0xfff, 2, 0], "wraps"),
        ] {
            rig.fails(id, arguments, INVALID);
            let _ = why;
        }
    }
}

#[test]
fn range_map_stops_before_what_it_cannot_do() {
    let mut rig = Config { roms: vec![range(0x40_0000, 0x1000)], ..Config::default() }.build();
    assert_eq!(rig.call(RANGE_MAP, [RAM - 0x3000, 8, 0]), [0, 3, 0, 0], "up to RAM");
    assert_eq!(rig.call(RANGE_MAP, [0x3f_e000, 8, 0]), [0, 2, 0, 0], "up to the rom");
    rig.fails(RANGE_MAP, [RAM, 8, 0], INVALID);
    rig.fails(RANGE_MAP, [RAM + RAM_SIZE - 0x1000, 8, 0], INVALID);
    rig.fails(RANGE_MAP, [0x40_0000, 1, 0], INVALID);
    assert_eq!(rig.call(RANGE_MAP, [RAM + RAM_SIZE, 1, 0]), [0, 1, 0, 0]);
}

// bug: 23
#[test]
fn range_map_stops_at_the_edge_of_what_is_allowed() {
    let allow = vec![range(VOID, 0x4000)];
    let mut rig = Config { allow, ..Config::default() }.build();
    assert_eq!(rig.call(RANGE_MAP, [VOID + 0x2000, 9, 0]), [0, 2, 0, 0]);
    rig.fails(RANGE_MAP, [VOID + 0x4000, 1, 0], INVALID);
    rig.fails(RANGE_MAP, [VOID - 0x1000, 2, 0], INVALID);
    assert_eq!(
        rig.call(RANGE_UNMAP, [VOID - 0x1000, 9, 0]),
        [0, 9, 0, 0],
        "undoing needs no leave"
    );
}

// bug: 60
#[test]
fn a_range_writes_at_most_512_descriptors_a_call() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    let guards = |rig: &Rig| {
        rig.snapshot().entries.iter().filter(|(_, _, e)| matches!(e, Entry::Guard(_))).count()
    };
    let (mut at, mut left, mut calls) = (VOID + 0x1000, 2000_u64, 0);
    while left > 0 {
        let before = guards(&rig);
        let [x0, done, ..] = rig.call(RANGE_MAP, [at, left, 0]);
        assert!(x0 == 0 && done > 0 && done <= left, "{done}");
        assert!(guards(&rig) - before <= 512);
        at += done * 4096;
        left -= done;
        calls += 1;
    }
    assert_eq!(rig.vm.declared_pages(), 2000);
    // 511 pages and a block of 512; a block and 465 pages.
    assert_eq!(calls, 2);
}

#[test]
fn an_aligned_range_costs_one_descriptor_per_block() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    assert_eq!(rig.call(RANGE_MAP, [0x1_0000_0000, 4 << 18, 0]), [0, 4 << 18, 0, 0], "4 GiB");
    let blocks = rig.snapshot().entries;
    let guards: Vec<_> = blocks.iter().filter(|(_, _, e)| matches!(e, Entry::Guard(_))).collect();
    assert_eq!(guards.len(), 4);
    assert!(guards.iter().all(|(_, level, _)| *level == 1));
    assert_eq!(rig.call(RANGE_UNMAP, [0x1_0000_0000, 4 << 18, 0]), [0, 4 << 18, 0, 0]);
    assert_eq!(rig.vm.declared_pages(), 0);
}

#[test]
fn range_calls_do_not_exist_in_series() {
    let mut rig = rig(ENFORCE, Dialect::Series);
    for id in (6..=11).map(|function| 0xc600_0000 + function) {
        rig.fails(id, [VOID, 1, 0], NOT_SUPPORTED);
    }
}

// bug: 25
#[test]
fn share_and_unshare() {
    for policy in [ENROL, ENFORCE] {
        let mut rig = rig(policy, Dialect::Pkvm);
        assert_eq!(rig.call(MEM_SHARE, [RAM, 0, 0]), OK_1, "0 granules mean 1");
        rig.fails(MEM_SHARE, [RAM, 0, 0], INVALID);
        assert_eq!(rig.call(MEM_SHARE, [RAM + 0x1000, 4, 0]), [0, 4, 0, 0]);
        assert_eq!(rig.vm.shared_pages(), 5);
        rig.fails(MEM_SHARE, [RAM + 0x4000, 8, 0], INVALID);
        assert_eq!(rig.call(MEM_UNSHARE, [RAM + 0x2000, 1, 0]), OK_1);
        rig.fails(MEM_UNSHARE, [RAM + 0x2000, 1, 0], INVALID);
        assert_eq!(rig.call(MEM_SHARE, [RAM + 0x2000, 3, 0]), OK_1, "up to one that is shared");
        assert_eq!(rig.call(MEM_UNSHARE, [RAM, 9, 0]), [0, 5, 0, 0], "up to one that is not");
        assert_eq!(rig.vm.shared_pages(), 0);
    }
}

#[test]
fn share_fails_where_it_must() {
    let mut rig = Config { roms: vec![range(0x40_0000, 0x1000)], ..Config::default() }.build();
    for id in [MEM_SHARE, MEM_UNSHARE] {
        for (arguments, why) in [
            ([RAM + 1, 1, 0], "unaligned"),
            ([RAM - 0x1000, 1, 0], "no RAM"),
            ([RAM + RAM_SIZE, 1, 0], "no RAM"),
            ([VOID, 1, 0], "no RAM"),
            ([0x40_0000, 1, 0], "rom is no RAM"),
            ([RAM, 1, 1], "x3"),
            ([RAM, u64::MAX, 0], "wraps"),
            ([RAM, 1 << 52, 0], "wraps"),
            ([RAM, 1 << 28, 0], "ends beyond the IPA size"),
            ([1 << 40, 1, 0], "beyond"),
            ([u64::MAX - 0xfff, 1, 0], "beyond"),
        ] {
            rig.fails(id, arguments, INVALID);
            let _ = why;
        }
    }
    let pages = RAM_SIZE >> 12;
    assert_eq!(rig.call(MEM_SHARE, [RAM + RAM_SIZE - 0x2000, 9, 0]), [0, 2, 0, 0], "up to the end");
    assert_eq!(rig.call(MEM_SHARE, [RAM, pages, 0]), [0, 128, 0, 0], "at most 128 a call");
}

#[test]
fn sharing_leaves_stage_2_alone() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    let before = rig.snapshot().entries;
    rig.machine.fake.take_events();
    rig.call(MEM_SHARE, [RAM, 100, 0]);
    rig.call(MEM_UNSHARE, [RAM, 50, 0]);
    assert_eq!(rig.snapshot().entries, before);
    assert!(rig.machine.fake.take_events().is_empty());
}

// bug: 30
#[test]
fn relinquish_wipes_in_place() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    let before = rig.snapshot();
    assert_eq!(rig.call(RELINQUISH, [RAM + 0x20_3000, 1, 2]), OK);
    assert_eq!(rig.machine.log().wiped, [(Pa::new(RAM_PA + 0x20_3000), 4096)]);
    assert_eq!(rig.snapshot(), before, "it stays mapped");
    for ipa in [VOID, UART, 0, 1 << 40, u64::MAX - 0xfff] {
        assert_eq!(rig.call(RELINQUISH, [ipa, 0, 0]), OK, "no RAM: nothing to do");
    }
    rig.fails(RELINQUISH, [RAM + 8, 0, 0], INVALID);
    rig.fails(RELINQUISH, [VOID + 8, 0, 0], INVALID);
    rig.call(MEM_SHARE, [RAM, 1, 0]);
    rig.fails(RELINQUISH, [RAM, 0, 0], INVALID);
    assert_eq!(rig.machine.log().wiped.len(), 1);
    rig.call(MEM_UNSHARE, [RAM, 1, 0]);
    assert_eq!(rig.call(RELINQUISH, [RAM, 0, 0]), OK);
}

#[test]
fn relinquish_of_rom_does_nothing() {
    let mut rig = Config { roms: vec![range(0x40_0000, 0x1000)], ..Config::default() }.build();
    assert_eq!(rig.call(RELINQUISH, [0x40_0000, 0, 0]), OK);
    assert!(rig.machine.log().wiped.is_empty());
}

#[test]
fn own_version() {
    everywhere(&[OFF, ENROL, ENFORCE], |rig, _, _| {
        assert_eq!(rig.call(0xc600_f000, GARBAGE), [0x1_0000, 0b111, 0, 0]);
        for id in 0xc600_f003..0xc600_f040 {
            rig.fails(id, [0; 3], NOT_SUPPORTED);
        }
    });
}

#[test]
fn own_query_tells_the_state_of_a_page() {
    for dialect in [Dialect::Pkvm, Dialect::Series] {
        for policy in [OFF, ENROL, ENFORCE] {
            let preset = if policy == OFF { vec![] } else { vec![range(TEST, 0x1000)] };
            let roms = vec![range(0x40_0000, 0x1000)];
            let mapped_mmio =
                vec![vm::MappedMmio { ipa: range(0x801_0000, 0x1000), pa: Pa::new(0x700_0000) }];
            let mut rig =
                Config { preset, roms, mapped_mmio, ..Config::of(policy, dialect) }.build();
            let mut state = |ipa| rig.call(QUERY, [ipa, 7, 7]);
            assert_eq!(state(RAM + 0x123), [0, 1, 0, 0]);
            assert_eq!(state(0x40_0fff), [0, 2, 0, 0]);
            assert_eq!(state(VOID), [0, 0, 0, 0]);
            assert_eq!(state((1 << 40) - 1), [0, 0, 0, 0]);
            assert_eq!(state(1 << 40), INVALID);
            assert_eq!(state(u64::MAX), INVALID);
            let mapped_mmio = if policy == ENFORCE { 0 } else { 4 };
            assert_eq!(state(0x801_0000), [0, mapped_mmio, 0, 0]);
            if policy != OFF {
                assert_eq!(state(TEST), [0, 3, 1 << 16, 0], "preset");
            }
        }
    }
}

#[test]
fn own_counters() {
    everywhere(&[ENFORCE], |rig, _, dialect| {
        rig.call(ids(dialect).map, [VOID, 0, 0]);
        rig.call(ids(dialect).map, [VOID + 0x1000, 0, 0]);
        for _ in 0..5 {
            rig.read(UART, Width::B4).unwrap_err();
        }
        assert_eq!(rig.call(COUNTERS, GARBAGE), [0, 5, 2, 3], "this call included");
        assert_eq!(rig.call(COUNTERS, [0; 3]), [0, 5, 2, 4]);
    });
}

#[test]
fn a_call_is_the_vms_whichever_vcpu_makes_it() {
    everywhere(&[ENROL], |rig, _, dialect| {
        rig.call_on(1, ids(dialect).enroll, [0; 3]);
        assert_eq!(rig.read(UART, Width::B4), Err(Reason::Undeclared));
        rig.call_on(1, ids(dialect).map, [UART, 0, 0]);
        assert!(rig.read(UART + 0x18, Width::B4).is_ok());
        assert_eq!(rig.vm.counts().hypercalls, 2);
    });
}

// bug: 65
#[test]
fn every_call_zeroes_what_it_does_not_answer() {
    everywhere(&[OFF, ENROL, ENFORCE], |rig, _, _| {
        for id in [0x8000_0000, 0x8400_0000, 0x8400_000a, 0x8400_0006, 0xc600_0001, 0x1234_5678, 0]
        {
            let [_, x1, x2, x3] = rig.call(id, GARBAGE);
            assert_eq!([x1, x2, x3], [0; 3], "{id:#x}");
        }
    });
}

// bug: 65
#[test]
fn smc_is_answered_like_hvc_and_stepped_over() {
    for (id, x1, want) in [
        (0x8000_0000_u64, 0, [0x1_0001, 0, 0, 0]),
        (0xc600_0007, UART, OK_1),
        (0x8600_ff01, 0, UID),
        (0xc300_0000, 1, NOT_SUPPORTED),
    ] {
        let mut rig = rig(ENFORCE, Dialect::Pkvm);
        rig.vcpus[0].regs.x[0] = id;
        rig.vcpus[0].regs.x[1] = x1;
        assert_eq!(rig.exit(0, Exit::Smc { imm: 0 }), Outcome::Advance { il: true });
        assert_eq!(rig.vcpus[0].regs.x[..4], want);
        assert_eq!(rig.vm.counts().hypercalls, 1);
    }
}

#[test]
fn policies_and_dialects_are_not_mixed() {
    // What one dialect calls ENROLL is MEM_SHARE in the other.
    let mut pkvm = rig(Policy::Enrol, Dialect::Pkvm);
    pkvm.call(0xc600_0003, [RAM, 0, 0]);
    assert!(!pkvm.vm.guard().active());
    assert_eq!(pkvm.vm.shared_pages(), 1);
    let mut series = rig(Policy::Enrol, Dialect::Series);
    series.call(0xc600_0003, [RAM, 0, 0]);
    assert!(series.vm.guard().active());
    assert_eq!(series.vm.shared_pages(), 0);
}
