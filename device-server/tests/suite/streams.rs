// SPDX-License-Identifier: MIT OR Apache-2.0
//! Network card, console and entropy, probed and used through the registers.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use arch::Width;
use device_server::backend::console::{Console, Full};
use device_server::backend::net::Card;
use device_server::backend::rng::Entropy;
use vm_memory::{Bytes, GuestAddress};

use crate::driver::{MODERN, READ, Ring, WRITE, negotiate};
use crate::fake::Fake;
use crate::served::{BUFFERS, Served};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

/// Sets up queues 0 and 1.
fn probe(fake: &Arc<Fake>) -> [Ring; 2] {
    negotiate(fake, 0, u64::MAX);
    let rings = [0, 1].map(|queue| Ring::set_up(fake, 0, queue, 64));
    fake.store(0, 0x70, 15);
    rings
}

fn buffer(n: u64) -> u64 {
    BUFFERS + n * 0x1000
}

/// Gives the device an empty buffer.
fn give(ring: &mut Ring, n: u16, len: u32) {
    ring.chain(n, &[(buffer(n.into()), len, WRITE)]);
    ring.offer(n);
    ring.kick();
}

/// Has the device read `bytes`.
fn send(ring: &mut Ring, n: u16, bytes: &[u8]) {
    let at = buffer(32 + u64::from(n));
    ring.memory.write_slice(bytes, GuestAddress(at)).unwrap();
    ring.chain(n, &[(at, bytes.len() as u32, READ)]);
    ring.offer(n);
    ring.kick();
}

fn bytes(ring: &Ring, n: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    ring.memory.read_slice(&mut bytes, GuestAddress(buffer(n))).unwrap();
    bytes
}

fn wire() -> (UnixDatagram, File) {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    (ours, File::from(OwnedFd::from(theirs)))
}

#[test]
fn packets_go_both_ways_without_their_headers() {
    let fake = Fake::new(&[1]);
    let (wire, tap) = wire();
    let served = Served::start(&fake, vec![Arc::new(Card::at(tap, MAC))]);
    let [mut receive, mut transmit] = probe(&fake);
    let address = (0..6).map(|n| fake.load(0, 0x100 + n, Width::B1) as u8);
    assert_eq!(address.collect::<Vec<_>>(), MAC);
    // VIRTIO_NET_F_MAC, and none of the offloads.
    fake.store(0, 0x14, 0);
    assert_eq!(fake.load(0, 0x10, Width::B4), 0x3000_0020);

    let mut packet = vec![0xff; 12];
    packet.extend([5; 60]);
    send(&mut transmit, 0, &packet);
    transmit.wait(1);
    let mut got = [0; 2048];
    assert_eq!(wire.recv(&mut got).unwrap(), 60);
    assert_eq!(got[..60], [5; 60]);

    // One that comes before there is a buffer, and one behind.
    wire.send(&[7; 90]).unwrap();
    give(&mut receive, 0, 1526);
    assert_eq!(receive.wait(1), [(0, 102)]);
    let expected = [&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0][..], &[7; 90]].concat();
    assert_eq!(bytes(&receive, 0, 102), expected);
    give(&mut receive, 1, 1526);
    std::thread::sleep(Duration::from_millis(10));
    assert_eq!(receive.used_index(), 1);
    wire.send(&[8; 60]).unwrap();
    assert_eq!(receive.wait(1), [(1, 72)]);
    // Too short for a header.
    send(&mut transmit, 1, &[0; 11]);
    give(&mut receive, 2, 12);
    assert_eq!((transmit.wait(1), receive.wait(1).len()), (vec![(1, 0)], 1));
    assert_eq!(served.counters(0, 1).malformed.get(), 1);
    assert_eq!(served.counters(0, 0).malformed.get(), 1);
}

#[test]
fn a_queue_that_waits_for_a_packet_can_be_reset() {
    let fake = Fake::new(&[1]);
    let (wire, tap) = wire();
    let _served = Served::start(&fake, vec![Arc::new(Card::at(tap, MAC))]);
    for _ in 0..20 {
        let [mut receive, _transmit] = probe(&fake);
        give(&mut receive, 0, 1526);
        give(&mut receive, 1, 1526);
        wire.send(&[8; 60]).unwrap();
        receive.wait(1);
        fake.store(0, 0x70, 0);
    }
}

#[test]
fn a_full_wire_delays_and_loses_nothing() {
    let fake = Fake::new(&[1]);
    let (wire, tap) = wire();
    let _served = Served::start(&fake, vec![Arc::new(Card::at(tap, MAC))]);
    let [_receive, mut transmit] = probe(&fake);
    // More than a socket holds. Two descriptors each: the header with a number, and the rest.
    for n in 0..30_u16 {
        let at = buffer(32 + u64::from(n));
        transmit.memory.write_obj(n, GuestAddress(at + 12)).unwrap();
        transmit.chain(2 * n, &[(at, 14, READ), (BUFFERS + 0x10_0000, 30_000, READ)]);
        transmit.offer(2 * n);
    }
    transmit.kick();
    std::thread::sleep(Duration::from_millis(20));
    assert!(transmit.used_index() < 30);
    let mut got = vec![0; 40_000];
    for n in 0..30_u16 {
        assert_eq!(wire.recv(&mut got).unwrap(), 30_002);
        assert_eq!(got[..2], n.to_le_bytes());
    }
    transmit.wait(30);
}

fn line(full: Full) -> (UnixStream, Console) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let theirs = File::from(OwnedFd::from(theirs));
    (ours, Console::at(theirs.try_clone().unwrap(), theirs, full).unwrap())
}

#[test]
fn a_console_reads_and_writes() {
    let fake = Fake::new(&[3]);
    let (mut line, console) = line(Full::Wait);
    let _served = Served::start(&fake, vec![Arc::new(console)]);
    let [mut receive, mut transmit] = probe(&fake);
    send(&mut transmit, 0, b"login: ");
    transmit.wait(1);
    let mut got = [0; 7];
    line.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"login: ");
    give(&mut receive, 0, 4);
    give(&mut receive, 1, 4);
    line.write_all(b"root\n").unwrap();
    assert_eq!(receive.wait(2), [(0, 4), (1, 1)]);
    assert_eq!(bytes(&receive, 0, 4), b"root");
    assert_eq!(bytes(&receive, 1, 1), b"\n");
    // The end of the input is no empty line, and output goes on.
    give(&mut receive, 2, 4);
    line.shutdown(std::net::Shutdown::Write).unwrap();
    send(&mut transmit, 1, b"bye");
    transmit.wait(1);
    assert_eq!(receive.used_index(), 2);
    fake.store(0, 0x70, 0);
}

#[test]
fn output_that_nobody_reads_stops_the_vm_only_where_it_may() {
    for full in [Full::Drop, Full::Wait] {
        let fake = Fake::new(&[3]);
        let (_line, console) = line(full);
        let served = Served::start(&fake, vec![Arc::new(console)]);
        let [_receive, mut transmit] = probe(&fake);
        for n in 0..60_u16 {
            let at = BUFFERS + 0x10_0000;
            transmit.chain(n, &[(at, 32 << 10, READ)]);
            transmit.offer(n);
        }
        transmit.kick();
        if full == Full::Drop {
            transmit.wait(60);
            assert!(served.counters(0, 1).errors.get() > 0);
        } else {
            std::thread::sleep(Duration::from_millis(50));
            assert!(transmit.used_index() < 60);
            fake.store(0, 0x70, 0);
        }
    }
}

#[test]
fn a_pseudo_terminal_is_a_console() {
    let fake = Fake::new(&[3]);
    let (console, name) = Console::pty().unwrap();
    let _served = Served::start(&fake, vec![Arc::new(console)]);
    let [mut receive, mut transmit] = probe(&fake);
    let mut terminal = File::options().read(true).write(true).open(&name).unwrap();
    terminal.write_all(b"ls\r").unwrap();
    give(&mut receive, 0, 16);
    assert_eq!(receive.wait(1), [(0, 3)]);
    assert_eq!(bytes(&receive, 0, 3), b"ls\r");
    send(&mut transmit, 0, b"a\nb");
    transmit.wait(1);
    let mut got = [0; 3];
    terminal.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"a\nb");
}

#[test]
fn entropy_fills_buffers() {
    let fake = Fake::new(&[4]);
    let _served = Served::start(&fake, vec![Arc::new(Entropy::open().unwrap())]);
    let mut ring = Ring::probe(&fake, 0, MODERN, 64);
    give(&mut ring, 0, 64);
    give(&mut ring, 1, 64);
    assert_eq!(ring.wait(2), [(0, 64), (1, 64)]);
    assert_ne!(bytes(&ring, 0, 64), bytes(&ring, 1, 64));
    assert_ne!(bytes(&ring, 0, 64), [0; 64]);
    // A bound for what one request takes.
    give(&mut ring, 2, 1 << 20);
    assert_eq!(ring.wait(1), [(2, 4096)]);
}
