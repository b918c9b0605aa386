// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is seen in a window.

use super::*;

#[test]
fn a_share_needs_a_table_once_in_2_mib() {
    let served = served(GIB);
    let mut claims = 0;
    let mut spare = None;
    let granule = |offset| (offset, Pa::new(PEER + offset));
    let mut share = |offset, spare: &mut Option<Pa>| {
        let claim = || {
            claims += 1;
            true
        };
        served.server.window_share(&served.order, &served.window, granule(offset), spare, claim)
    };
    let before = served.bytes();
    assert_eq!(share(MIB2 + KIB4, &mut spare), Err(NeedsTable));
    assert_eq!(served.bytes(), before);
    let tables = [(); 2].map(|()| served.client.take_spare(&served.order).unwrap());
    spare = Some(tables[0]);
    assert_eq!(share(MIB2 + KIB4, &mut spare), Ok(Windowed::Done));
    assert_eq!(spare, None);
    // The same 2 MiB: none needed, and one that is there is left.
    spare = Some(tables[1]);
    assert_eq!(share(MIB2, &mut spare), Ok(Windowed::Done));
    assert_eq!(share(2 * MIB2 - KIB4, &mut spare), Ok(Windowed::Done));
    assert_eq!(spare, Some(tables[1]));
    assert_eq!(claims, 3);
    let shared: BTreeMap<u64, Pa> = [MIB2, MIB2 + KIB4, 2 * MIB2 - KIB4].map(granule).into();
    served.resolves(&shared);
    assert_eq!(served.visible(), Vec::from_iter(shared));
    served.quiet();
}

#[test]
fn a_share_that_is_not_allowed_changes_nothing() {
    let served = served(MIB2 + 2 * KIB4);
    served.share(MIB2).unwrap();
    let before = served.bytes();
    served.fakes[0].take_events();
    let page = served.client.take_spare(&served.order).unwrap();
    for (offset, allowed) in
        [(0, false), (MIB2 + KIB4, false), (MIB2 + 2 * KIB4, true), (GIB, true), (!0xfff, true)]
    {
        let mut spare = Some(page);
        let granule = (offset, Pa::new(PEER + offset % GIB));
        let claim = || allowed;
        let done =
            served.server.window_share(&served.order, &served.window, granule, &mut spare, claim);
        assert_eq!(done, Ok(Windowed::Refused), "{offset:#x}");
        assert_eq!(spare, Some(page));
        // Beyond the RAM no decision is asked for.
        let release = || allowed;
        let done = served.server.window_unshare(&served.order, &served.window, offset, release);
        assert_eq!(done, Windowed::Refused, "{offset:#x}");
    }
    // The last granule of the RAM is one.
    let mut spare = None;
    let last = (MIB2 + KIB4, Pa::new(PEER));
    served.client.refill(&served.order, page);
    assert_eq!(served.fakes[0].take_events(), []);
    let mut now = served.bytes();
    // The page that came back has another link in it.
    let word = ((page.raw() - fake::TABLES.raw()) / 8) as usize;
    now[word] = before[word];
    assert_eq!(now, before);
    let done = served.server.window_share(&served.order, &served.window, last, &mut spare, || true);
    assert_eq!(done, Ok(Windowed::Done));
    served.quiet();
}

#[test]
fn what_is_no_longer_shared_is_scratch() {
    let served = served(GIB);
    for offset in [KIB4, 2 * KIB4] {
        served.share(offset).unwrap();
    }
    assert_eq!(served.unshare(KIB4), Windowed::Done);
    assert!(served.is_scratch(KIB4) && served.is_shared(2 * KIB4));
    assert_eq!(served.unshare(2 * KIB4), Windowed::Done);
    // Its table stays where it is, and serves the next share.
    assert_eq!(served.free(), POOL - 1);
    assert_eq!(served.visible(), []);
    served.share(3 * KIB4).unwrap();
    assert_eq!(served.free(), POOL - 1);
    // What was never shared: nothing to do, if the caller says so.
    served.fakes[0].take_events();
    assert_eq!(served.unshare(5 * MIB2), Windowed::Done);
    assert_eq!(served.fakes[0].take_events(), []);
    served.quiet();
}

/// The granule, `locked`, scratch: never an invalid descriptor that a reader takes for a verdict.
#[test]
fn a_window_is_locked_while_it_changes() {
    let served = served(GIB);
    let fake = &served.fakes[0];
    let (one, beside) = (KIB4, 2 * KIB4);
    let scratch = Entry::Leaf { pa: served.window.scratch(), attr: Attr::Shared };
    let granule = |offset| Entry::Leaf { pa: Pa::new(PEER + offset), attr: Attr::Shared };
    fake.watch(&[Ipa::new(BASE + one), Ipa::new(BASE + beside)]);
    served.share(one).unwrap();
    let locked = Entry::Locked;
    assert_eq!(fake.take_seen(), [vec![locked, locked], vec![granule(one), scratch]]);
    served.share(beside).unwrap();
    assert_eq!(fake.take_seen(), [vec![granule(one), locked], vec![granule(one), granule(beside)]]);
    served.unshare(one);
    assert_eq!(fake.take_seen(), [vec![locked, granule(beside)], vec![scratch, granule(beside)]]);
    served.clear();
    assert_eq!(fake.take_seen(), [vec![locked, locked], vec![scratch, scratch]]);
}

#[test]
fn clear_gives_back_exactly_the_tables_that_were_taken() {
    let served = served(2 * GIB + 2 * KIB4);
    let offsets = [0, KIB4, MIB2, GIB - KIB4, GIB, 2 * GIB + KIB4];
    for offset in offsets {
        served.share(offset).unwrap();
    }
    served.unshare(MIB2);
    assert_eq!(served.free(), POOL - 5);
    assert_eq!(served.clear(), 5);
    assert_eq!(served.free(), POOL);
    served.resolves(&BTreeMap::new());
    served.fakes[0].take_events();
    let bytes = served.bytes();
    assert_eq!(served.clear(), 0);
    assert_eq!(served.bytes(), bytes);
    assert_eq!(served.fakes[0].take_events(), [], "nothing to do");
    // And all of it again, from those tables.
    for offset in offsets {
        served.share(offset).unwrap();
        assert!(served.is_shared(offset));
    }
    served.quiet();
}

#[test]
fn an_empty_pool_of_the_sharer_is_its_own_affair() {
    let served = served(GIB);
    for n in 0..POOL as u64 {
        served.share(n * MIB2).unwrap();
    }
    assert_eq!(served.share(POOL as u64 * MIB2), None);
    assert!(served.share(MIB2 + KIB4).is_some(), "there is a table");
    served.quiet();
    assert_eq!(served.server.pool_free(&served.order), 8);
}

#[test]
fn all_ram_is_shown_in_blocks() {
    let served = served(GIB + 4 * MIB2);
    // Behind one another in RAM, not in the machine.
    let pieces = [
        (0, Pa::new(PEER), GIB),
        (GIB, Pa::new(PEER + GIB), MIB2),
        (GIB + MIB2, Pa::new(PEER + GIB + MIB2), 3 * MIB2),
    ];
    let show = |pieces: &[(u64, Pa, u64)]| {
        served.server.window_show_all(&served.order, &served.window, &pieces.iter().copied())
    };
    assert_eq!(show(&pieces), Windowed::Done);
    served.quiet();
    let all = (0..(GIB + 4 * MIB2) / KIB4).map(|n| (n * KIB4, Pa::new(PEER + n * KIB4)));
    let all: BTreeMap<u64, Pa> = all.collect();
    served.resolves(&all);
    assert_eq!(served.visible(), Vec::from_iter(all));
    assert_eq!(served.free(), POOL, "without a table");
    // Nothing is shared one by one then, nor taken back.
    let before = served.bytes();
    assert_eq!(served.share(KIB4), Some(Windowed::Refused));
    assert_eq!(served.unshare(KIB4), Windowed::Refused);
    assert_eq!(served.bytes(), before);
    assert_eq!(served.clear(), 0);
    served.resolves(&BTreeMap::new());
    // What was shared by itself is left.
    served.share(GIB + KIB4).unwrap();
    assert_eq!(show(&pieces), Windowed::Done);
    assert!(served.is_shared(0) && served.is_shared(GIB + KIB4) && served.is_scratch(GIB));
    assert!(served.is_shared(GIB + MIB2));
    assert_eq!(served.clear(), 1);
    served.quiet();
}

#[test]
fn all_ram_is_shown_whole_or_not() {
    let served = served(GIB + 4 * MIB2);
    let show = |piece: (u64, u64, u64)| {
        let pieces = [(0, Pa::new(PEER), MIB2), (piece.0, Pa::new(piece.1), piece.2)];
        served.server.window_show_all(&served.order, &served.window, &pieces.iter().copied())
    };
    let before = served.bytes();
    served.fakes[0].take_events();
    for piece in [
        (GIB + 4 * MIB2, PEER, MIB2),
        (GIB + 2 * MIB2, PEER, 3 * MIB2),
        (GIB, PEER, KIB4),
        (KIB4, PEER, MIB2),
        (MIB2, PEER + KIB4, MIB2),
        (MIB2 + KIB4, PEER + KIB4, MIB2),
        (MIB2, PEER + KIB4, KIB4),
        (MIB2, (1 << 48) - MIB2, 2 * MIB2),
        (MIB2, !(MIB2 - 1), MIB2),
        (!(MIB2 - 1), PEER, MIB2),
        (MIB2, PEER, !(MIB2 - 1)),
    ] {
        assert_eq!(show(piece), Windowed::Refused, "{piece:x?}");
        assert_eq!(served.bytes(), before, "{piece:x?}");
    }
    assert_eq!(served.fakes[0].take_events(), []);
    assert_eq!(show((GIB + 2 * MIB2, (1 << 48) - 2 * MIB2, 2 * MIB2)), Windowed::Done);
    served.quiet();
}
