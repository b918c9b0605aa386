// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lookups without a lock beside a writer, who splits, takes away and gives back.

use crate::{at_once, explore};
use arch::{Ipa, Pa, Range};
use lock::Order;
use shuttle::sync::atomic::{AtomicBool, Ordering};
use stage2::fake::{self, Fake};
use stage2::{Annotation, Attr, Entry, GuardAnnotation, Stage2};
use std::sync::Arc;

const RAM: u64 = 0x4000_0000;
const MMIO: u64 = 0xc000_0000;
const FRAMES: u64 = 0x8_0000_0000;
const MIB2: u64 = 0x20_0000;
const NOTE: GuardAnnotation = GuardAnnotation::of_call(0, 0);

fn range(start: u64, size: u64) -> Range<Ipa> {
    Range::<Ipa>::new(Ipa::new(start), size).unwrap()
}

/// 2 MiB of RAM in one block, and 2 MiB declared.
fn tables() -> (Arc<Stage2<Fake>>, Fake) {
    let fake = Fake::new(fake::geometry(40), 8);
    let s2 = fake.stage2();
    let order = Order::new();
    s2.map(&order, Ipa::new(RAM), Pa::new(FRAMES), MIB2, Attr::Ram).unwrap();
    s2.declare(&order, range(MMIO, MIB2), NOTE, 512).unwrap();
    (Arc::new(s2), fake)
}

/// Runs `write` beside a reader that looks at `kept` and at `changing`.
fn beside(
    write: fn(&Stage2<Fake>, &Order),
    kept: (u64, fn(Entry) -> bool),
    changing: (u64, fn(Entry) -> bool, fn(Entry) -> bool),
) {
    let (s2, fake) = tables();
    let done = Arc::new(AtomicBool::new(false));
    let (a, b, told) = (s2.clone(), s2.clone(), done.clone());
    let entry = |s2: &Stage2<Fake>, ipa| s2.lookup(Ipa::new(ipa)).unwrap().entry;
    at_once::<()>(vec![
        Box::new(move || {
            write(&a, &Order::new());
            done.store(true, Ordering::SeqCst);
        }),
        Box::new(move || {
            let mut after_seen = false;
            loop {
                let known = told.load(Ordering::SeqCst);
                let seen = entry(&b, kept.0);
                assert!(kept.1(seen), "a neighbour is {seen:?}");
                let seen = entry(&b, changing.0);
                let (before, after) = (changing.1(seen), changing.2(seen));
                let locked = seen == Entry::Locked;
                assert!(before || after || locked, "{seen:?}");
                assert!(!after_seen || after, "it went back to {seen:?}");
                after_seen |= after;
                if known {
                    assert!(after, "the writer has returned: {seen:?}");
                    return;
                }
                shuttle::thread::yield_now();
            }
        }),
    ]);
    fake.assert_quiet();
}

fn declared(entry: Entry) -> bool {
    entry == Entry::Guard(NOTE)
}

fn in_block(entry: Entry) -> bool {
    matches!(entry, Entry::Leaf { attr: Attr::Ram, .. } | Entry::Locked)
}

// scenario: E1 E2
// bug: 11 22
#[test]
fn a_declared_block_is_split_under_a_reader() {
    explore(|| {
        beside(
            |s2, order| {
                s2.undeclare(order, range(MMIO + 0x3000, 0x1000), 512).unwrap();
            },
            (MMIO + 0x4000, declared),
            (MMIO + 0x3000, declared, |entry| entry == Entry::Empty),
        );
    });
}

// scenario: C5
// bug: 12 22
#[test]
fn a_page_of_a_block_is_given_away_under_a_reader() {
    explore(|| {
        beside(
            |s2, order| {
                s2.unmap(order, range(RAM + 0x3000, 0x1000), Annotation::Owner(2)).unwrap();
            },
            (RAM + 0x4000, in_block),
            (
                RAM + 0x3000,
                |entry| matches!(entry, Entry::Leaf { .. }),
                |entry| entry == Entry::Owner(2),
            ),
        );
    });
}

/// Two writers grow one path of tables while a third looks: one path, no page lost.
// scenario: E2
#[test]
fn two_writers_grow_one_path() {
    explore(|| {
        let (s2, fake) = tables();
        let before = s2.pool_free(&Order::new());
        let far = 0x40_0000_0000;
        let writers = (0..2_u64).map(|n| {
            let s2 = s2.clone();
            Box::new(move || {
                let order = Order::new();
                s2.declare_page(&order, Ipa::new(far + n * 0x1000), NOTE).unwrap();
            }) as Box<dyn FnOnce() + Send>
        });
        let reader = s2.clone();
        let look: Box<dyn FnOnce() + Send> = Box::new(move || {
            for _ in 0..3 {
                let entry = reader.lookup(Ipa::new(far + 0x2000)).unwrap().entry;
                assert_eq!(entry, Entry::Empty);
            }
        });
        at_once(writers.chain([look]).collect());
        assert_eq!(before - s2.pool_free(&Order::new()), 2);
        assert_eq!(s2.declared_pages(), 512 + 2);
        fake.assert_quiet();
    });
}
