// SPDX-License-Identifier: MIT OR Apache-2.0
//! Resets, stops of queues and stores to configuration space: who waits, and what ends it.

use crate::fixture::*;
use arch::Width;
use virtio_mmio::{Blocked, Event, EventKind, Line, Refused, Register, Store};

#[test]
fn nothing_is_reset_until_the_server_says_so() {
    let mut machine = Machine::in_use();
    let seq = machine.wait(0x70, 0, EventKind::Reset);
    assert_eq!(machine.get(Register::Outstanding), 1 << 16);
    assert_eq!(machine.get(Register::ResetSeq), u64::from(seq));
    assert_eq!(machine.get(Register::EventSeq), u64::from(seq));
    // Another vCPU sees the old values, and cannot set up anything.
    assert_eq!(machine.read(0x70), 0xf);
    for (offset, value) in [(0x70, 0xff), (0x44, 0), (0x44, 1), (0x30, 1), (0x14, 1), (0x24, 1)] {
        machine.set(offset, value);
    }
    machine.set(0x104, 5);
    assert_eq!(machine.get(Register::EventSeq), u64::from(seq));
    assert_eq!(machine.read(0x44), 1);
    // A second Status = 0 waits for the same event.
    assert_eq!(machine.wait(0x70, 0, EventKind::Reset), seq);
    assert_eq!(machine.transport.raise(1), Ok(Line::Raised));
    assert_eq!(machine.transport.event_done(seq), Ok(Line::Lowered));
    assert_eq!((machine.read(0x70), machine.read(0x60), machine.read(0x44)), (0, 0, 0));
    assert_eq!(machine.get(Register::Outstanding), 0);
    assert_eq!(machine.get(Register::ResetSeq), u64::from(seq));
    // The same store again, where the caller executes it again.
    machine.set(0x70, 0);
}

#[test]
fn a_reset_takes_all_of_the_driver_and_nothing_of_the_server() {
    let mut machine = Machine::in_use();
    let fresh = Machine::served(LIMITS);
    machine.set(0x14, 1);
    machine.set(0x24, 1);
    machine.set(0x30, 1);
    let seq = machine.wait(0x70, 0, EventKind::Reset);
    assert!(machine.transport.event_done(seq).is_ok());
    for offset in (0..0x100).step_by(4) {
        assert_eq!(machine.read(offset), fresh.read(offset), "{offset:#x}");
    }
    // Features and addresses are gone too.
    machine.set(0x70, 8);
    assert_eq!(machine.read(0x70), 0);
    machine.negotiate(FEATURES);
    machine.set(0x44, 1);
    assert_eq!(machine.read(0x44), 0);
    machine.start_queue(0, 8, [RAM; 3]);
}

#[test]
fn each_wait_ends_exactly_once() {
    let mut machine = Machine::in_use();
    machine.start_queue(1, 16, [RAM + 0x8000; 3]);
    machine.start_queue(2, 16, [RAM + 0x9000; 3]);
    let mut seqs = Vec::new();
    for queue in 0..3 {
        machine.set(0x30, queue);
        seqs.push(machine.wait(0x44, 0, EventKind::QueueStop(queue as u8)));
    }
    // The same wait again is the same event.
    assert_eq!(machine.wait(0x44, 0, EventKind::QueueStop(2)), seqs[2]);
    assert_eq!(machine.get(Register::Outstanding), 7);
    // QueueReady reads 1 while it waits.
    assert_eq!(machine.read(0x44), 1);
    assert_eq!(machine.transport.event_done(seqs[1]), Ok(Line::Unchanged));
    assert_eq!(machine.get(Register::Outstanding), 5);
    assert_eq!(machine.transport.event_done(seqs[1]), Err(Refused::Stale));
    assert_eq!(machine.transport.expire(seqs[1]), Err(Refused::Stale));
    assert!(machine.transport.is_outstanding(seqs[0]) && machine.transport.is_outstanding(seqs[2]));
    for (queue, stop) in [(0, seqs[0]), (1, 0), (2, seqs[2])] {
        assert_eq!(machine.get(Register::QueueStop(queue)), u64::from(stop));
    }
    assert_eq!(machine.transport.expire(seqs[0]), Ok(Line::Unchanged));
    assert_eq!(machine.transport.event_done(seqs[2]), Ok(Line::Unchanged));
    for seq in seqs {
        assert_eq!(machine.transport.event_done(seq), Err(Refused::Stale));
        assert!(!machine.transport.is_outstanding(seq));
    }
    assert_eq!(machine.get(Register::Outstanding), 0);
    assert_eq!(machine.read(0x44), 0);
}

#[test]
fn numbers_that_are_not_outstanding_are_stale() {
    let mut machine = Machine::in_use();
    for seq in [0, 1, 2, 3, u32::MAX] {
        assert_eq!(machine.transport.event_done(seq), Err(Refused::Stale), "{seq}");
    }
    let seq = machine.wait(0x44, 0, EventKind::QueueStop(0));
    for wrong in [0, seq - 1, seq + 1, u32::MAX] {
        assert_eq!(machine.transport.event_done(wrong), Err(Refused::Stale), "{wrong}");
    }
    assert_eq!(machine.read(0x44), 1);
}

#[test]
fn a_reset_ends_the_stops_before_it() {
    let mut machine = Machine::in_use();
    let stop = machine.wait(0x44, 0, EventKind::QueueStop(0));
    let reset = machine.wait(0x70, 0, EventKind::Reset);
    assert_eq!(machine.get(Register::Outstanding), 1 << 16 | 1);
    assert_eq!(machine.transport.event_done(reset), Ok(Line::Unchanged));
    assert!(!machine.transport.is_outstanding(stop));
    assert_eq!(machine.transport.event_done(stop), Err(Refused::Stale));
    assert_eq!(machine.get(Register::Outstanding), 0);
}

#[test]
fn a_stop_can_end_during_a_reset() {
    let mut machine = Machine::in_use();
    let stop = machine.wait(0x44, 0, EventKind::QueueStop(0));
    let reset = machine.wait(0x70, 0, EventKind::Reset);
    assert_eq!(machine.transport.event_done(stop), Ok(Line::Unchanged));
    assert!(machine.transport.is_outstanding(reset));
    assert_eq!(machine.read(0x70), 0xf);
    assert_eq!(machine.transport.expire(reset), Ok(Line::Unchanged));
    assert_eq!(machine.read(0x70), 0);
}

#[test]
fn a_server_that_goes_ends_all_waits() {
    let mut machine = Machine::in_use();
    machine.start_queue(1, 16, [RAM; 3]);
    let stop = machine.wait(0x44, 0, EventKind::QueueStop(1));
    assert_eq!(machine.transport.detach(), Line::Unchanged);
    assert!(!machine.transport.is_outstanding(stop));
    assert_eq!(machine.read(0x44), 0);
    // The other queue is as it was.
    machine.set(0x30, 0);
    assert_eq!(machine.read(0x44), 1);
    assert_eq!(machine.read(0x70), 0xf);

    machine.offer();
    assert_eq!(machine.transport.event_done(stop), Err(Refused::Stale));
    assert_eq!(machine.transport.raise(1), Ok(Line::Raised));
    let reset = machine.wait(0x70, 0, EventKind::Reset);
    assert_eq!(machine.transport.detach(), Line::Lowered);
    assert!(!machine.transport.is_outstanding(reset));
    assert_eq!(machine.read(0x70), 0);
    assert_eq!(machine.transport.detach(), Line::Unchanged);
}

#[test]
fn nothing_waits_without_a_server() {
    let mut machine = Machine::in_use();
    machine.start_queue(1, 16, [RAM; 3]);
    assert_eq!(machine.transport.detach(), Line::Unchanged);
    machine.post(0x44, 0, EventKind::QueueStop(1));
    assert_eq!(machine.read(0x44), 0);
    let reset = machine.post(0x70, 0, EventKind::Reset);
    assert_eq!(machine.read(0x70), 0);
    assert_eq!(machine.get(Register::ResetSeq), u64::from(reset));
    assert_eq!(machine.get(Register::Outstanding), 0);
    // The driver sets up its rings again, and the next server finds them.
    machine.negotiate(FEATURES);
    let ready = machine.start_queue(0, 8, [RAM; 3]);
    machine.post(0x70, 0xf, EventKind::DriverOk);
    machine.offer();
    assert_eq!(machine.get(Register::QueueReady(0)), u64::from(ready));
    assert_eq!(machine.get(Register::Status), 0xf);
}

#[test]
fn a_reset_of_what_no_server_uses_does_not_wait() {
    let mut machine = Machine::served(LIMITS);
    machine.set(0x70, 0);
    machine.set(0x70, 3);
    machine.post(0x70, 0, EventKind::Reset);
    machine.negotiate(FEATURES);
    machine.post(0x70, 0, EventKind::Reset);
    // A ready queue is enough for a wait, and so is DRIVER_OK.
    machine.negotiate(FEATURES);
    machine.start_queue(0, 8, [RAM; 3]);
    let seq = machine.wait(0x70, 0, EventKind::Reset);
    assert!(machine.transport.event_done(seq).is_ok());
    machine.negotiate(FEATURES);
    machine.post(0x70, 0xf, EventKind::DriverOk);
    machine.wait(0x70, 0, EventKind::Reset);
}

fn store(machine: &mut Machine, offset: u64, width: Width, value: u64) -> Result<Store, Blocked> {
    machine.transport.store(offset, width, value)
}

fn config_seq(result: Result<Store, Blocked>) -> u32 {
    match result {
        Ok(Store::Posted { event: Event { seq, kind: EventKind::Config }, .. }) => seq,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_server_sees_each_store_to_configuration_space_once() {
    let mut machine = Machine::in_use();
    for (offset, width, value, seen) in [
        (0x120, Width::B1, 0xffff_ff01, 0x01),
        (0x122, Width::B2, 0xffff_1234, 0x1234),
        (0x124, Width::B4, 0xffff_ffff_8765_4321, 0x8765_4321),
        (0x1f8, Width::B8, u64::MAX, u64::MAX),
    ] {
        let seq = config_seq(store(&mut machine, offset, width, value));
        let place = u64::from(seq) << 32 | width.bytes() << 8 | (offset - 0x100);
        assert_eq!(machine.get(Register::ConfigStore), place);
        assert_eq!(machine.get(Register::ConfigValue), seen);
        assert_eq!(machine.get(Register::Outstanding), 1 << 17);
        // Only configuration space waits.
        assert_eq!(machine.load(0x100, Width::B1), Err(Blocked::Config(seq)));
        assert_eq!(store(&mut machine, 0x100, Width::B1, 0), Err(Blocked::Config(seq)));
        assert_eq!(machine.load(0xfc, Width::B4), Ok(0));
        assert_eq!(machine.write(0x50, 0), Store::Notify(0));
        assert_eq!(machine.transport.event_done(seq), Ok(Line::Unchanged));
        assert_eq!(machine.transport.event_done(seq), Err(Refused::Stale));
        assert_eq!(
            (machine.get(Register::ConfigStore), machine.get(Register::ConfigValue)),
            (0, 0)
        );
        assert!(machine.load(0x100, Width::B1).is_ok());
    }
    assert_eq!(machine.get(Register::ConfigLost), 0);
}

#[test]
fn unaligned_stores_to_configuration_space_are_not_told() {
    let mut machine = Machine::in_use();
    for (offset, width) in [(0x101, Width::B2), (0x102, Width::B4), (0x104, Width::B8)] {
        assert_eq!(store(&mut machine, offset, width, 1), Ok(Store::Done));
    }
    assert_eq!(store(&mut machine, 0x200, Width::B1, 1), Ok(Store::Done));
    assert_eq!(machine.get(Register::ConfigStore), 0);
}

#[test]
fn a_store_to_configuration_space_that_no_server_finishes_counts_as_lost() {
    let mut machine = Machine::in_use();
    let seq = config_seq(store(&mut machine, 0x104, Width::B1, 1));
    assert!(machine.transport.is_outstanding(seq));
    assert_eq!(machine.transport.expire(seq), Ok(Line::Unchanged));
    assert_eq!(machine.get(Register::ConfigLost), 1);
    assert!(machine.load(0x100, Width::B1).is_ok());

    // A server dies with one unfinished: the next gets it, unless the driver stores again meanwhile.
    let kept = config_seq(store(&mut machine, 0x104, Width::B1, 2));
    assert_eq!(machine.transport.detach(), Line::Unchanged);
    assert!(!machine.transport.is_outstanding(kept));
    assert!(machine.load(0x100, Width::B1).is_ok());
    machine.offer();
    assert_eq!(machine.get(Register::ConfigValue), 2);
    assert!(machine.transport.is_outstanding(kept));
    assert_eq!(machine.transport.detach(), Line::Unchanged);
    assert_eq!(machine.transport.event_done(kept), Err(Refused::Stale));
    config_seq(store(&mut machine, 0x104, Width::B1, 3));
    assert_eq!(machine.get(Register::ConfigLost), 2);
    machine.offer();
    assert_eq!(machine.get(Register::ConfigValue), 3);
    // A reset of the driver drops it.
    let reset = machine.wait(0x70, 0, EventKind::Reset);
    assert!(machine.transport.event_done(reset).is_ok());
    assert_eq!(machine.get(Register::ConfigStore), 0);
    assert_eq!(machine.get(Register::ConfigLost), 2);
}

#[test]
fn a_deadline_of_a_stop_loses_no_store() {
    let mut machine = Machine::in_use();
    config_seq(store(&mut machine, 0x104, Width::B1, 1));
    let stop = machine.wait(0x44, 0, EventKind::QueueStop(0));
    assert_eq!(machine.transport.expire(stop), Ok(Line::Unchanged));
    assert_eq!(machine.get(Register::ConfigLost), 0);
    assert_eq!(machine.get(Register::Outstanding), 1 << 17);
}
