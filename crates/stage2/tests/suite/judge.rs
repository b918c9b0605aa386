// SPDX-License-Identifier: MIT OR Apache-2.0
//! The architecture monitor (the fake's judge) finds what it is there to find: each test leaves one step out, or
//! does one wrong.
//!
//! | rule | test |
//! |---|---|
//! | valid to valid only through break-before-make | `valid_to_valid_is_noted`, `each_missing_step_is_noted` |
//! | nothing is released before its invalidation is complete | `a_table_touched_too_early_is_noted`, `cache_maintenance_of_anything_but_a_gone_leaf_is_noted` |
//! | an invalidation covers the old entry | `another_address_or_level_is_noted`, `pages_of_a_block_do_not_cover_it` |
//! | no cache maintenance of an annotation | `cache_maintenance_of_anything_but_a_gone_leaf_is_noted` |
//! | Inner Shareable variants only | `what_reaches_one_cpu_only_is_noted` |
//! | a broken table of leaves is the same but for what was invalidated | `a_table_broken_for_one_leaf_differs_in_that_leaf`, `a_table_broken_by_leaves_is_not_free` |
//! | the blank table of a window never changes | `a_blank_table_is_in_many_places_and_never_changes` |
//! | twice on the cores of CVE-2025-10263 | `once_is_not_enough_under_the_erratum`, `once_is_not_enough_for_the_whole_vmid` |

use crate::common::*;
use arch::{Ipa, Pa};
use stage2::codec::Descriptor;
use stage2::fake::TABLES;

const BLOCK: u64 = 0x07fd | 0x40_0000_0000;
/// The same of a device.
const DEVICE_BLOCK: u64 = 2 << 53 | 0x06c5 | 0x40_0000_0000;
const TABLE: Pa = Pa::new(TABLES.raw() + 0x2000);

/// A valid 1 GiB block at IPA 1 GiB, in order.
fn with_block(repeat: bool) -> Fake {
    let fake = Fake::with_errata(fake::geometry(40), 4, repeat);
    fake.store(TABLES, 1, BLOCK);
    fake.dsb_ishst();
    fake.assert_quiet();
    fake
}

fn removal(fake: &Fake) {
    fake.dsb_ishst();
    fake.tlbi_ipas2e1is(Ipa::new(GIB), Some(1));
    fake.dsb_ish();
    fake.tlbi_vmalle1is();
    fake.dsb_ish();
    fake.isb();
}

fn verdict(fake: &Fake) -> String {
    fake.violations().join("\n")
}

fn is_unfinished(fake: &Fake) -> bool {
    assert_eq!(verdict(fake), "");
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fake.assert_quiet())).is_err()
}

#[test]
fn the_right_order_passes() {
    let fake = with_block(false);
    fake.store(TABLES, 1, 0);
    removal(&fake);
    fake.clean_invalidate_to_poc(Pa::new(BLOCK & !0xfff), GIB);
    fake.store(TABLES, 1, BLOCK + GIB);
    fake.dsb_ishst();
    fake.assert_quiet();
}

// bug: 9
#[test]
fn valid_to_valid_is_noted() {
    let fake = with_block(false);
    fake.store(TABLES, 1, BLOCK + GIB);
    assert!(verdict(&fake).contains("without a break"));
}

// bug: 21
#[test]
fn each_missing_step_is_noted() {
    for missing in 0..6 {
        let fake = with_block(false);
        fake.store(TABLES, 1, 0);
        let steps: [fn(&Fake); 6] = [
            |f| f.dsb_ishst(),
            |f| f.tlbi_ipas2e1is(Ipa::new(GIB), Some(1)),
            |f| f.dsb_ish(),
            |f| f.tlbi_vmalle1is(),
            |f| f.dsb_ish(),
            |f| f.isb(),
        ];
        for (number, step) in steps.iter().enumerate() {
            if number != missing {
                step(&fake);
            }
        }
        assert!(is_unfinished(&fake), "step {missing}");
        fake.store(TABLES, 1, BLOCK);
        assert!(verdict(&fake).contains("before the invalidation"), "step {missing}");
    }
}

/// DSB ISHST waits for stores, and for no invalidation (DDI 0487 D8.16.4).
#[test]
fn a_barrier_for_stores_completes_no_invalidation() {
    for stores_only in 0..2 {
        let fake = with_block(false);
        fake.store(TABLES, 1, 0);
        fake.dsb_ishst();
        fake.tlbi_ipas2e1is(Ipa::new(GIB), Some(1));
        if stores_only == 0 {
            fake.dsb_ishst()
        } else {
            fake.dsb_ish()
        }
        fake.tlbi_vmalle1is();
        if stores_only == 1 {
            fake.dsb_ishst()
        } else {
            fake.dsb_ish()
        }
        fake.isb();
        assert!(is_unfinished(&fake), "barrier {stores_only}");
    }
}

#[test]
fn stage_1_before_stage_2_is_noted() {
    let fake = with_block(false);
    fake.store(TABLES, 1, 0);
    fake.dsb_ishst();
    fake.tlbi_vmalle1is();
    fake.dsb_ish();
    fake.tlbi_ipas2e1is(Ipa::new(GIB), Some(1));
    fake.dsb_ish();
    fake.isb();
    assert!(is_unfinished(&fake));
}

#[test]
fn another_address_or_level_is_noted() {
    for (ipa, level) in [(GIB + MIB2, Some(1)), (0, Some(1)), (GIB, Some(2)), (GIB, Some(3))] {
        let fake = with_block(false);
        fake.store(TABLES, 1, 0);
        fake.dsb_ishst();
        fake.tlbi_ipas2e1is(Ipa::new(ipa), level);
        assert!(verdict(&fake).contains("no such entry"), "{ipa:#x} {level:?}");
    }
}

// bug: 10
#[test]
fn no_level_hint_is_as_good_as_the_right_one() {
    let fake = with_block(false);
    fake.store(TABLES, 1, 0);
    fake.dsb_ishst();
    fake.tlbi_ipas2e1is(Ipa::new(GIB), None);
    fake.dsb_ish();
    fake.tlbi_vmalle1is();
    fake.dsb_ish();
    fake.isb();
    fake.assert_quiet();
}

#[test]
fn invalidation_of_what_was_never_valid_is_noted() {
    let fake = Fake::new(fake::geometry(40), 4);
    fake.store(TABLES, 1, 3 << 60);
    fake.dsb_ishst();
    fake.tlbi_ipas2e1is(Ipa::new(GIB), Some(1));
    assert!(verdict(&fake).contains("no such entry"));
}

#[test]
fn cache_maintenance_of_anything_but_a_gone_leaf_is_noted() {
    let pa = Pa::new(BLOCK & !0xfff);
    // Of an annotation's bits.
    let fake = with_block(false);
    fake.clean_invalidate_to_poc(Pa::new(0x4d4d_4930), KIB4);
    assert!(verdict(&fake).contains("cache maintenance"));
    // Before the TLB is done with it.
    let fake = with_block(false);
    fake.store(TABLES, 1, 0);
    fake.clean_invalidate_to_poc(pa, GIB);
    assert!(verdict(&fake).contains("cache maintenance"));
    // Of the wrong size, and twice.
    for (size, times) in [(KIB4, 1), (GIB, 2)] {
        let fake = with_block(false);
        fake.store(TABLES, 1, 0);
        removal(&fake);
        for _ in 0..times {
            fake.clean_invalidate_to_poc(pa, size);
        }
        assert!(verdict(&fake).contains("cache maintenance"), "{size:#x}");
    }
    // Of a device.
    let fake = Fake::new(fake::geometry(40), 4);
    fake.store(TABLES, 1, DEVICE_BLOCK);
    fake.dsb_ishst();
    fake.store(TABLES, 1, 0);
    removal(&fake);
    fake.clean_invalidate_to_poc(pa, GIB);
    assert!(verdict(&fake).contains("cache maintenance"));
}

// bug: 17
#[test]
fn once_is_not_enough_under_the_erratum() {
    let fake = with_block(true);
    fake.store(TABLES, 1, 0);
    removal(&fake);
    assert!(is_unfinished(&fake));
    removal(&fake);
    fake.assert_quiet();
}

#[test]
fn a_table_published_before_its_contents_is_noted() {
    let fake = Fake::new(fake::geometry(40), 4);
    fake.fill(TABLE, 0);
    fake.store(TABLES, 1, TABLE.raw() | 3);
    assert!(verdict(&fake).contains("before its contents"));
    // And one that was not filled at all.
    let fake = Fake::new(fake::geometry(40), 4);
    fake.dsb_ishst();
    fake.store(TABLES, 1, TABLE.raw() | 3);
    assert!(verdict(&fake).contains("no table at"), "{}", verdict(&fake));
}

#[test]
fn a_table_published_twice_is_noted() {
    let fake = Fake::new(fake::geometry(40), 4);
    fake.fill(TABLE, 0);
    fake.dsb_ishst();
    fake.store(TABLES, 1, TABLE.raw() | 3);
    fake.store(TABLES, 2, TABLE.raw() | 3);
    assert!(verdict(&fake).contains("used twice"));
}

#[test]
fn a_table_touched_too_early_is_noted() {
    for (complete, expected) in [(false, "before the VMID was invalidated"), (true, "")] {
        let fake = Fake::new(fake::geometry(40), 4);
        fake.fill(TABLE, 0);
        fake.dsb_ishst();
        fake.store(TABLES, 1, TABLE.raw() | 3);
        fake.store(TABLES, 1, 0);
        fake.dsb_ishst();
        if complete {
            fake.tlbi_vmalls12e1is();
            fake.dsb_ish();
            fake.isb();
        }
        fake.store(TABLE, 0, 4);
        assert!(verdict(&fake).contains(expected));
        assert_eq!(verdict(&fake).is_empty(), complete);
    }
}

#[test]
fn annotations_that_hardware_would_misread_are_noted() {
    for raw in [2, 3 << 60 | 2, 4 << 60, 1 << 2, 0x9a9a_929e] {
        let fake = Fake::new(fake::geometry(40), 4);
        fake.store(TABLES, 1, raw);
        assert!(verdict(&fake).contains("no descriptor"), "{raw:#x}");
    }
}

#[test]
fn a_leaf_without_a_barrier_is_noted() {
    let fake = Fake::new(fake::geometry(40), 4);
    fake.store(TABLES, 1, BLOCK);
    assert!(is_unfinished(&fake));
    // And one that comes with its table.
    let fake = Fake::new(fake::geometry(40), 4);
    fake.store(TABLE, 0, BLOCK);
    for index in 1..512 {
        fake.store(TABLE, index, 0);
    }
    fake.dsb_ishst();
    fake.store(TABLES, 1, TABLE.raw() | 0b11);
    assert!(is_unfinished(&fake));
    fake.dsb_ishst();
    fake.assert_quiet();
}

#[test]
fn what_reaches_one_cpu_only_is_noted() {
    let ipa = Ipa::new(GIB);
    // The barrier, the entry, stage 1, the whole VMID: each in place of the variant that is right.
    let wrong = [
        (0, Event::DsbNsh),
        (1, Event::TlbiIpaNsh { ipa }),
        (2, Event::DsbNsh),
        (3, Event::TlbiStage1Nsh),
        (4, Event::DsbNsh),
        (1, Event::TlbiAllNsh),
    ];
    for (place, event) in wrong {
        let fake = with_block(false);
        fake.store(TABLES, 1, 0);
        let right = [
            Event::DsbIshst,
            Event::TlbiIpa { ipa, level: Some(1) },
            Event::DsbIsh,
            Event::TlbiStage1,
            Event::DsbIsh,
            Event::Isb,
        ];
        for (number, step) in right.into_iter().enumerate() {
            fake.inject(if number == place { event } else { step });
        }
        assert!(verdict(&fake).contains("not for the Inner Shareable domain"), "{event:?}");
        assert!(
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fake.assert_quiet())).is_err()
        );
        fake.store(TABLES, 1, BLOCK);
        assert!(verdict(&fake).contains("before the invalidation"), "{event:?} counted");
    }
}

/// A block's entry is gone only when it is named as a block: 512 invalidations of its pages may leave it.
#[test]
fn pages_of_a_block_do_not_cover_it() {
    let fake = with_block(false);
    fake.store(TABLES, 1, 0);
    fake.dsb_ishst();
    for page in 0..512 {
        fake.tlbi_ipas2e1is(Ipa::new(GIB + page * KIB4), Some(3));
    }
    assert!(verdict(&fake).contains("no such entry"));
    fake.dsb_ish();
    fake.tlbi_vmalle1is();
    fake.dsb_ish();
    fake.isb();
    fake.store(TABLES, 1, BLOCK);
    assert!(verdict(&fake).contains("before the invalidation"));
}

#[test]
fn once_is_not_enough_for_the_whole_vmid() {
    for repeat in [false, true] {
        let fake = with_block(repeat);
        fake.store(TABLES, 1, 0);
        fake.dsb_ishst();
        for round in 0..2 {
            fake.tlbi_vmalls12e1is();
            fake.dsb_ish();
            fake.isb();
            assert_eq!(is_unfinished(&fake), repeat && round == 0, "{repeat} {round}");
        }
    }
}

/// What `marks` is for: an oracle that cannot look at every entry after every exit.
#[test]
fn marks_follow_what_a_walker_can_reach() {
    let fake = Fake::new(fake::geometry(40), 4);
    fake.set_mark(|_, level, descriptor| match descriptor {
        Descriptor::Table(_) | Descriptor::Window(_) => 1_000_000,
        Descriptor::Entry(Entry::Empty) => 0,
        Descriptor::Entry(_) => u64::from(level),
    });
    fake.fill(TABLE, 3 << 60);
    assert_eq!(fake.marks(), 0, "no walker reaches it yet");
    fake.dsb_ishst();
    fake.store(TABLES, 1, TABLE.raw() | 3);
    assert_eq!(fake.marks(), 1_000_000 + 512 * 2);
    fake.store(TABLE, 5, 0);
    assert_eq!(fake.marks(), 1_000_000 + 511 * 2);
    fake.store(TABLES, 1, 0);
    assert_eq!(fake.marks(), 0);
}

/// What is taken away with a table was marked where it stood, several levels down.
#[test]
fn marks_go_with_the_addresses_that_they_came_for() {
    const LAST: Pa = Pa::new(TABLES.raw() + 0x3000);
    let fake = Fake::new(fake::geometry(40), 4);
    fake.set_mark(|ipa, level, descriptor| match descriptor {
        Descriptor::Table(_) | Descriptor::Window(_) | Descriptor::Entry(Entry::Empty) => 0,
        Descriptor::Entry(_) => ipa.raw() + u64::from(level),
    });
    fake.fill(LAST, 0);
    fake.store(LAST, 7, 3 << 60);
    fake.fill(TABLE, 0);
    fake.store(TABLE, 5, LAST.raw() | 3);
    fake.dsb_ishst();
    fake.store(TABLES, 1, TABLE.raw() | 3);
    assert_eq!(fake.marks(), GIB + 5 * MIB2 + 7 * 0x1000 + 3);
    fake.store(TABLES, 1, 0);
    assert_eq!(fake.marks(), 0);
}

const LEAF: u64 = 0x07ff | 0x40_0000_0000;
/// Of windows.
const WINDOW: u64 = 1 << 2;

/// A table of level 3 at IPA 0, its leaves those of 2 MiB; the page behind it holds a copy, which is not in the tree.
fn with_leaves(repeat: bool, window: u64) -> Fake {
    let fake = Fake::with_errata(fake::geometry(40), 4, repeat);
    for index in 0..512 {
        fake.store(page(1), index, LEAF + index as u64 * KIB4);
        fake.store(page(2), index, LEAF + index as u64 * KIB4);
    }
    fake.fill(page(0), 0);
    fake.store(page(0), 0, page(1).raw() | 3);
    fake.dsb_ishst();
    fake.store(TABLES, 0, page(0).raw() | 3 | window);
    fake.dsb_ishst();
    fake.assert_quiet();
    fake
}

/// A page of the pool.
fn page(number: u64) -> Pa {
    Pa::new(TABLE.raw() + number * KIB4)
}

/// The place of the table of leaves is `locked`, and `leaves` of it are invalidated.
fn break_table(fake: &Fake, leaves: &[(u64, Option<u8>)]) {
    fake.store(page(0), 0, 1 << 60);
    fake.dsb_ishst();
    for _ in 0..=u8::from(fake.repeat()) {
        for (index, level) in leaves {
            fake.tlbi_ipas2e1is(Ipa::new(index * KIB4), *level);
        }
        fake.dsb_ish();
        fake.tlbi_vmalle1is();
        fake.dsb_ish();
    }
    fake.isb();
}

fn make_table(fake: &Fake) {
    fake.store(page(0), 0, page(2).raw() | 3);
    fake.dsb_ishst();
}

#[test]
fn a_table_broken_for_one_leaf_differs_in_that_leaf() {
    for (changed, invalidated, level, good) in [
        (7, 7, Some(3), true),
        (7, 7, None, true),
        (0, 0, Some(3), true),
        (511, 511, Some(3), true),
        (7, 8, Some(3), false),
        (7, 6, Some(3), false),
    ] {
        for repeat in [false, true] {
            let fake = with_leaves(repeat, 0);
            fake.store(page(2), changed, LEAF + GIB);
            break_table(&fake, &[(invalidated, level)]);
            assert!(fake.complaint().is_some_and(|why| why.contains("TLBs may hold leaves")));
            make_table(&fake);
            assert_eq!(fake.complaint().is_none(), good, "{changed} {invalidated}");
            let at = format!("TLBs may hold the leaf that was at {:#x}:", changed as u64 * KIB4);
            assert_eq!(verdict(&fake).contains(&at), !good);
        }
    }
    // A leaf that was invalid before is in no TLB.
    let fake = with_leaves(false, 0);
    fake.store(page(1), 9, 0);
    removal_of(&fake, 9);
    break_table(&fake, &[(7, Some(3))]);
    make_table(&fake);
    fake.assert_quiet();
    // No leaf at all in its place, nor another table's.
    for new in [LEAF & !2 | GIB, 1 << 60] {
        let fake = with_leaves(false, 0);
        break_table(&fake, &[(7, Some(3))]);
        fake.store(page(0), 0, new);
        fake.dsb_ishst();
        assert!(fake.complaint().is_some_and(|why| why.contains("TLBs may hold")), "{new:#x}");
    }
}

/// The sequence for a leaf of the table of [`with_leaves`].
fn removal_of(fake: &Fake, index: u64) {
    fake.dsb_ishst();
    fake.tlbi_ipas2e1is(Ipa::new(index * KIB4), Some(3));
    fake.dsb_ish();
    fake.tlbi_vmalle1is();
    fake.dsb_ish();
    fake.isb();
}

#[test]
fn a_table_is_broken_by_its_own_leaves_only() {
    for (index, level) in [(512, Some(3)), (7, Some(2)), (7, Some(1)), (0, Some(2))] {
        let fake = with_leaves(false, 0);
        break_table(&fake, &[(index, level)]);
        assert!(verdict(&fake).contains("no such entry"), "{index} {level:?}");
    }
    // A table of tables is none of leaves.
    let fake = with_leaves(false, 0);
    fake.store(TABLES, 0, 1 << 60);
    fake.dsb_ishst();
    fake.tlbi_ipas2e1is(Ipa::new(0), Some(3));
    assert!(verdict(&fake).contains("no such entry"));
}

/// Before the store is visible, and once under the erratum: both count for nothing.
#[test]
fn a_leaf_invalidated_too_early_or_once_is_still_held() {
    let fake = with_leaves(false, 0);
    fake.store(page(2), 7, LEAF + GIB);
    fake.store(page(0), 0, 1 << 60);
    fake.tlbi_ipas2e1is(Ipa::new(7 * KIB4), Some(3));
    fake.dsb_ishst();
    fake.tlbi_ipas2e1is(Ipa::new(8 * KIB4), Some(3));
    fake.dsb_ish();
    fake.tlbi_vmalle1is();
    fake.dsb_ish();
    fake.isb();
    make_table(&fake);
    assert!(verdict(&fake).contains("the leaf that was at 0x7000"));

    let fake = with_leaves(true, 0);
    fake.store(page(2), 7, LEAF + GIB);
    fake.store(page(0), 0, 1 << 60);
    fake.dsb_ishst();
    for index in [7, 8] {
        fake.tlbi_ipas2e1is(Ipa::new(index * KIB4), Some(3));
        fake.dsb_ish();
        fake.tlbi_vmalle1is();
        fake.dsb_ish();
    }
    fake.isb();
    make_table(&fake);
    assert!(verdict(&fake).contains("the leaf that was at 0x7000"));
}

#[test]
fn a_table_broken_by_leaves_is_not_free() {
    for repeat in [false, true] {
        for whole in 0..=2 {
            let fake = with_leaves(repeat, 0);
            break_table(&fake, &[(7, Some(3))]);
            make_table(&fake);
            fake.dsb_ishst();
            for _ in 0..whole {
                fake.tlbi_vmalls12e1is();
                fake.dsb_ish();
            }
            fake.isb();
            fake.store(page(1), 0, 4);
            let good = whole > usize::from(repeat);
            assert_eq!(verdict(&fake).is_empty(), good, "{repeat} {whole}");
        }
    }
    // An invalidation of the VMID covers all leaves: what comes may differ.
    let fake = with_leaves(false, 0);
    fake.store(page(2), 7, LEAF + GIB);
    fake.store(page(0), 0, 1 << 60);
    fake.dsb_ishst();
    fake.tlbi_vmalls12e1is();
    fake.dsb_ish();
    fake.isb();
    fake.assert_quiet();
    make_table(&fake);
    fake.assert_quiet();
}

#[test]
fn a_blank_table_is_in_many_places_and_never_changes() {
    let blank = page(3);
    // One leaf 512 times, in a window.
    let fake = with_leaves(false, WINDOW);
    fake.fill(blank, LEAF);
    fake.dsb_ishst();
    for index in 1..4 {
        fake.store(page(0), index, blank.raw() | 3);
    }
    fake.dsb_ishst();
    fake.assert_quiet();
    // It stays in the others.
    fake.store(page(0), 1, 1 << 60);
    fake.dsb_ishst();
    fake.tlbi_vmalls12e1is();
    fake.dsb_ish();
    fake.isb();
    fake.store(page(0), 1, blank.raw() | 3);
    fake.dsb_ishst();
    fake.assert_quiet();
    fake.store(blank, 5, 0);
    assert!(verdict(&fake).contains("a table in 3 places, touched"), "{}", verdict(&fake));

    // The last place gone, it is like any other table that went.
    for complete in [false, true] {
        let fake = with_leaves(false, WINDOW);
        fake.fill(blank, LEAF);
        fake.dsb_ishst();
        for index in 1..4 {
            fake.store(page(0), index, blank.raw() | 3);
        }
        for index in 1..4 {
            fake.store(page(0), index, 0);
        }
        fake.dsb_ishst();
        if complete {
            fake.tlbi_vmalls12e1is();
            fake.dsb_ish();
            fake.isb();
            fake.assert_quiet();
        }
        fake.store(blank, 0, 0);
        let why = "touched before the VMID";
        assert_eq!(verdict(&fake).contains(why), !complete, "{}", verdict(&fake));
    }

    // Not outside a window, not with leaves that differ or are none, and not at another level.
    for (window, raw, odd) in
        [(0, LEAF, None), (WINDOW, LEAF, Some(0)), (WINDOW, LEAF, Some(511)), (WINDOW, 0, None)]
    {
        let fake = with_leaves(false, window);
        fake.fill(blank, raw);
        if let Some(index) = odd {
            fake.store(blank, index, LEAF + KIB4);
        }
        fake.dsb_ishst();
        for index in 1..3 {
            fake.store(page(0), index, blank.raw() | 3);
        }
        fake.dsb_ishst();
        assert!(verdict(&fake).contains("used twice"), "{window:#x} {raw:#x} {odd:?}");
    }
    let fake = with_leaves(false, WINDOW);
    fake.store(TABLES, 1, page(0).raw() | 3 | WINDOW);
    assert!(verdict(&fake).contains("used twice"));
    let fake = with_leaves(false, WINDOW);
    fake.fill(blank, LEAF);
    fake.dsb_ishst();
    for index in 1..3 {
        fake.store(page(0), index, blank.raw() | 3);
    }
    fake.store(TABLES, 1, blank.raw() | 3 | WINDOW);
    assert!(verdict(&fake).contains("used twice"), "at level 2");
}

/// An oracle compares windows with what is shared, and leaves them out of its sum.
#[test]
fn windows_leave_no_marks() {
    let fake = Fake::new(fake::geometry(40), 4);
    fake.set_mark(|_, _, descriptor| match descriptor {
        Descriptor::Window(_) | Descriptor::Entry(Entry::Empty) => 0,
        Descriptor::Table(_) => 1_000_000,
        Descriptor::Entry(_) => 1,
    });
    fake.fill(page(1), LEAF);
    fake.fill(page(0), 0);
    fake.store(page(0), 0, page(1).raw() | 3);
    fake.dsb_ishst();
    fake.store(TABLES, 1, page(0).raw() | 3 | WINDOW);
    assert_eq!((fake.marks(), fake.tables()), (0, 0));
    fake.store(page(0), 1, LEAF & !2);
    fake.store(page(0), 0, 0);
    assert_eq!(fake.marks(), 0);
    fake.store(TABLES, 1, 0);
    assert_eq!(fake.marks(), 0);
}

/// What is stored through one VM's handle is judged for the tables of all.
#[test]
fn vms_with_one_memory_watch_one_another() {
    let both = [(fake::geometry(40), 3), (fake::geometry(41), 2)];
    for repeat in [false, true] {
        let fakes = Fake::several(both, repeat);
        assert_eq!(fakes[0].root(), TABLES);
        // 2 pages of root and 3 of pool, then a root of 4 pages at a multiple of 4.
        assert_eq!(fakes[1].root(), Pa::new(TABLES.raw() + 8 * KIB4));
        assert_eq!(fakes[1].snapshot().len(), (8 + 4 + 2) * 512);
        assert_eq!(fakes.iter().map(|fake| fake.pool().free()).collect::<Vec<_>>(), [3, 2]);
        assert!(fakes.iter().all(|fake| fake.repeat() == repeat));
        let table = Pa::new(fakes[1].root().raw() + 4 * KIB4);
        fakes[0].fill(table, 0);
        fakes[0].dsb_ishst();
        fakes[0].store(TABLES, 1, table.raw() | 3);
        assert_eq!(fakes[0].translate(Ipa::new(GIB)), Some((Entry::Empty, 2)));
        assert_eq!(fakes[1].translate(Ipa::new(GIB)), Some((Entry::Empty, 1)));
        assert_eq!((fakes[0].tables(), fakes[1].tables()), (1, 0));
        assert_eq!(fakes[0].take_events().len(), 2);
        assert_eq!(fakes[1].take_events(), []);
        fakes[0].store(TABLES, 1, 0);
        fakes[1].store(table, 0, 4);
        assert!(verdict(&fakes[0]).contains("touched before"));
        assert_eq!(verdict(&fakes[1]), "");
    }
}

/// Without a panic, for those who tell it in their own words.
#[test]
fn what_is_left_half_way_or_was_wrong_is_told() {
    let fake = with_block(false);
    assert_eq!(fake.complaint(), None);
    fake.store(TABLES, 1, 0);
    fake.dsb_ishst();
    assert!(fake.complaint().is_some_and(|why| why.contains("removal not completed")));
    removal(&fake);
    assert_eq!(fake.complaint(), None);
    fake.store(TABLES, 1, BLOCK);
    assert!(fake.complaint().is_some_and(|why| why.contains("without a DSB")));
    fake.dsb_ishst();
    assert_eq!(fake.complaint(), None);
    // Nothing is open after this, but it was wrong.
    fake.tlbi_ipas2e1is(Ipa::new(0), Some(1));
    assert!(fake.complaint().is_some_and(|why| why.contains("no such entry")));
}

#[test]
fn forgotten_events_do_not_come_back() {
    let fake = with_block(false);
    fake.forget_events();
    assert_eq!(fake.take_events(), []);
    fake.isb();
    assert_eq!(fake.take_events().len(), 1);
}
