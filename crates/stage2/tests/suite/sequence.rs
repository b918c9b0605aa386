// SPDX-License-Identifier: MIT OR Apache-2.0
//! The exact order of stores, barriers and invalidations.

use crate::common::*;
use arch::{Ipa, Pa};

const LOCKED: u64 = 1 << 60;

fn tlbi(ipa: u64, level: u8) -> Event {
    Event::TlbiIpa { ipa: Ipa::new(ipa), level: Some(level) }
}

/// What a sequence looks like, with stores reduced to what they write.
#[derive(Debug, PartialEq)]
enum Step {
    Store(u64, u8, u64),
    Table(u64, u8),
    Other(Event),
}

fn steps(bench: &Bench) -> Vec<Step> {
    let step = |event| match event {
        Event::Store { ipa, level, new, .. } if new & 3 == 3 && level < 3 => {
            Step::Table(ipa.raw(), level)
        }
        Event::Store { ipa, level, new, .. } => Step::Store(ipa.raw(), level, new),
        other => Step::Other(other),
    };
    bench.fake().take_events().into_iter().map(step).collect()
}

fn removal(ipa: u64, level: u8) -> Vec<Step> {
    [Event::DsbIshst, tlbi(ipa, level), Event::DsbIsh, Event::TlbiStage1, Event::DsbIsh, Event::Isb]
        .map(Step::Other)
        .into()
}

#[test]
fn removing_a_page() {
    let bench = Bench::roomy();
    bench.map(RAM, FRAMES, KIB4).unwrap();
    bench.fake().take_events();
    bench.unmap(RAM, KIB4, Annotation::Owner(1)).unwrap();
    let mut expected = vec![Step::Store(RAM, 3, 2 << 60 | 1 << 2)];
    expected.extend(removal(RAM, 3));
    expected.push(Step::Other(Event::Clean { pa: Pa::new(FRAMES), bytes: KIB4 }));
    assert_eq!(steps(&bench), expected);
}

/// THREATS 2a 5: the invalidation is of the old block, from its base, at its level.
// bug: 5
#[test]
fn threat_05_a_split_invalidates_the_block_from_its_base() {
    let bench = Bench::with_ram(GIB);
    let page = RAM + 3 * MIB2 + 5 * KIB4;
    bench.unmap(page, KIB4, Annotation::Empty).unwrap();
    let mut expected = vec![Step::Store(RAM, 1, LOCKED)];
    expected.extend(removal(RAM, 1));
    expected.push(Step::Table(RAM, 1));
    expected.push(Step::Store(RAM + 3 * MIB2, 2, LOCKED));
    expected.extend(removal(RAM + 3 * MIB2, 2));
    expected.push(Step::Table(RAM + 3 * MIB2, 2));
    expected.push(Step::Store(page, 3, 0));
    expected.extend(removal(page, 3));
    let pa = Pa::new(FRAMES + page);
    expected.push(Step::Other(Event::Clean { pa, bytes: KIB4 }));
    assert_eq!(steps(&bench), expected);
}

/// THREATS 2a 9: the break writes `locked`, never nothing: a reader must not take the block for gone.
// bug: 9
#[test]
fn threat_09_a_split_breaks_with_locked_before_it_makes() {
    let bench = Bench::with_ram(GIB);
    let kept = Ipa::new(RAM + GIB - KIB4);
    bench.fake().watch(&[kept]);
    bench.unmap(RAM, KIB4, Annotation::Empty).unwrap();
    let seen: Vec<Entry> = bench.fake().take_seen().into_iter().map(|row| row[0]).collect();
    let last = |size| ram(FRAMES + RAM + GIB - size);
    // Block of 1 GiB: locked, then table; the first 2 MiB are then split without this page noticing.
    assert_eq!(seen, [Entry::Locked, last(MIB2), last(MIB2), last(MIB2), last(MIB2)]);
    bench.quiet();
}

/// Leaves removed by one call share barriers and the stage-1 invalidation.
// bug: 13
#[test]
fn removing_two_blocks_at_once() {
    let bench = Bench::with_ram(2 * MIB2);
    bench.unmap(RAM, 2 * MIB2, Annotation::Empty).unwrap();
    let clean = |ipa| Step::Other(Event::Clean { pa: Pa::new(FRAMES + ipa), bytes: MIB2 });
    let expected = vec![
        Step::Store(RAM, 2, 0),
        Step::Store(RAM + MIB2, 2, 0),
        Step::Other(Event::DsbIshst),
        Step::Other(tlbi(RAM, 2)),
        Step::Other(tlbi(RAM + MIB2, 2)),
        Step::Other(Event::DsbIsh),
        Step::Other(Event::TlbiStage1),
        Step::Other(Event::DsbIsh),
        Step::Other(Event::Isb),
        clean(RAM),
        clean(RAM + MIB2),
    ];
    assert_eq!(steps(&bench), expected);
}

/// THREATS 2a 17 (CVE-2025-10263 and older errata): TLBI and DSB twice, on every path.
// bug: 17
#[test]
fn threat_17_the_erratum_repeats_every_invalidation() {
    let fake = Fake::with_errata(fake::geometry(40), 16, true);
    let bench = Bench { s2: fake.stage2(), order: Order::new() };
    bench.map(RAM, FRAMES, MIB2).unwrap();
    fake.take_events();
    bench.unmap(RAM, KIB4, Annotation::Empty).unwrap();
    let split = [
        Event::DsbIshst,
        tlbi(RAM, 2),
        Event::DsbIsh,
        Event::TlbiStage1,
        Event::DsbIsh,
        tlbi(RAM, 2),
        Event::DsbIsh,
        Event::TlbiStage1,
        Event::DsbIsh,
        Event::Isb,
    ];
    let events = fake.take_events();
    assert_eq!(events[1..11], split);
    assert_eq!(events.iter().filter(|e| **e == Event::TlbiStage1).count(), 4);
    let gicv = Ipa::new(0x801_0000);
    bench.s2.install_device(&bench.order, gicv, Pa::new(0x804_0000)).unwrap();
    fake.take_events();
    bench.s2.remove_device(&bench.order, gicv).unwrap();
    assert_eq!(fake.take_events().iter().filter(|e| **e == tlbi(gicv.raw(), 3)).count(), 2);
    bench.s2.reset(&bench.order);
    let events = fake.take_events();
    let all = events.iter().position(|e| *e == Event::TlbiAll).unwrap();
    let twice = [Event::TlbiAll, Event::DsbIsh, Event::TlbiAll, Event::DsbIsh, Event::Isb];
    assert_eq!(events[all..all + 5], twice);
    bench.quiet();
}

/// THREATS 2a 10: a level hint is that of the entry removed, for each size of leaf.
// bug: 10
#[test]
fn threat_10_the_level_hint_is_the_leafs() {
    for (size, level) in [(GIB, 1), (MIB2, 2), (KIB4, 3)] {
        let bench = Bench::roomy();
        bench.map(4 * GIB, FRAMES, size).unwrap();
        bench.fake().take_events();
        bench.unmap(4 * GIB, size, Annotation::Empty).unwrap();
        assert_eq!(bench.take_maintenance()[0], tlbi(4 * GIB, level));
    }
}

/// A remap at the same place: every step of the removal is complete before the new leaf is valid.
#[test]
fn unmapping_and_mapping_again_needs_no_more_than_unmap_did() {
    let bench = Bench::with_ram(MIB2);
    for round in 0..3u64 {
        bench.unmap(RAM, MIB2, Annotation::Empty).unwrap();
        bench.map(RAM, FRAMES + round * GIB, MIB2).unwrap();
        bench.quiet();
    }
}

#[test]
fn splitting_an_invalid_entry_publishes_with_one_store_and_one_barrier() {
    let bench = Bench::roomy();
    bench.declare(GIB, GIB).unwrap();
    bench.fake().take_events();
    bench.undeclare(GIB + MIB2, KIB4).unwrap();
    assert_eq!(
        steps(&bench),
        [
            Step::Other(Event::DsbIshst),
            Step::Table(GIB, 1),
            Step::Other(Event::DsbIshst),
            Step::Table(GIB + MIB2, 2),
            Step::Store(GIB + MIB2, 3, 0),
        ]
    );
}
