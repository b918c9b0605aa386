// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unmapping.

use crate::common::*;
use arch::{Ipa, Pa};

#[test]
fn a_block_goes_and_leaves_the_annotation_at_its_level() {
    let bench = Bench::with_ram(2 * GIB);
    bench.unmap(RAM, GIB, Annotation::Owner(7)).unwrap();
    assert_eq!(bench.dump(), [(RAM, 1, Entry::Owner(7)), (RAM + GIB, 1, ram(FRAMES + RAM + GIB)),]);
    bench.quiet();
}

/// THREATS 2a 1: nothing of a removed leaf stays readable in what is left, not its PA, not its bits.
// bug: 1
#[test]
fn threat_01_what_is_left_has_nothing_of_the_old_leaf() {
    let leaves =
        [Annotation::Empty, Annotation::Owner(0), Annotation::Owner(0xffff), Annotation::Declared];
    for leave in leaves {
        for attr in [Attr::Ram, Attr::Rom, Attr::Device] {
            let bench = Bench::roomy();
            for (ipa, size) in [(GIB, GIB), (3 * GIB, MIB2), (4 * GIB, KIB4)] {
                let pa = Pa::new(0xffff_c000_0000);
                bench.s2.map(&bench.order, Ipa::new(ipa), pa, size, attr).unwrap();
                bench.fake().take_events();
                bench.unmap(ipa, size, leave).unwrap();
                let (expected, raw) = match leave {
                    Annotation::Empty => (Entry::Empty, 0),
                    Annotation::Owner(id) => (Entry::Owner(id), 2 << 60 | u64::from(id) << 2),
                    Annotation::Declared => (Entry::Guard(GuardAnnotation::default()), 3 << 60),
                };
                assert_eq!(bench.entry(ipa), expected);
                assert_eq!(bench.entry(ipa + size - 1), expected);
                let stored = bench.fake().take_events().into_iter().find_map(|e| match e {
                    Event::Store { new, .. } => Some(new),
                    _ => None,
                });
                assert_eq!(stored, Some(raw));
            }
            bench.quiet();
        }
    }
}

// scenario: C5
// bug: 11
#[test]
fn threat_11_giving_a_page_away_keeps_the_other_511() {
    let bench = Bench::with_ram(GIB);
    let hole = RAM + 3 * MIB2 + 9 * KIB4;
    bench.unmap(hole, KIB4, Annotation::Owner(2)).unwrap();
    for page in (RAM..RAM + GIB).step_by(KIB4 as usize) {
        let (entry, level) = bench.fake().translate(Ipa::new(page)).unwrap();
        if page == hole {
            assert_eq!((entry, level), (Entry::Owner(2), 3));
            continue;
        }
        let Entry::Leaf { pa, attr: Attr::Ram } = entry else { panic!("{page:#x}: {entry:?}") };
        let size = stage2::codec::level_size(level);
        assert_eq!(pa.raw() + page % size, FRAMES + page);
        assert_eq!(level, if page / MIB2 == hole / MIB2 { 3 } else { 2 });
    }
    assert_eq!(bench.dump().len(), 511 + 512);
    bench.quiet();
}

#[test]
fn a_range_cuts_blocks_at_both_ends_and_nowhere_else() {
    let bench = Bench::with_ram(3 * GIB);
    let (from, to) = (RAM + GIB - MIB2 - KIB4, RAM + 2 * GIB + MIB2 + KIB4);
    bench.unmap(from, to - from, Annotation::Empty).unwrap();
    assert_eq!(64 - bench.free(), 4);
    for (ipa, mapped) in [
        (from - KIB4, true),
        (from, false),
        (from + KIB4, false),
        (RAM + GIB, false),
        (RAM + 2 * GIB - KIB4, false),
        (RAM + 2 * GIB, false),
        (to - KIB4, false),
        (to, true),
        (RAM + 3 * GIB - KIB4, true),
    ] {
        let leaf = matches!(bench.entry(ipa), Entry::Leaf { .. });
        assert_eq!(leaf, mapped, "{ipa:#x}");
    }
    bench.quiet();
}

// bug: 13
#[test]
fn more_leaves_than_a_batch_holds() {
    let bench = Bench::roomy();
    bench.map(RAM, FRAMES + KIB4, MIB2).unwrap();
    assert_eq!(bench.level(RAM), 3);
    bench.fake().take_events();
    bench.unmap(RAM, MIB2, Annotation::Empty).unwrap();
    assert_eq!(bench.dump(), []);
    let maintenance = bench.take_maintenance();
    let count = |f: fn(&Event) -> bool| maintenance.iter().filter(|e| f(e)).count();
    assert_eq!(count(|e| matches!(e, Event::TlbiIpa { level: Some(3), .. })), 512);
    assert_eq!(count(|e| matches!(e, Event::Clean { bytes: KIB4, .. })), 512);
    assert_eq!(count(|e| matches!(e, Event::TlbiStage1)), 16, "shared by 32 leaves each");
    bench.quiet();
}

#[test]
fn what_is_not_mapped_cannot_be_unmapped() {
    let bench = Bench::roomy();
    bench.map(RAM, FRAMES, 4 * KIB4).unwrap();
    bench.declare(RAM + 4 * KIB4, KIB4).unwrap();
    bench.unmap(RAM + 2 * KIB4, KIB4, Annotation::Owner(1)).unwrap();
    bench.fake().take_events();
    let before = bench.fake().snapshot();
    let not_mapped = |n| Err(MapError::NotMapped(Ipa::new(RAM + n * KIB4)));
    assert_eq!(bench.unmap(RAM, 4 * KIB4, Annotation::Empty), not_mapped(2), "an owner's");
    assert_eq!(bench.unmap(RAM + 3 * KIB4, 2 * KIB4, Annotation::Empty), not_mapped(4), "declared");
    assert_eq!(bench.unmap(RAM + 5 * KIB4, KIB4, Annotation::Empty), not_mapped(5), "empty");
    assert_eq!(bench.unmap(0, KIB4, Annotation::Owner(1)), Err(MapError::NotMapped(Ipa::new(0))));
    assert_eq!(bench.fake().snapshot(), before, "the whole range is checked first");
    assert_eq!(bench.fake().take_events(), []);
}

/// THREATS 2a 14, 15: ranges at the very end of the IPA space and of the PA space.
// bug: 14 15
#[test]
fn threat_14_15_the_last_page_is_invalidated_and_cleaned() {
    for bits in [32, 36, 39, 40, 44, 48] {
        let bench = Bench::new(bits, 8);
        let (last, frame) = ((1u64 << bits) - KIB4, (1 << 48) - KIB4);
        bench.map(last, frame, KIB4).unwrap();
        bench.fake().take_events();
        bench.unmap(last, KIB4, Annotation::Empty).unwrap();
        assert_eq!(
            bench.take_maintenance(),
            [
                Event::TlbiIpa { ipa: Ipa::new(last), level: Some(3) },
                Event::TlbiStage1,
                Event::Clean { pa: Pa::new(frame), bytes: KIB4 },
            ]
        );
        bench.quiet();
    }
}

/// THREATS 2a 78: the old owner's dirty lines are cleaned after its TLB entries are gone, and before
/// the call returns, so before another party gets the page.
// bug: 78
#[test]
fn threat_78_memory_is_cleaned_after_the_tlb_and_before_the_return() {
    for attr in [Attr::Ram, Attr::Rom] {
        let bench = Bench::roomy();
        bench.s2.map(&bench.order, Ipa::new(RAM), Pa::new(FRAMES), MIB2, attr).unwrap();
        bench.fake().take_events();
        bench.unmap(RAM, MIB2, Annotation::Owner(1)).unwrap();
        let events = bench.fake().take_events();
        let clean = Event::Clean { pa: Pa::new(FRAMES), bytes: MIB2 };
        // What the guest could not write has no dirty lines of it.
        let expected = if attr == Attr::Ram { vec![Event::Isb, clean] } else { vec![Event::Isb] };
        assert_eq!(events[events.len() - expected.len()..], expected);
        assert_eq!(events.contains(&clean), attr == Attr::Ram);
        bench.quiet();
    }
}

#[test]
fn a_device_is_never_cleaned() {
    let bench = Bench::roomy();
    let (ipa, pa) = (Ipa::new(0x804_0000), Pa::new(0x804_0000));
    bench.s2.map(&bench.order, ipa, pa, MIB2 / 2, Attr::Device).unwrap();
    bench.fake().take_events();
    bench.unmap(ipa.raw(), MIB2 / 2, Annotation::Empty).unwrap();
    assert!(!bench.fake().take_events().iter().any(|e| matches!(e, Event::Clean { .. })));
    bench.quiet();
}
