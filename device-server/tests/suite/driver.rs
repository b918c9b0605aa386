// SPDX-License-Identifier: MIT OR Apache-2.0
//! A driver of the peer: probes a device as Linux' virtio-mmio does, and fills rings by hand.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arch::Width;
use device_server::port::Memory;
use vm_memory::{Bytes, GuestAddress};

use crate::fake::{Fake, POOL};

/// The device reads the buffer.
pub const READ: u16 = 0;
/// VRING_DESC_F_NEXT
pub const NEXT: u16 = 1;
/// VRING_DESC_F_WRITE
pub const WRITE: u16 = 2;
/// VRING_DESC_F_INDIRECT
pub const INDIRECT: u16 = 4;

/// VERSION_1, ACCESS_PLATFORM, EVENT_IDX, INDIRECT_DESC.
pub const MODERN: u64 = 1 << 32 | 1 << 33 | 1 << 29 | 1 << 28;

/// Bytes between queues in the pool, each with its rings.
const AREA: u64 = 0x10000;

/// One queue of a device that is set up.
pub struct Ring {
    pub fake: Arc<Fake>,
    pub memory: Memory,
    pub transport: usize,
    pub queue: u16,
    pub size: u16,
    pub available: u16,
    pub used: u16,
}

/// The part of a probe before DRIVER_OK (virtio 3.1.1). Answers the accepted features.
pub fn negotiate(fake: &Fake, transport: usize, wanted: u64) -> u64 {
    let load = |offset| fake.load(transport, offset, Width::B4);
    let store = |offset, value| fake.store(transport, offset, value);
    assert_eq!((load(0), load(4)), (0x7472_6976, 2));
    store(0x70, 0);
    store(0x70, 1);
    store(0x70, 3);
    store(0x14, 1);
    let high = load(0x10);
    store(0x14, 0);
    let accepted = (high << 32 | load(0x10)) & wanted;
    store(0x24, 1);
    store(0x20, accepted >> 32);
    store(0x24, 0);
    store(0x20, accepted & 0xffff_ffff);
    store(0x70, 11);
    assert_eq!(load(0x70), 11, "FEATURES_OK");
    accepted
}

impl Ring {
    /// Probes a device and sets up its queue 0.
    pub fn probe(fake: &Arc<Fake>, transport: usize, features: u64, size: u16) -> Self {
        Self::probe_with(fake, transport, features, size, fake.ram())
    }

    /// The same with a view of RAM that is there already.
    pub fn probe_with(
        fake: &Arc<Fake>,
        transport: usize,
        features: u64,
        size: u16,
        memory: Memory,
    ) -> Self {
        negotiate(fake, transport, features);
        let ring = Self::set_up_with(fake, transport, 0, size, memory);
        fake.store(transport, 0x70, 15);
        ring
    }

    /// Sets up one queue.
    pub fn set_up(fake: &Arc<Fake>, transport: usize, queue: u16, size: u16) -> Self {
        Self::set_up_with(fake, transport, queue, size, fake.ram())
    }

    fn set_up_with(
        fake: &Arc<Fake>,
        transport: usize,
        queue: u16,
        size: u16,
        memory: Memory,
    ) -> Self {
        let fake = Arc::clone(fake);
        let ring = Self { fake, memory, transport, queue, size, available: 0, used: 0 };
        let fake = &ring.fake;
        ring.memory.write_slice(&vec![0; AREA as usize], GuestAddress(ring.descriptors())).unwrap();
        let store = |offset, value| fake.store(transport, offset, value);
        store(0x30, queue.into());
        assert!(fake.load(transport, 0x34, Width::B4) >= size.into());
        store(0x38, size.into());
        for (offset, address) in
            [(0x80, ring.descriptors()), (0x90, ring.driver()), (0xa0, ring.device())]
        {
            store(offset, address & 0xffff_ffff);
            store(offset + 4, address >> 32);
        }
        store(0x44, 1);
        assert_eq!(fake.load(transport, 0x44, Width::B4), 1, "QueueReady");
        ring
    }

    fn area(&self) -> u64 {
        POOL + AREA * (self.transport as u64 * 4 + u64::from(self.queue))
    }

    pub fn descriptors(&self) -> u64 {
        self.area()
    }

    pub fn driver(&self) -> u64 {
        self.area() + 0x4000
    }

    pub fn device(&self) -> u64 {
        self.area() + 0x8000
    }

    /// Writes a descriptor of a table.
    pub fn descriptor_at(
        &self,
        table: u64,
        n: u16,
        (address, len, flags, next): (u64, u32, u16, u16),
    ) {
        let at = GuestAddress(table + 16 * u64::from(n));
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&address.to_le_bytes());
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        self.memory.write_slice(&bytes, at).unwrap();
    }

    pub fn descriptor(&self, n: u16, descriptor: (u64, u32, u16, u16)) {
        self.descriptor_at(self.descriptors(), n, descriptor);
    }

    /// Writes a chain from descriptor `head` on.
    pub fn chain(&self, head: u16, buffers: &[(u64, u32, u16)]) {
        for (n, (address, len, flags)) in (head..).zip(buffers) {
            let last = usize::from(n - head) + 1 == buffers.len();
            let flags = if last { *flags } else { flags | NEXT };
            self.descriptor(n, (*address, *len, flags, n + 1));
        }
    }

    /// Makes a chain available, without a notification.
    pub fn offer(&mut self, head: u16) {
        let entry = self.driver() + 4 + 2 * u64::from(self.available % self.size);
        self.memory.write_obj(head, GuestAddress(entry)).unwrap();
        self.available = self.available.wrapping_add(1);
        self.index(self.available);
    }

    /// Writes avail.idx.
    pub fn index(&self, index: u16) {
        self.memory.store(index, GuestAddress(self.driver() + 2), Ordering::Release).unwrap();
    }

    /// Notifies, as virtqueue_notify() does.
    pub fn kick(&self) {
        self.fake.store(self.transport, 0x50, self.queue.into());
    }

    /// used.idx.
    pub fn used_index(&self) -> u16 {
        self.memory.load(GuestAddress(self.device() + 2), Ordering::Acquire).unwrap()
    }

    /// avail_event: when the device wants to be notified.
    pub fn avail_event(&self) -> u16 {
        let at = self.device() + 4 + 8 * u64::from(self.size);
        self.memory.load(GuestAddress(at), Ordering::Acquire).unwrap()
    }

    /// Sets used_event: when the driver wants an interrupt.
    pub fn used_event(&self, index: u16) {
        let at = self.driver() + 4 + 2 * u64::from(self.size);
        self.memory.store(index, GuestAddress(at), Ordering::Release).unwrap();
    }

    /// Waits until the device has used `count` more chains. Answers heads and lengths.
    pub fn wait(&mut self, count: u16) -> Vec<(u32, u32)> {
        let wanted = self.used.wrapping_add(count);
        let end = Instant::now() + Duration::from_secs(10);
        while self.used_index().wrapping_sub(self.used) < count {
            assert!(Instant::now() < end, "{} of {wanted} used", self.used_index());
            std::thread::sleep(Duration::from_micros(100));
        }
        let entries = (0..count).map(|n| {
            let slot = u64::from(self.used.wrapping_add(n) % self.size);
            let at = self.device() + 4 + 8 * slot;
            let head: u32 = self.memory.read_obj(GuestAddress(at)).unwrap();
            let len: u32 = self.memory.read_obj(GuestAddress(at + 4)).unwrap();
            (head, len)
        });
        let entries = entries.collect();
        self.used = wanted;
        entries
    }
}
