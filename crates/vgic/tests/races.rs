// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kicks that arrive late: vCPUs go on with list registers that are out of date. Nothing raised is lost, nothing comes that was not
//! raised, and no SPI is with two vCPUs.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod support;

use proptest::prelude::*;
use std::collections::BTreeMap;
use support::machine::Machine;
use vgic::Version;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// SGI 0, 1 or 2 to a vCPU.
    Sgi(u8, u8),
    /// An edge on one of the edge-triggered SPIs.
    Edge(u8),
    /// The line of one of the level-sensitive interrupts.
    Level(u8, bool),
    Forward(u8),
    Route(u8, u8),
    Disable(u8),
    Enable(u8),
    Priority(u8, u8),
    Ack,
    Eoi,
    /// The kick arrives.
    Serve,
    /// The vCPU leaves its CPU and comes back.
    Switch,
}

fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    prop_oneof![
        3 => (0u8..3, any::<u8>()).prop_map(|(a, b)| Sgi(a, b)),
        3 => (0u8..6).prop_map(Edge),
        3 => (0u8..4, any::<bool>()).prop_map(|(a, b)| Level(a, b)),
        2 => (0u8..4).prop_map(Forward),
        1 => (0u8..16, any::<u8>()).prop_map(|(a, b)| Route(a, b)),
        1 => (0u8..16).prop_map(Disable),
        1 => (0u8..16).prop_map(Enable),
        1 => (0u8..16, any::<u8>()).prop_map(|(a, b)| Priority(a, b)),
        6 => Just(Ack),
        6 => Just(Eoi),
        4 => Just(Serve),
        2 => Just(Switch),
    ]
}

/// SPIs 32..=37 are edge-triggered; these and PPI 20 level-sensitive; 44..=46 and PPI 27 are forwarded.
const LEVELS: [u32; 4] = [40, 41, 42, 20];
const FORWARDED: [u32; 4] = [44, 45, 46, 27];

/// The vCPU where it is private, INTID, source.
type Key = (Option<usize>, u32, u8);

/// How often an interrupt was raised and acknowledged, and whether it was raised after its last acknowledge.
#[derive(Default)]
struct Count {
    raised: u32,
    taken: u32,
    owed: bool,
}

struct Race {
    m: Machine,
    counts: BTreeMap<Key, Count>,
}

impl Race {
    fn new(version: Version, vcpus: usize, lrs: usize, short: bool) -> Self {
        let v3 = version == Version::V3;
        let mut m = Machine::new(version, vcpus, lrs, 32);
        m.short = short;
        m.write(0, None, 0, 4, 3);
        m.write(0, None, 0x104, 4, 0xffff_ffff);
        m.write(0, None, 0xc08, 4, 0x0000_0aaa);
        for v in 0..vcpus {
            let (redist, base) = if v3 { (Some(v), 0x1_0000) } else { (None, 0) };
            m.write(v, redist, base + 0x100, 4, 0xffff_ffff);
        }
        let mut race = Self { m, counts: BTreeMap::new() };
        for intid in 32..64 {
            race.route(0, intid, intid as usize % vcpus);
        }
        race.m.prompt = false;
        race.m.strict = false;
        race
    }

    fn key(v: usize, intid: u32, source: u8) -> Key {
        (if intid < 32 { Some(v) } else { None }, intid, source)
    }

    fn route(&mut self, by: usize, intid: u32, to: usize) {
        if self.m.ideal.v3 {
            self.m.write(by, None, 0x6000 + 8 * u64::from(intid), 8, to as u64);
        } else {
            self.m.write(by, None, 0x800 + u64::from(intid), 1, 1 << to);
        }
    }

    fn raise(&mut self, key: Key) {
        let count = self.counts.entry(key).or_default();
        count.raised += 1;
        count.owed = true;
    }

    fn ack(&mut self, v: usize) -> bool {
        let Some(ack) = self.m.ack(v) else { return false };
        if !LEVELS.contains(&ack.intid) {
            let count = self.counts.entry(Self::key(v, ack.intid, ack.source)).or_default();
            count.taken += 1;
            count.owed = false;
            assert!(count.taken <= count.raised, "{ack:?} at {v} was not raised that often");
        }
        true
    }

    fn step(&mut self, v: usize, step: Step) {
        let vcpus = self.m.cpus.len();
        let m = &mut self.m;
        match step {
            Step::Sgi(n, to) => {
                let to = usize::from(to) % vcpus;
                let n = u64::from(n);
                if m.ideal.v3 {
                    m.sgi1r(v, n << 24 | 1 << to);
                    self.raise((Some(to), n as u32, 0));
                } else {
                    m.write(v, None, 0xf00, 4, 1 << (16 + to) | n);
                    self.raise((Some(to), n as u32, v as u8));
                }
            }
            Step::Edge(n) => {
                let intid = 32 + u32::from(n);
                m.set_level(v, intid, true);
                m.set_level(v, intid, false);
                self.raise((None, intid, 0));
            }
            Step::Level(n, high) => m.set_level(v, LEVELS[usize::from(n)], high),
            Step::Forward(n) => {
                let intid = FORWARDED[usize::from(n)];
                let (owner, ..) = Self::key(v, intid, 0);
                if !m.physical.contains(&(owner, intid)) {
                    m.forward(v, intid);
                    self.raise((owner, intid, 0));
                }
            }
            Step::Route(n, to) => self.route(v, 32 + u32::from(n), usize::from(to) % vcpus),
            Step::Disable(n) => m.write(v, None, 0x184, 4, 1 << n),
            Step::Enable(n) => m.write(v, None, 0x104, 4, 1 << n),
            Step::Priority(n, priority) => {
                m.write(v, None, 0x420 + u64::from(n), 1, u64::from(priority) & 0x78);
            }
            Step::Ack => {
                self.ack(v);
            }
            Step::Eoi => m.eoi(v),
            Step::Serve if m.kicked.contains(v) => m.after(v, arch::VcpuSet::single(v)),
            Step::Switch => m.switch(v),
            Step::Serve => {}
        }
        self.m.check_unique();
    }

    /// Every kick arrives, every line falls, everything is enabled, and the guests take what there is.
    fn come_to_rest(&mut self) {
        let vcpus = self.m.cpus.len();
        for v in 0..vcpus {
            for intid in LEVELS {
                self.m.set_level(v, intid, false);
            }
        }
        self.m.write(0, None, 0x104, 4, 0xffff_ffff);
        self.m.prompt = true;
        self.m.settle();
        for _ in 0..1000 {
            let mut busy = false;
            for v in 0..vcpus {
                while !self.m.handling[v].is_empty() {
                    self.m.eoi(v);
                }
                while self.ack(v) {
                    self.m.eoi(v);
                    busy = true;
                }
            }
            if !busy {
                return;
            }
        }
        panic!("does not come to rest");
    }
}

fn run(version: Version, vcpus: usize, lrs: usize, short: bool, steps: &[(u8, Step)]) {
    let mut race = Race::new(version, vcpus, lrs, short);
    for &(who, step) in steps {
        race.step(usize::from(who) % vcpus, step);
    }
    race.come_to_rest();
    for (key, count) in &race.counts {
        assert!(!count.owed, "{key:?} was raised and never came");
    }
    assert!(race.m.physical.is_empty(), "left active: {:?}", race.m.physical);
}

fn config() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(80),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn list_registers() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1usize), Just(2), Just(4), Just(16)]
}

proptest! {
    #![proptest_config(config())]

    // bug: 57
    #[test]
    fn nothing_is_lost_or_invented_while_kicks_are_late_v3(
        vcpus in 1usize..5,
        lrs in list_registers(),
        short in any::<bool>(),
        steps in prop::collection::vec((any::<u8>(), step()), 1..120),
    ) {
        run(Version::V3, vcpus, lrs, short, &steps);
    }

    #[test]
    fn nothing_is_lost_or_invented_while_kicks_are_late_v2(
        vcpus in 1usize..5,
        lrs in list_registers(),
        short in any::<bool>(),
        steps in prop::collection::vec((any::<u8>(), step()), 1..120),
    ) {
        run(Version::V2, vcpus, lrs, short, &steps);
    }
}
