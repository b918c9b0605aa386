// SPDX-License-Identifier: MIT OR Apache-2.0
//! Emulated devices, as a guest drives them.

use crate::common::*;
use arch::{Access, Exit, VcpuSet, Width};
use mmio_guard::Dialect;
use vgic::Version;
use vm::{Outcome, Reason};

const DR: u64 = UART;
const FR: u64 = UART + 0x18;
const LCRH: u64 = UART + 0x2c;
const IMSC: u64 = UART + 0x38;
const RIS: u64 = UART + 0x3c;
const MIS: u64 = UART + 0x40;
const ICR: u64 = UART + 0x44;
const TXFE: u64 = 1 << 7;
const RXFF: u64 = 1 << 6;
const TXFF: u64 = 1 << 5;
const RXFE: u64 = 1 << 4;
const BUSY: u64 = 1 << 3;
const RX: u64 = 1 << 4;
const TX: u64 = 1 << 5;
const RT: u64 = 1 << 6;

fn open() -> Rig {
    rig(OFF, Dialect::Pkvm)
}

#[test]
fn uart_output_goes_to_the_console() {
    for width in [Width::B1, Width::B2, Width::B4] {
        let mut rig = open();
        for byte in *b"Hi\n\0" {
            rig.write(DR, width, u64::from(byte) | 0xff00).unwrap();
        }
        assert_eq!(rig.machine.log().output, b"Hi\n\0");
    }
}

#[test]
fn uart_flags_follow_the_consoles_room() {
    let mut rig = open();
    for slow in [false, true] {
        rig.slow = slow;
        rig.machine.log().room = None;
        assert_eq!(rig.read(FR, Width::B4), Ok(TXFE | RXFE));
        rig.machine.log().room = Some(1);
        rig.write(DR, Width::B1, b'x'.into()).unwrap();
        for width in [Width::B1, Width::B2, Width::B4] {
            assert_eq!(rig.read(FR, width), Ok(TXFF | BUSY | RXFE));
        }
    }
}

#[test]
fn uart_flags_take_no_lock() {
    let mut rig = open();
    let locks = rig.vcpus[0].order.taken();
    for slow in [false, true] {
        rig.slow = slow;
        rig.read(FR, Width::B4).unwrap();
        rig.read(GICD + 4, Width::B4).unwrap();
        rig.read(GICD + 8, Width::B4).unwrap();
        rig.read(GICR + 8, Width::B8).unwrap();
        rig.read(GICD + 0xffe8, Width::B4).unwrap();
        rig.read(TEST + 0x800, Width::B4).unwrap();
    }
    assert_eq!(rig.vcpus[0].order.taken(), locks);
    rig.read(GICD, Width::B4).unwrap();
    assert_eq!(rig.vcpus[0].order.taken(), locks + 1, "the counter counts");
}

#[test]
fn judging_an_access_takes_no_lock() {
    let mut rig = rig(ENFORCE, Dialect::Pkvm);
    let locks = rig.vcpus[0].order.taken();
    for slow in [false, true] {
        rig.slow = slow;
        rig.read(VOID, Width::B4).unwrap_err();
        rig.load(RAM, Width::B4);
        rig.exit(0, Exit::InstructionAbort(fetch(VOID)));
        rig.read(VOID + 0xffc, Width::B8).unwrap_err();
    }
    assert_eq!(rig.vcpus[0].order.taken(), locks);
}

#[test]
fn uart_polled_input() {
    let mut rig = open();
    rig.machine.log().input.extend(b"ok");
    assert_eq!(rig.read(FR, Width::B2), Ok(TXFE), "before it was taken in");
    assert_eq!(rig.read(DR, Width::B2), Ok(b'o'.into()));
    assert_eq!(rig.read(FR, Width::B2), Ok(TXFE | RXFF), "the next one moves up");
    assert_eq!(rig.read(DR, Width::B2), Ok(b'k'.into()));
    assert_eq!(rig.read(FR, Width::B2), Ok(TXFE | RXFE));
    assert_eq!(rig.read(DR, Width::B2), Ok(0), "nothing there");
}

#[test]
fn uart_fifo_holds_sixteen_or_one() {
    for (lcrh, depth) in [(0x70, 16), (0x60, 1)] {
        let mut rig = open();
        rig.write(LCRH, Width::B2, lcrh).unwrap();
        rig.machine.log().input.extend(1..=40);
        rig.vm.poll_console(&rig.order, None);
        assert_eq!(rig.machine.log().input.len(), 40 - depth, "the rest waits outside");
        assert_eq!(rig.read(FR, Width::B4), Ok(TXFE | RXFF));
        for n in 1..=40 {
            assert_eq!(rig.read(DR, Width::B4), Ok(n), "no byte lost, in order");
            // What waits outside moves up; once nothing does, the FIFO runs empty.
            let left = 40 - n as usize;
            let flags = match left {
                0 => RXFE,
                left if left >= depth => RXFF,
                _ => 0,
            };
            assert_eq!(rig.read(FR, Width::B4), Ok(TXFE | flags), "{n}");
        }
    }
}

#[test]
fn uart_turning_the_fifo_off_empties_it() {
    let mut rig = open();
    rig.write(LCRH, Width::B2, 0x70).unwrap();
    rig.machine.log().input.extend(b"abc");
    rig.vm.poll_console(&rig.order, None);
    assert_eq!(rig.read(RIS, Width::B4), Ok(RX | RT));
    rig.write(LCRH, Width::B2, 0x60).unwrap();
    assert_eq!(rig.read(FR, Width::B4), Ok(TXFE | RXFE));
    assert_eq!(rig.read(RIS, Width::B4), Ok(0));
}

#[test]
fn uart_registers_read_back() {
    let mut rig = open();
    for (offset, mask, reset) in [
        (0x20, 0xff, 0),
        (0x24, 0xffff, 0),
        (0x28, 0x3f, 0),
        (0x2c, 0xff, 0),
        (0x30, 0xff87, 0x300),
        (0x34, 0x3f, 0x12),
        (0x38, 0x7ff, 0),
        (0x48, 7, 0),
    ] {
        assert_eq!(rig.read(UART + offset, Width::B4), Ok(reset), "{offset:#x}");
        for width in [Width::B2, Width::B4] {
            rig.write(UART + offset, width, 0xffff_ffff).unwrap();
            assert_eq!(rig.read(UART + offset, width), Ok(mask), "{offset:#x}");
            rig.write(UART + offset, width, 0).unwrap();
            assert_eq!(rig.read(UART + offset, width), Ok(0));
        }
    }
}

#[test]
fn uart_identification() {
    let mut rig = open();
    let bytes: Vec<_> =
        (0..8).map(|n| rig.read(UART + 0xfe0 + 4 * n, Width::B4).unwrap()).collect();
    assert_eq!(bytes, [0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1]);
    rig.write(UART + 0xfe0, Width::B4, 0).unwrap();
    assert_eq!(rig.read(UART + 0xfe0, Width::B1), Ok(0x11));
}

#[test]
fn uart_reserved_offsets_read_zero() {
    let mut rig = open();
    for offset in (0x4c..0xfe0).step_by(4).chain([0x08, 0x0c, 0x10, 0x14, 0x1c]) {
        rig.write(UART + offset, Width::B4, u64::MAX).unwrap();
        assert_eq!(rig.read(UART + offset, Width::B4), Ok(0), "{offset:#x}");
    }
}

#[test]
fn uart_accesses_that_a_bus_would_not_do() {
    let mut rig = open();
    for offset in [0x00, 0x18, 0x38, 0xfe0] {
        assert_eq!(rig.read(UART + offset, Width::B8), Err(Reason::DeviceError));
        assert_eq!(rig.write(UART + offset, Width::B8, 0), Err(Reason::DeviceError));
        for add in 1..4 {
            assert_eq!(rig.read(UART + offset + add, Width::B1), Err(Reason::DeviceError));
            assert_eq!(rig.write(UART + offset + add, Width::B2, 0), Err(Reason::DeviceError));
        }
    }
    assert!(rig.machine.log().output.is_empty());
}

#[test]
fn uart_every_offset_and_width_survives() {
    let mut rig = open();
    for offset in 0..0x1000 {
        for width in [Width::B1, Width::B2, Width::B4, Width::B8] {
            for value in [0, u64::MAX, 0x5a5a] {
                let _ = rig.write(UART + offset, width, value);
                let _ = rig.read(UART + offset, width);
            }
        }
    }
}

/// The UART's interrupt on, in the distributor and in the UART.
fn listen(rig: &mut Rig, mask: u64) {
    rig.write(GICD, Width::B4, 0b10).unwrap();
    rig.write(GICD + 0x104, Width::B4, 1 << 1).unwrap();
    rig.write(LCRH, Width::B2, 0x70).unwrap();
    rig.write(IMSC, Width::B2, mask).unwrap();
    let mut log = rig.machine.log();
    log.planned.clear();
    log.kicked.clear();
}

fn pending(rig: &Rig) -> bool {
    rig.vm.vgic().lock(&rig.order).deliverable(0)
}

#[test]
fn uart_receive_interrupt() {
    let mut rig = open();
    listen(&mut rig, RX | RT);
    assert!(!pending(&rig));
    rig.machine.log().input.extend(b"ab");
    rig.vm.poll_console(&rig.order, None);
    assert!(pending(&rig));
    assert_eq!(
        rig.machine.log().kicked,
        [VcpuSet::single(0)],
        "no vCPU of it runs on this CPU: a kick"
    );
    assert_eq!(rig.read(MIS, Width::B4), Ok(RX | RT));
    rig.read(DR, Width::B2).unwrap();
    assert!(pending(&rig), "one more byte");
    rig.read(DR, Width::B2).unwrap();
    assert_eq!(rig.read(RIS, Width::B4), Ok(0));
    assert!(!pending(&rig), "the line has fallen");
}

#[test]
fn uart_interrupt_is_planned_here_where_the_vcpu_is() {
    let mut rig = open();
    listen(&mut rig, RX);
    rig.machine.log().input.push_back(b'a');
    rig.vm.poll_console(&rig.order, Some(0));
    assert_eq!(rig.machine.log().planned, [0]);
    assert!(rig.machine.log().kicked.is_empty());
}

#[test]
fn uart_mask_and_clear() {
    let mut rig = open();
    listen(&mut rig, 0);
    rig.machine.log().input.push_back(b'a');
    rig.vm.poll_console(&rig.order, None);
    assert_eq!((rig.read(RIS, Width::B4), rig.read(MIS, Width::B4)), (Ok(RX | RT), Ok(0)));
    assert!(!pending(&rig), "masked");
    rig.write(IMSC, Width::B4, RX).unwrap();
    assert_eq!(rig.read(MIS, Width::B4), Ok(RX));
    assert!(pending(&rig));
    rig.write(ICR, Width::B4, RX).unwrap();
    assert_eq!(rig.read(RIS, Width::B4), Ok(RT));
    assert!(!pending(&rig));
    assert_eq!(rig.read(DR, Width::B4), Ok(b'a'.into()), "clearing drops no byte");
}

#[test]
fn uart_transmit_interrupt() {
    let mut rig = open();
    listen(&mut rig, TX);
    assert!(!pending(&rig), "nothing sent yet");
    rig.write(DR, Width::B1, b'x'.into()).unwrap();
    assert!(pending(&rig), "the FIFO is empty again at once");
    rig.write(ICR, Width::B2, TX).unwrap();
    assert!(!pending(&rig));
    rig.machine.log().room = Some(1);
    rig.write(DR, Width::B1, b'y'.into()).unwrap();
    assert!(!pending(&rig), "no room behind it");
    rig.vm.poll_console(&rig.order, None);
    assert!(!pending(&rig), "still none");
    rig.machine.log().room = Some(10);
    rig.vm.poll_console(&rig.order, None);
    assert!(pending(&rig), "room again");
}

#[test]
fn uart_reset_leaves_nothing() {
    let mut rig = open();
    listen(&mut rig, RX | TX);
    rig.machine.log().input.extend(b"left over");
    rig.vm.poll_console(&rig.order, None);
    rig.machine.log().input.clear();
    crate::threats::reboot(&mut rig);
    assert_eq!(rig.read(FR, Width::B4), Ok(TXFE | RXFE));
    for (offset, value) in [(0x2c, 0), (0x30, 0x300), (0x34, 0x12), (0x38, 0), (0x3c, 0)] {
        assert_eq!(rig.read(UART + offset, Width::B4), Ok(value));
    }
    assert!(!pending(&rig));
}

#[test]
fn gic_registers_answer_by_version() {
    let mut v3 = open();
    assert_eq!(v3.read(GICD + 0xffe8, Width::B4).map(|pidr2| pidr2 >> 4), Ok(3));
    assert_eq!(v3.read(GICR + 8, Width::B8), Ok(0), "vCPU 0");
    assert_eq!(
        v3.read(GICR + 0x2_0008, Width::B8),
        Ok(1 << 32 | 1 << 8 | 1 << 4),
        "vCPU 1, the last"
    );
    assert_eq!(v3.read(GICR + 0x4_0008, Width::B8), Err(Reason::NoDevice), "no third");
    let mut v2 = Config { version: Version::V2, policy: OFF, ..Config::default() }.build();
    assert_eq!(v2.read(GICD + 0xfe8, Width::B4).map(|pidr2| pidr2 >> 4), Ok(2));
    assert_eq!(v2.read(GICR + 8, Width::B4), Err(Reason::NoDevice));
}

#[test]
fn gic_writes_change_what_reads_see() {
    let mut rig = open();
    for slow in [false, true] {
        rig.slow = slow;
        rig.write(GICD + 0x104, Width::B4, 0x0f0f).unwrap();
        assert_eq!(rig.read(GICD + 0x104, Width::B4), Ok(0x0f0f));
        rig.write(GICD + 0x184, Width::B4, 0xffff_ffff).unwrap();
        assert_eq!(rig.read(GICD + 0x104, Width::B4), Ok(0));
        rig.write(GICD + 0x421, Width::B1, 0xa0).unwrap();
        assert_eq!(rig.read(GICD + 0x420, Width::B4), Ok(0xa000));
        rig.write(GICD + 0x421, Width::B1, 0).unwrap();
        rig.write(GICD + 0x6108, Width::B8, 1).unwrap();
        assert_eq!(rig.read(GICD + 0x6108, Width::B8), Ok(1));
        rig.write(GICD + 0x6108, Width::B8, 0).unwrap();
    }
}

#[test]
fn gic_frames_belong_to_their_vcpu_whoever_accesses_them() {
    let mut rig = open();
    rig.write(GICR + 0x2_0000 + 0x1_0104 - 4, Width::B4, 1 << 20).unwrap();
    assert_eq!(rig.read(GICR + 0x2_0000 + 0x1_0100, Width::B4).map(|e| e >> 20 & 1), Ok(1));
    assert_eq!(rig.read(GICR + 0x1_0100, Width::B4).map(|e| e >> 20 & 1), Ok(0));
}

#[test]
fn gic_reads_of_what_list_registers_hold_fold_and_plan() {
    let mut rig = open();
    rig.write(GICD, Width::B4, 0b10).unwrap();
    rig.write(GICR + 0x1_0100, Width::B4, 1).unwrap();
    {
        let mut vgic = rig.vm.vgic().lock(&rig.order);
        vgic.sgi1r(0, 1);
        vgic.flush_to_lrs(0, &mut [vgic::ListRegister::FREE; 4]);
    }
    rig.machine.log().planned.clear();
    rig.read(GICR + 0x1_0200, Width::B4).unwrap();
    let log = rig.machine.log();
    assert_eq!((&log.folded[..], &log.planned[..]), (&[0][..], &[0][..]));
}

#[test]
fn gic_reads_look_at_the_lines_of_forwarded_interrupts() {
    let mut rig = open();
    let pending = |rig: &mut Rig| rig.read(GICR + 0x1_0200, Width::B4).unwrap() >> 27 & 1;
    rig.vm.vgic().lock(&rig.order).forward(0, 27, 27);
    assert_eq!(pending(&mut rig), 1, "its line is high");
    assert!(rig.machine.log().planned.is_empty());
    rig.machine.log().fallen.push(27);
    assert_eq!(pending(&mut rig), 0);
    // Its physical interrupt is to be deactivated.
    assert_eq!(rig.machine.log().planned, [0]);
    assert_eq!(rig.vm.vgic().lock(&rig.order).take_released(0), Some(27));
    assert_eq!(pending(&mut rig), 0);
    assert_eq!(rig.machine.log().planned, [0]);
}

#[test]
fn gic_reads_withdraw_an_spi_from_the_vcpu_that_has_it() {
    let mut rig = open();
    rig.write(GICD, Width::B4, 0b10).unwrap();
    rig.write(GICD + 0x104, Width::B4, 1 << 8).unwrap();
    rig.write(GICD + 0x6000 + 8 * 40, Width::B8, 1).unwrap();
    {
        let mut vgic = rig.vm.vgic().lock(&rig.order);
        vgic.forward(0, 40, 40);
        vgic.flush_to_lrs(1, &mut [vgic::ListRegister::FREE; 4]);
    }
    rig.machine.log().kicked.clear();
    rig.machine.log().fallen.push(40);
    assert_eq!(rig.read(GICD + 0x204, Width::B4).map(|word| word >> 8 & 1), Ok(0));
    assert_eq!(rig.machine.log().kicked, [VcpuSet::single(1)]);
}

#[test]
fn gic_reset_leaves_nothing() {
    let mut rig = open();
    listen(&mut rig, RX);
    rig.machine.log().input.push_back(1);
    rig.vm.poll_console(&rig.order, None);
    rig.machine.log().input.clear();
    assert!(pending(&rig));
    crate::threats::reboot(&mut rig);
    assert!(!pending(&rig));
    assert_eq!(rig.read(GICD + 0x104, Width::B4), Ok(0));
    assert_eq!(rig.read(GICD + 0x204, Width::B4), Ok(0));
}

#[test]
fn gic_every_word_of_its_frames_survives() {
    for version in [Version::V2, Version::V3] {
        let mut rig = Config { version, policy: OFF, ..Config::default() }.build();
        for base in [GICD, GICR, GICR + 0x1_0000, GICR + 0x2_0000] {
            for offset in (0..0x1_0000).step_by(4) {
                for value in [u64::MAX, 0] {
                    let _ = rig.write(base + offset, Width::B4, value);
                    let _ = rig.read(base + offset, Width::B4);
                }
            }
        }
    }
}

// bug: 40
#[test]
fn loads_are_extended_as_the_syndrome_says() {
    for (width, sign_extend, sixty_four, want) in [
        (Width::B1, false, false, 0x88),
        (Width::B1, true, false, 0xffff_ff88),
        (Width::B1, true, true, 0xffff_ffff_ffff_ff88),
        (Width::B2, false, false, 0x9988),
        (Width::B2, true, false, 0xffff_9988),
        (Width::B2, true, true, 0xffff_ffff_ffff_9988),
        (Width::B4, false, false, 0xbbaa_9988),
        (Width::B4, true, true, 0xffff_ffff_bbaa_9988),
        (Width::B8, false, true, 0xffee_ddcc_bbaa_9988),
    ] {
        let mut rig = open();
        rig.write(TEST + 0x30, Width::B8, 0xffee_ddcc_bbaa_9988).unwrap();
        let access = Access { width, sign_extend, reg: 5, sixty_four, acquire_release: true };
        let abort = arch::DataAbort { access: Some(access), ..data(TEST + 0x800, width, false) };
        rig.vcpus[0].regs.x[5] = u64::MAX;
        assert_eq!(rig.exit(0, Exit::DataAbort(abort)), Outcome::Advance { il: true });
        assert_eq!(rig.vcpus[0].regs.x[5], want, "{width:?} {sign_extend} {sixty_four}");
    }
}

// bug: 39
#[test]
fn xzr_stores_zero_and_drops_loads() {
    let mut rig = open();
    for (ipa, width) in [(TEST + 0x800, Width::B8), (GICD + 4, Width::B4), (FR, Width::B4)] {
        let access = Access {
            width,
            sign_extend: false,
            reg: 31,
            sixty_four: width == Width::B8,
            acquire_release: false,
        };
        let abort = arch::DataAbort { access: Some(access), ..data(ipa, width, false) };
        for slow in [false, true] {
            rig.slow = slow;
            let before = rig.vcpus[0].regs.clone();
            assert_eq!(rig.exit(0, Exit::DataAbort(abort)), Outcome::Advance { il: true });
            assert_eq!(rig.vcpus[0].regs, before);
        }
    }
    let access = Access {
        width: Width::B4,
        sign_extend: false,
        reg: 31,
        sixty_four: false,
        acquire_release: false,
    };
    rig.write(TEST + 0x800, Width::B4, 7).unwrap();
    let abort = arch::DataAbort { access: Some(access), ..data(TEST + 0x800, Width::B4, true) };
    assert_eq!(rig.exit(0, Exit::DataAbort(abort)), Outcome::Advance { il: true });
    assert_eq!(rig.read(TEST + 0x20, Width::B8), Ok(0));
}

// bug: 41
#[test]
fn a_16_bit_instruction_is_stepped_over_as_one() {
    let mut rig = open();
    rig.vcpus[0].regs.spsr = arch::pstate::M_AARCH32 | arch::pstate::aarch32::T;
    for (ipa, width) in [
        (FR, Width::B4),
        (GICD + 4, Width::B4),
        (GICD + 0x104, Width::B4),
        (TEST + 0x800, Width::B1),
    ] {
        for il in [false, true] {
            let abort = arch::DataAbort { il, ..data(ipa, width, false) };
            assert_eq!(rig.exit(0, Exit::DataAbort(abort)), Outcome::Advance { il });
        }
    }
}
