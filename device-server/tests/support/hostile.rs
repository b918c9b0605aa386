// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rings that a hostile driver writes, before and while they are served. Bytes choose what it does: those of a fuzzer, or
//! random ones.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use device_server::backend::Device;
use device_server::backend::block::Disk;
use device_server::backend::console::{Console, Full};
use device_server::backend::net::Card;
use device_server::port::Memory;
use device_server::worker::{Ring, Setup, queue};
use vm_memory::{Bytes, GuestAddress};

const RAM: u64 = 0x4000_0000;
const RAM_BYTES: usize = 0x8000;
const DESCRIPTORS: u64 = RAM;
const AVAILABLE: u64 = RAM + 0x1000;
const USED: u64 = RAM + 0x2000;
const TABLE: u64 = RAM + 0x3000;
const BUFFERS: u64 = RAM + 0x4000;
const SECTORS: u64 = 8;
/// Requests of one run, after which the ring is stopped as by the driver.
const MOST: u32 = 256;

/// What all runs of a thread share.
struct Stage {
    memory: Arc<Memory>,
    devices: Vec<Box<dyn Device>>,
    read_only: File,
    disks: [(tempfile::NamedTempFile, PathBuf); 2],
}

impl Stage {
    fn new() -> Self {
        let ranges = [(GuestAddress(RAM), RAM_BYTES)];
        let memory = Arc::new(Memory::from_ranges(&ranges).unwrap());
        let disks = [(); 2].map(|()| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), [0x5a; SECTORS as usize * 512]).unwrap();
            let path = file.path().to_owned();
            (file, path)
        });
        let open = |name| File::options().read(true).write(true).open(name).unwrap();
        let console = Console::at(open("/dev/zero"), open("/dev/null"), Full::Drop).unwrap();
        let devices: Vec<Box<dyn Device>> = vec![
            Box::new(Disk::open(&disks[0].1, false).unwrap()),
            Box::new(Disk::open(&disks[1].1, true).unwrap()),
            Box::new(Card::at(open("/dev/null"), [0; 6])),
            Box::new(console),
        ];
        let read_only = File::open(&disks[1].1).unwrap();
        Self { memory, devices, read_only, disks }
    }
}

/// Bytes that are used up; zeros behind them.
struct Source<'a>(Cell<&'a [u8]>);

impl Source<'_> {
    fn byte(&self) -> u8 {
        let (first, rest) = self.0.get().split_first().unwrap_or((&0, &[]));
        self.0.set(rest);
        *first
    }

    fn word(&self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn long(&self) -> u64 {
        u64::from_le_bytes([(); 8].map(|()| self.byte()))
    }

    fn one_in(&self, number: u8) -> bool {
        self.byte().is_multiple_of(number)
    }

    fn ended(&self) -> bool {
        self.0.get().is_empty()
    }

    fn address(&self) -> u64 {
        match self.byte() % 8 {
            0 => self.long(),
            // The ends of RAM.
            1 => RAM + RAM_BYTES as u64 - u64::from(self.byte()),
            2 => RAM.wrapping_sub(u64::from(self.byte())),
            3 => DESCRIPTORS + u64::from(self.word() & 0x2fff),
            4 => TABLE + 16 * u64::from(self.byte() % 16),
            _ => BUFFERS + u64::from(self.word() & 0x3fff),
        }
    }

    fn length(&self) -> u32 {
        match self.byte() % 8 {
            0 => self.long() as u32,
            1 => u32::from(self.word()),
            2 => 16 * u32::from(self.byte()),
            3 | 4 => 16,
            5 => 1,
            6 => 512,
            _ => 0,
        }
    }

    /// One step of the driver.
    fn step(&self, memory: &Memory, size: u16) {
        let put = |at, bytes: &[u8]| memory.write_slice(bytes, GuestAddress(at)).unwrap_or(());
        match self.byte() % 8 {
            0..=2 => {
                let table = if self.one_in(3) { TABLE } else { DESCRIPTORS };
                let at = table + 16 * (u64::from(self.byte()) % 18);
                let mut bytes = [0; 16];
                bytes[..8].copy_from_slice(&self.address().to_le_bytes());
                bytes[8..12].copy_from_slice(&self.length().to_le_bytes());
                let flags = if self.one_in(8) { self.word() } else { u16::from(self.byte() % 8) };
                bytes[12..14].copy_from_slice(&flags.to_le_bytes());
                let next = if self.one_in(8) { self.word() } else { u16::from(self.byte() % 18) };
                bytes[14..].copy_from_slice(&next.to_le_bytes());
                put(at, &bytes);
            }
            3 => {
                let at = AVAILABLE + 4 + 2 * (u64::from(self.byte()) % u64::from(size));
                let head = if self.one_in(8) { self.word() } else { u16::from(self.byte()) % size };
                put(at, &head.to_le_bytes());
            }
            4 => {
                let index = if self.one_in(8) { self.word() } else { u16::from(self.byte() % 64) };
                put(AVAILABLE + 2, &index.to_le_bytes());
            }
            5 => {
                // A header of a disk.
                let mut header = [0; 16];
                header[0] = self.byte() % 16;
                let sector = if self.one_in(8) { self.long() } else { u64::from(self.byte()) % 10 };
                header[8..].copy_from_slice(&sector.to_le_bytes());
                put(BUFFERS + 16 * u64::from(self.byte()), &header);
            }
            6 => put(USED + u64::from(self.byte()), &[self.byte(), self.byte()]),
            _ => put(RAM + u64::from(self.word() & 0x7fff), &[self.byte()]),
        }
    }

    fn setup(&self, size: u16) -> Setup {
        let odd = |usual| if self.one_in(32) { self.address() } else { usual };
        Setup {
            max: 256,
            size: if self.one_in(32) { self.word() } else { size },
            descriptors: odd(DESCRIPTORS),
            available: odd(AVAILABLE),
            used: odd(USED),
            event_idx: !self.one_in(4),
        }
    }
}

thread_local!(static STAGE: Stage = Stage::new());

/// Lets a driver do what `data` says. Answers how many requests were finished and how many rings were given up.
pub fn play(data: &[u8]) -> u64 {
    STAGE.with(|stage| stage.play(&Source(Cell::new(data))))
}

impl Stage {
    fn play(&self, source: &Source<'_>) -> u64 {
        self.memory.write_slice(&[0; RAM_BYTES], GuestAddress(RAM)).unwrap();
        let mut tried = 0;
        while !source.ended() {
            tried += self.ring(source);
        }
        for (_, path) in &self.disks {
            assert_eq!(std::fs::metadata(path).unwrap().len(), SECTORS * 512);
        }
        tried
    }

    /// One ring, from its set-up to its end.
    fn ring(&self, source: &Source<'_>) -> u64 {
        let size = 1 << (source.byte() % 5);
        let device = &self.devices[usize::from(source.byte()) % self.devices.len()];
        let number = source.byte() % device.queues().len() as u8;
        let setup = source.setup(size);
        for _ in 0..source.byte() % 64 {
            source.step(&self.memory, size);
        }
        let Ok(queue) = queue(&setup, &self.memory) else { return 1 };
        let started = queue_position(&queue);
        let counters = Arc::default();
        let handler = device.handler(number, source.long()).unwrap();
        let memory = Arc::clone(&self.memory);
        let mut ring = Ring { queue, memory, handler, counters: Arc::clone(&counters) };
        let left = Cell::new(MOST);
        let stop = || {
            left.set(left.get().saturating_sub(1));
            // The driver goes on while it is served.
            for _ in 0..source.byte() % 4 {
                source.step(&self.memory, size);
            }
            left.get() == 0
        };
        let mut interrupts = 0_u64;
        let interrupt = || {
            interrupts += 1;
            Ok::<(), io::Error>(())
        };
        let result = ring.serve(stop, interrupt);
        let finished = counters.requests.get();
        // A ring is left where it was served to: no request is finished twice, and none is passed over.
        let (avail, used) = queue_position(&ring.queue);
        assert_eq!(used, started.1.wrapping_add(finished as u16), "{result:?}");
        match result {
            Ok(_) => assert_eq!(avail.wrapping_sub(started.0), used.wrapping_sub(started.1)),
            Err(_) => assert!(avail.wrapping_sub(used) <= 1),
        }
        assert_eq!(counters.interrupts.get(), interrupts);
        assert!(interrupts <= finished);
        if device.features() & 1 << 5 != 0 && device.id() == 2 {
            let mut sector = [0; 512];
            self.read_only.read_exact_at(&mut sector, 0).unwrap();
            assert_eq!(sector, [0x5a; 512]);
        }
        finished + 1
    }
}

fn queue_position(queue: &virtio_queue::Queue) -> (u16, u16) {
    use virtio_queue::QueueT;
    (queue.next_avail(), queue.next_used())
}
