// SPDX-License-Identifier: MIT OR Apache-2.0
//! An empty pool at every point of every call: an error, and the state is as it was.

use crate::common::*;
use arch::{Ipa, Pa};

/// What a call said, reduced to what exhaustion can make of it.
#[derive(Debug, PartialEq)]
enum Outcome {
    Done,
    PoolEmpty,
}

type Call = fn(&Bench) -> Outcome;

fn declared(result: Result<u64, DeclareError>, pages: u64) -> Outcome {
    match result {
        Ok(done) if done == pages => Outcome::Done,
        Err(DeclareError::PoolEmpty) => Outcome::PoolEmpty,
        other => panic!("{other:?}"),
    }
}

fn mapped(result: Result<(), MapError>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(MapError::PoolEmpty) => Outcome::PoolEmpty,
        other => panic!("{other:?}"),
    }
}

/// Name, geometry, what happened before, the call, and the tables it takes.
struct Case(&'static str, u8, fn(&Bench), Call, usize);

const CASES: [Case; 16] = [
    Case("declare a page in the void", 40, |_| (), |b| declared(b.declare(GIB, KIB4), 1), 2),
    Case("the same from level 0", 48, |_| (), |b| declared(b.declare(GIB, KIB4), 1), 3),
    Case("declare 2 MiB in the void", 40, |_| (), |b| declared(b.declare(GIB, MIB2), 512), 1),
    Case(
        "the path for one page",
        40,
        |_| (),
        |b| {
            let result = b.s2.declare_page(&b.order, Ipa::new(GIB), NOTE);
            declared(result.map(|()| 1), 1)
        },
        2,
    ),
    Case(
        "undeclare a page of 1 GiB",
        40,
        |b| assert!(b.declare(GIB, GIB).is_ok()),
        |b| declared(b.undeclare(GIB + MIB2, KIB4), 1),
        2,
    ),
    Case(
        "the path for one page, of 512 GiB",
        48,
        |b| assert!(b.declare(512 * GIB, 512 * GIB).is_ok()),
        |b| {
            let result = b.s2.undeclare_page(&b.order, Ipa::new(600 * GIB));
            declared(result.map(u64::from), 1)
        },
        3,
    ),
    Case("map a page", 40, |_| (), |b| mapped(b.map(GIB, FRAMES, KIB4)), 2),
    Case(
        "map over two borders",
        40,
        |_| (),
        |b| mapped(b.map(GIB - MIB2 - KIB4, FRAMES - MIB2 - KIB4, 2 * MIB2 + 2 * KIB4)),
        4,
    ),
    Case("map 8 MiB one page off", 40, |_| (), |b| mapped(b.map(GIB, FRAMES + KIB4, 4 * MIB2)), 5),
    Case(
        "map over a declared block",
        40,
        |b| assert!(b.declare(GIB, GIB).is_ok()),
        |b| {
            let (ipa, pa) = (Ipa::new(GIB), Pa::new(FRAMES));
            mapped(b.s2.map_over(&b.order, ipa, pa, KIB4, Attr::Ram, Over::Declared))
        },
        2,
    ),
    Case(
        "take a page of 1 GiB of memory",
        40,
        |b| assert!(b.map(GIB, FRAMES, GIB).is_ok()),
        |b| mapped(b.unmap(GIB + 3 * MIB2 + KIB4, KIB4, Annotation::Owner(1))),
        2,
    ),
    Case(
        "take a range with both ends inside blocks",
        40,
        |b| assert!(b.map(GIB, FRAMES, 2 * GIB).is_ok()),
        |b| mapped(b.unmap(2 * GIB - MIB2 - KIB4, 2 * MIB2 + 2 * KIB4, Annotation::Empty)),
        4,
    ),
    Case(
        "take a range within one block of 1 GiB",
        40,
        |b| assert!(b.map(GIB, FRAMES, GIB).is_ok()),
        |b| mapped(b.unmap(GIB + KIB4, 4 * MIB2, Annotation::Empty)),
        3,
    ),
    Case(
        "take a range that ends with whole blocks",
        40,
        |b| assert!(b.map(GIB, FRAMES, GIB).is_ok()),
        |b| mapped(b.unmap(GIB + KIB4, 3 * MIB2 - KIB4, Annotation::Empty)),
        2,
    ),
    Case(
        "take a range within one block of 2 MiB",
        40,
        |b| assert!(b.map(GIB, FRAMES, MIB2).is_ok()),
        |b| mapped(b.unmap(GIB + KIB4, MIB2 / 2, Annotation::Empty)),
        1,
    ),
    Case(
        "install a device page in a declared block",
        40,
        |b| assert!(b.declare(0, GIB).is_ok()),
        |b| {
            let (ipa, pa) = (Ipa::new(0x801_0000), Pa::new(0x804_0000));
            mapped(b.s2.install_device(&b.order, ipa, pa))
        },
        2,
    ),
];

// bug: 20
#[test]
fn threat_20_an_empty_pool_at_every_point_changes_nothing() {
    for Case(name, bits, before, call, tables) in CASES {
        for pages in 0..=tables {
            let bench = Bench::new(bits, 32);
            before(&bench);
            bench.drain(pages);
            bench.fake().take_events();
            let state = (bench.fake().snapshot(), bench.dump(), bench.s2.declared_pages());
            let outcome = call(&bench);
            if pages < tables {
                assert_eq!(outcome, Outcome::PoolEmpty, "{name} with {pages} pages");
                let now = (bench.fake().snapshot(), bench.dump(), bench.s2.declared_pages());
                assert_eq!(now, state, "{name} with {pages} pages: bit for bit");
                assert_eq!(bench.free(), pages);
                assert_eq!(bench.fake().take_events(), [], "{name} with {pages} pages");
            } else {
                assert_eq!(outcome, Outcome::Done, "{name} with {pages} pages");
                assert_eq!(bench.free(), 0, "{name} takes exactly {tables}");
            }
            bench.quiet();
        }
    }
}

/// THREATS F1: the pool runs dry in the middle: the count so far, and the guest can go on later.
#[test]
fn a_range_reports_how_far_it_got_before_the_pool_was_empty() {
    let (start, size) = (GIB - 3 * KIB4, 3 * KIB4 + GIB + MIB2 + 5 * KIB4);
    let bench = Bench::new(40, 8);
    bench.drain(2);
    // The first three pages take two tables; the aligned gibibyte none; then there is none left.
    assert_eq!(bench.declare(start, size), Ok(3 + GIB / KIB4));
    assert_eq!(bench.s2.declared_pages(), 3 + GIB / KIB4);
    let rest = (2 * GIB, MIB2 + 5 * KIB4);
    let before = bench.fake().snapshot();
    assert_eq!(bench.declare(rest.0, rest.1), Err(DeclareError::PoolEmpty));
    assert_eq!(bench.fake().snapshot(), before);
    assert_eq!(bench.entry(start), Entry::Guard(NOTE), "what was declared stays");
    bench.quiet();
}

#[test]
fn after_a_refill_the_call_goes_on() {
    let bench = Bench::new(40, 8);
    let mut spare = Vec::new();
    while let Some(page) = bench.s2.take_spare(&bench.order) {
        spare.push(page);
    }
    assert_eq!(bench.declare(GIB, KIB4), Err(DeclareError::PoolEmpty));
    bench.s2.refill(&bench.order, spare.pop().unwrap());
    assert_eq!(bench.declare(GIB, KIB4), Err(DeclareError::PoolEmpty), "two are needed");
    bench.s2.refill(&bench.order, spare.pop().unwrap());
    assert_eq!(bench.declare(GIB, KIB4), Ok(1));
    bench.quiet();
}

/// At the end of a range only a part of an entry is left; its split is all or nothing as well.
#[test]
fn the_far_end_of_a_range_is_not_split_half_way() {
    for pages in 0..2 {
        let bench = Bench::new(40, 8);
        bench.drain(pages);
        assert_eq!(bench.declare(GIB, GIB + KIB4), Ok(GIB / KIB4));
        assert_eq!(bench.free(), pages, "no table for what could not be done");
        assert_eq!(bench.fake().tables(), 0);
    }
    let bench = Bench::new(40, 8);
    bench.drain(2);
    assert_eq!(bench.declare(GIB, GIB + KIB4), Ok(GIB / KIB4 + 1));
}

/// What needs no table works with an empty pool.
#[test]
fn an_empty_pool_harms_nothing_that_needs_no_table() {
    let bench = Bench::new(40, 8);
    bench.declare(0x0900_0000, KIB4).unwrap();
    bench.map(RAM, FRAMES, MIB2).unwrap();
    bench.drain(0);
    assert_eq!(bench.declare(0x0900_0000, KIB4), Ok(1), "declared already");
    assert_eq!(bench.declare(0x0900_1000, KIB4), Ok(1), "there is a table");
    assert_eq!(bench.declare(8 * GIB, GIB), Ok(GIB / KIB4), "an aligned gibibyte");
    assert_eq!(bench.declare(8 * GIB + KIB4, KIB4), Ok(1), "inside a declared one");
    assert_eq!(bench.undeclare(8 * GIB, GIB), Ok(GIB / KIB4));
    assert_eq!(bench.undeclare(20 * GIB + KIB4, KIB4), Ok(1), "nothing to split");
    assert_eq!(bench.unmap(RAM, MIB2, Annotation::Empty), Ok(()));
    bench.s2.reset(&bench.order);
    assert!(bench.free() > 0);
    bench.quiet();
}

/// THREATS 2a 18, B10: one VM's pool bounds that VM, and what was declared before stays valid.
// bug: 18
#[test]
fn threat_18_a_greedy_guest_exhausts_its_own_pool_only() {
    let (greedy, other) = (Bench::new(40, 10), Bench::new(40, 10));
    let mut done = Vec::new();
    for page in (0..1 << 40).step_by(GIB as usize) {
        match greedy.declare(page, KIB4) {
            Ok(1) => done.push(page),
            Err(DeclareError::PoolEmpty) => break,
            unexpected => panic!("{unexpected:?}"),
        }
    }
    assert_eq!(done.len(), 5);
    assert!(done.iter().all(|page| greedy.entry(*page) == Entry::Guard(NOTE)));
    assert_eq!(other.declare(GIB, KIB4), Ok(1));
    greedy.s2.reset(&greedy.order);
    assert_eq!(greedy.free(), 10);
}
