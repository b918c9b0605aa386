// SPDX-License-Identifier: MIT OR Apache-2.0
//! Declaring and undeclaring.

use crate::common::*;
use arch::{Ipa, PAGE_SIZE};

const UART: u64 = 0x0900_0000;

#[test]
fn a_page_is_declared_and_undeclared() {
    let bench = Bench::roomy();
    let page = Ipa::new(UART);
    assert_eq!(bench.s2.declare_page(&bench.order, page, NOTE), Ok(()));
    assert_eq!(bench.entry(UART), Entry::Guard(NOTE));
    assert_eq!(bench.entry(UART + 0xfff), Entry::Guard(NOTE));
    assert_eq!(bench.entry(UART - 1), Entry::Empty);
    assert_eq!(bench.entry(UART + PAGE_SIZE), Entry::Empty);
    assert_eq!(bench.s2.declared_pages(), 1);
    assert_eq!(bench.s2.undeclare_page(&bench.order, page), Ok(true));
    assert_eq!(bench.entry(UART), Entry::Empty);
    assert_eq!(bench.s2.undeclare_page(&bench.order, page), Ok(false), "not twice");
    assert_eq!(bench.s2.declared_pages(), 0);
    bench.quiet();
}

/// The same through the path for one page and the path for ranges, whatever was there before.
#[test]
fn the_path_for_one_page_and_the_path_for_ranges_agree() {
    let preludes: [fn(&Bench); 6] = [
        |_| (),
        |b| assert_eq!(b.declare(0, GIB), Ok(GIB / KIB4)),
        |b| assert_eq!(b.declare(UART + KIB4, KIB4), Ok(1)),
        |b| b.map(UART, FRAMES, KIB4).unwrap(),
        |b| b.map(0, FRAMES, GIB).unwrap(),
        |b| {
            b.map(UART, FRAMES, KIB4).unwrap();
            b.unmap(UART, KIB4, Annotation::Owner(3)).unwrap();
        },
    ];
    for (number, prelude) in preludes.into_iter().enumerate() {
        let (page, ranged) = (Bench::roomy(), Bench::roomy());
        prelude(&page);
        prelude(&ranged);
        for _ in 0..2 {
            let one = page.s2.declare_page(&page.order, Ipa::new(UART), OTHER);
            let many = ranged.s2.declare(&ranged.order, range(UART, KIB4), OTHER, BUDGET);
            assert_eq!(one, many.map(|_| ()), "prelude {number}");
            assert_eq!(page.fake().snapshot(), ranged.fake().snapshot(), "prelude {number}");
            assert_eq!(page.s2.declared_pages(), ranged.s2.declared_pages());
        }
        page.s2.undeclare_page(&page.order, Ipa::new(UART)).unwrap();
        ranged.undeclare(UART, KIB4).unwrap();
        assert_eq!(page.fake().snapshot(), ranged.fake().snapshot(), "prelude {number}");
        assert_eq!(page.s2.declared_pages(), ranged.s2.declared_pages());
        page.quiet();
    }
}

#[test]
fn the_first_and_the_last_page_can_be_declared() {
    for bits in [32, 36, 39, 40, 44, 48] {
        let bench = Bench::new(bits, 16);
        for ipa in [0, (1 << bits) - PAGE_SIZE] {
            assert_eq!(bench.declare(ipa, PAGE_SIZE), Ok(1));
            assert_eq!(bench.entry(ipa), Entry::Guard(NOTE));
        }
        assert_eq!(bench.s2.declared_pages(), 2);
    }
}

/// The range's arithmetic is checked whole before anything changes.
// bug: 24
#[test]
fn threat_24_ranges_that_are_none_are_refused_and_change_nothing() {
    for bits in [32, 36, 39, 40, 44, 48] {
        let bench = Bench::new(bits, 16);
        bench.declare(0, PAGE_SIZE).unwrap();
        let before = bench.fake().snapshot();
        let limit = 1u64 << bits;
        let bad = [
            (0, 0),
            (PAGE_SIZE, 0),
            (1, PAGE_SIZE),
            (4095, PAGE_SIZE),
            (0, 1),
            (0, PAGE_SIZE + 1),
            (limit, PAGE_SIZE),
            (limit - PAGE_SIZE, 2 * PAGE_SIZE),
            (0, limit + PAGE_SIZE),
            (0, !4095),
            (PAGE_SIZE, u64::MAX - PAGE_SIZE),
            (1 << 63, PAGE_SIZE),
            (!8191, PAGE_SIZE),
            (limit - PAGE_SIZE, 1 << 62),
        ];
        for (start, size) in bad {
            let range = range(start, size);
            let order = &bench.order;
            assert_eq!(bench.s2.declare(order, range, NOTE, 512), Err(DeclareError::Range));
            assert_eq!(bench.s2.undeclare(order, range, 512), Err(DeclareError::Range));
            assert_eq!(bench.s2.unmap(order, range, Annotation::Empty), Err(MapError::Range));
        }
        for ipa in [1, 4095, limit, limit + 1, u64::MAX, !4095, 1 << 63] {
            let ipa = Ipa::new(ipa);
            let order = &bench.order;
            assert_eq!(bench.s2.declare_page(order, ipa, NOTE), Err(DeclareError::Range));
            assert_eq!(bench.s2.undeclare_page(order, ipa), Err(DeclareError::Range));
            assert_eq!(bench.s2.remove_device(order, ipa), Err(MapError::Range));
        }
        assert_eq!(bench.fake().snapshot(), before);
        assert_eq!(bench.s2.declared_pages(), 1);
    }
}

#[test]
fn declaring_twice_changes_nothing_and_takes_nothing() {
    let bench = Bench::roomy();
    bench.declare(UART, KIB4).unwrap();
    let (before, free) = (bench.fake().snapshot(), bench.free());
    assert_eq!(bench.declare(UART, KIB4), Ok(1));
    assert_eq!(bench.s2.declare_page(&bench.order, Ipa::new(UART), NOTE), Ok(()));
    assert_eq!(bench.fake().snapshot(), before);
    assert_eq!(bench.free(), free);
    assert_eq!(bench.s2.declared_pages(), 1);
}

#[test]
fn the_latest_note_stands_where_the_entry_is_its_own() {
    let bench = Bench::roomy();
    let declare = |ipa, size, note| bench.s2.declare(&bench.order, range(ipa, size), note, 512);
    assert_eq!(declare(UART, KIB4, NOTE), Ok(1));
    assert_eq!(declare(UART, KIB4, OTHER), Ok(1));
    assert_eq!(bench.entry(UART), Entry::Guard(OTHER));
    // Inside a larger entry that is declared already, a hint is not worth a table.
    assert_eq!(declare(GIB, GIB, NOTE), Ok(GIB / KIB4));
    let free = bench.free();
    assert_eq!(declare(GIB + KIB4, KIB4, OTHER), Ok(1));
    assert_eq!(bench.entry(GIB + KIB4), Entry::Guard(NOTE));
    assert_eq!(bench.free(), free);
    assert_eq!(bench.s2.declared_pages(), GIB / KIB4 + 1);
}

#[test]
fn one_descriptor_for_an_aligned_gibibyte_or_two_mebibytes() {
    for (bits, size, level, tables) in
        [(40, GIB, 1, 0), (40, MIB2, 2, 1), (48, 512 * GIB, 0, 0), (48, GIB, 1, 1)]
    {
        let bench = Bench::new(bits, 8);
        bench.fake().take_stores();
        let budget = 1;
        let done = bench.s2.declare(&bench.order, range(size, size), NOTE, budget);
        assert_eq!(done, Ok(size / KIB4));
        assert_eq!(bench.level(size), level);
        assert_eq!(8 - bench.free(), tables);
        assert_eq!(bench.fake().take_stores(), 1 + tables as u64 * 513);
        assert_eq!(bench.s2.declared_pages(), size / KIB4);
        bench.quiet();
    }
}

/// A guard of 1 GiB less one page, in as many descriptors as it takes and no more.
// bug: 11
#[test]
fn threat_11_undoing_a_page_of_a_block_splits_exactly() {
    let bench = Bench::roomy();
    bench.declare(GIB, GIB).unwrap();
    let hole = GIB + 5 * MIB2 + 7 * KIB4;
    assert_eq!(bench.undeclare(hole, KIB4), Ok(1));
    assert_eq!(bench.s2.declared_pages(), GIB / KIB4 - 1);
    for page in (GIB..2 * GIB).step_by(KIB4 as usize) {
        let expected = if page == hole { Entry::Empty } else { Entry::Guard(NOTE) };
        assert_eq!(bench.entry(page), expected, "{page:#x}");
    }
    assert_eq!(64 - bench.free(), 2);
    assert_eq!(bench.dump().len(), 511 + 511);
    assert_eq!(bench.level(GIB + 4 * MIB2), 2);
    assert_eq!(bench.entry(GIB - KIB4), Entry::Empty);
    assert_eq!(bench.entry(2 * GIB), Entry::Empty);
    // Declared again, the hole is gone, and no further table was needed.
    assert_eq!(bench.declare(hole, KIB4), Ok(1));
    assert_eq!(bench.s2.declared_pages(), GIB / KIB4);
    assert_eq!(64 - bench.free(), 2);
    bench.quiet();
}

// bug: 11
#[test]
fn threat_11_a_range_cuts_blocks_at_both_ends() {
    let bench = Bench::roomy();
    bench.declare(GIB, 3 * GIB).unwrap();
    let (from, to) = (2 * GIB - MIB2 - KIB4, 3 * GIB + MIB2 + KIB4);
    assert_eq!(bench.undeclare(from, to - from), Ok((to - from) / KIB4));
    for (ipa, declared) in [
        (GIB, true),
        (from - KIB4, true),
        (from, false),
        (2 * GIB - MIB2, false),
        (2 * GIB, false),
        (3 * GIB, false),
        (3 * GIB + MIB2, false),
        (to - KIB4, false),
        (to, true),
        (4 * GIB - KIB4, true),
        (4 * GIB, false),
    ] {
        let expected = if declared { Entry::Guard(NOTE) } else { Entry::Empty };
        assert_eq!(bench.entry(ipa), expected, "{ipa:#x}");
    }
    assert_eq!(bench.s2.declared_pages(), (3 * GIB - (to - from)) / KIB4);
    assert_eq!(64 - bench.free(), 4);
}

#[test]
fn a_range_takes_the_largest_entries_that_fit() {
    let bench = Bench::roomy();
    let (start, size) = (GIB - MIB2 - KIB4, KIB4 + MIB2 + GIB + MIB2 + KIB4);
    assert_eq!(bench.declare(start, size), Ok(size / KIB4));
    let levels: Vec<_> = bench.dump().iter().map(|(ipa, level, _)| (*ipa, *level)).collect();
    let expected = [(start, 3), (GIB - MIB2, 2), (GIB, 1), (2 * GIB, 2), (2 * GIB + MIB2, 3)];
    assert_eq!(levels, expected);
}

#[test]
fn where_a_table_stands_a_range_fills_its_entries() {
    let bench = Bench::roomy();
    bench.declare(GIB + KIB4, KIB4).unwrap();
    let free = bench.free();
    assert_eq!(bench.declare(GIB, MIB2), Ok(512));
    assert_eq!(bench.level(GIB), 3);
    assert_eq!(bench.free(), free);
    assert_eq!(bench.s2.declared_pages(), 512);
}

#[test]
fn a_call_stops_at_its_budget_and_says_how_far_it_got() {
    let bench = Bench::roomy();
    // 700 unaligned pages: 512 descriptors, then the rest.
    let (start, pages) = (GIB + KIB4, 700);
    let done = bench.declare(start, pages * KIB4).unwrap();
    // 511 pages to the next 2 MiB, and one table's entry more.
    assert_eq!(done, 512);
    assert_eq!(bench.entry(start + 511 * KIB4), Entry::Guard(NOTE));
    assert_eq!(bench.entry(start + 512 * KIB4), Entry::Empty);
    assert_eq!(bench.declare(start + 512 * KIB4, 188 * KIB4), Ok(188));
    assert_eq!(bench.s2.declared_pages(), pages);
    assert_eq!(bench.undeclare(start, pages * KIB4), Ok(512));
    assert_eq!(bench.s2.declared_pages(), 188);
    bench.quiet();
}

#[test]
fn the_budget_counts_descriptors_of_every_size() {
    let bench = Bench::roomy();
    for budget in [0, 1, 2, 3, 7] {
        let all = range(2 * GIB, 5 * GIB);
        let done = bench.s2.declare(&bench.order, all, NOTE, budget).unwrap();
        assert_eq!(done, GIB / KIB4 * u64::from(budget.min(5)));
        bench.undeclare(2 * GIB, 5 * GIB).unwrap();
    }
}

/// A guest loops over what is left; whatever the sizes, it ends and everything is declared.
#[test]
fn looping_over_the_rest_ends() {
    let bench = Bench::new(40, 16);
    let (mut at, end) = (GIB - 3 * KIB4, 4 * GIB + 9 * KIB4);
    let start = at;
    let mut calls = 0;
    while at < end {
        at += bench.declare(at, end - at).unwrap() * KIB4;
        calls += 1;
    }
    assert_eq!(at, end);
    assert_eq!(calls, 1, "aligned gibibytes count as one");
    assert_eq!(bench.s2.declared_pages(), (end - start) / KIB4);
}

/// Work is bounded by what is visited, not by what is written.
#[test]
fn undeclaring_nothing_is_bounded_too() {
    let bench = Bench::new(48, 16);
    assert_eq!(bench.undeclare(0, 1 << 48), Ok((1 << 48) / KIB4), "512 entries of the root");
    bench.declare(GIB, KIB4).unwrap();
    bench.undeclare(GIB, KIB4).unwrap();
    bench.fake().take_loads();
    let done = bench.undeclare(0, 1 << 48).unwrap();
    assert!(done < (1 << 48) / KIB4);
    assert!(bench.fake().take_loads() < 600);
}

#[test]
fn a_range_stops_at_what_cannot_be_declared() {
    let bench = Bench::roomy();
    bench.map(RAM, FRAMES, GIB).unwrap();
    // Begins in the void, ends in RAM.
    assert_eq!(bench.declare(RAM - 2 * KIB4, 4 * KIB4), Ok(2));
    assert_eq!(bench.entry(RAM), ram(FRAMES));
    assert_eq!(bench.s2.declared_pages(), 2);
    // Begins in RAM.
    let before = bench.fake().snapshot();
    assert_eq!(bench.declare(RAM, KIB4), Err(DeclareError::Occupied));
    assert_eq!(bench.declare(RAM + KIB4, GIB), Err(DeclareError::Occupied));
    assert_eq!(bench.declare(RAM + GIB - KIB4, 2 * KIB4), Err(DeclareError::Occupied));
    let page = bench.s2.declare_page(&bench.order, Ipa::new(RAM + MIB2), NOTE);
    assert_eq!(page, Err(DeclareError::Occupied));
    assert_eq!(bench.fake().snapshot(), before, "RAM and its blocks are intact");
}

#[test]
fn an_owners_annotation_is_not_declared_over() {
    let bench = Bench::with_ram(MIB2);
    bench.unmap(RAM, KIB4, Annotation::Owner(9)).unwrap();
    let before = bench.fake().snapshot();
    assert_eq!(bench.declare(RAM, KIB4), Err(DeclareError::Occupied));
    assert_eq!(bench.undeclare(RAM, KIB4), Ok(1), "left alone, and counted");
    assert_eq!(bench.fake().snapshot(), before);
    assert_eq!(bench.entry(RAM), Entry::Owner(9));
}

#[test]
fn undeclaring_leaves_all_else_alone_and_counts_it() {
    let bench = Bench::roomy();
    bench.map(RAM, FRAMES, 4 * KIB4).unwrap();
    bench.unmap(RAM + KIB4, KIB4, Annotation::Owner(4)).unwrap();
    bench.declare(RAM + 6 * KIB4, KIB4).unwrap();
    assert_eq!(bench.undeclare(RAM, 8 * KIB4), Ok(8));
    assert_eq!(bench.entry(RAM), ram(FRAMES));
    assert_eq!(bench.entry(RAM + KIB4), Entry::Owner(4));
    assert_eq!(bench.entry(RAM + 6 * KIB4), Entry::Empty);
    assert_eq!(bench.s2.declared_pages(), 0);
}

/// No TLB can hold anything of an invalid descriptor (DDI 0487 D8.14): nothing to maintain.
// bug: 31
#[test]
fn invalid_to_invalid_touches_no_tlb_and_no_cache() {
    let bench = Bench::roomy();
    bench.fake().take_events();
    bench.declare(GIB, GIB).unwrap();
    bench.undeclare(GIB + KIB4, KIB4).unwrap();
    bench.declare(UART, KIB4).unwrap();
    bench.declare(UART, KIB4).unwrap();
    bench.undeclare(GIB, GIB).unwrap();
    assert_eq!(bench.take_maintenance(), []);
    bench.quiet();
}

/// A range of 512 pages walks once per table, not once per page.
#[test]
fn a_range_walks_once_per_table() {
    let bench = Bench::roomy();
    bench.declare(GIB, KIB4).unwrap();
    bench.declare(GIB + MIB2, KIB4).unwrap();
    bench.fake().take_loads();
    bench.fake().take_stores();
    assert_eq!(bench.declare(GIB + 100 * KIB4, 512 * KIB4), Ok(512));
    let (loads, stores) = (bench.fake().take_loads(), bench.fake().take_stores());
    assert_eq!((loads, stores), (512 + 2 * 3, 512));
}

#[test]
fn one_page_is_a_walk_and_a_store() {
    let bench = Bench::roomy();
    bench.declare(UART, KIB4).unwrap();
    let page = Ipa::new(UART + KIB4);
    for _ in 0..3 {
        bench.fake().take_loads();
        bench.fake().take_stores();
        bench.s2.declare_page(&bench.order, page, NOTE).unwrap();
        assert_eq!((bench.fake().take_loads(), bench.fake().take_stores()), (3, 1));
        bench.s2.undeclare_page(&bench.order, page).unwrap();
        assert_eq!((bench.fake().take_loads(), bench.fake().take_stores()), (3, 1));
    }
}

/// THREATS B11: a million times, in small.
#[test]
fn alternating_leaks_no_table() {
    let bench = Bench::roomy();
    bench.declare(UART, KIB4).unwrap();
    let free = bench.free();
    for _ in 0..1000 {
        assert_eq!(bench.undeclare(UART, KIB4), Ok(1));
        assert_eq!(bench.declare(UART, KIB4), Ok(1));
    }
    assert_eq!(bench.free(), free);
    assert_eq!(bench.s2.declared_pages(), 1);
}
