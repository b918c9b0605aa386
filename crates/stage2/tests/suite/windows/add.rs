// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a window can be, and what else can be done there.

use super::*;
use stage2::Probe;
use stage2::codec::Descriptor;

#[test]
fn a_window_is_of_whole_pages_that_fit() {
    let pages = Pa::new(0x8_0000_0000);
    let window = |base, size, pages| Window::new(Ipa::new(base), size, Pa::new(pages));
    let good = window(BASE, 3 * GIB + KIB4, pages.raw()).unwrap();
    assert_eq!((good.base(), good.size()), (Ipa::new(BASE), 3 * GIB + KIB4));
    assert_eq!(good.scratch(), pages);
    assert_eq!(Window::pages(3 * GIB + KIB4), 6);
    assert_eq!([1, GIB, GIB + 1].map(Window::pages), [3, 3, 4]);
    assert_eq!(Window::pages(u64::MAX), (1 << 34) + 2);
    for (base, size, pages, what) in [
        (BASE + MIB2, GIB, 0, "base of no GiB"),
        (BASE, 0, 0, "empty"),
        (BASE, GIB + 8, 0, "part of a page"),
        (BASE, GIB, 8, "pages at no page"),
        (0xffff_ffff_c000_0000, GIB, 0, "the last byte of all addresses"),
        (0xffff_ffff_8000_0000, GIB + KIB4, 0, "the GiB of its last byte wraps"),
        (0xffff_ffff_8000_0000, 3 * GIB, 0, "it wraps"),
        (0, u64::MAX << 12, 0, "larger than all addresses"),
        (BASE, GIB, u64::MAX << 12, "its pages wrap"),
        (BASE, GIB, (1 << 48) - 2 * KIB4, "its last page is beyond 48 bits"),
    ] {
        assert_eq!(window(base, size, pages), None, "{what}");
    }
    assert!(window(0xffff_ffff_8000_0000, GIB, 0).is_some());
    assert!(window(BASE, GIB, (1 << 48) - 3 * KIB4).is_some());
}

#[test]
fn a_new_window_is_scratch_everywhere() {
    for bits in [38, 39, 40, 44, 48] {
        let served = with_fault(bits, GIB + 3 * MIB2 + KIB4, false, Fault::None);
        assert_eq!(served.server.add_window(&served.order, &served.window), Ok(()), "{bits}");
        served.quiet();
        served.resolves(&BTreeMap::new());
        assert_eq!(served.visible(), []);
        // What is beside it is as before.
        for beside in [BASE - KIB4, BASE + 2 * GIB] {
            assert_eq!(served.server.lookup(Ipa::new(beside)).unwrap().entry, Entry::Empty);
        }
        let of_its_own = usize::from(bits >= 44);
        assert_eq!(served.server.pool_free(&served.order), 8 - of_its_own, "{bits}");
        assert_eq!(served.fakes[0].tables(), of_its_own);
        // Nothing was there before: nothing is invalidated.
        let maintenance =
            |event: &Event| !matches!(event, Event::Store { .. } | Event::DsbIshst | Event::DsbIsh);
        assert!(!served.fakes[0].take_events().iter().any(maintenance));
    }
}

/// A window over the border of 512 GiB needs two tables of level 1 where the root is of level 0.
#[test]
fn a_window_takes_the_tables_above_it_from_its_vm() {
    let edge = 512 * GIB - GIB;
    for (left, tables) in [(0, None), (1, None), (2, Some(0)), (5, Some(3))] {
        let served = with_fault(48, 2 * GIB, false, Fault::None);
        let first = served.window.scratch();
        let window = Window::new(Ipa::new(edge), 2 * GIB, first).unwrap();
        while served.server.pool_free(&served.order) > left {
            served.server.take_spare(&served.order).unwrap();
        }
        let before = served.bytes();
        let added = served.server.add_window(&served.order, &window);
        match tables {
            None => {
                assert_eq!(added, Err(MapError::PoolEmpty));
                assert_eq!(served.bytes(), before);
                assert_eq!(served.server.pool_free(&served.order), left);
            }
            Some(rest) => {
                assert_eq!(added, Ok(()));
                assert_eq!(served.server.pool_free(&served.order), rest);
                for at in [edge, edge + 2 * GIB - KIB4] {
                    let found = served.server.lookup(Ipa::new(at)).unwrap();
                    assert_eq!(found.entry, Entry::Leaf { pa: first, attr: Attr::Shared });
                }
            }
        }
        served.quiet();
    }
}

#[test]
fn a_window_takes_no_place_that_is_in_use() {
    let order = Order::new();
    type Before = fn(&Stage2<Host>, &Order);
    let occupied = |gib: u64| MapError::Occupied(Ipa::new(BASE + gib * GIB));
    let cases: [(u8, Before, MapError); 8] = [
        (36, |_, _| {}, MapError::Range),
        (40, |s2, order| s2.release(order), MapError::Released),
        (
            40,
            |s2, o| {
                s2.declare_page(o, Ipa::new(BASE + 2 * GIB - KIB4), NOTE).unwrap();
            },
            occupied(1),
        ),
        (
            40,
            |s2, o| {
                s2.declare(o, range(BASE, GIB), NOTE, BUDGET).unwrap();
            },
            occupied(0),
        ),
        (
            48,
            |s2, o| {
                s2.declare(o, range(0, 512 * GIB), NOTE, BUDGET).unwrap();
            },
            occupied(0),
        ),
        (
            40,
            |s2, o| s2.map(o, Ipa::new(BASE + GIB), Pa::new(FRAMES), GIB, Attr::Ram).unwrap(),
            occupied(1),
        ),
        // A table without anything in it, as a declaration leaves it.
        (
            40,
            |s2, o| {
                s2.declare_page(o, Ipa::new(BASE), NOTE).unwrap();
                s2.undeclare_page(o, Ipa::new(BASE)).unwrap();
            },
            occupied(0),
        ),
        (
            40,
            |s2, o| {
                let pages = Pa::new(s2.root().raw() + 12 * PAGE_SIZE);
                let other = Window::new(Ipa::new(BASE + GIB), KIB4, pages).unwrap();
                s2.add_window(o, &other).unwrap();
            },
            occupied(1),
        ),
    ];
    for (number, (bits, before, error)) in cases.into_iter().enumerate() {
        let served = with_fault(bits, GIB + KIB4, false, Fault::None);
        before(&served.server, &order);
        let state = served.bytes();
        let pool = served.server.pool_free(&order);
        assert_eq!(served.server.add_window(&order, &served.window), Err(error), "{number}");
        assert_eq!(served.bytes(), state, "{number}");
        assert_eq!(served.server.pool_free(&order), pool, "{number}");
        served.quiet();
    }
    // The last GiB of an address space is one.
    let served = with_fault(38, KIB4, false, Fault::None);
    let last = |gib| Window::new(Ipa::new(gib), KIB4, served.window.scratch()).unwrap();
    assert_eq!(served.server.add_window(&order, &last(1 << 38)), Err(MapError::Range));
    assert_eq!(served.server.add_window(&order, &last((1 << 38) - GIB)), Ok(()));
}

/// A guest's own calls, and EL2's own mappings, find a window occupied.
#[test]
fn no_other_call_changes_a_window() {
    let blocks = served(2 * MIB2);
    let all = [(0, Pa::new(PEER), 2 * MIB2)];
    blocks.server.window_show_all(&blocks.order, &blocks.window, &all.into_iter());
    let leaves = served(2 * MIB2);
    leaves.share(KIB4).unwrap();
    for served in [blocks, leaves] {
        let (s2, order) = (&served.server, &served.order);
        let before = served.bytes();
        served.fakes[0].take_events();
        for (offset, size) in [(0, KIB4), (KIB4, KIB4), (0, MIB2), (0, GIB), (GIB - KIB4, KIB4)] {
            let at = Ipa::new(BASE + offset);
            let here = range(BASE + offset, size);
            assert_eq!(s2.declare(order, here, NOTE, BUDGET), Err(DeclareError::Occupied));
            assert_eq!(s2.declare_page(order, at, NOTE), Err(DeclareError::Occupied));
            assert!(s2.undeclare(order, here, BUDGET).is_ok(), "nothing is declared");
            assert_eq!(s2.undeclare_page(order, at), Ok(false));
            for over in [Over::Empty, Over::Declared, Over::Owner(0)] {
                let mapped = s2.map_over(order, at, Pa::new(FRAMES), size, Attr::Ram, over);
                assert_eq!(mapped, Err(MapError::Occupied(at)));
            }
            let unmapped = s2.unmap(order, here, Annotation::Empty);
            assert_eq!(unmapped, Err(MapError::NotMapped(at)));
            let device = s2.install_device(order, at, Pa::new(0x0804_0000));
            assert_eq!(device, Err(MapError::Occupied(at)));
            assert_eq!(s2.remove_device(order, at), Ok(false));
        }
        assert_eq!(s2.declared_pages(), 0);
        assert_eq!(served.bytes(), before);
        assert_eq!(served.fakes[0].take_events(), []);
        // Nor does what begins before it.
        s2.declare(order, range(BASE - KIB4, KIB4), NOTE, BUDGET).unwrap();
        assert_eq!(s2.declare(order, range(BASE - KIB4, 2 * KIB4), NOTE, BUDGET), Ok(1));
        s2.undeclare_page(order, Ipa::new(BASE - KIB4)).unwrap();
        s2.map(order, Ipa::new(BASE - KIB4), Pa::new(FRAMES), KIB4, Attr::Ram).unwrap();
        let both = s2.unmap(order, range(BASE - KIB4, 2 * KIB4), Annotation::Empty);
        assert_eq!(both, Err(MapError::NotMapped(Ipa::new(BASE))));
        // What is behind it can be taken away as ever.
        let behind = Ipa::new(BASE + GIB);
        s2.map(order, behind, Pa::new(FRAMES), GIB, Attr::Ram).unwrap();
        assert_eq!(s2.unmap(order, range(BASE + GIB, GIB), Annotation::Empty), Ok(()));
        served.quiet();
    }
}

#[test]
fn visit_leaves_windows_out() {
    for bits in [40, 48] {
        let served = with_fault(bits, GIB + KIB4, false, Fault::None);
        served.server.add_window(&served.order, &served.window).unwrap();
        served.share(KIB4).unwrap();
        let mut places = Vec::new();
        served.server.visit(|ipa, level, entry| {
            assert_eq!(entry, Entry::Empty);
            places.push((ipa.raw(), level));
        });
        assert!(!places.iter().any(|(at, _)| (BASE..BASE + 2 * GIB).contains(at)));
        assert!([BASE - GIB, BASE + 2 * GIB].iter().all(|gib| places.contains(&(*gib, 1))));
    }
}

/// A reader without a lock beside a change: what is `locked` is left out, not shown at address 0.
#[test]
fn what_is_being_changed_is_not_visited() {
    let served = served(GIB);
    for offset in [KIB4, MIB2] {
        served.share(offset).unwrap();
    }
    let granule = (KIB4, Pa::new(PEER + KIB4));
    assert_eq!(served.visible(), [granule, (MIB2, Pa::new(PEER + MIB2))]);
    // A leaf in the break, then the table above the other.
    let host = served.server.host();
    let window = host.load(fake::TABLES, (BASE / GIB) as usize);
    let Descriptor::Window(level2) = codec::decode(window, 1) else { panic!("{window:#x}") };
    let Descriptor::Table(leaves) = codec::decode(host.load(level2, 1), 2) else { panic!() };
    host.store(leaves, 0, 1 << 60);
    assert_eq!(served.visible(), [granule]);
    host.store(level2, 0, 1 << 60);
    assert_eq!(served.visible(), []);
}

/// A reader holds a table that has gone back to the other VM, and is anything by now: nothing there is a verdict.
#[test]
fn what_is_no_leaf_of_a_window_is_tried_again() {
    let served = served(GIB);
    served.share(KIB4).unwrap();
    let host = served.server.host();
    let window = host.load(fake::TABLES, (BASE / GIB) as usize);
    let Descriptor::Window(level2) = codec::decode(window, 1) else { panic!("{window:#x}") };
    let Descriptor::Table(leaves) = codec::decode(host.load(level2, 0), 2) else { panic!() };
    let found = |offset| served.server.lookup(Ipa::new(BASE + offset)).unwrap();
    let locked = |level| stage2::Found { entry: Entry::Locked, level };
    // Empty, locked, an owner, a declaration, a link of a pool, a table or none, garbage.
    for raw in [0, 1 << 60, 2 << 60 | 4, 3 << 60, 4, leaves.raw() | 1, 0xdead_beef_f000_0fff] {
        host.store(leaves, 1, raw);
        assert_eq!(found(KIB4), locked(3), "{raw:#x}");
        assert_eq!(served.server.probe(Ipa::new(BASE + KIB4)), Probe::Other);
    }
    for raw in [0, 1 << 60, 3 << 60, 4, 7] {
        host.store(level2, 1, raw);
        assert_eq!(found(MIB2), locked(2), "{raw:#x}");
    }
    // A descriptor that nothing wrote is what it was, window or not.
    host.store(fake::TABLES, 1, 7 << 60);
    let unknown = stage2::Found { entry: Entry::Unknown(7 << 60), level: 1 };
    assert_eq!(served.server.lookup(Ipa::new(GIB)), Some(unknown));
}
