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
use support::machine::Machine;
use vgic::Version;

/// What happens next. Numbers are brought into range when it does.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A store to a register of one bit per interrupt: array, bank, bits.
    Bits(u8, u8, u32),
    Priority(u16, u8),
    Trigger(u8, u32),
    Route(u16, u8),
    Control(u8),
    /// Any store at all: frame, offset, log2 of the size, value.
    Store(u8, u32, u8, u64),
    Sgi(u8, u8),
    SgiWord(u64),
    Sgi0(u8, u8),
    Sources(bool, u8, u8),
    Level(u16, bool),
    Forward(u16),
    Ack,
    Eoi,
    Dir(u8),
    Pmr(u8),
    Groups(u8),
    Resync,
    Read(u8, u8),
}

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
        10 => Just(Ack),
        10 => Just(Eoi),
        4 => any::<u8>().prop_map(Dir),
        1 => any::<u8>().prop_map(Pmr),
        1 => prop_oneof![3 => Just(3u8), 1 => 0u8..4].prop_map(Groups),
        2 => Just(Resync),
        2 => (0u8..7, 0u8..3).prop_map(|(a, b)| Read(a, b)),
    ]
}

#[derive(Clone, Debug)]
struct Scene {
    version: Version,
    vcpus: usize,
    lrs: usize,
    eoi_mode: bool,
    short: bool,
    /// All groups, SGIs, PPIs and SPIs enabled and routed at the start.
    awake: bool,
    steps: Vec<(u8, Step)>,
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

const SPIS: usize = 64;

/// Runs a scene. Where more is active than there are list registers, EOIcount cannot say whom it meant, and the order of priorities
/// tells only if the guest leaves that alone: no active state set or cleared, no priority of what is active moved.
fn run(scene: &Scene, scarce: bool) {
    let v3 = scene.version == Version::V3;
    let mut m = Machine::new(scene.version, scene.vcpus, scene.lrs, SPIS);
    m.short = scene.short;
    for cpu in &mut m.cpus {
        cpu.eoi_mode = scene.eoi_mode;
    }
    let page =
        |v: usize, bank: usize| if v3 && bank == 0 { (Some(v), 0x1_0000) } else { (None, 0) };
    if scene.awake {
        m.write(0, None, 0, 4, 3);
        for v in 0..scene.vcpus {
            let (redist, base) = page(v, 0);
            m.write(v, redist, base + 0x100, 4, 0xffff_ffff);
        }
        for k in 1..=SPIS as u64 / 32 {
            m.write(0, None, 0x100 + 4 * k, 4, 0xffff_ffff);
        }
        if !v3 {
            for n in 8..24 {
                m.write(0, None, 0x800 + 4 * n, 4, 0x0102_0401);
            }
        }
    }
    m.check();
    for &(who, step) in &scene.steps {
        let v = usize::from(who) % scene.vcpus;
        match step {
            Step::Bits(array, bank, value) => {
                let array = u64::from(array) % 7;
                let active = m.ideal.irqs.values().filter(|irq| irq.active.is_some()).count();
                if array >= 5 && scarce || array == 5 && active as u32 + value.count_ones() > 12 {
                    continue;
                }
                let bank = usize::from(bank) % 3;
                let (redist, base) = page(v, bank);
                m.write(v, redist, base + 0x80 + 0x80 * array + 4 * bank as u64, 4, value.into());
            }
            Step::Priority(intid, value) => {
                let active = m.ideal.irq(v, intid.into()).is_some_and(|irq| irq.active.is_some());
                if scarce && active {
                    continue;
                }
                let (redist, base) = page(v, usize::from(intid) / 32);
                m.write(v, redist, base + 0x400 + u64::from(intid), 1, value.into());
            }
            Step::Trigger(word, value) => {
                let (redist, base) = page(v, usize::from(word) / 2);
                m.write(v, redist, base + 0xc00 + 4 * u64::from(word), 4, value.into());
            }
            Step::Route(intid, value) => {
                if v3 {
                    let affinity = u64::from(value) % (scene.vcpus as u64 + 1);
                    m.write(v, None, 0x6000 + 8 * u64::from(intid), 8, affinity);
                } else {
                    m.write(v, None, 0x800 + u64::from(intid), 1, value.into());
                }
            }
            Step::Control(value) => m.write(v, None, 0, 4, value.into()),
            Step::Store(frame, offset, size, value) => {
                if scarce || offset & 0xf80 == 0x300 {
                    continue;
                }
                let redist = usize::from(frame).checked_sub(128).map(|r| r % (scene.vcpus + 1));
                let size = 1 << size;
                m.write(v, redist, u64::from(offset) / size * size, size, value);
            }
            Step::Sgi(intid, targets) if v3 => {
                m.sgi1r(v, u64::from(intid) << 24 | u64::from(targets));
            }
            Step::Sgi(intid, targets) => {
                let filter = u64::from(targets & 3) << 24;
                m.write(v, None, 0xf00, 4, filter | u64::from(targets) << 16 | u64::from(intid));
            }
            Step::SgiWord(value) if v3 => m.sgi1r(v, value),
            Step::SgiWord(value) => m.write(v, None, 0xf00, 4, value),
            Step::Sgi0(intid, targets) => m.sgi0r(v, u64::from(intid) << 24 | u64::from(targets)),
            Step::Sources(set, sgi, value) => {
                let base = if set { 0xf20 } else { 0xf10 };
                m.write(v, None, base + u64::from(sgi), 1, value.into());
            }
            Step::Level(intid, high) => m.set_level(v, intid.into(), high),
            Step::Forward(intid) => m.forward(v, intid.into()),
            Step::Ack => {
                m.ack(v);
            }
            Step::Eoi => m.eoi(v),
            Step::Dir(which) => m.dir(v, which.into()),
            Step::Pmr(pmr) => m.cpus[v].pmr = pmr.into(),
            Step::Groups(groups) => {
                m.cpus[v].groups = [groups & 1 != 0, groups & 2 != 0];
                m.settle();
            }
            Step::Resync => {
                m.resync(v);
                m.settle();
            }
            Step::Read(array, bank) => {
                let bank = usize::from(bank) % 3;
                let (redist, base) = page(v, bank);
                let array = 0x80 + 0x80 * u64::from(array);
                m.check_read(v, redist, base + array + 4 * bank as u64, 4);
            }
        }
        m.check();
    }
    m.check_registers();
    m.check();
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
