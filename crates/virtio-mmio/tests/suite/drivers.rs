// SPDX-License-Identifier: MIT OR Apache-2.0
//! The order in which drivers in use access the registers, from probing to removal.

use crate::fixture::*;
use arch::Width;
use virtio_mmio::{EventKind, Line, Register, Store};

const AREAS: [u64; 3] = [RAM + 0x10_0000, RAM + 0x10_1000, RAM + 0x10_2000];

fn identify(machine: &Machine) {
    assert_eq!(machine.read(0x000), 0x7472_6976);
    assert_eq!(machine.read(0x004), 2);
    assert_eq!(machine.read(0x008), 2);
    assert_eq!(machine.read(0x00c), 0x5043_5643);
}

/// As Linux does: read, add, write.
fn add_status(machine: &mut Machine, bits: u32) {
    let status = machine.read(0x70);
    machine.set(0x70, status | bits);
    assert_eq!(machine.read(0x70), status | bits);
}

fn offered(machine: &mut Machine, order: [u32; 2]) -> u64 {
    let mut features = 0;
    for word in order {
        machine.set(0x14, word);
        features |= u64::from(machine.read(0x10)) << (32 * word);
    }
    features
}

fn accept(machine: &mut Machine, features: u64, order: [u32; 2]) {
    for word in order {
        machine.set(0x24, word);
        machine.set(0x20, (features >> (32 * word)) as u32);
    }
}

fn queue_as_linux(machine: &mut Machine, queue: u32) {
    machine.set(0x30, queue);
    assert_eq!(machine.read(0x44), 0);
    let size = machine.read(0x34);
    assert_eq!(size, 256);
    machine.set(0x38, size);
    let base = AREAS[0] + u64::from(queue) * 0x1_0000;
    for (offset, area) in [(0x80, base), (0x90, base + 0x1000), (0xa0, base + 0x2000)] {
        machine.set(offset, area as u32);
        machine.set(offset + 4, (area >> 32) as u32);
    }
    machine.post(0x44, 1, EventKind::QueueReady(queue as u8));
}

fn interrupt(machine: &mut Machine) {
    assert_eq!(machine.transport.raise(1), Ok(Line::Raised));
    let bits = machine.read(0x60);
    assert_eq!(bits, 1);
    assert_eq!(machine.write(0x64, bits), Store::Lowered);
}

#[test]
fn linux_probes_uses_and_removes_a_disk() {
    let mut machine = Machine::served(LIMITS);
    identify(&machine);
    machine.set(0x70, 0);
    add_status(&mut machine, 1);
    add_status(&mut machine, 2);
    let features = offered(&mut machine, [1, 0]);
    assert_eq!(features, FEATURES);
    accept(&mut machine, features, [1, 0]);
    add_status(&mut machine, 8);
    assert_eq!(machine.read(0x70) & 8, 8);
    // Capacity, between two reads of ConfigGeneration.
    let generation = machine.read(0xfc);
    assert_eq!((machine.read(0x100), machine.read(0x104)), (0xa6a7_a4a5, 0xa2a3_a0a1));
    assert_eq!(machine.read(0xfc), generation);
    queue_as_linux(&mut machine, 0);
    queue_as_linux(&mut machine, 1);
    machine.post(0x70, machine.read(0x70) | 4, EventKind::DriverOk);
    assert_eq!(machine.write(0x50, 0), Store::Notify(0));
    assert_eq!(machine.write(0x50, 1), Store::Notify(1));
    interrupt(&mut machine);

    // Status = 0 is not polled: it waits. Then each queue is stopped, and QueueReady read once.
    let seq = machine.wait(0x70, 0, EventKind::Reset);
    assert_eq!(machine.transport.event_done(seq), Ok(Line::Unchanged));
    assert_eq!(machine.read(0x70), 0);
    for queue in 0..2 {
        machine.set(0x30, queue);
        machine.set(0x44, 0);
        assert_eq!(machine.read(0x44), 0);
    }
}

#[test]
fn linux_gives_its_queues_up_after_a_failed_probe() {
    let mut machine = Machine::served(LIMITS);
    machine.negotiate(FEATURES);
    queue_as_linux(&mut machine, 0);
    let seq = machine.wait(0x44, 0, EventKind::QueueStop(0));
    assert_eq!(machine.transport.event_done(seq), Ok(Line::Unchanged));
    assert_eq!(machine.read(0x44), 0);
    add_status(&mut machine, 128);
    assert_eq!(machine.read(0x70), 0x8b);
}

#[test]
fn u_boot_reads_a_block() {
    let mut machine = Machine::served(LIMITS);
    identify(&machine);
    machine.set(0x70, 0);
    add_status(&mut machine, 1);
    add_status(&mut machine, 2);
    let features = offered(&mut machine, [1, 0]) & VERSION_1;
    accept(&mut machine, features, [1, 0]);
    add_status(&mut machine, 8);
    queue_as_linux(&mut machine, 0);
    machine.post(0x70, machine.read(0x70) | 4, EventKind::DriverOk);
    // Polls the used ring; no interrupt is looked at.
    assert_eq!(machine.write(0x50, 0), Store::Notify(0));
    assert_eq!(machine.transport.raise(1), Ok(Line::Raised));
    // Before the kernel starts: a reset takes the interrupt with it.
    let seq = machine.wait(0x70, 0, EventKind::Reset);
    assert_eq!(machine.transport.event_done(seq), Ok(Line::Lowered));
    assert!(!machine.transport.is_raised());
}

#[test]
fn edk2_binds_a_disk_and_resets_it_at_exit_boot_services() {
    let mut machine = Machine::served(LIMITS);
    identify(&machine);
    machine.set(0x70, 0);
    machine.set(0x70, 1);
    machine.set(0x70, 3);
    let features = offered(&mut machine, [0, 1]) & (VERSION_1 | 0x40);
    accept(&mut machine, features, [0, 1]);
    machine.set(0x70, 0xb);
    assert_eq!(machine.read(0x70) & 8, 8);
    assert_eq!(machine.load(0x100, Width::B8), Ok(0xa2a3_a0a1_a6a7_a4a5));
    machine.set(0x30, 0);
    assert_eq!(machine.read(0x34), 256);
    // Registers of the legacy interface: GuestPageSize, QueueAlign.
    machine.set(0x28, 4096);
    machine.set(0x3c, 4096);
    machine.start_queue(0, 256, AREAS);
    machine.post(0x70, 0xf, EventKind::DriverOk);
    assert_eq!(machine.write(0x50, 0), Store::Notify(0));
    let seq = machine.wait(0x70, 0, EventKind::Reset);
    assert_eq!(machine.transport.event_done(seq), Ok(Line::Unchanged));
}

#[test]
fn zephyr_polls_status_after_its_reset() {
    let mut machine = Machine::served(LIMITS);
    identify(&machine);
    machine.set(0x70, 0);
    assert_eq!(machine.read(0x70), 0);
    machine.set(0x70, 1);
    machine.set(0x70, 3);
    // Asks for single bits, and writes single bits: each word whole.
    assert_eq!(offered(&mut machine, [1, 0]) & VERSION_1, VERSION_1);
    accept(&mut machine, 0, [0, 1]);
    accept(&mut machine, VERSION_1, [0, 1]);
    add_status(&mut machine, 8);
    assert_eq!(machine.read(0x70) & 8, 8);
    machine.set(0x30, 1);
    assert_eq!(machine.read(0x34), 256);
    machine.start_queue(1, 16, AREAS);
    machine.post(0x70, 0xf, EventKind::DriverOk);
    interrupt(&mut machine);
}

#[test]
fn freebsd_reads_configuration_space_byte_by_byte() {
    let mut machine = Machine::served(LIMITS);
    identify(&machine);
    machine.set(0x70, 0);
    machine.set(0x70, 1);
    machine.set(0x70, 3);
    let features = offered(&mut machine, [1, 0]) & !0x2_0000_0000;
    accept(&mut machine, features, [1, 0]);
    machine.set(0x70, 0xb);
    for n in 0..=255 {
        assert_eq!(machine.load(0x100 + u64::from(n), Width::B1), Ok(u64::from(n ^ 0xa5_u8)));
    }
    machine.set(0x30, 0);
    assert_eq!(machine.read(0x34), 256);
    machine.start_queue(0, 128, AREAS);
    machine.post(0x70, machine.read(0x70) | 4, EventKind::DriverOk);
    assert_eq!(machine.get(Register::QueueNum(0)), 128);
    interrupt(&mut machine);
}

#[test]
fn an_input_driver_reads_what_its_store_selects() {
    // Virtio 5.8.5: the driver writes select and subsel, and reads size and data at once.
    let mut machine = Machine::served(LIMITS);
    machine.negotiate(VERSION_1);
    let store = |machine: &mut Machine, at, value| machine.transport.store(at, Width::B1, value);
    assert!(matches!(store(&mut machine, 0x100, 0x01), Ok(Store::Posted { .. })));
    // The second store and the read wait for the server.
    assert!(store(&mut machine, 0x101, 0x00).is_err());
    assert!(machine.load(0x102, Width::B1).is_err());
    let finish = |machine: &mut Machine, size| {
        let seq = machine.get(Register::ConfigStore) >> 32;
        machine.config[2] = size;
        assert_eq!(machine.transport.event_done(seq as u32), Ok(Line::Unchanged));
    };
    finish(&mut machine, 7);
    assert!(store(&mut machine, 0x101, 0x00).is_ok());
    finish(&mut machine, 9);
    assert_eq!(machine.load(0x102, Width::B1), Ok(9));
}
