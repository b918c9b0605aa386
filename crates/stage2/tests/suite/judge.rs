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
