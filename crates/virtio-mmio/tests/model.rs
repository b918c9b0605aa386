// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random sequences of a driver, a server and EL2, beside a naive model.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod support;

use arch::Width;
use proptest::prelude::*;
use support::scene::{Scene, Step, run};

const RAM: (u64, u64) = (0x4000_0000, 0x0080_0000);
const ALL: u64 = 0x3_3000_0011;

fn width() -> impl Strategy<Value = Width> {
    prop_oneof![
        1 => Just(Width::B1),
        1 => Just(Width::B2),
        8 => Just(Width::B4),
        1 => Just(Width::B8),
    ]
}

fn offset() -> impl Strategy<Value = u64> {
    let registers = [
        0x00, 0x04, 0x08, 0x0c, 0x10, 0x14, 0x20, 0x24, 0x30, 0x34, 0x38, 0x44, 0x50, 0x60, 0x64,
        0x70, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4, 0xb0, 0xbc, 0xfc,
    ];
    prop_oneof![
        8 => proptest::sample::select(registers.to_vec()),
        2 => 0x100_u64..0x200,
        1 => 0_u64..0x1000,
        1 => any::<u64>(),
    ]
}

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0_u64..20,
        1 => proptest::sample::select(vec![0x40, 0x80, 0x8f, 0x100, 0x1_0000_0000, ALL, u64::MAX]),
        1 => RAM.0..RAM.0 + RAM.1,
        1 => any::<u64>(),
    ]
}

fn features() -> impl Strategy<Value = u64> {
    prop_oneof![
        5 => Just(ALL),
        2 => Just(0x1_0000_0000),
        1 => Just(0x1_3000_0001),
        1 => proptest::sample::select((0..64).map(|bit| ALL | 1 << bit).collect::<Vec<u64>>()),
        1 => any::<u64>(),
    ]
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => proptest::sample::select(vec![1_u64, 2, 8, 16, 256]),
        1 => proptest::sample::select(vec![0, 3, 7, 32768, 65536, 0x1_0000_0008, u64::MAX]),
    ]
}

fn place() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => (0..RAM.1 / 16).prop_map(|n| RAM.0 + 16 * n),
        // At the borders.
        3 => (0_u64..0x2000, any::<bool>()).prop_map(|(n, end)| {
            let at = if end { RAM.0 + RAM.1 } else { RAM.0 };
            at - 0x1000 + n
        }),
        1 => any::<u64>(),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (offset(), width()).prop_map(|(offset, width)| Step::Load(offset, width)),
        12 => (offset(), width(), value()).prop_map(|(at, width, v)| Step::Store(at, width, v)),
        2 => (0_u64..0x1_1030, value()).prop_map(|(number, v)| Step::Set(number, v)),
        2 => (0_u64..6, value()).prop_map(|(number, v)| Step::Set(number, v)),
        3 => (0_u64..6).prop_map(Step::Raise),
        4 => (0_u32..4).prop_map(Step::Done),
        1 => any::<u32>().prop_map(Step::Done),
        2 => (0_u32..3).prop_map(Step::Expire),
        1 => Just(Step::Detach),
        1 => proptest::bool::weighted(0.2).prop_map(|yes| match yes {
            true => Step::Reset,
            false => Step::Raise(3),
        }),
        3 => (features(), size()).prop_map(|(features, size)| Step::Offer(features, size)),
        4 => (features(), proptest::sample::select(vec![0_u64, 3, 7, 11, 15, 15, 143]))
            .prop_map(|(features, status)| Step::Negotiate(features, status)),
        6 => (0_u64..5, size(), place()).prop_map(|(q, size, place)| Step::Queue(q, size, place)),
        2 => (0_u64..4).prop_map(|q| Step::Store(0x30, Width::B4, q)),
        2 => (0_u64..2).prop_map(|ready| Step::Store(0x44, Width::B4, ready)),
        1 => Just(Step::Store(0x70, Width::B4, 0)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_sequence_is_as_the_model_says(
        pool in any::<bool>(),
        memory in prop_oneof![
            8 => Just(RAM),
            1 => Just((0, 0)),
            1 => Just((0, u64::MAX)),
            1 => (any::<u64>(), any::<u64>()),
        ],
        offered in proptest::bool::weighted(0.8),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut all = Vec::new();
        if offered {
            all.push(Step::Offer(ALL, 256));
            all.push(Step::Negotiate(ALL, 11));
        }
        all.extend(steps);
        run(&Scene { memory, pool, steps: all });
    }
}
