// SPDX-License-Identifier: MIT OR Apache-2.0
//! MEM_SHARE, MEM_UNSHARE and what the server reaches of its client.

use super::*;

const MIB2: u64 = 2 << 20;

fn at(offset: u64) -> (u64, Pa) {
    (offset, Pa::new(RAM_PA + offset))
}

fn share(pair: &mut Pair, offset: u64, pages: u64) -> [u64; 4] {
    pair.client.call(MEM_SHARE, [RAM + offset, pages, 0])
}

fn unshare(pair: &mut Pair, offset: u64, pages: u64) -> [u64; 4] {
    pair.client.call(MEM_UNSHARE, [RAM + offset, pages, 0])
}

/// What the server's tables have for the client's `offset`.
fn seen(pair: &Pair, offset: u64) -> Option<Pa> {
    let found = pair.server.machine.fake.translate(Ipa::new(WINDOW + offset));
    match found {
        Some((stage2::Entry::Leaf { pa, .. }, _)) => Some(pa),
        _ => None,
    }
}

#[test]
fn a_share_is_seen_and_nothing_else() {
    let mut pair = attached(&Wish::default());
    let scratch = pair.link.setup().window.scratch();
    assert_eq!((pair.window(), seen(&pair, 0)), (vec![], Some(scratch)));
    assert_eq!(share(&mut pair, 0x3000, 0), OK_1);
    assert_eq!(pair.window(), [at(0x3000)]);
    assert_eq!(seen(&pair, 0x3000), Some(Pa::new(RAM_PA + 0x3000)));
    assert_eq!(seen(&pair, 0x2000), Some(scratch));
    assert_eq!(seen(&pair, 0x4000), Some(scratch));
    assert_eq!(share(&mut pair, RAM_SIZE - 4096, 1), OK_1);
    assert_eq!(pair.window(), [at(0x3000), at(RAM_SIZE - 4096)]);
    // C4: after UNSHARE, the scratch page.
    assert_eq!(unshare(&mut pair, 0x3000, 1), OK_1);
    assert_eq!(seen(&pair, 0x3000), Some(scratch));
    assert_eq!(pair.window(), [at(RAM_SIZE - 4096)]);
    pair.server.machine.fake.assert_quiet();
}

#[test]
fn a_call_changes_at_most_16_granules() {
    let mut pair = attached(&Wish::default());
    assert_eq!(share(&mut pair, 0, 17), [0, 16, 0, 0]);
    assert_eq!(share(&mut pair, 0x10000, 1 << 40 >> 12), INVALID, "beyond the IPA size");
    assert_eq!(share(&mut pair, 0x10000, 1 << 20), [0, 16, 0, 0]);
    assert_eq!(pair.window(), (0..32).map(|n| at(n << 12)).collect::<Vec<_>>());
    // The end of RAM ends a call.
    assert_eq!(share(&mut pair, RAM_SIZE - 0x2000, 16), [0, 2, 0, 0]);
    // So does a granule that is shared, or not shared.
    assert_eq!(unshare(&mut pair, 0x8000, 1), OK_1);
    assert_eq!(unshare(&mut pair, 0, 16), [0, 8, 0, 0]);
    assert_eq!(share(&mut pair, 0x4000, 16), [0, 5, 0, 0]);
    assert_eq!(unshare(&mut pair, 0x10000, 16), [0, 16, 0, 0]);
}

#[test]
fn a_share_that_fails_changes_nothing() {
    let mut pair = attached(&Wish::default());
    assert_eq!(share(&mut pair, 0x3000, 1), OK_1);
    for (id, arguments) in [
        (MEM_SHARE, [RAM + 0x3000, 1, 0]),
        (MEM_UNSHARE, [RAM + 0x4000, 1, 0]),
        (MEM_SHARE, [RAM + 0x4001, 1, 0]),
        (MEM_SHARE, [RAM + 0x4000, 1, 1]),
        (MEM_SHARE, [RAM - 0x1000, 2, 0]),
        (MEM_SHARE, [RAM + RAM_SIZE, 1, 0]),
        (MEM_SHARE, [RAM, u64::MAX, 0]),
        (MEM_SHARE, [RAM, 1 << 52, 0]),
        (MEM_UNSHARE, [RAM + RAM_SIZE, 1, 0]),
        (RELINQUISH, [RAM + 0x3000, 0, 0]),
    ] {
        let before = pair.whole();
        assert_eq!(pair.client.call(id, arguments), INVALID, "{arguments:x?}");
        assert_eq!(pair.whole(), before, "{arguments:x?}");
    }
}

/// A table of the window per 2 MiB comes from the client's pool, and stays until reset.
#[test]
fn tables_of_the_window_are_the_clients() {
    let mut pair = attached(&Wish::default());
    let client = |pair: &Pair| pair.client.vm.stage2().pool_free(&pair.client.order);
    let server = |pair: &Pair| pair.server.vm.stage2().pool_free(&pair.server.order);
    let (mine, theirs) = (client(&pair), server(&pair));
    share(&mut pair, 0, 1);
    assert_eq!(client(&pair), mine - 1);
    share(&mut pair, 0x1000, 16);
    assert_eq!(client(&pair), mine - 1);
    share(&mut pair, MIB2 - 0x1000, 2);
    assert_eq!(client(&pair), mine - 2, "a call over the border");
    unshare(&mut pair, 0, 16);
    assert_eq!((client(&pair), server(&pair)), (mine - 2, theirs));
    Pair::stop(&mut pair.client);
    assert_eq!((client(&pair), server(&pair)), (mine, theirs));
}

#[test]
fn an_empty_pool_is_minus_3() {
    let mut pair = attached(&Wish::default());
    let mut taken = vec![];
    while let Some(page) = pair.client.vm.stage2().take_spare(&pair.client.order) {
        taken.push(page);
    }
    let before = pair.whole();
    assert_eq!(share(&mut pair, 0x3000, 1), INVALID);
    assert_eq!(pair.whole(), before);
    pair.client.vm.stage2().refill(&pair.client.order, taken.pop().unwrap());
    // The first granule finds its table, the second none: the first is shared.
    assert_eq!(share(&mut pair, MIB2 - 0x1000, 2), OK_1);
    let before = pair.whole();
    assert_eq!(share(&mut pair, MIB2, 1), INVALID);
    assert_eq!(pair.whole(), before);
}

#[test]
fn under_pool_only_the_pool_is_shared() {
    let pool = range(RAM + MIB2, MIB2);
    let mut pair =
        attached(&Wish { share: ShareLimit::Pool { range: pool, auto: false }, ..Wish::default() });
    for offset in [0, MIB2 - 0x1000, 2 * MIB2] {
        let before = pair.whole();
        assert_eq!(share(&mut pair, offset, 2), INVALID, "{offset:#x}");
        assert_eq!(pair.whole(), before);
    }
    assert_eq!(share(&mut pair, MIB2, 1), OK_1);
    assert_eq!(share(&mut pair, 2 * MIB2 - 0x1000, 3), OK_1, "up to its end");
    assert_eq!(pair.window(), [at(MIB2), at(2 * MIB2 - 0x1000)]);
    assert_eq!(pieces(&pair), Ok(0), "nothing is shared on its behalf");
}

/// All pieces that are shared before the first instruction: how many there were.
fn pieces(pair: &Pair) -> Result<u32, vm::NotShared> {
    let all = [(0, Pa::new(RAM_PA), 3 * MIB2), (3 * MIB2, Pa::new(RAM_PA + 3 * MIB2), MIB2)];
    let (mut place, mut count) = (0, 0);
    while let Some(next) =
        pair.client.vm.share_piece(&pair.client.order, &all.iter().copied(), place)?
    {
        assert!(next > place);
        (place, count) = (next, count + 1);
    }
    Ok(count)
}

#[test]
fn a_pool_is_shared_by_itself() {
    let pool = range(RAM + MIB2, MIB2);
    let wish = Wish { share: ShareLimit::Pool { range: pool, auto: true }, ..Wish::default() };
    let mut pair = attached(&wish);
    assert_eq!(pieces(&pair), Ok(31));
    let all: Vec<_> = (0..512).map(|n| at(MIB2 + (n << 12))).collect();
    assert_eq!(pair.window(), all);
    assert_eq!(pair.client.vm.shared_pages(), 512);
    // The guest may take pages back, and share them again.
    assert_eq!(share(&mut pair, MIB2, 1), INVALID);
    assert_eq!(unshare(&mut pair, MIB2, 1), OK_1);
    assert_eq!(share(&mut pair, MIB2, 1), OK_1);
    // No pool page for the table.
    let pair = wish.build();
    while pair.client.vm.stage2().take_spare(&pair.client.order).is_some() {}
    assert_eq!(pieces(&pair), Err(vm::NotShared));
}

#[test]
fn under_all_everything_is_shown_for_good() {
    let mut pair = attached(&Wish { share: ShareLimit::All, ..Wish::default() });
    assert_eq!(pieces(&pair), Ok(3));
    let all: Vec<_> = (0..RAM_SIZE >> 12).map(|n| at(n << 12)).collect();
    assert_eq!(pair.window(), all);
    assert_eq!(pair.client.vm.shared_pages(), RAM_SIZE >> 12);
    for id in [MEM_SHARE, MEM_UNSHARE] {
        let before = pair.whole();
        assert_eq!(pair.client.call(id, [RAM, 1, 0]), INVALID);
        assert_eq!(pair.whole(), before);
    }
    Pair::stop(&mut pair.client);
    assert_eq!((pair.window(), pair.client.vm.shared_pages()), (vec![], 0));
}

/// Memory that cannot be shown in whole 2 MiB is an error, and not a hole.
#[test]
fn under_all_a_piece_of_another_size_is_refused() {
    let pair = attached(&Wish { share: ShareLimit::All, ..Wish::default() });
    let pieces = [(0, Pa::new(RAM_PA), 0x3000)];
    let shared = pair.client.vm.share_piece(&pair.client.order, &pieces.iter().copied(), 0);
    assert_eq!(shared, Err(vm::NotShared));
    assert_eq!((pair.window(), pair.client.vm.shared_pages()), (vec![], 0));
}

#[test]
fn a_client_that_stops_takes_its_shares_back() {
    for reset in [false, true] {
        let mut pair = attached(&Wish::default());
        share(&mut pair, 0x3000, 4);
        share(&mut pair, 3 * MIB2, 4);
        if reset {
            Pair::restart(&mut pair.client);
        } else {
            Pair::stop(&mut pair.client);
        }
        assert_eq!((pair.window(), pair.client.vm.shared_pages()), (vec![], 0));
        pair.server.machine.fake.assert_quiet();
    }
}

/// Shares are the client's: another run of the server finds them.
#[test]
fn shares_outlive_the_server() {
    let mut pair = attached(&Wish::default());
    share(&mut pair, 0x3000, 2);
    Pair::restart(&mut pair.server);
    assert_eq!(pair.window(), [at(0x3000), at(0x4000)]);
    assert_eq!(unshare(&mut pair, 0x3000, 1), OK_1);
    assert_eq!(pair.window(), [at(0x4000)]);
}

/// A VM that no other serves shares 128 granules a call.
#[test]
fn without_a_window_a_call_does_more() {
    let mut rig = rig(ENROL, mmio_guard::Dialect::Pkvm);
    assert_eq!(rig.call(MEM_SHARE, [RAM, 200, 0]), [0, 128, 0, 0]);
}
