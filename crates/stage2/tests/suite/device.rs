// SPDX-License-Identifier: MIT OR Apache-2.0
//! Device pages that are reached without a trap.

use crate::common::*;
use arch::{Ipa, Pa};

const GICV: Ipa = Ipa::new(0x0801_0000);
const FRAME: Pa = Pa::new(0x0804_0000);

fn leaf() -> Entry {
    Entry::Leaf { pa: FRAME, attr: Attr::Device }
}

#[test]
fn a_device_page_comes_and_goes() {
    let bench = Bench::roomy();
    assert_eq!(bench.s2.install_device(&bench.order, GICV, FRAME), Ok(()));
    assert_eq!(bench.entry(GICV.raw()), leaf());
    assert_eq!(bench.dump().len(), 1);
    assert_eq!(bench.take_maintenance(), [], "invalid to valid");
    assert_eq!(bench.s2.remove_device(&bench.order, GICV), Ok(true));
    assert_eq!(bench.entry(GICV.raw()), Entry::Empty);
    assert_eq!(bench.s2.remove_device(&bench.order, GICV), Ok(false));
    bench.quiet();
}

#[test]
fn removal_is_the_full_sequence_without_cache_maintenance() {
    let bench = Bench::roomy();
    bench.s2.install_device(&bench.order, GICV, FRAME).unwrap();
    bench.fake().take_events();
    bench.s2.remove_device(&bench.order, GICV).unwrap();
    let events = bench.fake().take_events();
    assert!(matches!(events[0], Event::Store { ipa: GICV, level: 3, new: 0, .. }));
    assert_eq!(
        events[1..],
        [
            Event::DsbIshst,
            Event::TlbiIpa { ipa: GICV, level: Some(3) },
            Event::DsbIsh,
            Event::TlbiStage1,
            Event::DsbIsh,
            Event::Isb,
        ]
    );
}

// The fake stops on a read behind the tables: with no page but those of the root there are no others behind it.
#[test]
fn beyond_the_ipa_space_no_table_is_read() {
    let bench = Bench::new(40, 0);
    for beyond in [1 << 40, (1 << 40) + KIB4, u64::MAX << 12] {
        let refused = bench.s2.install_device(&bench.order, Ipa::new(beyond), FRAME);
        assert_eq!(refused, Err(MapError::Range), "{beyond:#x}");
        let refused = bench.s2.remove_device(&bench.order, Ipa::new(beyond));
        assert_eq!(refused, Err(MapError::Range), "{beyond:#x}");
    }
}

#[test]
fn installing_twice_changes_nothing() {
    let bench = Bench::roomy();
    bench.s2.install_device(&bench.order, GICV, FRAME).unwrap();
    bench.fake().take_events();
    let before = bench.fake().snapshot();
    assert_eq!(bench.s2.install_device(&bench.order, GICV, FRAME), Ok(()));
    assert_eq!(bench.fake().snapshot(), before);
    assert_eq!(bench.fake().take_events(), []);
    let other = bench.s2.install_device(&bench.order, GICV, Pa::new(0x0805_0000));
    assert_eq!(other, Err(MapError::Occupied(GICV)));
    assert_eq!(bench.fake().snapshot(), before);
}

#[test]
fn a_device_page_takes_the_place_of_a_declaration() {
    let bench = Bench::roomy();
    bench.declare(0, GIB).unwrap();
    bench.s2.install_device(&bench.order, GICV, FRAME).unwrap();
    assert_eq!(bench.entry(GICV.raw()), leaf());
    assert_eq!(bench.entry(GICV.raw() + KIB4), Entry::Guard(NOTE));
    assert_eq!(bench.entry(GICV.raw() - KIB4), Entry::Guard(NOTE));
    assert_eq!(bench.s2.declared_pages(), GIB / KIB4 - 1);
    bench.quiet();
}

#[test]
fn a_device_page_is_no_declaration_and_no_declaration_covers_it() {
    let bench = Bench::roomy();
    bench.s2.install_device(&bench.order, GICV, FRAME).unwrap();
    assert_eq!(bench.s2.declared_pages(), 0);
    assert_eq!(bench.declare(GICV.raw(), KIB4), Err(DeclareError::Occupied));
    assert_eq!(bench.declare(GICV.raw() - KIB4, 3 * KIB4), Ok(1));
    assert_eq!(bench.undeclare(GICV.raw(), KIB4), Ok(1), "left alone");
    assert_eq!(bench.entry(GICV.raw()), leaf());
}

#[test]
fn memory_is_neither_replaced_nor_removed_as_a_device() {
    let bench = Bench::with_ram(GIB);
    bench.map(2 * GIB, FRAMES, KIB4).unwrap();
    let before = bench.fake().snapshot();
    for ipa in [RAM, RAM + KIB4, 2 * GIB] {
        let ipa = Ipa::new(ipa);
        let result = bench.s2.install_device(&bench.order, ipa, FRAME);
        assert_eq!(result, Err(MapError::Occupied(ipa)));
        assert_eq!(bench.s2.remove_device(&bench.order, ipa), Ok(false));
    }
    assert_eq!(bench.fake().snapshot(), before);
}

#[test]
fn bad_addresses_are_refused() {
    let bench = Bench::roomy();
    let before = bench.fake().snapshot();
    for (ipa, pa) in [(1, 0), (0, 1), (1 << 40, 0), (!4095, 0), (0, 1 << 48)] {
        let result = bench.s2.install_device(&bench.order, Ipa::new(ipa), Pa::new(pa));
        assert_eq!(result, Err(MapError::Range), "{ipa:#x} {pa:#x}");
    }
    assert_eq!(bench.fake().snapshot(), before);
}
