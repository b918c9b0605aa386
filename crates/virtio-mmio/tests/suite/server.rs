// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server's registers, its interrupt, and its death and return.

use crate::fixture::*;
use arch::Width;
use virtio_mmio::{Blocked, EventKind, Line, Refused, Register, Store};

#[test]
fn register_numbers_are_those_of_the_interface() {
    for (number, register) in [
        (0x0000, Register::VendorId),
        (0x0001, Register::DeviceFeatures),
        (0x0002, Register::QueueNumMax(0)),
        (0x0f02, Register::QueueNumMax(15)),
        (0x0003, Register::ConfigGeneration),
        (0x0004, Register::Ready),
        (0x0010, Register::Status),
        (0x0011, Register::DriverFeatures),
        (0x0012, Register::InterruptStatus),
        (0x0013, Register::EventSeq),
        (0x0014, Register::Outstanding),
        (0x0015, Register::ResetSeq),
        (0x0016, Register::ConfigStore),
        (0x0017, Register::ConfigValue),
        (0x0018, Register::ConfigLost),
        (0x0120, Register::QueueNum(1)),
        (0x0221, Register::QueueReady(2)),
        (0x0322, Register::QueueDesc(3)),
        (0x0423, Register::QueueDriver(4)),
        (0x0524, Register::QueueDevice(5)),
        (0x0e25, Register::QueueStop(14)),
    ] {
        assert_eq!(register.raw(), number);
        assert_eq!(Register::from_raw(number), Some(register));
        assert!(Machine::new(LIMITS).transport.get(register).is_ok());
    }
    for number in [0x05, 0x0f, 0x19, 0x26, 0xff, 0x1002, 0x1021, 0xff25, 0x0100, 0x0110, 0x0218] {
        assert_eq!(Register::from_raw(number), None, "{number:#x}");
    }
    for shift in 16..64 {
        assert_eq!(Register::from_raw(1 << shift | 2), None, "{shift}");
    }
}

#[test]
fn queues_of_a_register_that_there_are_not_are_refused() {
    let mut transport = Machine::new(LIMITS).transport;
    for queue in [16, 17, 255] {
        for register in [
            Register::QueueNumMax(queue),
            Register::QueueNum(queue),
            Register::QueueReady(queue),
            Register::QueueDesc(queue),
            Register::QueueDriver(queue),
            Register::QueueDevice(queue),
        ] {
            assert_eq!(transport.get(register), Err(Refused::Register));
            assert_eq!(transport.set(register, 0), Err(Refused::Register));
        }
    }
}

#[test]
fn what_the_driver_writes_cannot_be_set() {
    let mut machine = Machine::in_use();
    let before = machine.transport.clone();
    for number in (0x10..=0x18).chain(0x20..=0x25) {
        let register = Register::from_raw(number).unwrap();
        for value in [0, 1, u64::MAX] {
            assert_eq!(machine.transport.set(register, value), Err(Refused::Register));
        }
    }
    assert_eq!(machine.transport, before);
}

#[test]
fn values_that_a_register_cannot_hold_are_refused() {
    let mut transport = Machine::new(LIMITS).transport;
    let before = transport.clone();
    for (register, value) in [
        (Register::VendorId, 0x1_0000_0000),
        (Register::ConfigGeneration, 0x1_0000_0000),
        (Register::QueueNumMax(0), 3),
        (Register::QueueNumMax(0), 0x8001),
        (Register::QueueNumMax(0), 0x1_0000),
        (Register::QueueNumMax(0), 0x1_0000_0100),
        (Register::Ready, 0),
        (Register::Ready, 2),
        (Register::Ready, u64::MAX),
    ] {
        assert_eq!(transport.set(register, value), Err(Refused::Value), "{register:?} {value:#x}");
    }
    for bit in 0..64 {
        let refused = bit == 34 || (37..=49).contains(&bit);
        let set = transport.clone().set(Register::DeviceFeatures, 1 << bit);
        assert_eq!(set, if refused { Err(Refused::Value) } else { Ok(()) }, "{bit}");
    }
    for value in [0, 1, 2, 256, 16384, 32768] {
        assert_eq!(transport.clone().set(Register::QueueNumMax(0), value), Ok(()));
    }
    assert_eq!(transport, before);
}

#[test]
fn accesses_wait_until_ready() {
    let mut machine = Machine::new(LIMITS);
    let waits = |machine: &mut Machine| {
        for offset in [0x000, 0x008, 0x050, 0x060, 0x064, 0x070, 0x100, 0x200] {
            assert_eq!(machine.load(offset, Width::B4), Err(Blocked::NotReady));
            let store = machine.transport.store(offset, Width::B4, 0);
            assert_eq!(store, Err(Blocked::NotReady));
        }
    };
    waits(&mut machine);
    // A transport on which no driver could negotiate does not become ready.
    assert_eq!(machine.transport.set(Register::Ready, 1), Err(Refused::Features));
    machine.transport.set(Register::DeviceFeatures, VERSION_1).unwrap();
    waits(&mut machine);
    assert_eq!(machine.get(Register::Ready), 0);
    assert_eq!(machine.transport.set(Register::Ready, 1), Ok(()));
    assert_eq!(machine.read(0x008), 2);
    assert_eq!(machine.get(Register::Ready), 3);
}

#[test]
fn a_pool_needs_access_platform_offered() {
    let mut transport = Machine::new(POOL).transport;
    transport.set(Register::DeviceFeatures, VERSION_1).unwrap();
    assert_eq!(transport.set(Register::Ready, 1), Err(Refused::Features));
    transport.set(Register::DeviceFeatures, 0x3_0000_0000).unwrap();
    assert_eq!(transport.set(Register::Ready, 1), Ok(()));
}

#[test]
fn what_was_offered_is_fixed_and_can_be_said_again() {
    let mut machine = Machine::served(LIMITS);
    for detached in [false, true] {
        if detached {
            assert_eq!(machine.transport.detach(), Line::Unchanged);
        }
        let before = machine.transport.clone();
        for (register, value) in [
            (Register::VendorId, 1),
            (Register::DeviceFeatures, VERSION_1),
            (Register::QueueNumMax(0), 128),
            (Register::QueueNumMax(3), 256),
        ] {
            assert_eq!(machine.transport.set(register, value), Err(Refused::Fixed), "{register:?}");
        }
        assert_eq!(machine.transport, before);
    }
    machine.offer();
    assert_eq!(machine.transport.set(Register::ConfigGeneration, 7), Ok(()));
    assert_eq!(machine.read(0xfc), 7);
}

#[test]
fn the_driver_sees_what_was_offered() {
    let mut machine = Machine::served(LIMITS);
    machine.set(0x14, 0);
    assert_eq!(machine.read(0x10), 0x3000_0240);
    machine.set(0x14, 1);
    assert_eq!(machine.read(0x10), 3);
    assert_eq!(machine.read(0x00c), 0x5043_5643);
}

#[test]
fn the_line_is_high_until_all_is_acknowledged() {
    let mut machine = Machine::in_use();
    assert_eq!(machine.transport.raise(0), Ok(Line::Unchanged));
    assert_eq!(machine.transport.raise(1), Ok(Line::Raised));
    // A flood is one bit.
    for _ in 0..100 {
        assert_eq!(machine.transport.raise(1), Ok(Line::Unchanged));
    }
    assert_eq!(machine.transport.raise(2), Ok(Line::Unchanged));
    assert_eq!(machine.read(0x60), 3);
    assert_eq!(machine.get(Register::InterruptStatus), 3);
    // Bits that were not set change nothing.
    assert_eq!(machine.write(0x64, 0xffff_fffc), Store::Done);
    assert_eq!(machine.write(0x64, 1), Store::Done);
    assert_eq!(machine.read(0x60), 2);
    // A bit that comes between is not lost.
    assert_eq!(machine.transport.raise(1), Ok(Line::Unchanged));
    assert_eq!(machine.write(0x64, 2), Store::Done);
    assert!(machine.transport.is_raised());
    assert_eq!(machine.write(0x64, 1), Store::Lowered);
    assert_eq!(machine.write(0x64, 1), Store::Done);
    assert!(!machine.transport.is_raised());
}

#[test]
fn only_the_bits_of_virtio_are_raised_and_only_by_a_server() {
    let mut machine = Machine::in_use();
    for bits in [4, 5, 0x8000_0000, 0x1_0000_0000, 0x1_0000_0001, u64::MAX] {
        assert_eq!(machine.transport.raise(bits), Err(Refused::Value), "{bits:#x}");
    }
    assert_eq!(machine.transport.detach(), Line::Unchanged);
    assert_eq!(machine.transport.raise(1), Err(Refused::NotReady));
    assert_eq!(machine.read(0x60), 0);
}

#[test]
fn used_buffers_are_not_signalled_before_driver_ok() {
    let mut machine = Machine::served(LIMITS);
    machine.negotiate(FEATURES);
    assert_eq!(machine.transport.raise(1), Ok(Line::Unchanged));
    assert_eq!(machine.read(0x60), 0);
    assert_eq!(machine.transport.raise(3), Ok(Line::Raised));
    assert_eq!(machine.read(0x60), 2);
    // Status = 0 takes it with it.
    let store = machine.write(0x70, 0);
    assert!(matches!(store, Store::Posted { line: Line::Lowered, .. }), "{store:?}");
    // Also where the driver has done nothing yet.
    assert_eq!(machine.transport.raise(2), Ok(Line::Raised));
    assert_eq!(machine.write(0x70, 0), Store::Lowered);
}

#[test]
fn a_served_driver_goes_on_when_its_server_comes_back() {
    let mut machine = Machine::in_use();
    assert_eq!(machine.transport.raise(1), Ok(Line::Raised));
    let before = machine.transport.clone();
    let ready = machine.get(Register::QueueReady(0));
    assert_eq!(machine.transport.detach(), Line::Unchanged);
    assert_eq!(machine.get(Register::Ready), 2);
    // Meanwhile nothing of the driver's waits, but what it sets up is kept, and its notifications count.
    assert_eq!(machine.read(0x70), 0xf);
    assert_eq!(machine.write(0x50, 0), Store::Notify(0));
    assert_eq!(machine.read(0x60), 1);
    machine.offer();
    assert_eq!(machine.transport, before);
    assert_eq!(machine.get(Register::QueueReady(0)), ready);
    assert_eq!(machine.get(Register::QueueDesc(0)), RAM);
    assert_eq!(machine.get(Register::DriverFeatures), FEATURES);
    assert_eq!(machine.write(0x64, 1), Store::Lowered);
}

#[test]
fn a_thousand_servers_leave_nothing_behind() {
    let mut machine = Machine::in_use();
    let before = machine.transport.clone();
    for _ in 0..1000 {
        assert_eq!(machine.transport.detach(), Line::Unchanged);
        machine.offer();
    }
    assert_eq!(machine.transport, before);
}

#[test]
fn a_reset_of_the_vm_waits_for_a_server_again() {
    let mut machine = Machine::in_use();
    assert_eq!(machine.transport.raise(1), Ok(Line::Raised));
    let waiting = machine.wait(0x70, 0, EventKind::Reset);
    assert_eq!(machine.transport.reset(), Line::Lowered);
    assert!(!machine.transport.is_outstanding(waiting));
    assert_eq!(machine.transport.event_done(waiting), Err(Refused::Stale));
    assert_eq!(machine.load(0x70, Width::B4), Err(Blocked::NotReady));
    assert_eq!(machine.transport.raise(1), Err(Refused::NotReady));
    assert_eq!(machine.get(Register::QueueReady(0)), 0);
    // The next server may offer other things. Numbers of events are not used twice.
    machine.transport.set(Register::DeviceFeatures, VERSION_1).unwrap();
    machine.transport.set(Register::QueueNumMax(0), 8).unwrap();
    machine.transport.set(Register::Ready, 1).unwrap();
    assert_eq!(machine.read(0x70), 0);
    machine.negotiate(VERSION_1);
    assert_eq!(machine.start_queue(0, 8, [RAM; 3]), waiting + 1);
    assert_eq!(Machine::new(LIMITS).transport.reset(), Line::Unchanged);
}

#[test]
fn another_ring_has_another_number() {
    let mut machine = Machine::in_use();
    let first = machine.get(Register::QueueReady(0));
    let seq = machine.wait(0x44, 0, EventKind::QueueStop(0));
    // The deadline passes: the server has not looked at all.
    assert_eq!(machine.transport.expire(seq), Ok(Line::Unchanged));
    let second = machine.start_queue(0, 16, [RAM; 3]);
    assert_eq!(machine.get(Register::QueueReady(0)), u64::from(second));
    assert_ne!(u64::from(second), first);
}
