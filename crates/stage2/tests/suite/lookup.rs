// SPDX-License-Identifier: MIT OR Apache-2.0
//! The walk.

use crate::common::*;
use arch::{Ipa, PAGE_SIZE};
use stage2::Stage2;
use stage2::fake::TABLES;

const SIZES: [u8; 9] = [32, 36, 39, 40, 41, 42, 43, 44, 48];

// bug: 2
#[test]
fn threat_02_at_or_beyond_the_ipa_size_there_is_nothing() {
    for bits in SIZES {
        let bench = Bench::new(bits, 4);
        let limit = 1u64 << bits;
        for beyond in [limit, limit + 4096, limit | 1, limit << 1, 1 << 63, u64::MAX, !4095] {
            assert_eq!(bench.s2.lookup(Ipa::new(beyond)), None, "{beyond:#x} of {bits} bits");
        }
        for within in [0, 1, limit - 1, limit - 4096, limit / 2] {
            let found = bench.s2.lookup(Ipa::new(within)).unwrap();
            assert_eq!(found.entry, Entry::Empty, "{within:#x} of {bits} bits");
        }
        bench.quiet();
    }
}

// bug: 2
#[test]
fn threat_02_no_alias_through_unused_top_bits() {
    for bits in SIZES {
        let bench = Bench::new(bits, 8);
        let last = (1u64 << bits) - PAGE_SIZE;
        assert_eq!(bench.declare(last, PAGE_SIZE), Ok(1));
        for bit in bits..64 {
            assert_eq!(bench.s2.lookup(Ipa::new(last | 1 << bit)), None);
            assert_eq!(bench.s2.lookup(Ipa::new(1 << bit)), None);
        }
        assert_eq!(bench.entry(last), Entry::Guard(NOTE));
        assert_eq!(bench.dump().len(), 1);
    }
}

/// Concatenated root pages are one table: the first and last page behind each of them.
// bug: 3
#[test]
fn threat_03_every_page_of_a_concatenated_root_is_reached() {
    for (bits, pages) in [(39, 1u64), (40, 2), (41, 4), (42, 8), (43, 16)] {
        let bench = Bench::new(bits, 64);
        assert_eq!(u64::from(bench.s2.geometry().root_pages), pages);
        let behind = 512 * GIB;
        for root in 0..pages {
            let (first, last) = (root * behind, root * behind + behind - PAGE_SIZE);
            for ipa in [first, last] {
                assert_eq!(bench.declare(ipa, PAGE_SIZE), Ok(1));
                assert_eq!(bench.entry(ipa), Entry::Guard(NOTE), "{ipa:#x} of {bits} bits");
                assert_eq!(bench.fake().translate(Ipa::new(ipa)).unwrap().1, 3);
            }
        }
        assert_eq!(bench.dump().len() as u64, 2 * pages);
        // And all of them are found again on reset.
        bench.s2.reset(&bench.order);
        assert_eq!(bench.dump(), []);
        assert_eq!(bench.free(), 64);
        bench.quiet();
    }
}

// bug: 8
#[test]
fn threat_08_a_walk_ends_at_the_level_where_the_entry_stands() {
    let bench = Bench::new(48, 16);
    bench.map(0, FRAMES, 2 * GIB).unwrap();
    bench.map(2 * GIB, FRAMES + 2 * GIB, MIB2).unwrap();
    bench.map(2 * GIB + MIB2, FRAMES + 2 * GIB + MIB2, KIB4).unwrap();
    bench.declare(512 * GIB, 512 * GIB).unwrap();
    let levels = [0, GIB + 5, 2 * GIB, 2 * GIB + MIB2, 512 * GIB + 12345].map(|a| bench.level(a));
    assert_eq!(levels, [1, 1, 2, 3, 0]);
    assert_eq!(bench.entry(GIB + 0x12345), ram(FRAMES + GIB), "a block's own start");
}

#[test]
fn a_lookup_is_one_load_per_level_and_takes_no_lock() {
    for (bits, loads) in [(32, 3), (40, 3), (43, 3), (44, 4), (48, 4)] {
        let bench = Bench::new(bits, 8);
        bench.declare(0x900_0000, PAGE_SIZE).unwrap();
        let taken = bench.order.taken();
        bench.fake().take_loads();
        assert_eq!(bench.entry(0x900_0000), Entry::Guard(NOTE));
        assert_eq!(bench.fake().take_loads(), loads, "{bits} bits");
        assert_eq!(bench.order.taken(), taken);
    }
}

#[test]
fn a_glance_sees_what_a_lookup_sees() {
    use stage2::{Annotation, Probe};
    for bits in [40, 48] {
        let bench = Bench::new(bits, 16);
        bench.map(0, FRAMES, GIB).unwrap();
        bench.map(GIB, FRAMES + GIB, 2 * KIB4).unwrap();
        bench.declare(GIB + MIB2, PAGE_SIZE).unwrap();
        bench.declare(2 * GIB, GIB).unwrap();
        let owned = arch::Range::<Ipa>::new(Ipa::new(GIB), KIB4).unwrap();
        bench.s2.unmap(&bench.order, owned, Annotation::Owner(7)).unwrap();
        let mut seen = [0; 3];
        let pages = [0, GIB, GIB + KIB4, GIB + 2 * KIB4, GIB + MIB2, 2 * GIB + 0x1234, 3 * GIB];
        for ipa in pages.into_iter().chain([(1 << bits) - 1, 1 << bits, u64::MAX]).map(Ipa::new) {
            let expected = match bench.s2.lookup(ipa).map(|found| found.entry) {
                Some(Entry::Empty) => Probe::Empty,
                Some(Entry::Guard(_)) => Probe::Guard,
                _ => Probe::Other,
            };
            assert_eq!(bench.s2.probe(ipa), expected, "{ipa} of {bits} bits");
            seen[expected as usize] += 1;
        }
        assert_eq!(seen, [3, 2, 5]);
    }
}

#[test]
fn a_lookup_does_not_wait_for_a_writer() {
    /// Looks up in the middle of a store.
    struct Nosy(Fake, std::cell::RefCell<Option<std::rc::Weak<Stage2<Nosy>>>>);
    impl TableMemory for Nosy {
        fn load(&self, table: arch::Pa, index: usize) -> u64 {
            self.0.load(table, index)
        }
        fn store(&self, table: arch::Pa, index: usize, raw: u64) {
            self.0.store(table, index, raw);
            let weak = self.1.borrow().clone();
            if let Some(s2) = weak.and_then(|weak| weak.upgrade()) {
                s2.lookup(Ipa::new(RAM)).unwrap();
            }
        }
    }
    impl Tlb for Nosy {
        fn dsb_ishst(&self) {}
        fn dsb_ish(&self) {}
        fn isb(&self) {}
        fn tlbi_ipas2e1is(&self, _: Ipa, _: Option<u8>) {}
        fn tlbi_vmalle1is(&self) {}
        fn tlbi_vmalls12e1is(&self) {}
        fn repeat(&self) -> bool {
            false
        }
        fn clean_invalidate_to_poc(&self, _: arch::Pa, _: u64) {}
    }
    let fake = Fake::new(fake::geometry(40), 8);
    let pool = fake.pool();
    let nosy = Nosy(fake, std::cell::RefCell::new(None));
    let s2 = std::rc::Rc::new(Stage2::new(nosy, fake::geometry(40), TABLES, pool));
    *s2.host().1.borrow_mut() = Some(std::rc::Rc::downgrade(&s2));
    let order = Order::new();
    // The lock is a spin lock: a reader that wanted it would hang here.
    s2.declare(&order, range(RAM, KIB4), NOTE, BUDGET).unwrap();
    s2.undeclare(&order, range(RAM, KIB4), BUDGET).unwrap();
    s2.map(&order, Ipa::new(RAM), arch::Pa::new(FRAMES), KIB4, Attr::Ram).unwrap();
    s2.unmap(&order, range(RAM, KIB4), Annotation::Empty).unwrap();
    s2.reset(&order);
}

#[test]
fn root_geometry_and_host_are_what_was_given() {
    let bench = Bench::new(42, 3);
    assert_eq!(bench.s2.root(), TABLES);
    assert_eq!(*bench.s2.geometry(), fake::geometry(42));
    assert_eq!(bench.free(), 3);
    assert_eq!(bench.fake().tables(), 0);
}
