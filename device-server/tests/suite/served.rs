// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server that runs in a thread of the test.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use device_server::backend::Device;
use device_server::backend::block::Disk;
use device_server::counters;
use device_server::server::Server;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use crate::driver::{READ, Ring, WRITE};
use crate::fake::{Fake, POOL};

/// A server in its thread. Dropping it ends it in order.
pub struct Served {
    stop: EventFd,
    thread: Option<JoinHandle<()>>,
    server: Arc<Server>,
}

impl Served {
    pub fn start(fake: &Arc<Fake>, devices: Vec<Arc<dyn Device>>) -> Self {
        let server = Arc::new(Server::new(Arc::clone(fake) as _, devices).unwrap());
        let stop = server.stopper().unwrap();
        let inside = Arc::clone(&server);
        let thread = thread::spawn(move || inside.run().unwrap());
        Self { stop, thread: Some(thread), server }
    }

    pub fn server(&self) -> Arc<Server> {
        Arc::clone(&self.server)
    }

    pub fn counters(&self, transport: usize, queue: usize) -> Arc<counters::Queue> {
        let queues = self.server.transports().nth(transport).unwrap().1;
        Arc::clone(&queues[queue])
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.write(1).unwrap();
        if self.thread.take().unwrap().join().is_err() && !thread::panicking() {
            panic!("the server failed");
        }
    }
}

/// A file of `sectors` sectors, each filled with the low byte of its number.
pub fn disk_file(sectors: u64) -> (tempfile::NamedTempFile, PathBuf) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let bytes: Vec<u8> = (0..sectors * 512).map(|n| (n / 512) as u8).collect();
    std::fs::write(file.path(), bytes).unwrap();
    let path = file.path().to_owned();
    (file, path)
}

pub fn disk(path: &std::path::Path) -> Arc<dyn Device> {
    Arc::new(Disk::open(path, false).unwrap())
}

/// Where buffers of requests are.
pub const BUFFERS: u64 = POOL + (1 << 20);

/// A request of a disk: its place in the pool by its number.
pub struct Request(pub u64);

impl Request {
    pub fn header(&self) -> u64 {
        BUFFERS + self.0 * 0x10000
    }

    pub fn data(&self) -> u64 {
        self.header() + 0x1000
    }

    pub fn status(&self) -> u64 {
        self.header() + 0x100
    }

    /// Writes the header, and a status that no device writes.
    pub fn prepare(&self, ring: &Ring, kind: u32, sector: u64) {
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        ring.memory.write_slice(&header, GuestAddress(self.header())).unwrap();
        ring.memory.write_obj(0xee_u8, GuestAddress(self.status())).unwrap();
    }

    /// Header, `len` bytes of data if there are any, status.
    pub fn buffers(&self, kind: u32, len: u32) -> Vec<(u64, u32, u16)> {
        let access = if matches!(kind, 0 | 8) { WRITE } else { READ };
        let mut buffers = vec![(self.header(), 16, READ)];
        if len != 0 {
            buffers.push((self.data(), len, access));
        }
        buffers.push((self.status(), 1, WRITE));
        buffers
    }

    pub fn result(&self, ring: &Ring) -> u8 {
        ring.memory.read_obj(GuestAddress(self.status())).unwrap()
    }

    pub fn read(&self, ring: &Ring, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        ring.memory.read_slice(&mut data, GuestAddress(self.data())).unwrap();
        data
    }

    pub fn write(&self, ring: &Ring, data: &[u8]) {
        ring.memory.write_slice(data, GuestAddress(self.data())).unwrap();
    }
}

/// One request, alone, with a notification. Answers status and length.
pub fn execute(ring: &mut Ring, kind: u32, sector: u64, len: u32) -> (u8, u32) {
    let request = Request(0);
    request.prepare(ring, kind, sector);
    ring.chain(0, &request.buffers(kind, len));
    ring.offer(0);
    ring.kick();
    let used = ring.wait(1);
    assert_eq!(used[0].0, 0);
    (request.result(ring), used[0].1)
}

pub fn sector_of(path: &std::path::Path, sector: u64) -> [u8; 512] {
    use std::os::unix::fs::FileExt;
    let mut bytes = [0; 512];
    File::open(path).unwrap().read_exact_at(&mut bytes, sector * 512).unwrap();
    bytes
}
