// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trapped system registers.

use crate::common::*;
use arch::sysreg::*;
use arch::{Exit, SysRegAccess, VcpuSet};
use mmio_guard::Dialect;
use vgic::Version;
use vm::Outcome;

const ADVANCE: Outcome = Outcome::Advance { il: true };

fn mrs(reg: u16, rt: u8) -> Exit {
    Exit::SysReg(SysRegAccess { reg, rt, write: false })
}

fn msr(reg: u16, rt: u8) -> Exit {
    Exit::SysReg(SysRegAccess { reg, rt, write: true })
}

fn ids() -> [u64; vm::ID_REGISTERS] {
    core::array::from_fn(|n| 0x1_0000 + n as u64)
}

#[test]
fn id_registers_read_what_setup_says() {
    let mut rig = Config { ids: ids(), ..Config::default() }.build();
    for slow in [false, true] {
        rig.slow = slow;
        for crm in 1..8_u16 {
            for op2 in 0..8 {
                rig.vcpus[0].regs.x[9] = u64::MAX;
                assert_eq!(rig.exit(0, mrs(sys(3, 0, 0, crm, op2), 9)), ADVANCE);
                assert_eq!(rig.vcpus[0].regs.x[9], 0x1_0000 + u64::from(crm << 3 | op2));
            }
        }
    }
    assert_eq!(rig.went_slow, 0);
}

#[test]
fn id_registers_into_xzr_change_nothing() {
    let mut rig = Config { ids: ids(), ..Config::default() }.build();
    for slow in [false, true] {
        rig.slow = slow;
        let before = rig.vcpus[0].regs.clone();
        assert_eq!(rig.exit(0, mrs(ID_AA64PFR0_EL1, 31)), ADVANCE);
        assert_eq!(rig.vcpus[0].regs, before);
    }
}

#[test]
fn id_registers_cannot_be_written() {
    let mut rig = rig(OFF, Dialect::Pkvm);
    for crm in 0..8 {
        assert_eq!(rig.exit(0, msr(sys(3, 0, 0, crm, 1), 3)), Outcome::Undefined);
    }
}

#[test]
fn crm_0_and_8_are_no_id_registers_of_ours() {
    let mut rig = Config { ids: ids(), ..Config::default() }.build();
    for reg in [MIDR_EL1, REVIDR_EL1, MPIDR_EL1, sys(3, 0, 0, 8, 0), sys(3, 0, 0, 15, 7), AIDR_EL1]
    {
        assert_eq!(rig.exit(0, mrs(reg, 0)), Outcome::Undefined, "{reg:#x}");
    }
}

#[test]
fn sgi1r_sends_to_the_others_and_to_oneself() {
    for slow in [false, true] {
        let config = Config { policy: OFF, vcpus: 3, ..Config::default() };
        let mut rig = config.build();
        rig.slow = slow;
        enable_sgis(&mut rig, 3);
        rig.machine.log().kicked.clear();
        rig.machine.log().planned.clear();
        rig.vcpus[0].regs.x[4] = 2 << 24 | 0b110;
        assert_eq!(rig.exit(0, msr(ICC_SGI1R_EL1, 4)), ADVANCE);
        assert_eq!(rig.machine.log().kicked, [VcpuSet::from_bits(0b110)]);
        assert!(rig.machine.log().planned.is_empty());
        rig.vcpus[0].regs.x[4] = 3 << 24 | 0b001;
        assert_eq!(rig.exit(0, msr(ICC_SGI1R_EL1, 4)), ADVANCE);
        assert_eq!(rig.machine.log().planned, [0], "its own list registers, here and now");
        assert_eq!(rig.machine.log().kicked.len(), 1);
        let vgic = rig.vm.vgic().lock(&rig.order);
        assert!(vgic.deliverable(0) && vgic.deliverable(1) && vgic.deliverable(2));
    }
}

#[test]
fn an_sgi_is_sent_at_once_or_in_the_general_way_and_never_both() {
    let mut rig = rig(OFF, Dialect::Pkvm);
    enable_sgis(&mut rig, 2);
    for at_once in [true, false] {
        rig.machine.log().kicked.clear();
        rig.machine.log().sgis = at_once.then(Vec::new);
        rig.vcpus[0].regs.x[4] = 3 << 24 | 0b10;
        assert_eq!(rig.exit(0, msr(ICC_SGI1R_EL1, 4)), ADVANCE);
        let log = rig.machine.log();
        assert_eq!(log.sgis, at_once.then(|| vec![(0, 3 << 24 | 0b10)]));
        assert_eq!(log.kicked.is_empty(), at_once);
    }
}

/// Group 1 on in the distributor, as a guest does it.
fn enable_sgis(rig: &mut Rig, vcpus: u64) {
    rig.write(GICD, arch::Width::B4, 0b10).unwrap();
    for vcpu in 0..vcpus {
        rig.write(GICR + vcpu * 0x2_0000 + 0x1_0100, arch::Width::B4, 0xffff).unwrap();
    }
}

#[test]
fn sgi_registers_are_write_only() {
    let mut rig = rig(OFF, Dialect::Pkvm);
    for reg in [ICC_SGI1R_EL1, ICC_SGI0R_EL1, ICC_ASGI1R_EL1, ICC_DIR_EL1] {
        assert_eq!(rig.exit(0, mrs(reg, 0)), Outcome::Undefined);
        assert_eq!(rig.exit(0, msr(reg, 31)), ADVANCE, "XZR: SGI 0 without a target");
    }
}

#[test]
fn gicv3_registers_do_not_exist_under_gicv2() {
    let mut rig = Config { version: Version::V2, ..Config::default() }.build();
    for slow in [false, true] {
        rig.slow = slow;
        for reg in [ICC_SGI1R_EL1, ICC_SGI0R_EL1, ICC_ASGI1R_EL1, ICC_DIR_EL1, ICC_SRE_EL1] {
            assert_eq!(rig.exit(0, msr(reg, 2)), Outcome::Undefined, "{reg:#x}");
            assert_eq!(rig.exit(0, mrs(reg, 2)), Outcome::Undefined);
        }
    }
}

#[test]
fn a_trapped_deactivation_folds_first_and_plans_after() {
    let mut rig = rig(OFF, Dialect::Pkvm);
    rig.vcpus[0].regs.x[1] = 27;
    assert_eq!(rig.exit(0, msr(ICC_DIR_EL1, 1)), ADVANCE);
    let log = rig.machine.log();
    assert_eq!((&log.folded[..], &log.planned[..]), (&[0][..], &[0][..]));
}

#[test]
fn sre_reads_as_one_and_stays() {
    let mut rig = rig(OFF, Dialect::Pkvm);
    rig.vcpus[0].regs.x[1] = 0;
    assert_eq!(rig.exit(0, msr(ICC_SRE_EL1, 1)), ADVANCE);
    assert_eq!(rig.exit(0, mrs(ICC_SRE_EL1, 1)), ADVANCE);
    assert_eq!(rig.vcpus[0].regs.x[1], 7);
}

#[test]
fn inert_registers_read_zero_and_ignore_writes() {
    let mut rig = rig(OFF, Dialect::Pkvm);
    let mut both = vec![
        ACTLR_EL1,
        MDSCR_EL1,
        MDCCINT_EL1,
        OSDLR_EL1,
        DBGPRCR_EL1,
        DBGCLAIMSET_EL1,
        DBGCLAIMCLR_EL1,
        sys(2, 0, 0, 0, 2),
        sys(2, 0, 0, 3, 2),
        sys(2, 0, 0, 6, 2),
        sys(2, 3, 0, 4, 0),
        sys(2, 3, 0, 5, 0),
    ];
    // All breakpoints and watchpoints: values and controls.
    for n in 0..16 {
        both.extend((4..8).map(|op2| sys(2, 0, 0, n, op2)));
    }
    for reg in both {
        rig.vcpus[0].regs.x[8] = 0x77;
        assert_eq!(rig.exit(0, msr(reg, 8)), ADVANCE, "{reg:#x}");
        assert_eq!(rig.exit(0, mrs(reg, 8)), ADVANCE, "{reg:#x}");
        assert_eq!(rig.vcpus[0].regs.x[8], 0);
    }
}

#[test]
fn registers_of_one_direction() {
    let mut rig = rig(OFF, Dialect::Pkvm);
    for reg in [MDRAR_EL1, OSLSR_EL1, DBGAUTHSTATUS_EL1, MDCCSR_EL0] {
        assert_eq!(rig.exit(0, mrs(reg, 8)), ADVANCE);
        // OSLSR_EL1: there is an OS lock, and it is open.
        assert_eq!(rig.vcpus[0].regs.x[8], if reg == OSLSR_EL1 { 8 } else { 0 });
        assert_eq!(rig.exit(0, msr(reg, 8)), Outcome::Undefined, "read-only");
    }
    for reg in [OSLAR_EL1, DC_ISW, DC_CSW, DC_CISW] {
        assert_eq!(rig.exit(0, msr(reg, 8)), ADVANCE);
        assert_eq!(rig.exit(0, mrs(reg, 8)), Outcome::Undefined, "write-only");
    }
}

/// Writes a register of the physical timer, by way of x5.
fn set_timer(rig: &mut Rig, reg: u16, value: u64) {
    rig.vcpus[0].regs.x[5] = value;
    assert_eq!(rig.exit(0, msr(reg, 5)), Outcome::Timer);
}

#[test]
fn the_physical_timer_interrupts_at_its_time() {
    let mut rig = Config { policy: OFF, ..Config::default() }.build();
    rig.write(GICD, arch::Width::B4, 0b10).unwrap();
    rig.write(GICR + 0x1_0100, arch::Width::B4, 1 << vm::PHYSICAL_TIMER_INTID).unwrap();
    rig.machine.log().planned.clear();
    let deliverable = |rig: &Rig| rig.vm.vgic().lock(&rig.order).deliverable(0);

    rig.machine.log().counter = 1000;
    set_timer(&mut rig, CNTP_TVAL_EL0, 500);
    set_timer(&mut rig, CNTP_CTL_EL0, 1);
    assert_eq!(rig.vcpus[0].physical_timer.deadline(), Some(1500));
    rig.machine.log().counter = 1499;
    rig.vm.tick(&mut rig.vcpus[0], true);
    assert!(!deliverable(&rig));
    rig.machine.log().counter = 1500;
    rig.vm.tick(&mut rig.vcpus[0], true);
    assert!(deliverable(&rig));
    assert_eq!(rig.machine.log().planned, [0], "where the vCPU is");
    assert_eq!(rig.vcpus[0].physical_timer.deadline(), None, "once");

    assert_eq!(rig.exit(0, mrs(CNTP_CTL_EL0, 6)), Outcome::Timer);
    assert_eq!(rig.vcpus[0].regs.x[6], 0b101, "ENABLE, ISTATUS");
    // The guest's handler masks it, or sets the next time: the line falls.
    set_timer(&mut rig, CNTP_CTL_EL0, 0b11);
    assert!(!deliverable(&rig));
    set_timer(&mut rig, CNTP_CTL_EL0, 0b01);
    assert!(deliverable(&rig), "it has not become later");
    set_timer(&mut rig, CNTP_CVAL_EL0, 2000);
    assert!(!deliverable(&rig));
    assert_eq!(rig.vcpus[0].physical_timer.deadline(), Some(2000));

    // On another CPU: the load of the vCPU fills its list registers.
    rig.machine.log().planned.clear();
    rig.machine.log().counter = 3000;
    rig.vm.tick(&mut rig.vcpus[0], false);
    assert!(deliverable(&rig));
    assert!(rig.machine.log().planned.is_empty() && rig.machine.log().kicked.is_empty());
}

#[test]
fn a_vcpu_that_is_turned_on_has_its_physical_timer_off() {
    let mut rig = Config { policy: OFF, ..Config::default() }.build();
    rig.write(GICD, arch::Width::B4, 0b10).unwrap();
    rig.write(GICR + 0x1_0100, arch::Width::B4, 1 << vm::PHYSICAL_TIMER_INTID).unwrap();
    set_timer(&mut rig, CNTP_CTL_EL0, 1);
    assert!(rig.vm.vgic().lock(&rig.order).deliverable(0), "0 is past");
    // vCPU 0 goes off and is turned on again by vCPU 1, which is not affected.
    assert_eq!(rig.call(0xc400_0003, [1, RAM, 0]), OK, "CPU_ON");
    assert!(rig.vm.take_start(&mut rig.vcpus[1]));
    rig.vcpus[0].regs.x[0] = 0x8400_0002;
    assert_eq!(rig.exit(0, Exit::Hvc { imm: 0 }), Outcome::Off, "CPU_OFF");
    assert_eq!(rig.call_on(1, 0xc400_0003, [0, RAM, 0]), OK);
    assert!(rig.vm.take_start(&mut rig.vcpus[0]));
    assert_eq!(rig.vcpus[0].physical_timer, vm::PhysicalTimer::default());
    assert!(!rig.vm.vgic().lock(&rig.order).deliverable(0), "its line is low");
}

#[test]
fn every_other_encoding_is_undefined_in_both_directions() {
    let mut rig = rig(OFF, Dialect::Pkvm);
    let mut defined = 0;
    for reg in 0..=u16::MAX {
        for write in [false, true] {
            let before = rig.vcpus[0].regs.clone();
            let access = SysRegAccess { reg, rt: 31, write };
            match rig.exit_slow(0, Exit::SysReg(access)) {
                Outcome::Undefined => {}
                Outcome::Advance { il: true } | Outcome::Timer => defined += 1,
                other => panic!("{reg:#x}: {other:?}"),
            }
            assert_eq!(rig.vcpus[0].regs, before, "XZR");
        }
    }
    // 56 ID registers; 12 + 64 inert ones both ways; 4 read-only; 4 write-only; SRE; SGI1R, SGI0R, ASGI1R, DIR;
    // three of the physical timer both ways.
    assert_eq!(defined, 56 + 2 * 76 + 4 + 4 + 2 + 4 + 2 * 3);
}

#[test]
fn other_classes_are_undefined() {
    let mut rig = rig(OFF, Dialect::Pkvm);
    for ec in 0..64_u8 {
        if ![0x01, 0x16, 0x17, 0x18, 0x20, 0x24].contains(&ec) {
            assert_eq!(rig.exit(0, Exit::Undefined { ec }), Outcome::Undefined, "{ec:#x}");
        }
    }
}
