// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random guests and devices, step by step against the ideal GIC.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod support;

use proptest::prelude::*;
use support::scene::{Scene, Step, run};
use vgic::Version;

/// Few interrupts matter at a time, so that steps meet.
fn intid() -> impl Strategy<Value = u16> {
    prop_oneof![
        Just(0u16),
        Just(1),
        Just(7),
        Just(15),
        Just(16),
        Just(27),
        Just(30),
        32u16..38,
        60u16..68
    ]
}

fn bits() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => prop::collection::vec(prop_oneof![Just(0u32), Just(1), Just(7), Just(15), Just(16), Just(27), Just(30)], 1..4)
            .prop_map(|ns| ns.iter().fold(0, |bits, n| bits | 1 << n)),
        2 => prop::collection::vec(0u32..6, 1..4).prop_map(|ns| ns.iter().fold(0, |bits, n| bits | 1 << n)),
        1 => Just(u32::MAX),
        1 => any::<u32>(),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    prop_oneof![
        3 => (prop_oneof![3 => Just(1u8), 1 => Just(2), 1 => 0u8..7], 0u8..3, bits()).prop_map(|(a, b, c)| Bits(a, b, c)),
        2 => (0u8..7, 0u8..3, bits()).prop_map(|(a, b, c)| Bits(a, b, c)),
        2 => (intid(), any::<u8>()).prop_map(|(a, b)| Priority(a, b)),
        1 => (0u8..6, any::<u32>()).prop_map(|(a, b)| Trigger(a, b)),
        2 => (intid(), any::<u8>()).prop_map(|(a, b)| Route(a, b)),
        1 => prop_oneof![3 => Just(3u8), 1 => 0u8..4].prop_map(Control),
        1 => (any::<u8>(), 0u32..0x2_0000, 0u8..4, any::<u64>()).prop_map(|(a, b, c, d)| Store(a, b, c, d)),
        5 => (0u8..16, any::<u8>()).prop_map(|(a, b)| Sgi(a, b)),
        1 => any::<u64>().prop_map(SgiWord),
        1 => (0u8..16, any::<u8>()).prop_map(|(a, b)| Sgi0(a, b)),
        1 => (any::<bool>(), 0u8..16, any::<u8>()).prop_map(|(a, b, c)| Sources(a, b, c)),
        5 => (intid(), any::<bool>()).prop_map(|(a, b)| Level(a, b)),
        4 => intid().prop_map(Forward),
        2 => intid().prop_map(Fall),
        10 => Just(Ack),
        10 => Just(Eoi),
        4 => any::<u8>().prop_map(Dir),
        1 => any::<u8>().prop_map(Pmr),
        1 => prop_oneof![3 => Just(3u8), 1 => 0u8..4].prop_map(Groups),
        2 => Just(Resync),
        3 => Just(Switch),
        2 => (0u8..7, 0u8..3).prop_map(|(a, b)| Read(a, b)),
    ]
}

fn scene(lrs: impl Strategy<Value = usize>, length: usize) -> impl Strategy<Value = Scene> {
    (
        prop_oneof![Just(Version::V2), Just(Version::V3)],
        1usize..4,
        lrs,
        any::<bool>(),
        any::<bool>(),
        prop::bool::weighted(0.9),
        prop::collection::vec((any::<u8>(), step()), 1..length),
    )
        .prop_map(|(version, vcpus, lrs, eoi_mode, short, awake, steps)| Scene {
            version,
            vcpus,
            lrs,
            eoi_mode: eoi_mode && version == Version::V3,
            short,
            awake,
            steps,
        })
}

/// A few seconds of cases in a debug build; PROPTEST_CASES asks for more.
fn config() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(100),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    /// With list registers to spare, every step of every guest gives what the ideal GIC gives.
    #[test]
    fn ample_list_registers_follow_the_ideal(scene in scene(Just(16usize), 80)) {
        run(&scene, false);
    }

    /// With one to four list registers the guest sees the same.
    #[test]
    fn scarce_list_registers_follow_the_ideal(scene in scene(1usize..5, 80)) {
        run(&scene, true);
    }
}
