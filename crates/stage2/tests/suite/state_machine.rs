// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sequences of calls against the model: same answers, same entries, same tables, and nothing that the
//! judge objects to. A call that fails leaves memory bit-identical.

use crate::common::*;
use crate::model::Model;
use arch::{Ipa, Pa, Range};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Declare(u64, u64, bool, u32),
    DeclarePage(u64, bool),
    Undeclare(u64, u64, u32),
    UndeclarePage(u64),
    Map(u64, u64, u64, Attr, Over),
    Unmap(u64, u64, Annotation),
    Install(u64, u64),
    Remove(u64),
    Reset,
}

/// Addresses about borders: of pages, 2 MiB, 1 GiB, 512 GiB, root pages, the IPA space.
fn address(bits: u8) -> impl Strategy<Value = u64> {
    let limit = 1u64 << bits;
    let border = prop_oneof![
        3 => Just(0u64),
        6 => Just(GIB),
        2 => Just(2 * GIB),
        2 => Just(512 * GIB % limit),
        2 => Just(limit),
        1 => Just(limit / 2),
    ];
    let far = prop_oneof![
        8 => -3..=3i64,
        3 => (-2..=2i64).prop_map(|n| n * 512),
        2 => (-3..=3i64).prop_map(|n| n * 512 + 1),
        1 => Just(0i64),
    ];
    let skew = prop_oneof![40 => Just(0u64), 1 => 1..4096u64];
    (border, far, skew).prop_map(|(border, pages, skew)| {
        border.wrapping_add((pages as u64).wrapping_mul(KIB4)).wrapping_add(skew)
    })
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => 1..5u64,
        3 => 509..516u64,
        2 => Just(1024u64),
        1 => Just(1025u64),
        2 => Just(GIB / KIB4),
        1 => Just(GIB / KIB4 + 1),
        1 => Just(GIB / KIB4 - 513),
        1 => Just(0u64),
        1 => Just((1u64 << 52) - 1),
    ]
    .prop_flat_map(|pages| {
        let bytes = pages.wrapping_mul(KIB4);
        prop_oneof![60 => Just(bytes), 1 => Just(bytes.wrapping_add(8))]
    })
}

fn budget() -> impl Strategy<Value = u32> {
    prop_oneof![4 => Just(BUDGET), 1 => 0..4u32, 1 => Just(600u32)]
}

fn op(bits: u8) -> impl Strategy<Value = Op> {
    let a = move || address(bits);
    let attr = prop_oneof![4 => Just(Attr::Ram), 1 => Just(Attr::Rom), 1 => Just(Attr::Device)];
    let over = prop_oneof![
        3 => Just(Over::Empty),
        2 => Just(Over::Declared),
        2 => Just(Over::Owner(1)),
    ];
    let leave = prop_oneof![
        1 => Just(Annotation::Empty),
        2 => Just(Annotation::Owner(1)),
        1 => Just(Annotation::Declared),
    ];
    // Output at the same distance from every border, or one page, or 2 MiB off.
    let skew = prop_oneof![6 => Just(0u64), 1 => Just(KIB4), 1 => Just(MIB2)];
    prop_oneof![
        6 => (a(), size(), any::<bool>(), budget()).prop_map(|(a, s, n, b)| Op::Declare(a, s, n, b)),
        2 => (a(), any::<bool>()).prop_map(|(a, n)| Op::DeclarePage(a, n)),
        5 => (a(), size(), budget()).prop_map(|(a, s, b)| Op::Undeclare(a, s, b)),
        2 => a().prop_map(Op::UndeclarePage),
        5 => (a(), size(), skew, attr, over).prop_map(|(a, s, skew, attr, over)| {
            Op::Map(a, (a & ((1 << 47) - 1)).wrapping_add(skew), s, attr, over)
        }),
        4 => (a(), size(), leave).prop_map(|(a, s, l)| Op::Unmap(a, s, l)),
        2 => a().prop_map(|a| Op::Install(a, 0x0804_0000)),
        2 => a().prop_map(Op::Remove),
        1 => Just(Op::Reset),
    ]
}

fn note(which: bool) -> GuardAnnotation {
    if which { NOTE } else { OTHER }
}

/// A range, or `None` where it wraps, which callers cannot even say.
fn said(ipa: u64, size: u64) -> Option<Range<Ipa>> {
    Range::<Ipa>::new(Ipa::new(ipa), size)
}

/// Does `op` to both; returns whether it failed.
fn apply(bench: &Bench, model: &mut Model, op: &Op) -> Result<bool, TestCaseError> {
    let order = &bench.order;
    let failed = match *op {
        Op::Declare(ipa, size, which, budget) => {
            let Some(range) = said(ipa, size) else { return Ok(true) };
            let result = bench.s2.declare(order, range, note(which), budget);
            prop_assert_eq!(result, model.declare(ipa, size, note(which), budget));
            result.is_err()
        }
        Op::DeclarePage(ipa, which) => {
            let result = bench.s2.declare_page(order, Ipa::new(ipa), note(which));
            let expected = model.declare(ipa, KIB4, note(which), 1);
            prop_assert_eq!(result, expected.map(|_| ()));
            result.is_err()
        }
        Op::Undeclare(ipa, size, budget) => {
            let Some(range) = said(ipa, size) else { return Ok(true) };
            let result = bench.s2.undeclare(order, range, budget);
            prop_assert_eq!(result, model.undeclare(ipa, size, budget));
            result.is_err()
        }
        Op::UndeclarePage(ipa) => {
            let before = model.declared();
            let result = bench.s2.undeclare_page(order, Ipa::new(ipa));
            let expected = model.undeclare(ipa, KIB4, 1);
            prop_assert_eq!(result, expected.map(|_| model.declared() != before));
            result.is_err()
        }
        Op::Map(ipa, pa, size, attr, over) => {
            let result = bench.s2.map_over(order, Ipa::new(ipa), Pa::new(pa), size, attr, over);
            prop_assert_eq!(result, model.map(ipa, pa, size, attr, over));
            result.is_err()
        }
        Op::Unmap(ipa, size, leave) => {
            let Some(range) = said(ipa, size) else { return Ok(true) };
            let result = bench.s2.unmap(order, range, leave);
            prop_assert_eq!(result, model.unmap(ipa, size, leave));
            result.is_err()
        }
        Op::Install(ipa, pa) => {
            let result = bench.s2.install_device(order, Ipa::new(ipa), Pa::new(pa));
            prop_assert_eq!(result, model.install_device(ipa, pa));
            result.is_err()
        }
        Op::Remove(ipa) => {
            let result = bench.s2.remove_device(order, Ipa::new(ipa));
            prop_assert_eq!(result, model.remove_device(ipa));
            result.is_err()
        }
        Op::Reset => {
            bench.s2.reset(order);
            model.reset();
            false
        }
    };
    Ok(failed)
}

fn run(bits: u8, pool: usize, repeat: bool, ops: &[Op]) -> Result<(), TestCaseError> {
    let fake = Fake::with_errata(fake::geometry(bits), pool, repeat);
    let bench = Bench { s2: fake.stage2(), order: Order::new() };
    let mut model = Model::new(bits, pool);
    let mut before = bench.fake().snapshot();
    for op in ops {
        let failed = apply(&bench, &mut model, op)?;
        let after = bench.fake().snapshot();
        if failed {
            prop_assert!(before == after, "{:x?} failed and changed memory", op);
            prop_assert_eq!(bench.fake().take_events(), []);
        }
        before = after;

        let mut entries = Vec::new();
        bench.s2.visit(|ipa, level, entry| entries.push((ipa.raw(), level, entry)));
        let expected: Vec<_> = model.entries().collect();
        prop_assert!(entries == expected, "entries differ after {:x?}", op);
        prop_assert_eq!(bench.s2.declared_pages(), model.declared());
        prop_assert_eq!(bench.free(), model.free);
        prop_assert_eq!(bench.fake().tables() as u64, model.tables());
        prop_assert_eq!(bench.fake().tables() + bench.free(), pool, "no page is lost");
        bench.quiet();
        bench.fake().take_events();
    }
    // In the end a lookup is what a walk by hardware finds.
    for (ipa, level, entry) in model.entries() {
        let found = bench.s2.lookup(Ipa::new(ipa)).map(|found| (found.entry, found.level));
        prop_assert_eq!(found, Some((entry, level)));
        prop_assert_eq!(bench.fake().translate(Ipa::new(ipa)), found);
    }
    bench.s2.release(&bench.order);
    prop_assert_eq!(bench.free(), pool);
    bench.quiet();
    Ok(())
}

fn machine(bits: u8) -> impl Strategy<Value = (usize, bool, Vec<Op>)> {
    let pool = prop_oneof![3 => Just(40usize), 2 => 0..8usize];
    (pool, any::<bool>(), proptest::collection::vec(op(bits), 1..32))
}

macro_rules! machines {
    ($($name:ident: $bits:literal, $cases:literal;)*) => {
        $(
            #[test]
            fn $name() {
                let config = ProptestConfig::with_cases($cases);
                proptest!(config, |((pool, repeat, ops) in machine($bits))| {
                    run($bits, pool, repeat, &ops)?;
                });
            }
        )*
    };
}

machines! {
    calls_agree_with_the_model_at_32_bits: 32, 28;
    calls_agree_with_the_model_at_36_bits: 36, 28;
    calls_agree_with_the_model_at_39_bits: 39, 28;
    calls_agree_with_the_model_at_40_bits: 40, 28;
    calls_agree_with_the_model_at_43_bits: 43, 12;
    calls_agree_with_the_model_at_44_bits: 44, 28;
    calls_agree_with_the_model_at_48_bits: 48, 28;
}
