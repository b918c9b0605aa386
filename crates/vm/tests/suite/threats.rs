// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scenarios by their ids: A hypercall arguments, B the guard's state, and what of E and G needs no hardware.

use crate::common::*;
use arch::{Exit, Width};
use mmio_guard::{Dialect, Policy};
use vm::{Outcome, Parked, Reason, StopReason};

#[test]
fn a1_map_unaligned() {
    everywhere(&[ENFORCE], |rig, _, dialect| {
        for offset in [1, 2, 8, 0x800, 4095] {
            rig.fails(ids(dialect).map, [VOID + offset, 0, 0], failed(dialect));
        }
    });
}

// bug: 2
#[test]
fn a2_map_at_the_edges_of_the_ipa_space() {
    for bits in [32, 36, 40, 42, 48] {
        let mut rig = Config { ipa_bits: bits, ..Config::default() }.build();
        let limit = 1_u64 << bits;
        for ipa in [limit, limit + 0x1000, 1 << 63, u64::MAX - 0xfff] {
            rig.fails(0xc600_0007, [ipa, 0, 0], INVALID);
        }
        assert_eq!(rig.call(0xc600_0007, [limit - 0x1000, 0, 0]), OK_1, "the last page");
    }
}

// bug: 32 63
#[test]
fn a3_range_of_nothing() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    rig.fails(RANGE_MAP, [VOID, 0, 0], INVALID);
    rig.fails(RANGE_UNMAP, [VOID, 0, 0], INVALID);
}

// bug: 24 29 32
#[test]
fn a4_range_that_wraps_or_ends_beyond() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    for pages in [(1 << 28) - (VOID >> 12) + 1, 1 << 51, 1 << 52, (1 << 52) - (VOID >> 12)] {
        rig.fails(RANGE_MAP, [VOID, pages, 0], INVALID);
        rig.fails(RANGE_UNMAP, [VOID, pages, 0], INVALID);
    }
}

// bug: 24 60
#[test]
fn a5_absurd_counts_in_bounded_work() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    rig.machine.fake.take_loads();
    for pages in [1 << 52, u64::MAX, u64::MAX - 1, 1 << 63] {
        rig.fails(RANGE_MAP, [0, pages, 0], INVALID);
    }
    rig.machine.fake.take_stores();
    rig.machine.fake.take_loads();
    // Everything there is: RAM stops it, in few steps.
    let [x0, done, ..] = rig.call(RANGE_MAP, [0, 1 << 28, 0]);
    assert_eq!((x0, done), (0, RAM >> 12));
    assert!(rig.machine.fake.take_stores() <= 512 + 6 * 512, "descriptors and six tables at most");
}

// bug: 23
#[test]
fn a6_range_from_mmio_into_ram() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    assert_eq!(rig.call(RANGE_MAP, [RAM - 0x5000, 10, 0]), [0, 5, 0, 0], "the exact count");
    assert_eq!(rig.vm.declared_pages(), 5);
    rig.fails(RANGE_MAP, [RAM, 5, 0], INVALID);
}

#[test]
fn a7_long_range_in_several_calls() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    let (start, total) = (0x1_0000_0000 - 0x3000, (1 << 18) + 700);
    let (mut at, mut left, mut calls) = (start, total, 0);
    while left > 0 {
        let [x0, done, ..] = rig.call(RANGE_MAP, [at, left, 0]);
        assert_eq!(x0, 0);
        assert!((1..=left).contains(&done));
        at += done << 12;
        left -= done;
        calls += 1;
        assert!(calls < 20);
    }
    assert_eq!(rig.vm.declared_pages(), total, "the total equals");
    for probe in [start, start + 0x2000, 0x1_0000_0000, start + ((total - 1) << 12)] {
        assert_eq!(rig.read(probe, Width::B4), Err(Reason::NoDevice), "{probe:#x}");
    }
    assert_eq!(rig.read(start - 0x1000, Width::B4), Err(Reason::Undeclared));
    assert_eq!(rig.read(start + (total << 12), Width::B4), Err(Reason::Undeclared));
}

// bug: 32
#[test]
fn a8_third_argument_and_garbage() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    rig.fails(RANGE_MAP, [VOID, 1, 1], INVALID);
    assert_eq!(rig.call(0xc600_0007, [VOID, u64::MAX, u64::MAX]), OK_1, "ignored by MAP");
    assert_eq!(rig.call(0xc600_0008, [VOID, u64::MAX, u64::MAX]), OK_1, "and UNMAP");
}

#[test]
fn a9_every_vendor_id() {
    for dialect in [Dialect::Pkvm, Dialect::Series] {
        let mut rig = rig(ENFORCE, dialect);
        let last = if dialect == Dialect::Pkvm { 11 } else { 5 };
        for function in 0..=0xffff_u32 {
            let known64 = (2..=last).contains(&function) || (0xf000..=0xf002).contains(&function);
            let known32 = function == 0 || function == 0xff01;
            for (id, known) in [
                (0xc600_0000 | function, known64),
                (0x8600_0000 | function, known32),
                (0x4600_0000 | function, false),
                (0x0600_0000 | function, false),
            ] {
                let answer = rig.call(id, [0; 3]);
                assert_eq!(answer == NOT_SUPPORTED, !known || answer[0] == u64::MAX, "{id:#x}");
                if !known {
                    assert_eq!(answer, NOT_SUPPORTED, "{id:#x}");
                }
            }
        }
    }
}

#[test]
fn a10_upper_halves_of_32_bit_calls() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    let dirty = |x: u64| x | 0xdead_beef << 32;
    assert_eq!(rig.call(0x8400_000a, [dirty(0x8400_0002), 0, 0]), OK);
    assert_eq!(rig.call(0x8400_0004, [dirty(0), dirty(0), 0]), OK, "AFFINITY_INFO of vCPU 0");
    assert_eq!(rig.call(0x8400_0003, [dirty(1), dirty(RAM), dirty(5)]), OK, "CPU_ON");
    assert!(rig.vm.take_start(&mut rig.vcpus[1]));
    assert_eq!((rig.vcpus[1].regs.elr, rig.vcpus[1].regs.x[0]), (RAM, 5));
}

#[test]
fn a11_sve_hint_and_other_reserved_bits() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    for id in [0x8000_0000, 0x8400_0000, 0xc600_0007, 0x8600_0000, 0x8600_ff01, 0xc400_0003] {
        for bit in 16..24 {
            rig.fails(id | 1 << bit, [VOID, 0, 0], NOT_SUPPORTED);
        }
    }
}

#[test]
fn a12_immediates() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    for imm in [1, 2, 0x8000, 0xffff] {
        for exit in [Exit::Hvc { imm }, Exit::Smc { imm }] {
            rig.vcpus[0].regs.x[..4].copy_from_slice(&[0xc600_0007, VOID, 7, 7]);
            let want = match exit {
                Exit::Smc { .. } => Outcome::Advance { il: true },
                _ => Outcome::Resume,
            };
            assert_eq!(rig.exit(0, exit), want);
            assert_eq!(rig.vcpus[0].regs.x[..4], NOT_SUPPORTED);
        }
    }
    assert_eq!(rig.vm.declared_pages(), 0);
    assert_eq!(rig.vm.counts().hypercalls, 8);
}

#[test]
fn a14_smc_is_the_same_service() {
    let mut rig = rig(ENROL, Dialect::Series);
    rig.vcpus[0].regs.x[0] = 0xc600_0003;
    assert_eq!(rig.exit(0, Exit::Smc { imm: 0 }), Outcome::Advance { il: true });
    assert!(rig.vm.guard().active());
}

// bug: 65
#[test]
fn a15_x4_to_x30_are_preserved_by_every_id() {
    // `call` checks that for each call; here for one of each kind, those that fail included.
    everywhere(&[OFF, ENROL, ENFORCE], |rig, _, _| {
        for function in 0..0x60 {
            for top in [0x8000_0000, 0x8600_0000, 0xc600_0000] {
                rig.call(top | function, [u64::MAX, u64::MAX, u64::MAX]);
            }
        }
    });
}

#[test]
fn a16_info_before_and_after_enroll() {
    for dialect in [Dialect::Pkvm, Dialect::Series] {
        let mut rig = rig(ENROL, dialect);
        let before = rig.call(ids(dialect).info, [0; 3]);
        rig.call(ids(dialect).enroll, [0; 3]);
        assert_eq!(rig.call(ids(dialect).info, [0; 3]), before);
        assert_eq!(before[0], 4096);
    }
}

#[test]
fn a17_map_of_ram() {
    everywhere(&[ENFORCE], |rig, _, dialect| {
        for page in [RAM, RAM + 0x1000, RAM + RAM_SIZE - 0x1000] {
            rig.fails(ids(dialect).map, [page, 0, 0], failed(dialect));
            assert_eq!(rig.load(page, Width::B8), Outcome::Resume, "still memory");
        }
    });
}

#[test]
fn a18_map_of_emulated_devices() {
    everywhere(&[ENFORCE], |rig, _, dialect| {
        for page in [GICD, GICD + 0xf000, GICR, GICR + 0x1_0000, UART] {
            assert_eq!(rig.call(ids(dialect).map, [page, 0, 0]), done(dialect));
            assert!(rig.read(page + 0x18, Width::B4).is_ok());
        }
    });
}

#[test]
fn a19_map_twice_and_a_thousand_times() {
    everywhere(&[ENFORCE], |rig, _, dialect| {
        rig.call(ids(dialect).map, [VOID, 0, 0]);
        let before = rig.snapshot();
        for _ in 0..1_000 {
            rig.call(ids(dialect).map, [VOID, 0, 0]);
        }
        assert_eq!(rig.snapshot(), before);
    });
}

#[test]
fn a20_unmap_of_what_was_never_declared() {
    rig(ENFORCE, Dialect::Series).fails(0xc600_0005, [VOID, 0, 0], NOT_SUPPORTED);
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    let before = rig.snapshot();
    assert_eq!(rig.call(0xc600_0008, [VOID, 0, 0]), OK_1);
    assert_eq!(rig.snapshot(), before);
}

// bug: 64
#[test]
fn a21_one_page_in_two_roles() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    rig.call(MEM_SHARE, [RAM, 0, 0]);
    rig.fails(0xc600_0007, [RAM, 0, 0], INVALID);
    rig.call(0xc600_0007, [VOID, 0, 0]);
    rig.fails(MEM_SHARE, [VOID, 0, 0], INVALID);
}

#[test]
fn b1_b2_before_and_after_enroll() {
    everywhere(&[ENROL], |rig, _, dialect| {
        assert!(rig.read(UART + 0x18, Width::B4).is_ok());
        assert!(rig.write(TEST + 0x800, Width::B4, 1).is_ok());
        rig.call(ids(dialect).enroll, [0; 3]);
        assert_eq!(rig.read(UART + 0x18, Width::B4), Err(Reason::Undeclared));
        assert_eq!(rig.write(TEST + 0x800, Width::B4, 1), Err(Reason::Undeclared));
    });
}

#[test]
fn b3_enroll_twice() {
    everywhere(&[ENROL], |rig, _, dialect| {
        rig.call(ids(dialect).enroll, [0; 3]);
        let before = rig.snapshot();
        assert_eq!(rig.call(ids(dialect).enroll, [0; 3]), OK);
        assert_eq!(rig.snapshot(), before);
    });
}

#[test]
fn b4_nothing_ends_the_guard() {
    for dialect in [Dialect::Pkvm, Dialect::Series] {
        let mut rig = rig(ENROL, dialect);
        rig.call(ids(dialect).enroll, [0; 3]);
        for function in 0..0x100 {
            for top in [0x8600_0000_u32, 0xc600_0000, 0x8600_ff00, 0xc600_f000] {
                for arguments in [[0; 3], [UART, 0, 0], [u64::MAX; 3]] {
                    rig.call(top + function, arguments);
                    assert!(rig.vm.guard().active());
                }
            }
        }
    }
}

#[test]
fn b5_map_before_enroll() {
    rig(ENROL, Dialect::Series).fails(0xc600_0004, [UART, 0, 0], NOT_SUPPORTED);
    let mut rig = rig(ENROL, Dialect::Pkvm);
    assert_eq!(rig.call(0xc600_0007, [UART, 0, 0]), OK_1);
    assert_eq!(rig.call(QUERY, [UART, 0, 0])[1], 3);
}

#[test]
fn b6_a_declared_access_reaches_the_device_once() {
    everywhere(&[ENFORCE], |rig, _, dialect| {
        rig.call(ids(dialect).map, [TEST, 0, 0]);
        rig.write(TEST + 0x30, Width::B8, 0x1122_3344_5566_7788).unwrap();
        for (n, width) in [(1, Width::B1), (2, Width::B2), (3, Width::B4), (4, Width::B8)] {
            let mask = if width == Width::B8 { u64::MAX } else { (1 << (8 * width.bytes())) - 1 };
            assert_eq!(rig.read(TEST + 0x900, width), Ok(0x1122_3344_5566_7788 & mask));
            rig.write(TEST + 0x908, width, 0xffee_ddcc_bbaa_9988).unwrap();
            assert_eq!(rig.read(TEST + 0x08, Width::B8), Ok(n));
            assert_eq!(rig.read(TEST + 0x10, Width::B8), Ok(n));
            assert_eq!(rig.read(TEST + 0x20, Width::B8), Ok(0xffee_ddcc_bbaa_9988 & mask));
            let last = 0x908 | width.bytes() << 16 | 1 << 24;
            assert_eq!(rig.read(TEST + 0x28, Width::B8), Ok(last));
        }
    });
}

#[test]
fn b7_unmap_then_access() {
    everywhere(&[ENFORCE], |rig, _, dialect| {
        rig.call(ids(dialect).map, [UART, 0, 0]);
        rig.read(UART + 0x18, Width::B4).unwrap();
        rig.call(ids(dialect).unmap, [UART, 0, 0]);
        assert_eq!(rig.read(UART + 0x18, Width::B4), Err(Reason::Undeclared));
    });
}

#[test]
fn b10_declare_until_the_pool_is_empty() {
    // Each 2 MiB takes a table of pages: the pool predicts how many.
    let pool = 20;
    let mut rig = Config { pool, ..Config::default() }.build();
    let mut declared = 0;
    loop {
        let ipa = 0x80_0000_0000 + declared * 0x20_0000;
        let answer = rig.call(0xc600_0007, [ipa, 0, 0]);
        if answer == INVALID {
            break;
        }
        assert_eq!(answer, OK_1);
        declared += 1;
    }
    // One table is RAM's, one the level-2 table here.
    assert_eq!(declared, pool as u64 - 2);
    for n in 0..declared {
        assert_eq!(rig.read(0x80_0000_0000 + n * 0x20_0000, Width::B4), Err(Reason::NoDevice));
    }
}

#[test]
fn b11_map_and_unmap_over_and_over() {
    everywhere(&[ENFORCE], |rig, _, dialect| {
        let ids = ids(dialect);
        rig.call(ids.map, [VOID, 0, 0]);
        rig.call(ids.unmap, [VOID, 0, 0]);
        let before = rig.snapshot();
        for n in 0..3_000 {
            let page = VOID + (n % 7) * 0x1000;
            rig.call(ids.map, [page, 0, 0]);
            rig.call(ids.unmap, [page, 0, 0]);
        }
        assert_eq!(rig.snapshot(), before, "no leak");
    });
}

// bug: 31
#[test]
fn b13_reset_clears_the_guard_and_every_note() {
    for policy in [ENROL, ENFORCE] {
        for dialect in [Dialect::Pkvm, Dialect::Series] {
            let mut rig = rig(policy, dialect);
            let fresh = rig.snapshot();
            rig.call(ids(dialect).enroll, [0; 3]);
            for page in [UART, VOID, 0, 0x80_0000_0000] {
                rig.call(ids(dialect).map, [page, 0, 0]);
            }
            reboot(&mut rig);
            assert_eq!(rig.snapshot(), fresh);
            assert_eq!(rig.read(UART + 0x18, Width::B4).is_ok(), policy == ENROL);
        }
    }
}

/// As EL2 does it: the call, the parking of every vCPU that is on, reset, and a new start.
pub fn reboot(rig: &mut Rig) {
    rig.vcpus[0].regs.x[0] = 0x8400_0009;
    assert_eq!(rig.exit(0, Exit::Hvc { imm: 0 }), Outcome::Stop(StopReason::Reset));
    let mut last = 0;
    for vcpu in rig.vm.lifecycle().on(&rig.order) {
        if rig.vm.park(&rig.vcpus[vcpu]) == Parked::Last(StopReason::Reset) {
            last += 1;
        }
    }
    assert_eq!(last, 1);
    rig.vm.reset(&rig.order).unwrap();
    rig.begin();
}

#[test]
fn b14_turning_vcpus_off_and_on_leaves_the_guard() {
    everywhere(&[ENROL], |rig, _, dialect| {
        rig.call(ids(dialect).enroll, [0; 3]);
        rig.call(ids(dialect).map, [UART, 0, 0]);
        rig.call(0xc400_0003, [1, RAM, 0]);
        assert!(rig.vm.take_start(&mut rig.vcpus[1]));
        rig.vcpus[1].regs.x[0] = 0x8400_0002;
        assert_eq!(rig.exit(1, Exit::Hvc { imm: 0 }), Outcome::Off);
        rig.call(0xc400_0003, [1, RAM, 0]);
        assert!(rig.vm.take_start(&mut rig.vcpus[1]));
        assert!(rig.vm.guard().active());
        assert_eq!(rig.vm.declared_pages(), 1);
    });
}

#[test]
fn b15_first_and_last_page() {
    everywhere(&[ENFORCE], |rig, _, dialect| {
        for page in [0, (1 << 40) - 0x1000] {
            assert_eq!(rig.read(page, Width::B4), Err(Reason::Undeclared));
            assert_eq!(rig.call(ids(dialect).map, [page, 0, 0]), done(dialect));
            assert_eq!(rig.read(page, Width::B4), Err(Reason::NoDevice));
            assert_eq!(rig.read(page + 0xff8, Width::B8), Err(Reason::NoDevice));
            assert_eq!(rig.call(ids(dialect).unmap, [page, 0, 0]), done(dialect));
        }
    });
}

#[test]
fn b16_a_second_kernel_that_never_enrols_is_still_guarded() {
    // Nothing but a reset ends the guard, so a jump into other code does not.
    let mut rig = rig(ENROL, Dialect::Pkvm);
    rig.call(0xc600_0006, [0; 3]);
    rig.vcpus[0].regs = arch::GuestRegs { elr: RAM, ..arch::GuestRegs::default() };
    rig.call(0x8600_ff01, [0; 3]);
    assert_eq!(rig.read(UART, Width::B4), Err(Reason::Undeclared));
}

// bug: 67
#[test]
fn g1_many_lives() {
    let preset = vec![range(UART, 0x1000)];
    let mut rig = Config { preset, ..Config::of(ENROL, Dialect::Pkvm) }.build();
    let fresh = rig.snapshot();
    for n in 0..200 {
        rig.call(0xc600_0006, [0; 3]);
        rig.call(0xc600_0007, [VOID + n * 0x20_0000, 0, 0]);
        rig.call(MEM_SHARE, [RAM, 3, 0]);
        reboot(&mut rig);
        assert_eq!(rig.snapshot(), fresh);
    }
    rig.machine.fake.assert_quiet();
}

/// Found by guest-stub: a number that stood for "no fast path" was an id that a guest can pass. It declared pages under
/// policy off, and pages outside the allow-list.
#[test]
fn an_unknown_call_stays_unknown_without_a_fast_path() {
    for (policy, allow) in [
        (Policy::Off, vec![]),
        (Policy::Enrol, vec![range(0x0900_0000, 0x1000)]),
        (Policy::Enforce, vec![range(0x0900_0000, 0x1000)]),
    ] {
        for dialect in [Dialect::Pkvm, Dialect::Series] {
            let mut rig = Config { allow: allow.clone(), ..Config::of(policy, dialect) }.build();
            for id in [0, 1, u32::MAX, u32::MAX - 1] {
                rig.fails(id, [0x1000_0000, 0, 0], [u64::MAX, 0, 0, 0]);
                rig.fails(id, [0x0900_0000, 1, 0], [u64::MAX, 0, 0, 0]);
            }
        }
    }
}
