// SPDX-License-Identifier: MIT OR Apache-2.0
//! A disk, probed and used through the registers.

use std::sync::Arc;

use arch::Width;
use device_server::backend::block::Disk;
use vm_memory::{Bytes, GuestAddress};

use crate::driver::{INDIRECT, MODERN, Ring};
use crate::fake::Fake;
use crate::served::{BUFFERS, Request, Served, disk, disk_file, execute, sector_of};

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;
const ALL: u64 = u64::MAX;

#[test]
fn a_disk_is_probed_read_and_written() {
    let fake = Fake::new(&[2]);
    let (_file, path) = disk_file(64);
    let served = Served::start(&fake, vec![disk(&path)]);
    let mut ring = Ring::probe(&fake, 0, ALL, 128);
    // struct virtio_blk_config: capacity, seg_max, blk_size.
    assert_eq!(fake.load(0, 0x100, Width::B8), 64);
    assert_eq!(fake.load(0, 0x10c, Width::B4), 126);
    assert_eq!(fake.load(0, 0x114, Width::B4), 512);
    // VERSION_1, ACCESS_PLATFORM, EVENT_IDX, INDIRECT_DESC, WRITE_ZEROES, DISCARD, FLUSH, BLK_SIZE, SEG_MAX.
    fake.store(0, 0x14, 0);
    assert_eq!(fake.load(0, 0x10, Width::B4), 0x3000_6244);
    fake.store(0, 0x14, 1);
    assert_eq!(fake.load(0, 0x10, Width::B4), 3);

    assert_eq!(execute(&mut ring, IN, 5, 1024), (0, 1025));
    assert_eq!(fake.interrupted(0), 1);
    assert_eq!(Request(0).read(&ring, 1024), [[5; 512], [6; 512]].concat());
    Request(0).write(&ring, &[0xab; 512]);
    assert_eq!(execute(&mut ring, OUT, 9, 512), (0, 1));
    assert_eq!((sector_of(&path, 8), sector_of(&path, 9)), ([8; 512], [0xab; 512]));
    assert_eq!(sector_of(&path, 10), [10; 512]);
    assert_eq!(execute(&mut ring, FLUSH, 0, 0), (0, 1));
    assert_eq!(execute(&mut ring, GET_ID, 0, 20).0, 0);
    let name = path.file_name().unwrap().as_encoded_bytes();
    assert!(Request(0).read(&ring, 20).starts_with(&name[..name.len().min(20)]));
    // An unknown kind.
    assert_eq!(execute(&mut ring, 77, 0, 512).0, 2);
    let counters = served.counters(0, 0);
    assert_eq!((counters.requests.get(), counters.errors.get()), (5, 1));
    assert_eq!((counters.bytes_out.get(), counters.bytes_in.get()), (1024, 512));
}

#[test]
fn a_request_beyond_the_disk_is_an_error() {
    let fake = Fake::new(&[2]);
    let (_file, path) = disk_file(64);
    let _served = Served::start(&fake, vec![disk(&path)]);
    let mut ring = Ring::probe(&fake, 0, MODERN, 128);
    for (kind, sector, len) in [
        (IN, 64, 512),
        (IN, 63, 1024),
        (IN, u64::MAX, 512),
        (IN, u64::MAX / 512, 512),
        (IN, 0, 511),
        (OUT, 64, 512),
        (OUT, 63, 1024),
        (OUT, 1, 513),
    ] {
        assert_eq!(execute(&mut ring, kind, sector, len).0, 1, "{kind} {sector} {len}");
    }
    assert_eq!(execute(&mut ring, IN, 63, 512), (0, 513));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 64 * 512);
}

#[test]
fn a_read_only_disk_is_not_written() {
    let fake = Fake::new(&[2]);
    let (_file, path) = disk_file(64);
    let disk = Arc::new(Disk::open(&path, true).unwrap());
    let _served = Served::start(&fake, vec![disk]);
    let mut ring = Ring::probe(&fake, 0, ALL, 128);
    fake.store(0, 0x14, 0);
    assert_eq!(fake.load(0, 0x10, Width::B4), 0x3000_0264);
    Request(0).write(&ring, &[0xab; 512]);
    assert_eq!(execute(&mut ring, OUT, 9, 512).0, 1);
    Request(0).write(&ring, &[0; 512]);
    assert_eq!(execute(&mut ring, DISCARD, 9, 16).0, 1);
    assert_eq!(execute(&mut ring, IN, 9, 512), (0, 513));
    assert_eq!(sector_of(&path, 9), [9; 512]);
}

#[test]
fn a_range_is_cleared() {
    let fake = Fake::new(&[2]);
    let (_file, path) = disk_file(64);
    let _served = Served::start(&fake, vec![disk(&path)]);
    let mut ring = Ring::probe(&fake, 0, ALL, 128);
    let range = |sector: u64, count: u32, flags: u32| {
        [&sector.to_le_bytes()[..], &count.to_le_bytes(), &flags.to_le_bytes()].concat()
    };
    Request(0).write(&ring, &[range(8, 8, 0), range(24, 8, 1)].concat());
    let status = execute(&mut ring, WRITE_ZEROES, 0, 32).0;
    // Some filesystems of /tmp cannot.
    assert!(status == 0 || status == 2, "{status}");
    if status == 0 {
        for sector in [8, 15, 24, 31] {
            assert_eq!(sector_of(&path, sector), [0; 512], "{sector}");
        }
        Request(0).write(&ring, &range(32, 8, 0));
        assert_eq!(execute(&mut ring, DISCARD, 0, 16).0, 0);
        assert_eq!(sector_of(&path, 32), [0; 512]);
    }
    for sector in [7, 16, 23, 40] {
        assert_eq!(sector_of(&path, sector), [sector as u8; 512], "{sector}");
    }
    for (bytes, status) in [
        (range(60, 8, 0), 1),
        (range(0, 8, 2), 2),
        (range(u64::MAX, 8, 0), 1),
        (range(0, u32::MAX, 0), 1),
    ] {
        Request(0).write(&ring, &bytes);
        assert_eq!(execute(&mut ring, WRITE_ZEROES, 0, 16).0, status);
    }
    assert_eq!(execute(&mut ring, WRITE_ZEROES, 0, 0).0, 1);
    assert_eq!(execute(&mut ring, WRITE_ZEROES, 0, 24).0, 1);
}

#[test]
fn an_indirect_table_holds_a_request() {
    let fake = Fake::new(&[2]);
    let (_file, path) = disk_file(64);
    let _served = Served::start(&fake, vec![disk(&path)]);
    let mut ring = Ring::probe(&fake, 0, MODERN, 128);
    let request = Request(0);
    request.prepare(&ring, IN, 3);
    let table = BUFFERS + 0x80000;
    // Data in three pieces, and the status behind the last of them in the same buffer.
    let data = request.data();
    ring.descriptor_at(table, 0, (request.header(), 16, 1, 1));
    ring.descriptor_at(table, 1, (data, 100, 3, 2));
    ring.descriptor_at(table, 2, (data + 100, 400, 3, 3));
    ring.descriptor_at(table, 3, (data + 500, 13, 2, 0));
    ring.descriptor(7, (table, 64, INDIRECT, 0));
    ring.offer(7);
    ring.kick();
    assert_eq!(ring.wait(1), [(7, 513)]);
    assert_eq!(request.read(&ring, 513), [&[3; 512][..], &[0]].concat());
    let status: u8 = ring.memory.read_obj(GuestAddress(request.status())).unwrap();
    assert_eq!(status, 0xee, "not written");
}

#[test]
fn one_file_has_one_writer() {
    let (_file, path) = disk_file(8);
    let first = Disk::open(&path, false).unwrap();
    let error = Disk::open(&path, false).unwrap_err().to_string();
    assert!(error.contains("in use by another server"), "{error}");
    drop(first);
    let _one = Disk::open(&path, true).unwrap();
    let _other = Disk::open(&path, true).unwrap();
    assert!(Disk::open(&path, false).is_err());
}

#[test]
fn a_file_that_is_no_disk_is_refused() {
    let (_file, path) = disk_file(8);
    std::fs::write(&path, [0; 700]).unwrap();
    let error = Disk::open(&path, false).unwrap_err().to_string();
    assert!(error.contains("has 700 bytes"), "{error}");
    assert!(Disk::open(std::path::Path::new("/dev/null"), false).is_err());
}

#[test]
fn the_device_is_notified_and_interrupts_by_index() {
    let fake = Fake::new(&[2]);
    let (_file, path) = disk_file(64);
    let served = Served::start(&fake, vec![disk(&path)]);
    let mut ring = Ring::probe(&fake, 0, MODERN, 128);
    let counters = served.counters(0, 0);
    let offer = |ring: &mut Ring, n: u64| {
        Request(n).prepare(ring, IN, n);
        ring.chain(3 * n as u16, &Request(n).buffers(IN, 512));
        ring.offer(3 * n as u16);
    };
    // An interrupt for the third request alone.
    ring.used_event(2);
    for n in 0..3 {
        offer(&mut ring, n);
        ring.kick();
        ring.wait(1);
        if n < 2 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            assert!(!fake.is_raised(0), "{n}");
        }
    }
    assert_eq!(fake.interrupted(0), 1);
    assert_eq!(counters.interrupts.get(), 1);
    // With all served, the device wants to be notified of the fourth.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while ring.avail_event() != 3 {
        assert!(std::time::Instant::now() < end, "{}", ring.avail_event());
    }
}

#[test]
fn a_driver_without_event_idx_is_told_of_each() {
    let fake = Fake::new(&[2]);
    let (_file, path) = disk_file(64);
    let _served = Served::start(&fake, vec![disk(&path)]);
    let mut ring = Ring::probe(&fake, 0, MODERN & !(1 << 29), 128);
    for _ in 0..3 {
        assert_eq!(execute(&mut ring, IN, 1, 512), (0, 513));
        assert_eq!(fake.interrupted(0), 1);
    }
}

#[test]
fn a_request_that_comes_while_the_ring_is_found_empty_is_served() {
    let fake = Fake::new(&[2]);
    let (_file, path) = disk_file(64);
    let served = Served::start(&fake, vec![disk(&path)]);
    let mut ring = Ring::probe(&fake, 0, MODERN, 128);
    let request = Request(0);
    request.prepare(&ring, IN, 1);
    ring.chain(0, &request.buffers(IN, 512));
    // The thread wakes up for nothing again and again, and a request comes at any place of its look.
    let other = std::sync::Arc::clone(&fake);
    let end = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !end.load(std::sync::atomic::Ordering::Relaxed) {
                other.store(0, 0x50, 0);
            }
        });
        for _ in 0..3_000 {
            ring.offer(0);
            ring.kick();
            while ring.used_index() != ring.available && served.counters(0, 0).broken.get() == 0 {}
            ring.used = ring.available;
        }
        end.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(served.counters(0, 0).broken.get(), 0);
    assert_eq!(ring.used_index(), 3_000);
}
