// SPDX-License-Identifier: MIT OR Apache-2.0
//! A transport with configuration space, and short names for what is done to it.

use arch::{Ipa, Width};
use std::cell::RefCell;
use virtio_mmio::{Blocked, DeviceId, Event, EventKind, Limits, Line, Register, Store, Transport};

pub const RAM: u64 = 0x4000_0000;
pub const RAM_BYTES: u64 = 0x1000_0000;
/// VERSION_1, ACCESS_PLATFORM, EVENT_IDX, INDIRECT_DESC, and two of the device.
pub const FEATURES: u64 = 0x3_3000_0240;
pub const VERSION_1: u64 = 0x1_0000_0000;

pub const LIMITS: Limits =
    Limits { start: Ipa::new(RAM), bytes: RAM_BYTES, access_platform: false };
pub const POOL: Limits =
    Limits { start: Ipa::new(RAM + 0x0800_0000), bytes: 0x0080_0000, access_platform: true };

pub struct Machine {
    pub transport: Transport,
    pub config: [u8; 256],
    /// Accesses to configuration space: offset and bytes.
    pub config_loads: RefCell<Vec<(u64, u64)>>,
}

impl Machine {
    /// A disk, whose server is not there.
    pub fn new(limits: Limits) -> Self {
        let config = core::array::from_fn(|n| n as u8 ^ 0xa5);
        let transport = Transport::new(DeviceId(2), limits);
        Self { transport, config, config_loads: RefCell::default() }
    }

    /// A disk, whose server has said READY: three queues of 256.
    pub fn served(limits: Limits) -> Self {
        let mut machine = Self::new(limits);
        machine.offer();
        machine
    }

    /// What a server does after it has attached.
    pub fn offer(&mut self) {
        for (register, value) in [
            (Register::VendorId, 0x5043_5643),
            (Register::DeviceFeatures, FEATURES),
            (Register::QueueNumMax(0), 256),
            (Register::QueueNumMax(1), 256),
            (Register::QueueNumMax(2), 256),
            (Register::Ready, 1),
        ] {
            assert_eq!(self.transport.set(register, value), Ok(()), "{register:?}");
        }
    }

    pub fn load(&self, offset: u64, width: Width) -> Result<u64, Blocked> {
        self.transport.load(offset, width, |offset, width| {
            self.config_loads.borrow_mut().push((offset, width.bytes()));
            let bytes =
                (0..8).map(|n| u64::from(self.config[(offset as usize + n) & 255]) << (8 * n));
            bytes.sum()
        })
    }

    pub fn read(&self, offset: u64) -> u32 {
        self.load(offset, Width::B4).unwrap() as u32
    }

    pub fn write(&mut self, offset: u64, value: u32) -> Store {
        self.transport.store(offset, Width::B4, value.into()).unwrap()
    }

    /// A store that leads to nothing.
    pub fn set(&mut self, offset: u64, value: u32) {
        assert_eq!(self.write(offset, value), Store::Done, "{value:#x} at {offset:#x}");
    }

    /// A store that the server is told of.
    pub fn post(&mut self, offset: u64, value: u32, kind: EventKind) -> u32 {
        match self.write(offset, value) {
            Store::Posted { event: Event { seq, kind: posted }, line: Line::Unchanged } => {
                assert_eq!(posted, kind);
                seq
            }
            other => panic!("{other:?}"),
        }
    }

    /// A store that waits. Its event's number.
    pub fn wait(&mut self, offset: u64, value: u32, kind: EventKind) -> u32 {
        match self.write(offset, value) {
            Store::Wait(event) => {
                assert_eq!(event.kind, kind);
                assert!(self.transport.is_outstanding(event.seq));
                event.seq
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn get(&self, register: Register) -> u64 {
        self.transport.get(register).unwrap()
    }

    /// A driver of version 2 up to FEATURES_OK.
    pub fn negotiate(&mut self, features: u64) {
        self.set(0x70, 1);
        self.set(0x70, 3);
        self.accept(features);
        self.set(0x70, 0xb);
    }

    /// Writes DriverFeatures.
    pub fn accept(&mut self, features: u64) {
        self.set(0x24, 1);
        self.set(0x20, (features >> 32) as u32);
        self.set(0x24, 0);
        self.set(0x20, features as u32);
    }

    /// The registers of a queue, but for QueueReady.
    pub fn place_queue(&mut self, queue: u32, size: u32, areas: [u64; 3]) {
        self.set(0x30, queue);
        self.set(0x38, size);
        for (offset, area) in [(0x80, areas[0]), (0x90, areas[1]), (0xa0, areas[2])] {
            self.set(offset, area as u32);
            self.set(offset + 4, (area >> 32) as u32);
        }
    }

    pub fn start_queue(&mut self, queue: u32, size: u32, areas: [u64; 3]) -> u32 {
        self.place_queue(queue, size, areas);
        self.post(0x44, 1, EventKind::QueueReady(queue as u8))
    }

    /// A disk in use: queue 0 is ready, and DRIVER_OK is set.
    pub fn in_use() -> Self {
        let mut machine = Self::served(LIMITS);
        machine.negotiate(FEATURES);
        machine.start_queue(0, 256, [RAM, RAM + 0x1000, RAM + 0x2000]);
        machine.post(0x70, 0xf, EventKind::DriverOk);
        machine
    }
}
