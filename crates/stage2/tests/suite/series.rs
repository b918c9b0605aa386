// SPDX-License-Identifier: MIT OR Apache-2.0
//! What patches of the MMIO guard series brought, one test each.

use crate::common::*;
use arch::{Ipa, Pa};

/// Patch 2, "Don't issue CMOs when the physical address is invalid": an annotation's bits can look
/// like a cacheable, executable leaf at a bogus address; none of them is ever cleaned.
// bug: 31
#[test]
fn patch_02_no_cache_maintenance_on_an_annotation() {
    let bench = Bench::with_ram(MIB2);
    bench.unmap(RAM, KIB4, Annotation::Owner(0xffff)).unwrap();
    bench.declare(2 * GIB, GIB).unwrap();
    // An annotation with the bits of Normal write-back memory in MemAttr.
    let loud = GuardAnnotation { hint: 7, mair: 0xff, preset: true };
    bench.s2.declare(&bench.order, range(4 * GIB, MIB2), loud, BUDGET).unwrap();
    bench.quiet();
    bench.fake().take_events();
    let is_clean = |event: &Event| matches!(event, Event::Clean { .. });

    // Annotations rewritten, split, undone, mapped over, reset: nothing is cleaned.
    bench.declare(4 * GIB, MIB2).unwrap();
    bench.undeclare(2 * GIB + MIB2, KIB4).unwrap();
    let (ipa, pa) = (Ipa::new(2 * GIB), Pa::new(0x801_0000));
    bench.s2.install_device(&bench.order, ipa, pa).unwrap();
    bench.s2.remove_device(&bench.order, ipa).unwrap();
    let at = Ipa::new(RAM);
    let back = Over::Owner(0xffff);
    bench.s2.map_over(&bench.order, at, Pa::new(FRAMES), KIB4, Attr::Ram, back).unwrap();
    bench.s2.reset(&bench.order);
    assert_eq!(bench.fake().take_events().iter().filter(|e| is_clean(e)).count(), 0);

    // While a leaf that goes is cleaned once, at its own address and size.
    bench.unmap(RAM + KIB4, KIB4, Annotation::Owner(1)).unwrap();
    let cleaned: Vec<Event> = bench.fake().take_events().into_iter().filter(is_clean).collect();
    let pa = Pa::new(FRAMES + RAM + KIB4);
    assert_eq!(cleaned, [Event::Clean { pa, bytes: KIB4 }]);
    bench.quiet();
}

/// Patch 3, "Turn kvm_pgtable_stage2_set_owner into kvm_pgtable_stage2_annotate": an invalid
/// descriptor carries what software wants, of any type, at any level, and hardware sees nothing of it.
#[test]
fn patch_03_annotate_at_any_level_and_hardware_sees_nothing() {
    let bench = Bench::new(48, 32);
    for (ipa, size, level) in
        [(512 * GIB, 512 * GIB, 0), (GIB, GIB, 1), (MIB2, MIB2, 2), (KIB4, KIB4, 3)]
    {
        assert_eq!(bench.declare(ipa, size), Ok(size / KIB4));
        assert_eq!(bench.entry(ipa), Entry::Guard(NOTE));
        assert_eq!(bench.level(ipa), level);
    }
    bench.map(4 * GIB, FRAMES, GIB).unwrap();
    bench.unmap(4 * GIB, GIB, Annotation::Owner(42)).unwrap();
    assert_eq!(bench.entry(4 * GIB), Entry::Owner(42));
    // Types live side by side, and each call touches its own only.
    assert_eq!(bench.declare(4 * GIB, KIB4), Err(DeclareError::Occupied));
    bench.s2.undeclare(&bench.order, range(0, 1 << 40), u32::MAX).unwrap();
    assert_eq!(bench.entry(4 * GIB), Entry::Owner(42));
    assert_eq!(bench.entry(GIB), Entry::Empty);
    bench.fake().take_events();
    bench.declare(GIB, GIB).unwrap();
    for event in bench.fake().take_events() {
        let Event::Store { new, .. } = event else { panic!("{event:?} for an annotation") };
        assert_eq!(new & 1, 0, "valid to hardware: {new:#x}");
    }
    bench.quiet();
}

/// Patch 3 again: an annotated entry survives what happens to its neighbours.
#[test]
fn patch_03_annotate_survives_its_neighbours() {
    let bench = Bench::with_ram(MIB2);
    bench.unmap(RAM + 8 * KIB4, KIB4, Annotation::Owner(8)).unwrap();
    bench.declare(GIB + MIB2, MIB2).unwrap();
    bench.declare(GIB + MIB2 + KIB4, KIB4).unwrap();
    bench.undeclare(GIB + MIB2 + 3 * KIB4, KIB4).unwrap();
    bench.unmap(RAM + 9 * KIB4, KIB4, Annotation::Empty).unwrap();
    bench.map(RAM + 9 * KIB4, FRAMES, KIB4).unwrap();
    assert_eq!(bench.entry(RAM + 8 * KIB4), Entry::Owner(8));
    assert_eq!(bench.entry(GIB + MIB2 + 2 * KIB4), Entry::Guard(NOTE));
    assert_eq!(bench.entry(GIB + MIB2 + 4 * KIB4), Entry::Guard(NOTE));
}

/// Patch 6, "Force a full unmap on vcpu reinit": what the former run declared is not there in the
/// next, wherever it stood. (The series itself unmapped only where RAM is, so notes survived.)
// bug: 31
#[test]
fn patch_06_nothing_survives_a_reset() {
    let bench = Bench::with_ram(GIB);
    let pages = [0, 0x0900_0000, RAM - KIB4, RAM + GIB, 7 * GIB + MIB2, (1 << 40) - KIB4];
    for page in pages {
        bench.declare(page, KIB4).unwrap();
    }
    bench.declare(16 * GIB, 16 * GIB).unwrap();
    let gicv = Ipa::new(0x801_0000);
    bench.s2.install_device(&bench.order, gicv, Pa::new(0x804_0000)).unwrap();
    bench.unmap(RAM + KIB4, KIB4, Annotation::Owner(2)).unwrap();

    bench.s2.reset(&bench.order);

    assert_eq!(bench.s2.declared_pages(), 0);
    for page in pages.into_iter().chain([16 * GIB, 32 * GIB - KIB4, gicv.raw(), RAM + KIB4]) {
        assert_eq!(bench.entry(page), Entry::Empty, "{page:#x}");
    }
    assert!(bench.dump().iter().all(|(_, _, e)| matches!(e, Entry::Leaf { attr: Attr::Ram, .. })));
    bench.quiet();
}
