// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams of exits: the fast path against the slow path. Both against the specification: tests/oracle.

use crate::common::*;
use arch::{Access, Exit, ExitInfo, Fault, FaultKind, Ipa, Pa, SysRegAccess, Va, Width};
use mmio_guard::Dialect;
use proptest::prelude::*;
use vm::{MappedMmio, Outcome};

const LIMIT: u64 = 1 << 40;
const MAPPED_MMIO: u64 = 0x0801_0000;

/// Pages where something changes: edges of memory, of lists, of tables, of the IPA space.
fn pages() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => (0..24_u64).prop_map(|n| VOID + n * 0x1000),
        3 => (0..8_u64).prop_map(|n| 0x1_0000_0000 - 0x4000 + n * 0x1000),
        2 => (0..4_u64).prop_map(|n| RAM - 0x2000 + n * 0x1000),
        2 => (0..4_u64).prop_map(|n| RAM + RAM_SIZE - 0x2000 + n * 0x1000),
        2 => (0..4_u64).prop_map(|n| 0x3f_f000 + n * 0x1000),
        3 => (0..6_u64).prop_map(|n| MAPPED_MMIO - 0x2000 + n * 0x1000),
        1 => (0..4_u64).prop_map(|n| LIMIT - 0x2000 + n * 0x1000),
        1 => prop_oneof![Just(0), Just(1 << 63), Just(u64::MAX - 0xfff), Just(0x2_0000_0000)],
        2 => prop_oneof![Just(UART), Just(GICD), Just(GICR), Just(TEST)],
    ]
}

fn counts() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => 0..20_u64,
        2 => prop_oneof![Just(512), Just(513), Just(600), Just(1024), Just(2055)],
        1 => prop_oneof![Just(1 << 28), Just(1 << 52), Just(u64::MAX), Just((1 << 52) + 1)],
    ]
}

fn dialects() -> impl Strategy<Value = Dialect> {
    prop_oneof![3 => Just(Dialect::Pkvm), 1 => Just(Dialect::Series)]
}

/// Any exit at all, with every field of its syndrome.
fn any_exit() -> impl Strategy<Value = ExitInfo> {
    let ipa = || (pages(), prop_oneof![Just(0), Just(4), Just(0x18), Just(0xffc), 0..4096_u64]);
    let esr_data = (any::<u32>(), 0..64_u64)
        .prop_map(|(iss, status)| 0x24 << 26 | 1 << 25 | (u64::from(iss) & 0x1ff_ffc0) | status);
    let plain = (0..4_u64, 0..32_u64, any::<bool>(), any::<bool>(), 0..4_u64).prop_map(
        |(sas, reg, sf, write, level)| {
            0x24 << 26
                | 1 << 25
                | 1 << 24
                | sas << 22
                | reg << 16
                | u64::from(sf) << 15
                | u64::from(write) << 6
                | 4
                | level
        },
    );
    let abort = (prop_oneof![1 => esr_data, 3 => plain], ipa(), any::<bool>()).prop_map(
        |(esr, (page, offset), clean)| ExitInfo {
            esr,
            far: 0xffff_0000_0000_0000 | page | offset,
            hpfar: (page >> 12 << 4) & if clean { 0xfff_ffff_fff0 } else { u64::MAX },
        },
    );
    let fetches =
        (0..64_u64, any::<bool>(), ipa()).prop_map(|(status, walk, (page, offset))| ExitInfo {
            esr: 0x20 << 26 | 1 << 25 | u64::from(walk) << 7 | status,
            far: page | offset,
            hpfar: page >> 12 << 4,
        });
    let system = (any::<u32>(), 0..4_u8).prop_map(|(iss, kind)| {
        let iss = u64::from(iss) & 0x1ff_ffff;
        let esr = match kind {
            0 => iss,
            // The ID space; ICC_SGI1R_EL1.
            1 => 3 << 20 | iss & (7 << 17 | 0x3fe) | 1,
            2 => 3 << 20 | iss & (7 << 17 | 0x3fe),
            _ => 3 << 20 | 5 << 17 | 12 << 10 | 11 << 1 | iss & 0x3e0,
        };
        ExitInfo { esr: 0x18 << 26 | 1 << 25 | esr, far: 0, hpfar: 0 }
    });
    let calls = prop_oneof![9 => Just(0_u64), 1 => Just(1)].prop_map(|imm| ExitInfo {
        esr: 0x16 << 26 | 1 << 25 | imm,
        far: 0,
        hpfar: 0,
    });
    let others = (0..64_u64, any::<u32>()).prop_map(|(ec, iss)| ExitInfo {
        esr: ec << 26 | u64::from(iss) & 0x3ff_ffff,
        far: 0,
        hpfar: 0,
    });
    prop_oneof![6 => abort, 1 => fetches, 2 => system, 5 => calls, 1 => others]
}

fn any_id() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => (0..12_u64).prop_map(|f| 0xc600_0000 + f),
        2 => prop_oneof![
            Just(0x8000_0000), Just(0x8400_0000), Just(0x8600_0000), Just(0x8600_ff01), Just(0x8000_0001),
            Just(0x8400_000a), Just(0xc400_0004), Just(0xc600_f000), Just(0xc600_f001), Just(0xc600_f002),
            Just(0xc400_0053),
        ],
        1 => any::<u32>().prop_map(u64::from).prop_filter("stops or starts", |id| {
            !matches!(id & 0xbfff_ffff, 0x8400_0002 | 0x8400_0003 | 0x8400_0008 | 0x8400_0009 | 0x8400_0012)
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn fast_path_and_slow_path_agree(
        policy in prop_oneof![Just(OFF), Just(ENROL), Just(ENFORCE)],
        dialect in dialects(),
        plain in any::<bool>(),
        v2 in any::<bool>(),
        exits in proptest::collection::vec(
            (any_exit(), any_id(), pages(), counts(), any::<[u64; 4]>(), any::<bool>()), 1..50),
    ) {
        let mut config = Config::of(policy, dialect);
        config.ids = core::array::from_fn(|n| n as u64 * 0x0101_0101_0101);
        if v2 {
            config.version = vgic::Version::V2;
        }
        if !plain {
            config.roms = vec![range(0x40_0000, 0x2000)];
            config.mapped_mmio = vec![MappedMmio { ipa: range(MAPPED_MMIO, 0x2000), pa: Pa::new(0x1234_0000) }];
        }
        let (mut short, mut long) = (config.build(), config.build());
        for (info, id, x1, x2, rest, aarch32) in exits {
            // HPFAR_EL2 is only read where it is valid, so that its other bits must not matter.
            for rig in [&mut short, &mut long] {
                let regs = &mut rig.vcpus[0].regs;
                regs.x[..4].copy_from_slice(&[id | rest[0] << 32, x1, x2, rest[1] & 1]);
                regs.x[4..8].copy_from_slice(&rest);
                regs.spsr = if aarch32 && info.esr >> 26 == 0x24 { 0x10 } else { 0x3c5 };
                regs.elr = 0x4000_0000;
            }
            let exit = arch::decode(info, &arch::Errata::NONE);
            let a = short.exit_raw(0, info);
            let b = long.exit_slow(0, exit);
            prop_assert_eq!(a, b, "{:x?} {:?}", info, exit);
            prop_assert_eq!(&short.vcpus[0].regs, &long.vcpus[0].regs, "{:x?} {:?}", info, exit);
            if matches!(a, Outcome::Abort(_)) {
                prop_assert_eq!(short.vcpus[0].refusal, long.vcpus[0].refusal);
            }
            prop_assert_eq!(short.vm.counts(), long.vm.counts(), "{:?}", exit);
        }
        prop_assert_eq!(short.snapshot(), long.snapshot());
        let (a, b) = (short.machine.log(), long.machine.log());
        prop_assert_eq!(&a.kicked, &b.kicked);
        prop_assert_eq!(&a.planned, &b.planned);
        prop_assert_eq!(&a.folded, &b.folded);
        prop_assert_eq!(&a.output, &b.output);
    }

    // bug: 53 60
    #[test]
    fn nothing_a_guest_does_panics_or_stops_anything_but_itself(
        exits in proptest::collection::vec((any_exit(), any_id(), any::<[u64; 6]>()), 1..60),
    ) {
        let mut rig = rig(ENFORCE, Dialect::Pkvm);
        for (info, id, x) in exits {
            let regs = &mut rig.vcpus[0].regs;
            regs.x[0] = id;
            regs.x[1..7].copy_from_slice(&x);
            rig.exit_raw(0, info);
        }
        rig.machine.fake.assert_quiet();
    }
}

#[test]
fn the_fast_path_is_taken_by_what_is_frequent() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    rig.call(0x8000_0000, [0; 3]);
    rig.call(0x8400_0000, [0; 3]);
    rig.call(0xc600_0007, [UART, 0, 0]);
    rig.went_slow = 0;
    for page in [UART, GICD, GICR] {
        rig.call(0xc600_0007, [page, 0, 0]);
        rig.call(0xc600_0007, [page, 0, 0]);
    }
    rig.read(UART + 0x18, Width::B4).unwrap();
    rig.read(GICD + 4, Width::B4).unwrap();
    rig.read(GICD + 0x100, Width::B4).unwrap();
    rig.write(GICD + 0x104, Width::B4, 1).unwrap();
    rig.read(GICR + 8, Width::B8).unwrap();
    rig.read(VOID, Width::B4).unwrap_err();
    rig.call(0xc600_0008, [UART, 0, 0]);
    rig.call(RANGE_MAP, [VOID, 9, 0]);
    rig.exit(
        0,
        Exit::SysReg(SysRegAccess { reg: arch::sysreg::ID_AA64PFR0_EL1, rt: 1, write: false }),
    );
    rig.exit(
        0,
        Exit::SysReg(SysRegAccess { reg: arch::sysreg::ICC_SGI1R_EL1, rt: 1, write: true }),
    );
    assert_eq!(rig.went_slow, 0);
}

#[test]
fn the_fast_path_is_the_same_for_both_dialects_and_every_width() {
    let mut series = rig(ENROL, Dialect::Series);
    series.call(0xc600_0003, [0; 3]);
    series.call(0xc600_0004, [UART, 0, 0]);
    series.went_slow = 0;
    assert_eq!(series.call(0xc600_0004, [UART, 0, 0]), OK);
    assert_eq!(series.call(0xc600_0005, [UART, 0, 0]), OK);
    assert_eq!(series.went_slow, 0);

    let mut pkvm = rig(ENFORCE, Dialect::Pkvm);
    pkvm.call(0xc600_0007, [UART, 0, 0]);
    pkvm.call(0xc600_0007, [GICR, 0, 0]);
    pkvm.went_slow = 0;
    for width in [Width::B1, Width::B2, Width::B4, Width::B8] {
        // The last place where nothing of 8 bytes reaches the next page.
        pkvm.read(VOID + 0xff8, width).unwrap_err();
        pkvm.write(VOID, width, 0).unwrap_err();
    }
    for width in [Width::B1, Width::B2, Width::B4] {
        pkvm.read(UART + 0x18, width).unwrap();
    }
    for n in 0..64 {
        let reg = arch::sysreg::sys(3, 0, 0, 1 + n / 8 % 7, n % 8);
        pkvm.exit(0, Exit::SysReg(SysRegAccess { reg, rt: 1, write: false }));
    }
    assert_eq!(pkvm.went_slow, 0);
}

// bug: 35
#[test]
fn the_fast_path_does_not_believe_hpfar_under_erratum_834220() {
    let errata = arch::Errata { hpfar_unknown_on_translation: true, ..arch::Errata::NONE };
    for (offset, write, believed) in
        [(0, false, false), (0, true, true), (4, false, true), (0x18, false, true), (8, true, true)]
    {
        let mut rig = rig(ENFORCE, Dialect::Pkvm);
        let exit =
            if write { store(VOID + offset, Width::B4) } else { load(VOID + offset, Width::B4) };
        let path = vm::try_fast_path(&encode(exit), &errata, &mut rig.vcpus[0], &rig.vm);
        assert_eq!(path != vm::FastPath::Done(Outcome::ResolveIpa), believed, "{offset} {write}");
    }
}

/// Handles `info` as EL2 does on a CPU with the erratum, where the MMU says `ipa`. How often it was asked.
fn handled_with_the_mmu(rig: &mut Rig, info: ExitInfo, ipa: Ipa) -> (u32, Outcome) {
    let errata = arch::Errata { hpfar_unknown_on_translation: true, ..arch::Errata::NONE };
    let me = &mut rig.vcpus[0];
    let mut path = vm::try_fast_path(&info, &errata, me, &rig.vm);
    if let vm::FastPath::Deferred(deferred) = path {
        path = vm::run_deferred(deferred, me, &rig.vm);
    }
    let exit = arch::decode(info, &errata);
    let outcome = match path {
        vm::FastPath::Done(outcome) => outcome,
        vm::FastPath::Fallback => vm::on_exit(exit, me, &rig.vm),
        vm::FastPath::Deferred(deferred) => panic!("{deferred:?} twice"),
    };
    if outcome != Outcome::ResolveIpa {
        return (0, outcome);
    }
    let outcome = vm::on_exit(exit.with_ipa(ipa), me, &rig.vm);
    assert_ne!(outcome, Outcome::ResolveIpa, "{info:x?} asks again");
    (1, outcome)
}

// bug: 35
#[test]
fn under_erratum_834220_the_mmu_is_asked_once_and_believed() {
    const ROM: u64 = 0x40_0000;
    let mut config = Config::of(ENFORCE, Dialect::Pkvm);
    config.roms = vec![range(ROM, 0x2000)];
    for (at, sign_extend, width) in [UART, GICD, GICR, TEST, VOID, ROM, RAM, LIMIT, UART + 0xffe]
        .into_iter()
        .flat_map(|at| [(at, false), (at, true)])
        .flat_map(|(at, sign)| {
            [(at, sign, Width::B1), (at, sign, Width::B4), (at, sign, Width::B8)]
        })
    {
        let (mut doubtful, mut sound) = (config.build(), config.build());
        for rig in [&mut doubtful, &mut sound] {
            for page in [UART, GICD, GICR] {
                rig.call(0xc600_0007, [page, 0, 0]);
            }
        }
        let mut info = encode(load(at, width));
        info.esr |= u64::from(sign_extend) << 21;
        let should = sound.exit_raw(0, info);
        // HPFAR_EL2 is that of another page, where the answer is another.
        let wrong = ExitInfo { hpfar: if at == VOID { UART } else { VOID } >> 8, ..info };
        let (asked, is) = handled_with_the_mmu(&mut doubtful, wrong, Ipa::new(at));
        let crosses = at & 0xfff == 0 || (at & 0xfff) + width.bytes() > 0x1000;
        assert_eq!(asked, crosses.into(), "{at:#x} {width:?}");
        if crosses {
            assert_eq!(is, should, "{at:#x} {width:?}");
            assert_eq!(doubtful.vcpus[0].regs, sound.vcpus[0].regs, "{at:#x} {width:?}");
            assert_eq!(doubtful.snapshot(), sound.snapshot(), "{at:#x} {width:?}");
        }
    }
}

#[test]
fn an_a64_instruction_is_skipped_alike_on_both_paths() {
    for spsr in [0, 0x3c5, 0x5, 0x3ff_ffff_ffef, !0x10] {
        let mut fast = vm::Vcpu::new(0).regs;
        fast.elr = u64::MAX - 3;
        fast.spsr = spsr;
        let mut slow = fast.clone();
        arch::skip_a64(&mut fast);
        arch::skip_instruction(&mut slow, true);
        assert_eq!(fast, slow, "{spsr:#x}");
    }
}

#[test]
fn a_walk_that_names_no_page_of_the_guest_is_the_guests() {
    // The IPA of a walk has no offset; whatever FAR's low bits say, they are not added.
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    let abort = arch::DataAbort {
        va: Va::new(0x1234_5678),
        ipa: Some(Ipa::new(VOID)),
        fault: Fault { kind: FaultKind::Translation, level: 3 },
        access: None::<Access>,
        write: false,
        s1ptw: true,
        cm: false,
        il: true,
    };
    rig.exit(0, Exit::DataAbort(abort));
    assert_eq!(rig.vcpus[0].refusal.ipa, Some(Ipa::new(VOID)));
}
