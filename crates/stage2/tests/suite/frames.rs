// SPDX-License-Identifier: MIT OR Apache-2.0
//! The owner of every frame.

use crate::common::*;
use arch::{Pa, Range};
use proptest::prelude::*;
use stage2::{Chunk, FrameError, FrameTable, NO_OWNER, Parties, Split};
use std::collections::BTreeMap;

const BASE: u64 = RAM;

struct Storage {
    chunks: Vec<Chunk>,
    splits: Vec<Split>,
}

impl Storage {
    fn new(chunks: usize, splits: usize) -> Self {
        Self { chunks: vec![Chunk::FREE; chunks], splits: vec![Split::FREE; splits] }
    }
    fn table(&mut self) -> FrameTable<'_> {
        FrameTable::new(Pa::new(BASE), &mut self.chunks, &mut self.splits)
    }
}

fn owned(frame: u64, owner: u16) -> Result<(), FrameError> {
    Err(FrameError::Owned { frame: Pa::new(frame), owner })
}

#[test]
fn frames_are_claimed_and_released() {
    let mut storage = Storage::new(8, 4);
    let mut table = storage.table();
    assert_eq!(table.owner_of(Pa::new(BASE)), Some(NO_OWNER));
    table.claim(frames(BASE + MIB2, 2 * MIB2), 1).unwrap();
    assert_eq!(table.owner_of(Pa::new(BASE + MIB2 - 1)), Some(NO_OWNER));
    assert_eq!(table.owner_of(Pa::new(BASE + MIB2)), Some(1));
    assert_eq!(table.owner_of(Pa::new(BASE + 3 * MIB2 - 1)), Some(1));
    assert_eq!(table.owner_of(Pa::new(BASE + 3 * MIB2)), Some(NO_OWNER));
    assert_eq!(table.frames_of(1), 1024);
    assert!(table.owns(1, frames(BASE + MIB2, 2 * MIB2)));
    assert!(!table.owns(1, frames(BASE + MIB2, 2 * MIB2 + KIB4)));
    table.release(frames(BASE + MIB2, 2 * MIB2), 1).unwrap();
    assert_eq!(table.frames_of(1), 0);
    assert_eq!(table.splits_used(), 0, "whole chunks need none");
}

/// P2: the owner, and the one with which it shares the frame; a free frame has neither.
#[test]
fn a_frame_has_at_most_two_parties() {
    let mut storage = Storage::new(2, 2);
    let mut table = storage.table();
    table.claim(frames(BASE, KIB4), 1).unwrap();
    let shares = |owner| {
        assert_eq!(owner, 1);
        Some(7)
    };
    let both = Parties { owner: 1, shared_with: Some(7) };
    assert_eq!(table.parties(Pa::new(BASE + 5), shares), Some(both));
    let alone = Parties { owner: 1, shared_with: None };
    assert_eq!(table.parties(Pa::new(BASE), |_| None), Some(alone));
    for frame in [BASE - 1, BASE + KIB4, BASE + 2 * MIB2] {
        assert_eq!(table.parties(Pa::new(frame), shares), None, "{frame:#x}");
    }
}

#[test]
fn outside_the_table_nobody_owns_and_nobody_claims() {
    let mut storage = Storage::new(2, 2);
    let mut table = storage.table();
    assert_eq!(table.owner_of(Pa::new(BASE - 1)), None);
    assert_eq!(table.owner_of(Pa::new(BASE + 2 * MIB2)), None);
    assert_eq!(table.owner_of(Pa::new(u64::MAX)), None);
    for (start, size) in [
        (BASE - KIB4, KIB4),
        (BASE - KIB4, 2 * KIB4),
        (BASE + 2 * MIB2, KIB4),
        (BASE + 2 * MIB2 - KIB4, 2 * KIB4),
        (BASE, 0),
        (BASE + 1, KIB4),
        (BASE, KIB4 + 1),
        (BASE, !4095 - BASE),
    ] {
        let range = frames(start, size);
        assert_eq!(table.claim(range, 1), Err(FrameError::Range), "{start:#x}+{size:#x}");
        assert!(!table.owns(NO_OWNER, range));
    }
    assert_eq!(table.frames_of(NO_OWNER), 1024);
}

// scenario: C10
// bug: 12
#[test]
fn threat_12_a_frame_is_never_claimed_twice() {
    let mut storage = Storage::new(4, 4);
    let mut table = storage.table();
    table.claim(frames(BASE + 3 * KIB4, 2 * KIB4), 1).unwrap();
    for who in [1, 2] {
        for (start, size) in
            [(BASE, MIB2), (BASE, 4 * KIB4), (BASE + 3 * KIB4, KIB4), (BASE, 4 * MIB2)]
        {
            let result = table.claim(frames(start, size), who);
            assert_eq!(result, owned(BASE + 3 * KIB4, 1));
        }
        let result = table.claim(frames(BASE + 4 * KIB4, MIB2), who);
        assert_eq!(result, owned(BASE + 4 * KIB4, 1));
    }
    assert_eq!(table.frames_of(1), 2);
    assert_eq!(table.frames_of(2), 0, "the whole range is checked first");
}

#[test]
fn only_the_owner_releases_and_hands_over() {
    let mut storage = Storage::new(2, 2);
    let mut table = storage.table();
    table.claim(frames(BASE, MIB2), 1).unwrap();
    table.claim(frames(BASE + MIB2, KIB4), 2).unwrap();
    assert_eq!(table.release(frames(BASE, MIB2), 2), owned(BASE, 1));
    assert_eq!(table.release(frames(BASE, MIB2 + KIB4), 1), owned(BASE + MIB2, 2));
    assert_eq!(table.transfer(frames(BASE, KIB4), 2, 3), owned(BASE, 1));
    assert_eq!(
        table.transfer(frames(BASE + MIB2 + KIB4, KIB4), 2, 3),
        owned(BASE + MIB2 + KIB4, 0)
    );
    assert_eq!(table.frames_of(1), 512);
    table.transfer(frames(BASE, KIB4), 1, 2).unwrap();
    assert_eq!(table.owner_of(Pa::new(BASE)), Some(2));
    assert_eq!(table.owner_of(Pa::new(BASE + KIB4)), Some(1));
    // A second donation of the same page by the former owner.
    assert_eq!(table.transfer(frames(BASE, KIB4), 1, 2), owned(BASE, 2));
}

#[test]
fn nobody_is_no_owner() {
    let mut storage = Storage::new(2, 2);
    let mut table = storage.table();
    let page = frames(BASE, KIB4);
    assert_eq!(table.claim(page, NO_OWNER), Err(FrameError::NoOwner));
    assert_eq!(table.release(page, NO_OWNER), Err(FrameError::NoOwner));
    table.claim(page, 1).unwrap();
    assert_eq!(table.transfer(page, 1, NO_OWNER), Err(FrameError::NoOwner));
    assert_eq!(table.transfer(page, NO_OWNER, 1), Err(FrameError::NoOwner));
    assert_eq!(table.frames_of(1), 1);
}

#[test]
fn a_chunk_becomes_whole_again() {
    let mut storage = Storage::new(2, 1);
    let mut table = storage.table();
    table.claim(frames(BASE, KIB4), 1).unwrap();
    assert_eq!(table.splits_used(), 1);
    table.claim(frames(BASE + KIB4, MIB2 - KIB4), 1).unwrap();
    assert_eq!(table.splits_used(), 0, "one owner: one word");
    table.release(frames(BASE + KIB4, KIB4), 1).unwrap();
    assert_eq!(table.splits_used(), 1);
    table.claim(frames(BASE + KIB4, KIB4), 1).unwrap();
    assert_eq!((table.splits_used(), table.frames_of(1)), (0, 512));
}

#[test]
fn without_room_for_a_split_nothing_changes() {
    let mut storage = Storage::new(4, 1);
    let mut table = storage.table();
    // Both ends would split a chunk.
    let range = frames(BASE + KIB4, 2 * MIB2);
    assert_eq!(table.claim(range, 1), Err(FrameError::NoRoom));
    assert_eq!((table.frames_of(1), table.splits_used()), (0, 0));
    table.claim(frames(BASE + KIB4, 2 * MIB2 - KIB4), 1).unwrap();
    assert_eq!(table.splits_used(), 1);
    assert_eq!(table.claim(frames(BASE + 3 * MIB2, KIB4), 2), Err(FrameError::NoRoom));
    assert_eq!(table.claim(frames(BASE, KIB4), 2), Ok(()), "that chunk is split already");
}

#[test]
fn old_storage_is_cleared() {
    let mut storage = Storage::new(2, 2);
    storage.table().claim(frames(BASE + KIB4, KIB4), 1).unwrap();
    let table = storage.table();
    assert_eq!((table.frames_of(1), table.splits_used()), (0, 0));
}

#[test]
fn chunks_for_counts_what_a_range_touches() {
    let count =
        |start, size| FrameTable::chunks_for(Range::<Pa>::new(Pa::new(start), size).unwrap());
    assert_eq!(count(0, 0), 0);
    assert_eq!(count(0, 1), 1);
    assert_eq!(count(0, MIB2), 1);
    assert_eq!(count(KIB4, MIB2), 2);
    assert_eq!(count(RAM, 8 * GIB), 4096);
}

/// Promise P2: a stage-2 mapping implies ownership, and the helper that checks it finds what breaks it.
// bug: 26
#[test]
fn a_mapping_implies_ownership() {
    let mut storage = Storage::new(1024, 4);
    let mut table = storage.table();
    table.claim(frames(BASE, GIB), 1).unwrap();
    let bench = Bench::roomy();
    bench.map(RAM, BASE, GIB).unwrap();
    assert_eq!(fake::check_ownership(&bench.s2, &table, 1), Ok(()));
    assert!(fake::check_ownership(&bench.s2, &table, 2).is_err());
    // A page given away without being unmapped.
    table.transfer(frames(BASE + 5 * KIB4, KIB4), 1, 2).unwrap();
    assert!(fake::check_ownership(&bench.s2, &table, 1).is_err());
    bench.unmap(RAM + 5 * KIB4, KIB4, Annotation::Owner(2)).unwrap();
    assert_eq!(fake::check_ownership(&bench.s2, &table, 1), Ok(()));
    // THREATS C10: two IPAs for one frame.
    bench.map(4 * GIB, BASE + 9 * KIB4, KIB4).unwrap();
    assert!(fake::check_ownership(&bench.s2, &table, 1).unwrap_err().contains("both map"));
    // A device's page is memory of no VM.
    bench.unmap(4 * GIB, KIB4, Annotation::Empty).unwrap();
    bench.s2.install_device(&bench.order, arch::Ipa::new(0), Pa::new(0x804_0000)).unwrap();
    assert_eq!(fake::check_ownership(&bench.s2, &table, 1), Ok(()));
    // Neighbours the other way round are two frames.
    bench.unmap(RAM + 6 * KIB4, 2 * KIB4, Annotation::Empty).unwrap();
    bench.map(4 * GIB, BASE + 7 * KIB4, KIB4).unwrap();
    bench.map(4 * GIB + KIB4, BASE + 6 * KIB4, KIB4).unwrap();
    assert_eq!(fake::check_ownership(&bench.s2, &table, 1), Ok(()));
}

#[derive(Clone, Debug)]
enum Op {
    Claim(u64, u64, u16),
    Release(u64, u64, u16),
    Transfer(u64, u64, u16, u16),
}

const FRAMES_IN_MODEL: u64 = 4 * 512;

fn op() -> impl Strategy<Value = Op> {
    let start = prop_oneof![0..FRAMES_IN_MODEL + 2, Just(0), Just(511), Just(512), Just(1024)];
    let size = prop_oneof![0..600u64, Just(1), Just(512), Just(1024), Just(FRAMES_IN_MODEL)];
    (start, size, 0..3u16, 0..3u16, 0..3u8).prop_map(|(start, size, a, b, kind)| match kind {
        0 => Op::Claim(start, size, a),
        1 => Op::Release(start, size, a),
        _ => Op::Transfer(start, size, a, b),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against the obvious: a map from frame to owner.
    // bug: 25
    #[test]
    fn threat_25_the_table_agrees_with_a_map(ops in proptest::collection::vec(op(), 1..40), room in 0..5usize) {
        let mut storage = Storage::new(4, room);
        let mut table = storage.table();
        let mut model: BTreeMap<u64, u16> = BTreeMap::new();
        for op in ops {
            let (start, size, from, to) = match op {
                Op::Claim(s, n, a) => (s, n, NO_OWNER, a),
                Op::Release(s, n, a) => (s, n, a, NO_OWNER),
                Op::Transfer(s, n, a, b) => (s, n, a, b),
            };
            let range = frames(BASE + start * KIB4, size * KIB4);
            let result = match op {
                Op::Claim(..) => table.claim(range, to),
                Op::Release(..) => table.release(range, from),
                Op::Transfer(..) => table.transfer(range, from, to),
            };
            let nobody = match op {
                Op::Claim(..) => to == NO_OWNER,
                Op::Release(..) => from == NO_OWNER,
                Op::Transfer(..) => from == NO_OWNER || to == NO_OWNER,
            };
            let of = |model: &BTreeMap<u64, u16>, frame| model.get(&frame).copied().unwrap_or(0);
            let wrong = (start..start + size).find(|frame| of(&model, *frame) != from);
            let expected = if nobody {
                Err(FrameError::NoOwner)
            } else if size == 0 || start + size > FRAMES_IN_MODEL {
                Err(FrameError::Range)
            } else if let Some(frame) = wrong {
                owned(BASE + frame * KIB4, of(&model, frame))
            } else {
                Ok(())
            };
            // Room for splits is the one thing the map does not know.
            if result == Err(FrameError::NoRoom) {
                prop_assert_eq!(expected, Ok(()));
                prop_assert!(room < 4);
            } else {
                prop_assert_eq!(result, expected);
                if result.is_ok() {
                    for frame in start..start + size {
                        model.insert(frame, to);
                    }
                }
            }
            for frame in 0..FRAMES_IN_MODEL {
                let found = table.owner_of(Pa::new(BASE + frame * KIB4));
                prop_assert_eq!(found, Some(of(&model, frame)));
            }
            let split = (0..4).filter(|chunk| {
                let first = of(&model, chunk * 512);
                (1..512).any(|n| of(&model, chunk * 512 + n) != first)
            });
            prop_assert_eq!(table.splits_used(), split.count(), "as few as can be");
        }
    }
}
