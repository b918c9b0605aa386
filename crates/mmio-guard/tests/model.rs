// SPDX-License-Identifier: MIT OR Apache-2.0
//! `Ioremap` against a model: a count per page.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used)]

mod common;

use common::{DEV, Host, PAGE, attr};
use mmio_guard::client::{Ioremap, IoremapError};
use mmio_guard::{Dialect, Policy};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Room of the `Ioremap` under test.
const ROOM: usize = 5;
/// Pages from `DEV` on that operations touch.
const WINDOW: u64 = 16;
/// RAM in the midst of them.
const RAM: std::ops::Range<u64> = DEV + 11 * PAGE..DEV + 13 * PAGE;

#[derive(Clone, Debug)]
enum Op {
    Map {
        first: u64,
        pages: u64,
        index: u8,
    },
    /// The mapping that is this one of those that there are.
    UnmapOne(prop::sample::Index),
    /// Perhaps no mapping.
    Unmap {
        first: u64,
        pages: u64,
    },
    /// The host refuses these of its next calls.
    Fail(BTreeSet<usize>),
}

fn op() -> impl Strategy<Value = Op> {
    let range = || (0..WINDOW, 1..6_u64);
    prop_oneof![
        5 => (range(), 0..8_u8)
            .prop_map(|((first, pages), index)| Op::Map { first, pages, index }),
        3 => any::<prop::sample::Index>().prop_map(Op::UnmapOne),
        1 => range().prop_map(|(first, pages)| Op::Unmap { first, pages }),
        // One failure: what it interrupts can be undone.
        1 => (0..8_usize).prop_map(|nth| Op::Fail(BTreeSet::from([nth]))),
    ]
}

/// What should be: every mapping that was made and not unmade, as (first page, pages).
#[derive(Default)]
struct Model(Vec<(u64, u64)>);

impl Model {
    fn count(&self, page: u64) -> u64 {
        let covers = |(first, pages): &&(u64, u64)| (*first..first + pages).contains(&page);
        self.0.iter().filter(covers).count() as u64
    }

    fn distinct(&self) -> BTreeMap<(u64, u64), u32> {
        let mut map = BTreeMap::new();
        for range in &self.0 {
            *map.entry(*range).or_insert(0) += 1;
        }
        map
    }

    fn declared(&self) -> Vec<u64> {
        (0..WINDOW + 8).filter(|page| self.count(*page) > 0).map(|p| DEV + p * PAGE).collect()
    }

    fn has_ram(first: u64, pages: u64) -> bool {
        (first..first + pages).any(|page| RAM.contains(&(DEV + page * PAGE)))
    }
}

fn run(dialect: Dialect, per_call: u64, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let host = Host::new(dialect, Policy::Enrol).with(|state| {
        state.ram = vec![RAM];
        state.per_call = per_call;
    });
    let ram = [RAM];
    let mut devices: Ioremap<_, ROOM> = Ioremap::new(host.enrolled(), &ram);
    let mut model = Model::default();

    for op in ops {
        host.forget();
        let (first, pages, result) = match op {
            Op::Fail(nth) => {
                host.fail_next(nth);
                continue;
            }
            Op::Map { first, pages, index } => {
                let result = devices.map(DEV + first * PAGE, pages * PAGE, attr(index));
                let distinct = model.distinct();
                match result {
                    Ok(()) => {
                        prop_assert!(!Model::has_ram(first, pages));
                        model.0.push((first, pages));
                        prop_assert!(model.distinct().len() <= ROOM);
                    }
                    Err(IoremapError::Ram(_)) => {
                        prop_assert!(Model::has_ram(first, pages));
                        prop_assert_eq!(host.asked(), []);
                    }
                    Err(IoremapError::Full) => {
                        prop_assert_eq!(distinct.len(), ROOM);
                        prop_assert!(!distinct.contains_key(&(first, pages)));
                        prop_assert_eq!(host.asked(), []);
                    }
                    Err(IoremapError::Host(_)) => {}
                    Err(other) => prop_assert!(false, "{}", other),
                }
                (first, pages, result)
            }
            Op::UnmapOne(which) if !model.0.is_empty() => {
                let (first, pages) = *which.get(&model.0);
                (first, pages, devices.unmap(DEV + first * PAGE, pages * PAGE))
            }
            Op::UnmapOne(_) => continue,
            Op::Unmap { first, pages } => {
                (first, pages, devices.unmap(DEV + first * PAGE, pages * PAGE))
            }
        };
        if matches!(op, Op::UnmapOne(_) | Op::Unmap { .. }) {
            let known = model.0.iter().position(|range| *range == (first, pages));
            match result {
                Ok(()) => {
                    prop_assert!(known.is_some());
                    model.0.remove(known.unwrap());
                }
                Err(IoremapError::NotMapped { .. }) => {
                    prop_assert!(known.is_none());
                    prop_assert_eq!(host.asked(), []);
                }
                Err(IoremapError::Host(_)) => prop_assert!(known.is_some()),
                Err(other) => prop_assert!(false, "{}", other),
            }
        }

        // After every step: host, counts and list are what the model has.
        prop_assert_eq!(host.declared(), model.declared());
        for page in 0..WINDOW + 8 {
            let ipa = DEV + page * PAGE;
            prop_assert_eq!(devices.count(ipa), model.count(page));
            prop_assert_eq!(devices.count(ipa + 0xFFF), model.count(page));
            prop_assert_eq!(
                host.access(ipa),
                model.count(page) > 0 || RAM.contains(&ipa),
                "a page is served exactly while it is mapped"
            );
        }
        let list: BTreeMap<_, _> =
            devices.mappings().map(|m| (((m.ipa - DEV) / PAGE, m.granules), m.times)).collect();
        prop_assert_eq!(list, model.distinct());
        // No page is asked for that has another user before or after.
        for made in host.calls() {
            let undeclares = made.id == 0xC600_0008
                || made.id == 0xC600_000B
                || (made.id == 0xC600_0005 && dialect == Dialect::Series);
            let count = if matches!(made.id, 0xC600_000A | 0xC600_000B) { made.args[1] } else { 1 };
            for page in (0..count).map(|n| (made.args[0] - DEV) / PAGE + n) {
                prop_assert!((first..first + pages).contains(&page), "outside its range");
                if undeclares && result.is_ok() {
                    prop_assert_eq!(model.count(page), 0);
                }
            }
        }
    }

    // Everything can be given up again.
    host.fail_next([]);
    for (first, pages) in model.0 {
        prop_assert_eq!(devices.unmap(DEV + first * PAGE, pages * PAGE), Ok(()));
    }
    prop_assert_eq!(host.declared(), []);
    prop_assert_eq!(devices.mappings().count(), 0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn counts_agree_in_series(ops in prop::collection::vec(op(), 1..60)) {
        run(Dialect::Series, 1, ops)?;
    }

    #[test]
    fn counts_agree_in_pkvm(per_call in 1..8_u64, ops in prop::collection::vec(op(), 1..60)) {
        run(Dialect::Pkvm, per_call, ops)?;
    }

    /// Bytes instead of pages: whatever is touched is declared, nothing else.
    #[test]
    fn every_byte_of_a_mapping_is_served(
        offset in 0..4 * PAGE,
        bytes in 1..4 * PAGE,
        series in any::<bool>(),
    ) {
        let host = if series { Host::series() } else { Host::pkvm() };
        let mut devices = host.ioremap::<1>();
        let ipa = DEV + offset;
        devices.map(ipa, bytes, attr(0)).unwrap();
        let first = ipa & !0xFFF;
        let end = (ipa + bytes + 0xFFF) & !0xFFF;
        prop_assert_eq!(host.declared(), common::pages(first, (end - first) / PAGE));
        devices.unmap(ipa, bytes).unwrap();
        prop_assert_eq!(host.declared(), []);
    }

    /// Ranges anywhere in 64 bits: no panic, and the host hears of nothing that wraps.
    #[test]
    fn no_range_confuses_it(
        ipa in prop_oneof![any::<u64>(), (0..8_u64).prop_map(|n| u64::MAX - n), 0..8_u64],
        bytes in prop_oneof![any::<u64>(), (0..8_u64).prop_map(|n| u64::MAX - n), 0..8_u64],
    ) {
        let host = Host::pkvm();
        let mut devices = host.ioremap::<2>();
        let result = devices.map(ipa, bytes, attr(0));
        let wraps = bytes == 0 || ipa.checked_add(bytes - 1).is_none();
        prop_assert_eq!(wraps, matches!(result, Err(IoremapError::BadRange { .. })));
        if result.is_ok() {
            prop_assert_eq!(devices.unmap(ipa, bytes), Ok(()));
        }
        prop_assert_eq!(host.declared(), []);
    }
}
