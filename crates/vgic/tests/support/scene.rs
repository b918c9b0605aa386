// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guests and devices as lists of steps, run beside the ideal GIC.

use super::machine::Machine;
use vgic::Version;

/// What happens next. Numbers are brought into range when it does.
#[derive(Clone, Copy, Debug)]
pub enum Step {
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
    /// The line behind it falls.
    Fall(u16),
    Ack,
    Eoi,
    Dir(u8),
    Pmr(u8),
    Groups(u8),
    Resync,
    Switch,
    Read(u8, u8),
}

#[derive(Clone, Debug)]
pub struct Scene {
    pub version: Version,
    pub vcpus: usize,
    pub lrs: usize,
    pub eoi_mode: bool,
    pub short: bool,
    /// All groups, SGIs, PPIs and SPIs enabled and routed at the start.
    pub awake: bool,
    pub steps: Vec<(u8, Step)>,
}

const SPIS: usize = 64;

/// Runs a scene. Where more is active than there are list registers, EOIcount cannot say whom it meant, and the order of priorities
/// tells only if the guest leaves that alone: no active state set or cleared, no priority of what is active moved.
pub fn run(scene: &Scene, scarce: bool) {
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
            Step::Fall(intid) => m.fall(v, intid.into()),
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
            Step::Switch => {
                m.switch(v);
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
