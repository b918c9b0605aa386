// SPDX-License-Identifier: MIT OR Apache-2.0
//! Resets, stops and restarts of either side.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arch::Width;
use device_server::backend::block::Disk;
use device_server::backend::{Device, Handler, Outcome};
use device_server::chain::Chain;
use device_server::counters;

use crate::driver::{MODERN, Ring, negotiate};
use crate::fake::Fake;
use crate::served::{Request, Served, disk, disk_file, execute, sector_of};

const IN: u32 = 0;
const OUT: u32 = 1;

/// Offers `count` writes of one sector each, from request `first` on.
fn offer_writes(ring: &mut Ring, first: u64, count: u64) {
    for n in first..first + count {
        let request = Request(n);
        request.prepare(ring, OUT, n);
        request.write(ring, &[0xc0 | n as u8; 512]);
        let head = 3 * n as u16;
        ring.chain(head, &request.buffers(OUT, 512));
        ring.offer(head);
    }
}

#[test]
fn a_reset_stops_a_queue_and_another_can_be_set_up() {
    let fake = Fake::new(&[2]);
    let (_file, path) = disk_file(64);
    let _served = Served::start(&fake, vec![disk(&path)]);
    for size in [128, 4, 256] {
        let mut ring = Ring::probe(&fake, 0, MODERN, size);
        assert_eq!(execute(&mut ring, IN, 1, 512), (0, 513));
        // Returns only when the server uses no ring any more.
        fake.store(0, 0x70, 0);
        assert_eq!(fake.load(0, 0x70, Width::B4), 0);
        let request = Request(1);
        request.prepare(&ring, IN, 2);
        ring.chain(0, &request.buffers(IN, 512));
        ring.offer(0);
        ring.kick();
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!((request.result(&ring), ring.used_index()), (0xee, 1));
    }
}

#[test]
fn a_queue_is_stopped_and_made_ready_again() {
    let fake = Fake::new(&[2]);
    let (_file, path) = disk_file(64);
    let _served = Served::start(&fake, vec![disk(&path)]);
    let mut ring = Ring::probe(&fake, 0, MODERN, 128);
    assert_eq!(execute(&mut ring, IN, 1, 512), (0, 513));
    fake.store(0, 0x44, 0);
    assert_eq!(fake.load(0, 0x44, Width::B4), 0);
    let mut ring = Ring::set_up(&fake, 0, 0, 64);
    assert_eq!(execute(&mut ring, IN, 1, 512), (0, 513));
}

#[test]
fn nothing_is_served_before_driver_ok() {
    let fake = Fake::new(&[2]);
    let (_file, path) = disk_file(64);
    let _served = Served::start(&fake, vec![disk(&path)]);
    negotiate(&fake, 0, MODERN);
    let mut ring = Ring::set_up(&fake, 0, 0, 128);
    offer_writes(&mut ring, 0, 1);
    ring.kick();
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(ring.used_index(), 0);
    fake.store(0, 0x70, 15);
    ring.wait(1);
}

#[test]
fn a_server_that_is_started_anew_goes_on_where_the_other_left() {
    let fake = Fake::new(&[2]);
    let (_file, path) = disk_file(64);
    let served = Served::start(&fake, vec![disk(&path)]);
    let mut ring = Ring::probe(&fake, 0, MODERN, 128);
    offer_writes(&mut ring, 0, 2);
    ring.kick();
    ring.wait(2);
    fake.interrupted(0);
    drop(served);
    fake.detached();
    // The driver goes on meanwhile, and its notification is lost.
    offer_writes(&mut ring, 2, 3);
    ring.kick();
    assert!(!fake.is_raised(0));
    let _served = Served::start(&fake, vec![disk(&path)]);
    ring.wait(3);
    assert_eq!(ring.used_index(), 5);
    assert_eq!(fake.interrupted(0), 1);
    for n in 0..5 {
        assert_eq!(Request(n).result(&ring), 0);
        assert_eq!(sector_of(&path, n), [0xc0 | n as u8; 512]);
    }
}

/// What befalls a request that was executed, before used.idx says so. It gets the request's number, from 1 on.
type Fate = Arc<dyn Fn(usize) + Send + Sync>;

/// A disk whose requests are counted, and meet a fate.
struct Fateful {
    disk: Disk,
    requests: Arc<AtomicUsize>,
    fate: Fate,
}

struct FatefulHandler(Box<dyn Handler>, Arc<AtomicUsize>, Fate);

impl Device for Fateful {
    fn id(&self) -> u32 {
        self.disk.id()
    }
    fn features(&self) -> u64 {
        self.disk.features()
    }
    fn queues(&self) -> &[u16] {
        self.disk.queues()
    }
    fn config(&self) -> Vec<u8> {
        self.disk.config()
    }
    fn handler(&self, queue: u8, features: u64) -> std::io::Result<Box<dyn Handler>> {
        let handler = self.disk.handler(queue, features)?;
        let (requests, fate) = (Arc::clone(&self.requests), Arc::clone(&self.fate));
        Ok(Box::new(FatefulHandler(handler, requests, fate)))
    }
}

impl Handler for FatefulHandler {
    fn handle(&mut self, chain: &mut Chain<'_>, counters: &counters::Queue) -> Outcome {
        let outcome = self.0.handle(chain, counters);
        (self.2)(self.1.fetch_add(1, Ordering::SeqCst) + 1);
        outcome
    }
}

#[test]
fn a_reset_and_a_stop_wait_for_the_request_that_is_executed() {
    // Status = 0, QueueReady = 0.
    for offset in [0x70, 0x44] {
        let fake = Fake::new(&[2]);
        let (_file, path) = disk_file(64);
        let requests = Arc::new(AtomicUsize::new(0));
        let ended = Arc::new(AtomicUsize::new(0));
        let ends = Arc::clone(&ended);
        let slow = Fateful {
            disk: Disk::open(&path, false).unwrap(),
            requests: Arc::clone(&requests),
            fate: Arc::new(move |number| {
                std::thread::sleep(std::time::Duration::from_millis(100));
                ends.store(number, Ordering::SeqCst);
            }),
        };
        let _served = Served::start(&fake, vec![Arc::new(slow)]);
        let mut ring = Ring::probe(&fake, 0, MODERN, 128);
        offer_writes(&mut ring, 0, 3);
        ring.kick();
        while requests.load(Ordering::SeqCst) < 1 {
            std::thread::yield_now();
        }
        fake.store(0, offset, 0);
        let (begun, ended) = (requests.load(Ordering::SeqCst), ended.load(Ordering::SeqCst));
        assert_eq!(begun, ended, "nothing is under way");
        assert!(ended < 3, "the others are left alone");
        assert_eq!(usize::from(ring.used_index()), ended);
    }
}

#[test]
fn a_request_that_a_killed_server_had_fetched_is_executed_again() {
    let fake = Fake::new(&[2]);
    let (_file, path) = disk_file(64);
    let requests = Arc::new(AtomicUsize::new(0));
    let dying = Fateful {
        disk: Disk::open(&path, false).unwrap(),
        requests: Arc::clone(&requests),
        fate: Arc::new(|number| assert_ne!(number, 3, "killed, as the test wants")),
    };
    let served = Served::start(&fake, vec![Arc::new(dying)]);
    let mut ring = Ring::probe(&fake, 0, MODERN, 128);
    offer_writes(&mut ring, 0, 5);
    ring.kick();
    ring.wait(2);
    while requests.load(Ordering::SeqCst) < 3 {
        std::thread::yield_now();
    }
    drop(served);
    assert_eq!(ring.used_index(), 2);
    let _served = Served::start(&fake, vec![disk(&path)]);
    assert_eq!(ring.wait(3), [(6, 1), (9, 1), (12, 1)]);
    assert_eq!(ring.used_index(), 5);
    for n in 0..5 {
        assert_eq!(Request(n).result(&ring), 0);
        assert_eq!(sector_of(&path, n), [0xc0 | n as u8; 512]);
    }
}

#[test]
fn an_interrupt_that_a_killed_server_had_not_raised_is_raised() {
    let fake = Fake::new(&[2]);
    let (_file, path) = disk_file(64);
    let served = Served::start(&fake, vec![disk(&path)]);
    let mut ring = Ring::probe(&fake, 0, MODERN, 128);
    // The driver wants none before the tenth.
    ring.used_event(10);
    offer_writes(&mut ring, 0, 2);
    ring.kick();
    ring.wait(2);
    drop(served);
    assert!(!fake.is_raised(0));
    let _served = Served::start(&fake, vec![disk(&path)]);
    assert_eq!(fake.interrupted(0), 1);
}

#[test]
fn the_server_follows_the_peer_into_a_new_life() {
    let fake = Fake::new(&[2]);
    let (_file, path) = disk_file(64);
    let _served = Served::start(&fake, vec![disk(&path)]);
    for life in 1..20 {
        fake.attachments(life);
        let mut ring = Ring::probe(&fake, 0, MODERN, 128);
        assert_eq!(execute(&mut ring, IN, life, 512), (0, 513));
        assert_eq!(Request(0).read(&ring, 512), [life as u8; 512]);
        fake.stop();
        if life % 2 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        fake.start();
    }
}

#[test]
fn another_disk_in_the_same_life_is_refused_with_a_reason() {
    let fake = Fake::new(&[2]);
    let (_file, path) = disk_file(64);
    let served = Served::start(&fake, vec![disk(&path)]);
    let _ring = Ring::probe(&fake, 0, MODERN, 128);
    drop(served);
    let read_only = Arc::new(Disk::open(&path, true).unwrap());
    let port = Arc::clone(&fake) as _;
    let server = device_server::server::Server::new(port, vec![read_only]).unwrap();
    let error = format!("{:#}", server.run().unwrap_err());
    assert!(error.contains("transport 0 of web was offered by another server"), "{error}");
}

#[test]
fn options_and_transports_must_match() {
    let new = |ids: &[u32], disks: usize| {
        let files: Vec<_> = (0..disks).map(|_| disk_file(8)).collect();
        let disks = files.iter().map(|(_, path)| disk(path)).collect();
        let server = device_server::server::Server::new(Fake::new(ids), disks);
        server.map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(new(&[2, 2], 2), Ok(()));
    assert_eq!(
        new(&[2, 1], 1),
        Err("transport 1 of web is net, and no --net is left for it".to_owned())
    );
    assert_eq!(
        new(&[2, 2], 1).unwrap_err(),
        "transport 1 of web is blk, and no --blk is left for it"
    );
    assert_eq!(
        new(&[2], 2).unwrap_err(),
        "--blk is given, and web has no transport for it: see its vm.devices"
    );
}
