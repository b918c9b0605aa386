// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls of Arm's own interfaces: SMCCC, PSCI, TRNG.

use crate::common::*;
use arch::{Exit, VcpuSet};
use mmio_guard::Dialect;
use vm::{Outcome, StopReason, Workarounds};

const MINUS: fn(i64) -> [u64; 4] = |code| [code as u64, 0, 0, 0];

#[test]
fn smccc_is_1_1() {
    everywhere(&[OFF, ENROL, ENFORCE], |rig, _, _| {
        assert_eq!(rig.call(0x8000_0000, [9; 3]), [0x1_0001, 0, 0, 0]);
    });
}

#[test]
fn arch_features_knows_itself_and_the_version() {
    let mut rig = rig(OFF, Dialect::Pkvm);
    assert_eq!(rig.call(0x8000_0001, [0x8000_0000, 0, 0]), OK);
    assert_eq!(rig.call(0x8000_0001, [0x8000_0001, 7, 7]), OK);
    // SOC_ID, PV time, unknown ones.
    for id in [0x8000_0002, 0xc500_0020, 0x8000_4000, 0xffff_ffff, 0] {
        assert_eq!(rig.call(0x8000_0001, [id, 0, 0]), NOT_SUPPORTED, "{id:#x}");
    }
}

#[test]
fn workarounds_are_what_the_machine_says() {
    const IDS: [u32; 3] = [0x8000_8000, 0x8000_7fff, 0x8000_3fff];
    for answers in [[-1, -1, -1], [0, 1, -1], [1, -1, 0], [1, 1, 1], [0, -2, 0]] {
        let config = Config { workarounds: Workarounds::new(answers), ..Config::default() };
        let mut rig = config.build();
        for (id, answer) in IDS.into_iter().zip(answers) {
            assert_eq!(rig.call(0x8000_0001, [id.into(), 0, 0]), MINUS(answer.into()));
        }
    }
}

#[test]
fn a_workaround_to_be_called_touches_only_x0() {
    let config = Config { workarounds: Workarounds::new([0, 1, -1]), ..Config::default() };
    let mut rig = config.build();
    assert_eq!(rig.call(0x8000_8000, [11, 12, 13]), [0, 11, 12, 13]);
    assert_eq!(rig.machine.log().workarounds, [1]);
    assert_eq!(rig.call(0x8000_7fff, [11, 12, 13]), NOT_SUPPORTED, "not needed, not served");
    assert_eq!(rig.call(0x8000_3fff, [11, 12, 13]), NOT_SUPPORTED);
    assert_eq!(rig.machine.log().workarounds, [1]);
}

#[test]
fn no_guest_reaches_workaround_2() {
    for second in [-2, -1, 0, 1] {
        let config = Config { workarounds: Workarounds::new([0, second, 0]), ..Config::default() };
        let mut rig = config.build();
        for argument in [0, 1, u64::MAX] {
            assert_eq!(rig.call(0x8000_7fff, [argument, 12, 13]), NOT_SUPPORTED, "{second}");
        }
        assert!(rig.machine.log().workarounds.is_empty());
        assert_eq!(rig.call(0x8000_3fff, [11, 12, 13]), [0, 11, 12, 13]);
        assert_eq!(rig.machine.log().workarounds, [3]);
    }
}

#[test]
fn psci_is_1_1_without_a_trusted_os() {
    let mut rig = rig(OFF, Dialect::Pkvm);
    assert_eq!(rig.call(0x8400_0000, [5; 3]), [0x1_0001, 0, 0, 0]);
    assert_eq!(rig.call(0x8400_0006, [0; 3]), [2, 0, 0, 0]);
}

#[test]
fn psci_features_names_what_is_served() {
    let mut rig = rig(OFF, Dialect::Pkvm);
    let served = [
        0x8400_0000_u32,
        0x8400_0001,
        0xc400_0001,
        0x8400_0002,
        0x8400_0003,
        0xc400_0003,
        0x8400_0004,
        0xc400_0004,
        0x8400_0006,
        0x8400_0008,
        0x8400_0009,
        0x8400_000a,
        0x8400_0012,
        0xc400_0012,
        0x8000_0000,
    ];
    for base in [0x8400_0000_u32, 0xc400_0000, 0x8000_0000, 0x8600_0000] {
        for function in 0..0x60 {
            let id = base + function;
            let want = if served.contains(&id) { OK } else { NOT_SUPPORTED };
            assert_eq!(rig.call(0x8400_000a, [id.into(), 0, 0]), want, "{id:#x}");
        }
    }
}

#[test]
fn psci_functions_that_are_not_served() {
    let mut rig = rig(OFF, Dialect::Pkvm);
    // CPU_OFF and SYSTEM_OFF have no 64-bit form; MIGRATE; SYSTEM_SUSPEND; beyond 1.1.
    for id in [
        0xc400_0000,
        0xc400_0002,
        0x8400_0005,
        0xc400_0005,
        0x8400_0007,
        0xc400_0008,
        0xc400_0009,
        0x8400_000e,
        0xc400_000e,
        0x8400_000f,
        0xc400_0015,
        0x8400_001f,
        0xc400_000a,
    ] {
        rig.fails(id, [0; 3], NOT_SUPPORTED);
    }
}

#[test]
fn cpu_on_starts_a_vcpu_at_its_entry() {
    let mut rig = rig(OFF, Dialect::Pkvm);
    assert!(!rig.vm.take_start(&mut rig.vcpus[1]));
    assert_eq!(rig.call(0xc400_0003, [1, RAM + 0x1000, 0xfeed_beef_1234]), OK);
    assert_eq!(rig.machine.log().kicked, [VcpuSet::single(1)]);
    rig.vcpus[1].regs.x = [7; 31];
    rig.vcpus[1].regs.spsr = 0;
    assert!(rig.vm.take_start(&mut rig.vcpus[1]));
    let regs = &rig.vcpus[1].regs;
    assert_eq!((regs.x[0], regs.elr, regs.spsr), (0xfeed_beef_1234, RAM + 0x1000, 0x3c5));
    assert!(regs.x[1..].iter().all(|x| *x == 0));
    assert!(!rig.vm.take_start(&mut rig.vcpus[1]), "once");
}

// bug: 66
#[test]
fn cpu_on_error_codes() {
    let mut rig = rig(OFF, Dialect::Pkvm);
    for (arguments, code, why) in [
        ([2, RAM, 0], -2, "no such vCPU"),
        ([0x100, RAM, 0], -2, "Aff1"),
        ([1 << 32, RAM, 0], -2, "Aff3"),
        ([0x8000_0001, RAM, 0], -2, "MPIDR's RES1 bit is no affinity"),
        ([u64::MAX, RAM, 0], -2, "reserved bits"),
        ([1, VOID, 0], -9, "entry outside memory"),
        ([1, RAM + RAM_SIZE, 0], -9, "entry behind RAM"),
        ([1, !3, 0], -9, "entry beyond everything"),
        ([1, RAM + 1, 0], -9, "AArch32 asked for"),
        ([1, RAM + 2, 0], -9, "unaligned"),
        ([0, RAM, 0], -4, "the caller is on"),
        ([9, VOID, 0], -2, "the target is looked at first"),
    ] {
        let before = rig.snapshot();
        assert_eq!(rig.call(0xc400_0003, arguments), MINUS(code), "{why}");
        assert_eq!(rig.snapshot(), before);
    }
    assert_eq!(rig.call(0xc400_0003, [1, RAM, 0]), OK);
    assert_eq!(rig.call(0xc400_0003, [1, RAM, 0]), MINUS(-5), "on pending");
    assert!(rig.vm.take_start(&mut rig.vcpus[1]));
    assert_eq!(rig.call(0xc400_0003, [1, RAM, 0]), MINUS(-4), "on");
    assert_eq!(rig.machine.log().kicked.len(), 1, "a failed call kicks no vCPU");
}

#[test]
fn cpu_on_into_rom() {
    let config = Config { roms: vec![range(0, 0x1000)], ..Config::default() };
    assert_eq!(config.build().call(0xc400_0003, [1, 0x10, 0]), OK);
}

#[test]
fn affinity_info() {
    let mut rig = rig(OFF, Dialect::Pkvm);
    for id in [0x8400_0004, 0xc400_0004] {
        assert_eq!(rig.call(id, [0, 0, 0]), MINUS(0), "on");
        assert_eq!(rig.call(id, [1, 0, 0]), MINUS(1), "off");
        for (target, level) in [(2, 0), (0x100, 0), (0, 1), (0, 2), (1, 3), (0, u64::MAX)] {
            assert_eq!(rig.call(id, [target, level, 0]), MINUS(-2), "{target:#x} {level}");
        }
    }
    rig.call(0xc400_0003, [1, RAM, 0]);
    assert_eq!(rig.call(0xc400_0004, [1, 0, 0]), MINUS(2), "on pending");
    rig.vm.take_start(&mut rig.vcpus[1]);
    assert_eq!(rig.call(0xc400_0004, [1, 0, 0]), MINUS(0));
}

#[test]
fn cpu_off_of_one_and_of_the_last() {
    let mut rig = rig(OFF, Dialect::Pkvm);
    rig.call(0xc400_0003, [1, RAM, 0]);
    rig.vm.take_start(&mut rig.vcpus[1]);
    rig.vcpus[0].regs.x[0] = 0x8400_0002;
    assert_eq!(rig.exit(0, Exit::Hvc { imm: 0 }), Outcome::Off);
    assert_eq!(rig.call_on(1, 0xc400_0004, [0, 0, 0]), MINUS(1));
    rig.vcpus[1].regs.x[0] = 0x8400_0002;
    assert_eq!(rig.exit(1, Exit::Hvc { imm: 0 }), Outcome::Stop(StopReason::AllOff));
}

#[test]
fn cpu_off_beside_one_that_is_to_come_is_no_end() {
    let mut rig = rig(OFF, Dialect::Pkvm);
    rig.call(0xc400_0003, [1, RAM, 0]);
    rig.vcpus[0].regs.x[0] = 0x8400_0002;
    assert_eq!(rig.exit(0, Exit::Hvc { imm: 0 }), Outcome::Off);
    assert!(rig.vm.take_start(&mut rig.vcpus[1]));
}

#[test]
fn cpu_suspend_waits_and_returns_success() {
    let mut rig = rig(OFF, Dialect::Pkvm);
    for id in [0x8400_0001_u64, 0xc400_0001] {
        for state in [0, 1 << 16, 1 << 30, u64::MAX] {
            rig.vcpus[0].regs.x[..4].copy_from_slice(&[id, state, RAM, 5]);
            let want = Outcome::Wait { advance: false, il: true };
            assert_eq!(rig.exit(0, Exit::Hvc { imm: 0 }), want);
            assert_eq!(rig.vcpus[0].regs.x[..4], OK);
        }
    }
    rig.vcpus[0].regs.x[0] = 0xc400_0001;
    assert_eq!(rig.exit(0, Exit::Smc { imm: 0 }), Outcome::Wait { advance: true, il: true });
}

#[test]
fn wfi_waits_and_wfe_yields() {
    let mut rig = rig(OFF, Dialect::Pkvm);
    for il in [true, false] {
        let wait = Outcome::Wait { advance: true, il };
        assert_eq!(rig.exit(0, Exit::Wfx { wfe: false, il }), wait);
        assert_eq!(rig.exit(0, Exit::Wfx { wfe: true, il }), Outcome::Yield { il });
    }
}

#[test]
fn system_calls_stop_the_vm_and_kick_the_others() {
    for (id, x1, reason) in [
        (0x8400_0008_u64, 0, StopReason::PowerOff),
        (0x8400_0009, 0, StopReason::Reset),
        (0x8400_0012, 0, StopReason::Reset),
        (0xc400_0012, 0, StopReason::Reset),
    ] {
        for smc in [false, true] {
            let mut rig = rig(OFF, Dialect::Pkvm);
            rig.call(0xc400_0003, [1, RAM, 0]);
            rig.vm.take_start(&mut rig.vcpus[1]);
            rig.machine.log().kicked.clear();
            rig.vcpus[0].regs.x[0] = id;
            rig.vcpus[0].regs.x[1] = x1;
            let exit = if smc { Exit::Smc { imm: 0 } } else { Exit::Hvc { imm: 0 } };
            assert_eq!(rig.exit(0, exit), Outcome::Stop(reason));
            assert_eq!(rig.machine.log().kicked, [VcpuSet::single(1)], "not the caller");
            assert_eq!(rig.vm.lifecycle().stopping(), Some(reason));
        }
    }
}

#[test]
fn system_reset2_knows_only_the_warm_reset() {
    let mut rig = rig(OFF, Dialect::Pkvm);
    for kind in [1, 2, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
        for id in [0x8400_0012, 0xc400_0012] {
            rig.fails(id, [kind, 0, 0], MINUS(-2));
        }
    }
}

#[test]
fn trng_that_is_not_there() {
    let mut rig = Config { trng: false, ..Config::default() }.build();
    for id in [0x8400_0050, 0x8400_0051, 0x8400_0052, 0x8400_0053, 0xc400_0053] {
        rig.fails(id, [64, 0, 0], NOT_SUPPORTED);
    }
    assert!(rig.machine.log().asked_bits.is_empty());
}

#[test]
fn trng_version_features_and_uuid() {
    let mut rig = Config::default().build();
    assert_eq!(rig.call(0x8400_0050, [0xbad, 0, 0]), [0x1_0000, 0, 0, 0]);
    for id in [0x8400_0050, 0x8400_0051, 0x8400_0052, 0x8400_0053, 0xc400_0053] {
        assert_eq!(rig.call(0x8400_0051, [id, 0, 0]), OK);
    }
    for id in [0x8400_0054, 0xc400_0050, 0xc400_0052, 0] {
        assert_eq!(rig.call(0x8400_0051, [id, 0, 0]), NOT_SUPPORTED);
    }
    let uuid = rig.call(0x8400_0052, [0; 3]);
    assert!(uuid.iter().all(|word| *word != 0 && *word <= u64::from(u32::MAX)));
    assert_ne!(uuid[0], u64::from(u32::MAX), "that would be -1");
    assert_eq!(rig.call(0xc400_0050, [0; 3]), NOT_SUPPORTED, "no 64-bit VERSION");
}

#[test]
fn trng_rnd64_places_its_words_and_clears_what_was_not_asked_for() {
    let mut rig = Config::default().build();
    rig.machine.log().random = Some([u64::MAX - 1, u64::MAX - 2, u64::MAX - 3]);
    let ones = |n: u32| if n == 0 { 0 } else { u64::MAX >> (64 - n) };
    for bits in 1..=192_u32 {
        let [x0, x1, x2, x3] = rig.call(0xc400_0053, [bits.into(), 0, 0]);
        assert_eq!(x0, 0);
        assert_eq!(x3, (u64::MAX - 1) & ones(bits.min(64)), "{bits}");
        assert_eq!(x2, (u64::MAX - 2) & ones(bits.saturating_sub(64).min(64)), "{bits}");
        assert_eq!(x1, (u64::MAX - 3) & ones(bits.saturating_sub(128)), "{bits}");
    }
    assert_eq!(rig.machine.log().asked_bits, (1..=192).collect::<Vec<_>>());
}

#[test]
fn trng_rnd32_places_its_words() {
    let mut rig = Config::default().build();
    rig.machine.log().random = Some([0x1111_1111_2222_2222, 0xffff_ffff_3333_3333, u64::MAX]);
    assert_eq!(rig.call(0x8400_0053, [96, 0, 0]), [0, 0x3333_3333, 0x1111_1111, 0x2222_2222]);
    assert_eq!(rig.call(0x8400_0053, [64, 0, 0]), [0, 0, 0x1111_1111, 0x2222_2222]);
    assert_eq!(rig.call(0x8400_0053, [36, 0, 0]), [0, 0, 0x1, 0x2222_2222]);
    assert_eq!(rig.call(0x8400_0053, [8 | 1 << 40, 0, 0]), [0, 0, 0, 0x22], "W1 is the argument");
}

#[test]
fn trng_errors() {
    let mut rig = Config::default().build();
    for (id, bits) in [
        (0xc400_0053, 0),
        (0xc400_0053, 193),
        (0xc400_0053, u64::MAX),
        (0x8400_0053, 0),
        (0x8400_0053, 97),
    ] {
        assert_eq!(rig.call(id, [bits, 0, 0]), MINUS(-2), "{bits}");
    }
    assert!(rig.machine.log().asked_bits.is_empty());
    assert_eq!(rig.call(0xc400_0053, [64, 0, 0]), MINUS(-3), "no entropy");
}
