// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rings that break the rules: each stops its own queue at most, or ends in an error for that request.

use vm_memory::{Bytes, GuestAddress};

use crate::driver::{INDIRECT, MODERN, NEXT, READ, Ring, WRITE};
use crate::fake::{Fake, RAM, RAM_BYTES};
use crate::served::{BUFFERS, Request, Served, disk, disk_file, execute};
use crate::support::play;

/// What comes of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The queue is stopped.
    Stopped,
    /// The request is given back unserved, with length 0.
    GivenBack,
    /// The request is answered with this status.
    Answered(u8),
}
use Fate::*;

/// Writes something odd into a ring, and makes it available.
type Write = fn(&mut Ring);

fn offer(ring: &mut Ring, descriptors: &[(u64, u32, u16, u16)]) {
    for (n, descriptor) in (0..).zip(descriptors) {
        ring.descriptor(n, *descriptor);
    }
    ring.offer(0);
}

fn table(ring: &mut Ring, descriptors: &[(u64, u32, u16, u16)]) -> u64 {
    let table = BUFFERS + 0x20_0000;
    for (n, descriptor) in (0..).zip(descriptors) {
        ring.descriptor_at(table, n, *descriptor);
    }
    table
}

fn read(ring: &Ring) -> (u64, u64, u64) {
    let request = Request(0);
    request.prepare(ring, 0, 1);
    (request.header(), request.data(), request.status())
}

const SIZE: u16 = 16;
const END: u64 = RAM + RAM_BYTES;

const ODDITIES: &[(&str, Fate, Write)] = &[
    ("avail.idx jumps past the ring", Stopped, |ring| ring.index(SIZE + 1)),
    ("avail.idx goes back", Stopped, |ring| ring.index(u16::MAX)),
    ("a head outside the table", Stopped, |ring| ring.offer(SIZE)),
    ("a head far outside the table", Stopped, |ring| ring.offer(u16::MAX)),
    ("a descriptor that is its own next", GivenBack, |ring| {
        let (header, ..) = read(ring);
        offer(ring, &[(header, 16, NEXT, 0)]);
    }),
    ("a circle of two", GivenBack, |ring| {
        let (header, data, _) = read(ring);
        offer(ring, &[(header, 16, NEXT, 1), (data, 512, NEXT, 0)]);
    }),
    ("a next outside the table", GivenBack, |ring| {
        let (header, ..) = read(ring);
        offer(ring, &[(header, 16, NEXT, SIZE)]);
    }),
    ("a status that has a next outside the table", GivenBack, |ring| {
        let (header, _, status) = read(ring);
        offer(ring, &[(header, 16, NEXT, 1), (status, 1, NEXT | WRITE, SIZE)]);
    }),
    ("more than 4 GiB", GivenBack, |ring| {
        let (header, data, status) = read(ring);
        let long = (data, u32::MAX, NEXT | WRITE, 2);
        offer(ring, &[(header, 16, NEXT, 1), long, (status, 1, WRITE, 0)]);
    }),
    ("a header outside RAM", GivenBack, |ring| {
        let (_, data, status) = read(ring);
        let rest = [(data, 512, NEXT | WRITE, 2), (status, 1, WRITE, 0)];
        offer(ring, &[&[(0x1000, 16, NEXT, 1)][..], &rest].concat());
    }),
    ("data over the end of RAM", GivenBack, |ring| {
        let (header, _, status) = read(ring);
        offer(
            ring,
            &[(header, 16, NEXT, 1), (END - 256, 512, NEXT | WRITE, 2), (status, 1, WRITE, 0)],
        );
    }),
    ("data over the end of addresses", GivenBack, |ring| {
        let (header, _, status) = read(ring);
        offer(
            ring,
            &[(header, 16, NEXT, 1), (u64::MAX - 255, 512, NEXT | WRITE, 2), (status, 1, WRITE, 0)],
        );
    }),
    ("an indirect table outside RAM", GivenBack, |ring| {
        offer(ring, &[(END, 64, INDIRECT, 0)]);
    }),
    ("an indirect table of an odd size", GivenBack, |ring| {
        offer(ring, &[(BUFFERS, 63, INDIRECT, 0)]);
    }),
    ("an empty indirect table", GivenBack, |ring| {
        offer(ring, &[(BUFFERS, 0, INDIRECT, 0)]);
    }),
    ("an indirect table of 2^28 entries", GivenBack, |ring| {
        offer(ring, &[(BUFFERS, 0xffff_fff0, INDIRECT, 0)]);
    }),
    ("an indirect table in another", GivenBack, |ring| {
        let (header, ..) = read(ring);
        let inner = BUFFERS + 0x20_0000;
        let table = table(ring, &[(header, 16, NEXT, 1), (inner, 64, INDIRECT, 0)]);
        offer(ring, &[(table, 32, INDIRECT, 0)]);
    }),
    ("an indirect circle", GivenBack, |ring| {
        let (header, ..) = read(ring);
        let table = table(ring, &[(header, 16, NEXT, 0)]);
        offer(ring, &[(table, 16, INDIRECT, 0)]);
    }),
    ("2,000 buffers", GivenBack, |ring| {
        let (header, data, _) = read(ring);
        let mut all = vec![(header, 16, NEXT, 1)];
        all.extend((2..2000).map(|next| (data, 1, NEXT | WRITE, next)));
        all.push((data, 1, WRITE, 0));
        let table = table(ring, &all);
        offer(ring, &[(table, 16 * all.len() as u32, INDIRECT, 0)]);
    }),
    ("no buffer for the status", GivenBack, |ring| {
        let (header, ..) = read(ring);
        offer(ring, &[(header, 16, READ, 0)]);
    }),
    ("a status of no bytes", GivenBack, |ring| {
        let (header, _, status) = read(ring);
        offer(ring, &[(header, 16, NEXT, 1), (status, 0, WRITE, 0)]);
    }),
    ("a header that is write-only", GivenBack, |ring| {
        let (header, _, status) = read(ring);
        offer(ring, &[(header, 16, NEXT | WRITE, 1), (status, 1, WRITE, 0)]);
    }),
    ("a header of 15 bytes", GivenBack, |ring| {
        let (header, _, status) = read(ring);
        offer(ring, &[(header, 15, NEXT, 1), (status, 1, WRITE, 0)]);
    }),
    ("what the device reads behind what it writes", GivenBack, |ring| {
        let (header, data, status) = read(ring);
        offer(ring, &[(data, 512, NEXT | WRITE, 1), (header, 16, NEXT, 2), (status, 1, WRITE, 0)]);
    }),
    ("data that is not whole sectors", Answered(1), |ring| {
        let (header, data, status) = read(ring);
        offer(ring, &[(header, 16, NEXT, 1), (data, 500, NEXT | WRITE, 2), (status, 1, WRITE, 0)]);
    }),
    ("buffers of no bytes among others", Answered(0), |ring| {
        let (header, data, status) = read(ring);
        let empty = (data, 0, NEXT | WRITE, 2);
        offer(
            ring,
            &[(header, 16, NEXT, 1), empty, (data, 512, NEXT | WRITE, 3), (status, 1, WRITE, 0)],
        );
    }),
    ("a header in two pieces", Answered(0), |ring| {
        let (header, data, status) = read(ring);
        offer(
            ring,
            &[
                (header, 7, NEXT, 1),
                (header + 7, 9, NEXT, 2),
                (data, 512, NEXT | WRITE, 3),
                (status, 1, WRITE, 0),
            ],
        );
    }),
];

#[test]
fn oddities_end_where_they_must() {
    let fake = Fake::new(&[2, 2]);
    let files = [disk_file(64), disk_file(64)];
    let disks = files.iter().map(|(_, path)| disk(path)).collect();
    let served = Served::start(&fake, disks);
    let mut other = Ring::probe(&fake, 1, MODERN, SIZE);
    let counters = served.counters(0, 0);
    for (what, fate, write) in ODDITIES {
        let mut ring = Ring::probe(&fake, 0, MODERN, SIZE);
        let before = (counters.broken.get(), counters.malformed.get());
        write(&mut ring);
        ring.kick();
        let after = match fate {
            Stopped => {
                let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
                while counters.broken.get() == before.0 {
                    assert!(std::time::Instant::now() < end, "{what}: goes on");
                    std::thread::yield_now();
                }
                (before.0 + 1, ring.used_index())
            }
            GivenBack => {
                assert_eq!(ring.wait(1), [(0, 0)], "{what}");
                (before.0, 1)
            }
            Answered(status) => {
                ring.wait(1);
                assert_eq!(Request(0).result(&ring), *status, "{what}");
                (before.0, 1)
            }
        };
        assert_eq!((counters.broken.get(), ring.used_index()), after, "{what}");
        let unserved = u64::from(*fate == GivenBack);
        let head = what.starts_with("a head ");
        assert_eq!(counters.malformed.get(), before.1 + unserved + u64::from(head), "{what}");
        // The same queue, unless it is stopped, the other disk, and the first again after a reset.
        if *fate != Stopped {
            assert_eq!(execute(&mut ring, 0, 3, 512), (0, 513), "{what}");
        }
        assert_eq!(execute(&mut other, 0, 3, 512), (0, 513), "{what}");
        fake.store(0, 0x70, 0);
    }
}

#[test]
fn a_used_index_of_the_drivers_own_stops_a_queue_at_most() {
    let fake = Fake::new(&[2]);
    let (_file, path) = disk_file(64);
    let served = Served::start(&fake, vec![disk(&path)]);
    let ring = Ring::probe(&fake, 0, MODERN, SIZE);
    drop(served);
    // The next server is to go on there, far from avail.idx.
    ring.memory.write_obj(0x8000_u16, GuestAddress(ring.device() + 2)).unwrap();
    let served = Served::start(&fake, vec![disk(&path)]);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while served.counters(0, 0).broken.get() == 0 {
        assert!(std::time::Instant::now() < end);
        std::thread::yield_now();
    }
    let mut ring = Ring::probe(&fake, 0, MODERN, SIZE);
    assert_eq!(execute(&mut ring, 0, 3, 512), (0, 513));
}

#[test]
fn a_driver_that_writes_at_random_is_survived() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut tried = 0;
    for run in 0..600 {
        let bytes: Vec<u8> = (0..512)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 24) as u8
            })
            .collect();
        tried += play(&bytes);
        assert!(run < 100 || tried > 100, "the runs try something: {tried}");
    }
}
