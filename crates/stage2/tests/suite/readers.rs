// SPDX-License-Identifier: MIT OR Apache-2.0
//! Readers without a lock beside a writer.
//!
//! A reader's walk reads one descriptor per level, each of which the writer changes by single stores.
//! `watch` shows a whole walk after every store; the threads show walks that began before it.

use crate::common::*;
use arch::{Ipa, Pa, Stage2Geometry};
use stage2::{Pool, codec};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[test]
fn a_neighbour_of_a_declared_page_never_changes() {
    let bench = Bench::roomy();
    bench.declare(GIB, GIB).unwrap();
    let watched = [GIB, GIB + 3 * MIB2, GIB + MIB2 + KIB4, 2 * GIB - KIB4];
    bench.fake().watch(&watched.map(Ipa::new));
    bench.undeclare(GIB + MIB2, KIB4).unwrap();
    bench.declare(GIB + MIB2, KIB4).unwrap();
    let seen = bench.fake().take_seen();
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().flatten().all(|entry| *entry == Entry::Guard(NOTE)));
}

#[test]
fn a_page_changes_once_and_for_good() {
    let bench = Bench::roomy();
    bench.declare(GIB, GIB).unwrap();
    bench.fake().watch(&[Ipa::new(GIB + MIB2)]);
    bench.undeclare(GIB + MIB2, KIB4).unwrap();
    let seen: Vec<Entry> = bench.fake().take_seen().concat();
    assert_eq!(seen, [Entry::Guard(NOTE), Entry::Guard(NOTE), Entry::Empty]);
}

// scenario: C5
/// Memory beside a page that is taken away: a leaf with the right output, or `locked`; never nothing.
#[test]
fn memory_beside_a_page_taken_away_is_mapped_or_locked() {
    let bench = Bench::with_ram(GIB);
    let watched: Vec<u64> = [0, MIB2 + KIB4, MIB2 + 2 * KIB4, 5 * MIB2, GIB - KIB4]
        .into_iter()
        .map(|offset| RAM + offset)
        .collect();
    bench.fake().watch(&watched.iter().map(|ipa| Ipa::new(*ipa)).collect::<Vec<_>>());
    bench.unmap(RAM + MIB2, KIB4, Annotation::Owner(1)).unwrap();
    for row in bench.fake().take_seen() {
        for (ipa, entry) in watched.iter().zip(row) {
            let right = [KIB4, MIB2, GIB].map(|size| ram(FRAMES + ipa - ipa % size));
            assert!(entry == Entry::Locked || right.contains(&entry), "{ipa:#x}: {entry:?}");
        }
    }
}

/// Real memory for threads.
struct Shared {
    base: u64,
    words: Vec<AtomicU64>,
}

impl Shared {
    fn word(&self, table: Pa, index: usize) -> &AtomicU64 {
        &self.words[(table.raw() - self.base) as usize / 8 + index]
    }
}

#[derive(Clone)]
struct Threads(Arc<Shared>);

impl TableMemory for Threads {
    fn load(&self, table: Pa, index: usize) -> u64 {
        self.0.word(table, index).load(Ordering::Acquire)
    }
    fn store(&self, table: Pa, index: usize, raw: u64) {
        self.0.word(table, index).store(raw, Ordering::Release);
    }
}

impl Tlb for Threads {
    fn dsb_ishst(&self) {}
    fn dsb_ish(&self) {}
    fn isb(&self) {}
    fn tlbi_ipas2e1is(&self, _: Ipa, _: Option<u8>) {}
    fn tlbi_vmalle1is(&self) {}
    fn tlbi_vmalls12e1is(&self) {}
    fn repeat(&self) -> bool {
        false
    }
    fn clean_invalidate_to_poc(&self, _: Pa, _: u64) {}
}

/// Readers stop when the writer is done, also where it is because it failed.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// THREATS 2a 22: lookups beside a writer, in threads.
// bug: 22
#[test]
fn threat_22_readers_see_old_or_new_and_nothing_else() {
    const BASE: u64 = 0x1000_0000;
    let geometry: Stage2Geometry = fake::geometry(40);
    let pages = 2 + 16;
    let memory = Threads(Arc::new(Shared {
        base: BASE,
        words: (0..pages * 512).map(|_| AtomicU64::new(0)).collect(),
    }));
    let pool_range = frames(BASE + 2 * 4096, 16 * 4096);
    let pool = Pool::of(&memory, pool_range);
    let s2 = Stage2::new(memory, geometry, Pa::new(BASE), pool);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _done = Done(&stop);
        let reader = |kept: u64, changing: u64| {
            let mut looks = 0u64;
            while !stop.load(Ordering::Relaxed) || looks == 0 {
                match s2.lookup(Ipa::new(kept)).unwrap().entry {
                    Entry::Empty | Entry::Locked => {}
                    Entry::Leaf { pa, attr: Attr::Ram } => {
                        let level_sizes = [1, 2, 3].map(codec::level_size);
                        let right = level_sizes.map(|size| FRAMES + kept - kept % size);
                        assert!(right.contains(&pa.raw()), "{pa:?}");
                    }
                    other => panic!("{kept:#x}: {other:?}"),
                }
                match s2.lookup(Ipa::new(changing)).unwrap().entry {
                    Entry::Empty | Entry::Guard(NOTE) => {}
                    other => panic!("{changing:#x}: {other:?}"),
                }
                looks += 1;
            }
        };
        scope.spawn(move || reader(GIB + 7 * MIB2 + KIB4, 3 * GIB));
        scope.spawn(move || reader(GIB + KIB4, 3 * GIB + 5 * KIB4));
        let order = Order::new();
        for round in 0..200u64 {
            let hole = GIB + (round % 5) * MIB2 + (round % 7 + 2) * KIB4;
            s2.map(&order, Ipa::new(GIB), Pa::new(FRAMES + GIB), GIB, Attr::Ram).unwrap();
            s2.unmap(&order, range(hole, KIB4), Annotation::Empty).unwrap();
            s2.declare(&order, range(3 * GIB, GIB), NOTE, BUDGET).unwrap();
            s2.undeclare(&order, range(3 * GIB + 9 * KIB4, KIB4), BUDGET).unwrap();
            s2.map(&order, Ipa::new(hole), Pa::new(FRAMES + hole), KIB4, Attr::Ram).unwrap();
            s2.unmap(&order, range(GIB, GIB), Annotation::Empty).unwrap();
            // No reset here: that is for stopped VMs. Undo by hand, tables stay.
            s2.undeclare(&order, range(3 * GIB, GIB), u32::MAX).unwrap();
        }
    });
}

/// THREATS E2: two vCPUs declare in the same new area: one table, no leak, both declared.
// bug: 10 22
#[test]
fn two_writers_make_one_table() {
    let bench = Bench::roomy();
    std::thread::scope(|scope| {
        for half in 0..2u64 {
            let s2 = &bench.s2;
            scope.spawn(move || {
                let order = Order::new();
                for page in 0..256 {
                    let ipa = Ipa::new(GIB + (2 * page + half) * KIB4);
                    s2.declare_page(&order, ipa, NOTE).unwrap();
                }
            });
        }
    });
    assert_eq!(bench.s2.declared_pages(), 512);
    assert_eq!(64 - bench.free(), 2);
    assert_eq!(bench.dump().len(), 512);
    bench.quiet();
}
