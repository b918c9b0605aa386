// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reset and release.

use crate::common::*;
use arch::{Ipa, Pa};
use std::collections::BTreeSet;

/// A VM that has run for a while: blocks, pages, ROM, a device, annotations at all levels, given-away RAM.
fn lived_in(bits: u8) -> Bench {
    let bench = Bench::new(bits, 64);
    bench.map(RAM, FRAMES + RAM, GIB + MIB2 + KIB4).unwrap();
    bench.s2.map(&bench.order, Ipa::new(0), Pa::new(FRAMES), 2 * MIB2, Attr::Rom).unwrap();
    let gicv = Ipa::new(0x0801_0000);
    bench.s2.install_device(&bench.order, gicv, Pa::new(0x0804_0000)).unwrap();
    bench.declare(0x0900_0000, KIB4).unwrap();
    bench.declare(0x1000_0000, 16 * MIB2).unwrap();
    bench.declare(8 * GIB, 3 * GIB).unwrap();
    bench.undeclare(9 * GIB + 5 * KIB4, KIB4).unwrap();
    bench.declare((1 << bits) - KIB4, KIB4).unwrap();
    bench.unmap(RAM + MIB2, KIB4, Annotation::Owner(3)).unwrap();
    bench.quiet();
    bench.fake().take_events();
    bench
}

fn is_memory(entry: &Entry) -> bool {
    matches!(entry, Entry::Leaf { attr: Attr::Ram | Attr::Rom, .. })
}

// bug: 7
#[test]
fn reset_keeps_memory_and_nothing_else() {
    for bits in [36, 39, 40, 43, 44, 48] {
        let bench = lived_in(bits);
        let memory: Vec<_> = bench.dump().into_iter().filter(|(_, _, e)| is_memory(e)).collect();
        bench.s2.reset(&bench.order);
        assert_eq!(bench.dump(), memory, "{bits} bits");
        assert_eq!(bench.s2.declared_pages(), 0);
        bench.quiet();
        // And it stays so: nothing springs up again.
        bench.s2.reset(&bench.order);
        assert_eq!(bench.dump(), memory);
    }
}

#[test]
fn tables_without_leaves_go_back_and_the_others_stay() {
    let bench = Bench::roomy();
    bench.map(RAM, FRAMES, MIB2).unwrap();
    let free = bench.free();
    bench.declare(RAM + MIB2, KIB4).unwrap();
    bench.declare(8 * GIB + KIB4, KIB4).unwrap();
    bench.declare(9 * GIB + MIB2, MIB2).unwrap();
    assert_eq!(free - bench.free(), 4);
    bench.s2.reset(&bench.order);
    assert_eq!(bench.free(), free);
    assert_eq!(bench.fake().tables(), 1);
    assert_eq!(bench.dump(), [(RAM, 2, ram(FRAMES))]);
    bench.quiet();
}

/// Interrupts wait for one piece, so that none looks at more than so many descriptors, whatever the VM has left.
#[test]
fn a_piece_of_a_reset_is_bounded() {
    let bench = Bench::new(40, 64);
    bench.map(RAM, FRAMES, MIB2).unwrap();
    let free = bench.free() as u64;
    for page in 0..free - 2 {
        bench.declare(8 * GIB + page * MIB2 + KIB4, KIB4).unwrap();
    }
    bench.fake().take_loads();
    let mut pieces = 0;
    loop {
        let done = bench.s2.reset_piece(&bench.order);
        assert!(bench.fake().take_loads() <= 140, "piece {pieces}");
        pieces += 1;
        if done {
            break;
        }
    }
    assert!(pieces > 100, "{pieces}");
    assert_eq!(bench.free() as u64, free);
    assert_eq!(bench.dump(), [(RAM, 2, ram(FRAMES))]);
    bench.quiet();
}

/// A VM may end in the middle of its reset: nothing of it is lost.
#[test]
fn a_release_takes_over_from_a_reset() {
    for pieces in 0..40 {
        let bench = lived_in(40);
        let all = 64;
        for _ in 0..pieces {
            if bench.s2.reset_piece(&bench.order) {
                break;
            }
        }
        bench.s2.release(&bench.order);
        assert_eq!(bench.free(), all, "after {pieces} pieces");
        bench.quiet();
    }
}

/// THREATS G1: a thousand reboots, in small.
#[test]
fn the_pool_is_the_same_after_every_life() {
    let bench = Bench::new(40, 32);
    bench.map(RAM, FRAMES, MIB2).unwrap();
    let free = bench.free();
    for run in 0..50u64 {
        for page in 0..12 {
            bench.declare((page + run % 7) * 3 * GIB + page * MIB2 + 8 * GIB, KIB4).unwrap();
        }
        bench.s2.reset(&bench.order);
        assert_eq!(bench.free(), free, "run {run}");
        assert_eq!(bench.fake().tables(), 1);
    }
    bench.quiet();
}

/// THREATS 2a 21: no page goes back before VMALLS12E1IS is complete; the judge notes any touch of it.
// bug: 21
#[test]
fn threat_21_tables_are_not_touched_before_the_vmid_is_invalidated() {
    let bench = lived_in(40);
    let used = bench.fake().tables();
    bench.s2.reset(&bench.order);
    assert!(bench.fake().tables() < used);
    let events = bench.fake().take_events();
    let all = events.iter().position(|e| *e == Event::TlbiAll).unwrap();
    assert_eq!(events[all - 1], Event::DsbIshst);
    assert_eq!(events[all + 1..all + 3], [Event::DsbIsh, Event::Isb]);
    assert_eq!(events.iter().filter(|e| **e == Event::TlbiAll).count(), 1);
    bench.quiet();
}

/// Readers that are late find nothing, never garbage, while tables are taken down.
#[test]
fn readers_find_locked_or_nothing_while_tables_are_taken_down() {
    let bench = lived_in(40);
    let pages = [0x0900_0000, 0x1000_0000, 9 * GIB, 9 * GIB + 5 * KIB4, (1 << 40) - KIB4];
    bench.fake().watch(&pages.map(Ipa::new));
    bench.s2.reset(&bench.order);
    for row in bench.fake().take_seen() {
        for entry in row {
            assert!(matches!(entry, Entry::Empty | Entry::Locked | Entry::Guard(_)), "{entry:?}");
        }
    }
}

#[test]
fn memory_is_reached_all_through_a_reset() {
    let bench = lived_in(40);
    let pages = [RAM, RAM + GIB, RAM + GIB + MIB2, 0];
    let before = pages.map(|ipa| bench.entry(ipa));
    bench.fake().watch(&pages.map(Ipa::new));
    bench.s2.reset(&bench.order);
    assert!(bench.fake().take_seen().iter().all(|row| row[..] == before));
}

#[test]
fn reset_does_no_cache_maintenance() {
    let bench = lived_in(40);
    bench.s2.reset(&bench.order);
    assert_eq!(bench.take_maintenance(), [Event::TlbiAll]);
}

#[test]
fn release_gives_every_table_back() {
    for bits in [36, 40, 43, 48] {
        let bench = lived_in(bits);
        bench.s2.release(&bench.order);
        assert_eq!(bench.dump(), []);
        assert_eq!(bench.fake().tables(), 0);
        assert_eq!(bench.free(), 64);
        let mut pages = BTreeSet::new();
        while let Some(page) = bench.s2.take_spare(&bench.order) {
            assert!(pages.insert(page));
        }
        assert_eq!(pages.len(), 64);
        bench.quiet();
    }
}

/// THREATS 2a 19: nothing is added to a dying VM.
// bug: 19
#[test]
fn threat_19_after_release_everything_is_refused() {
    let bench = lived_in(40);
    bench.s2.release(&bench.order);
    let before = bench.fake().snapshot();
    let order = &bench.order;
    let page = Ipa::new(0x0900_0000);
    assert_eq!(bench.map(RAM, FRAMES, KIB4), Err(MapError::Released));
    assert_eq!(bench.unmap(RAM, KIB4, Annotation::Empty), Err(MapError::Released));
    let device = bench.s2.install_device(order, page, Pa::new(0));
    assert_eq!(device, Err(MapError::Released));
    assert_eq!(bench.s2.remove_device(order, page), Ok(false));
    assert_eq!(bench.declare(page.raw(), KIB4), Err(DeclareError::Released));
    assert_eq!(bench.undeclare(page.raw(), KIB4), Err(DeclareError::Released));
    assert_eq!(bench.s2.declare_page(order, page, NOTE), Err(DeclareError::Released));
    assert_eq!(bench.s2.undeclare_page(order, page), Ok(false));
    bench.s2.reset(order);
    assert_eq!(bench.declare(page.raw(), KIB4), Err(DeclareError::Released), "for good");
    assert_eq!(bench.fake().snapshot(), before);
}

#[test]
fn a_reset_of_untouched_tables_only_invalidates() {
    let bench = Bench::roomy();
    let before = bench.fake().snapshot();
    bench.s2.reset(&bench.order);
    assert_eq!(bench.fake().snapshot(), before);
    assert_eq!(bench.take_maintenance(), [Event::TlbiAll]);
}
