// SPDX-License-Identifier: MIT OR Apache-2.0
//! Named cases: bugs that other hypervisors had, and the rules of the architecture that guests rely on.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod support;

use arch::{VcpuSet, Width};
use support::machine::Machine;
use vgic::{Config, Event, Frame, ListRegister, State, Sync, Version, Vgic};

/// A machine whose guest has enabled both groups and every interrupt; SPIs go to vCPU 0.
fn machine(version: Version, vcpus: usize, lrs: usize) -> Machine {
    let mut m = Machine::new(version, vcpus, lrs, 64);
    m.write(0, None, 0, 4, 3);
    for v in 0..vcpus {
        private(&mut m, v, 0x100, 4, 0xffff_ffff);
    }
    m.write(0, None, 0x104, 4, 0xffff_ffff);
    m.write(0, None, 0x108, 4, 0xffff_ffff);
    if version == Version::V2 {
        for n in 8..24 {
            m.write(0, None, 0x800 + 4 * n, 4, 0x0101_0101);
        }
    }
    m
}

/// A store to `v`'s private interrupts.
fn private(m: &mut Machine, v: usize, offset: u64, size: u64, value: u64) {
    if m.ideal.v3 {
        m.write(v, Some(v), 0x1_0000 + offset, size, value);
    } else {
        m.write(v, None, offset, size, value);
    }
}

fn private_read(m: &mut Machine, v: usize, offset: u64, size: u64) -> u64 {
    if m.ideal.v3 {
        m.read(v, Some(v), 0x1_0000 + offset, size)
    } else {
        m.read(v, None, offset, size)
    }
}

/// Acknowledges and ends what comes, and returns the INTIDs in order.
fn take_all(m: &mut Machine, v: usize) -> Vec<u32> {
    let mut taken = vec![];
    while let Some(ack) = m.ack(v) {
        taken.push(ack.intid);
        m.eoi(v);
        assert!(taken.len() < 1000, "never ends");
    }
    taken
}

fn self_sgi(m: &mut Machine, v: usize, intid: u64) {
    if m.ideal.v3 {
        m.sgi1r(v, intid << 24 | 1 << v);
    } else {
        m.write(v, None, 0xf00, 4, 2 << 24 | intid);
    }
}

const BOTH: [Version; 2] = [Version::V2, Version::V3];

// --- Bugs seen elsewhere ---

#[test]
fn disabled_while_active_can_still_be_ended() {
    for version in BOTH {
        let mut m = machine(version, 1, 4);
        m.set_level(0, 33, true);
        assert_eq!(m.ack(0).unwrap().intid, 33);
        m.write(0, None, 0x184, 4, 2);
        m.set_level(0, 33, false);
        assert_eq!(m.read(0, None, 0x304, 4), 2, "still active");
        m.eoi(0);
        assert_eq!(m.read(0, None, 0x304, 4), 0, "the EOI found it");
        assert!(m.cpus[0].lr.iter().all(|raw| *raw == 0), "no list register keeps it");
        m.write(0, None, 0x104, 4, 2);
        m.set_level(0, 33, true);
        assert_eq!(take_all_once(&mut m, 33), 33, "and it comes again");
    }
}

fn take_all_once(m: &mut Machine, line: u32) -> u32 {
    let ack = m.ack(0).unwrap();
    m.set_level(0, line, false);
    m.eoi(0);
    ack.intid
}

#[test]
fn disabled_while_active_forwarded_interrupt_is_deactivated_by_its_eoi() {
    let mut m = machine(Version::V3, 1, 4);
    m.forward(0, 27);
    m.ack(0).unwrap();
    private(&mut m, 0, 0x180, 4, 1 << 27);
    m.eoi(0);
    assert!(m.physical.is_empty());
    m.check();
}

#[test]
fn disabled_while_active_is_not_delivered_again_by_its_eoi() {
    for version in BOTH {
        let mut m = machine(version, 1, 4);
        m.write(0, None, 0xc08, 4, 0b10 << 2);
        m.write(0, None, 0x204, 4, 2);
        assert_eq!(m.ack(0).unwrap().intid, 33);
        m.write(0, None, 0x184, 4, 2);
        m.write(0, None, 0x204, 4, 2);
        m.eoi(0);
        assert_eq!(m.ack(0), None, "pending again, but disabled");
        m.check();
        m.write(0, None, 0x104, 4, 2);
        assert_eq!(m.ack(0).unwrap().intid, 33);
    }
}

// bug: 57
#[test]
fn isactiver_sets_and_icactiver_clears() {
    for version in BOTH {
        let mut m = machine(version, 1, 4);
        m.write(0, None, 0x304, 4, 0b1010);
        assert_eq!(m.read(0, None, 0x304, 4), 0b1010);
        assert_eq!(m.read(0, None, 0x384, 4), 0b1010);
        m.write(0, None, 0x384, 4, 0b0010);
        assert_eq!(m.read(0, None, 0x304, 4), 0b1000);
        m.write(0, None, 0x384, 4, 0);
        assert_eq!(m.read(0, None, 0x304, 4), 0b1000, "zeros do nothing");
        private(&mut m, 0, 0x300, 4, 1 << 20);
        assert_eq!(private_read(&mut m, 0, 0x380, 4), 1 << 20);
        private(&mut m, 0, 0x380, 4, 1 << 20);
        assert_eq!(private_read(&mut m, 0, 0x300, 4), 0);
    }
}

// bug: 55
#[test]
fn reserved_sgir_filter_does_nothing() {
    let mut gic = Vgic::new(Config::new(Version::V2, 4, 4, 32));
    gic.write(0, Frame::Dist, 0, Width::B4, 1);
    let before = gic.clone();
    for value in [3 << 24, 3 << 24 | 0xff << 16 | 5, 0xffff_ffff] {
        assert_eq!(gic.write(1, Frame::Dist, 0xf00, Width::B4, value), VcpuSet::EMPTY);
    }
    assert_eq!(gic, before);
}

// bug: 55
#[test]
fn sgir_targets_that_do_not_exist_are_ignored() {
    let mut gic = Vgic::new(Config::new(Version::V2, 3, 4, 32));
    gic.write(0, Frame::Dist, 0, Width::B4, 1);
    let before = gic.clone();
    assert_eq!(gic.write(0, Frame::Dist, 0xf00, Width::B4, 0xf8 << 16 | 5), VcpuSet::EMPTY);
    assert_eq!(gic, before);
    let set = gic.write(0, Frame::Dist, 0xf00, Width::B4, 0xff << 16 | 5);
    assert_eq!(set.bits(), 0b111);
    let set = gic.write(1, Frame::Dist, 0xf00, Width::B4, 1 << 24 | 6);
    assert_eq!(set.bits(), 0b101, "all but the sender");
    let set = gic.write(2, Frame::Dist, 0xf00, Width::B4, 2 << 24 | 7);
    assert_eq!(set.bits(), 0b100, "the sender");
}

// bug: 56
#[test]
fn list_registers_beyond_those_there_are_stay_unused() {
    for lrs in 1..=16 {
        let mut gic = Vgic::new(Config::new(Version::V3, 1, lrs, 256));
        gic.write(0, Frame::Dist, 0, Width::B4, 2);
        for k in 1..9 {
            gic.write(0, Frame::Dist, 0x100 + 4 * k, Width::B4, 0xffff_ffff);
            gic.write(0, Frame::Dist, 0x200 + 4 * k, Width::B4, 0xffff_ffff);
        }
        // A caller that offers more slots than there are, or fewer.
        for room in [0, 1, lrs, 16, 20] {
            let mut out = vec![ListRegister { intid: 9, ..ListRegister::FREE }; room];
            let plan = gic.flush_to_lrs(0, &mut out);
            assert_eq!(plan.used.count_ones() as usize, room.min(lrs));
            assert_eq!(u32::from(plan.used) >> lrs, 0);
            assert!(out[room.min(lrs)..].iter().all(|lr| *lr == ListRegister::FREE));
        }
        // Hardware that claims that more are free.
        let mut gic = Vgic::new(Config::new(Version::V3, 1, lrs, 32));
        gic.write(0, Frame::Dist, 0, Width::B4, 2);
        for n in 0..16 {
            gic.sgi1r(0, n << 24 | 1);
            if let Sync::Write(slot, _) = gic.sync(0, Event::Marked, !gic.used(0)) {
                assert!(slot < lrs);
            } else {
                assert!(n as usize >= lrs);
            }
        }
    }
}

// bug: 56
#[test]
fn list_registers_that_nothing_was_placed_in_are_not_believed() {
    let mut gic = Vgic::new(Config::new(Version::V3, 1, 4, 32));
    gic.write(0, Frame::Dist, 0, Width::B4, 2);
    let before = gic.clone();
    let junk = ListRegister { intid: 40, state: State::PendingActive, ..ListRegister::FREE };
    let set = gic.sync_from_lrs(
        0,
        vgic::Interface { eoi_count: 31, group0: true, group1: true },
        &[junk; 20],
    );
    assert_eq!(set, VcpuSet::EMPTY);
    assert_eq!(gic, before);
}

// bug: 45
#[test]
fn byte_write_to_itargetsr_touches_only_its_byte() {
    let mut m = Machine::new(Version::V2, 8, 4, 64);
    m.write(0, None, 0x820, 4, 0x0402_0180);
    m.write(0, None, 0x822, 1, 0xffff_ff10);
    assert_eq!(m.read(0, None, 0x820, 4), 0x0410_0180);
    assert_eq!(m.read(0, None, 0x821, 1), 0x01);
    assert_eq!(m.read(0, None, 0x824, 4), 0, "the next register is another");
    m.write(0, None, 0x822, 2, 0xffff);
    assert_eq!(m.read(0, None, 0x820, 4), 0x0410_0180, "halfwords have no effect");
}

// bug: 45
#[test]
fn byte_write_to_ipriorityr_touches_only_its_byte() {
    for version in BOTH {
        let mut m = machine(version, 1, 4);
        m.write(0, None, 0x424, 4, 0xa0b0_c0d0);
        m.write(0, None, 0x425, 1, 0x1f);
        assert_eq!(m.read(0, None, 0x424, 4), 0xa0b0_18d0);
        assert_eq!(m.read(0, None, 0x427, 1), 0xa0);
    }
}

#[test]
fn irouter_is_written_by_halves_or_whole() {
    let mut m = machine(Version::V3, 3, 4);
    m.write(0, None, 0x6108, 8, 0xffff_ffff_ffff_ffff);
    assert_eq!(m.read(0, None, 0x6108, 8), 0xff_00ff_ffff, "IRM is not offered");
    m.write(0, None, 0x6108, 4, 0x0000_0002);
    assert_eq!(m.read(0, None, 0x6108, 8), 0xff_0000_0002);
    m.write(0, None, 0x610c, 4, 0);
    assert_eq!(m.read(0, None, 0x6108, 8), 2);
    m.set_level(0, 33, true);
    assert_eq!(m.ack(2).unwrap().intid, 33);
    assert_eq!(m.read(0, None, 0x610c, 4), 0);
    assert_eq!(m.read(0, None, 0x60f8, 8), 0, "no IROUTER of a private interrupt");
}

#[test]
fn intids_above_255_keep_their_number() {
    for version in BOTH {
        let mut m = Machine::new(version, 2, 4, 256);
        m.write(0, None, 0, 4, 3);
        m.write(0, None, 0x100 + 4 * 8, 4, 0xffff_ffff);
        m.write(0, None, 0x800 + 287, 1, 1);
        m.forward(0, 287);
        assert_eq!(m.ack(0).unwrap().intid, 287);
        m.eoi(0);
        assert!(m.physical.is_empty(), "the physical INTID was kept whole, too");
    }
}

#[test]
fn registers_of_banks_that_are_not_there_are_reserved() {
    // ICFGR and the like beyond TYPER.ITLinesNumber.
    for version in BOTH {
        let mut gic = Vgic::new(Config::new(version, 1, 4, 32));
        let before = gic.clone();
        for offset in [0x88, 0x108, 0x208, 0x308, 0x440, 0x840, 0xc10, 0xcfc, 0x6200] {
            for width in [Width::B4, Width::B8] {
                gic.write(0, Frame::Dist, offset, width, u64::MAX);
                assert_eq!(gic.read(0, Frame::Dist, offset, width), 0, "{offset:#x}");
            }
        }
        assert_eq!(gic, before);
    }
}

// bug: 57
#[test]
fn a_spill_asks_for_a_maintenance_interrupt() {
    let mut m = machine(Version::V3, 1, 4);
    let hcr = |m: &Machine| m.cpus[0].hcr;
    m.write(0, None, 0x204, 4, 0xf);
    m.resync(0);
    assert_eq!(hcr(&m), 1, "four fit: nothing is asked for");
    m.write(0, None, 0x204, 4, 0x1f);
    assert_eq!(hcr(&m) & 8, 8, "the fifth comes through NPIE");
    assert_eq!(take_all(&mut m, 0), [32, 33, 34, 35, 36]);
    assert_eq!(hcr(&m), 1);
}

#[test]
fn reset_leaves_nothing() {
    for version in BOTH {
        let config = Config::new(version, 2, 4, 64);
        let fresh = Vgic::new(config);
        let mut m = machine(version, 2, 4);
        assert_eq!(*m.gic.config(), config);
        m.write(0, None, 0x820, 4, 0x0201_0201);
        m.write(0, None, 0x6100, 8, 1);
        m.write(0, None, 0xc08, 4, 0xaaaa_aaaa);
        m.write(0, None, 0x420, 4, 0x8888_8888);
        private(&mut m, 1, 0x400, 4, 0x8888_8888);
        m.write(0, Some(1), 0x14, 4, 2);
        m.set_level(0, 34, true);
        m.set_level(1, 21, true);
        m.write(0, None, 0x208, 4, 0xffff);
        self_sgi(&mut m, 0, 3);
        self_sgi(&mut m, 1, 4);
        m.ack(0).unwrap();
        m.ack(1).unwrap();
        m.gic.reset();
        assert_eq!(m.gic, fresh);
    }
}

#[test]
fn reset_names_forwarded_physical_interrupts() {
    let mut m = machine(Version::V3, 2, 4);
    m.forward(0, 27);
    m.forward(1, 27);
    m.forward(0, 40);
    m.forward(1, 30);
    assert_eq!(m.ack(0).unwrap().intid, 27);
    m.ack(1).unwrap();
    m.gic.reset();
    assert_eq!(m.gic.take_released(1), Some(27));
    assert_eq!(m.gic.take_released(1), Some(30));
    assert_eq!(m.gic.take_released(0), Some(27));
    assert_eq!(m.gic.take_released(0), Some(40));
    assert_eq!(m.gic.take_released(0), None);
    assert_eq!(m.gic.take_released(1), None);
    assert_eq!(m.gic, Vgic::new(*m.gic.config()));
}

// --- Identification ---

// bug: 58
#[test]
fn typer_tells_the_number_of_interrupts_and_vcpus() {
    let typer = |version, vcpus, spis| {
        let gic = Vgic::new(Config::new(version, vcpus, 4, spis));
        gic.read(0, Frame::Dist, 4, Width::B4)
    };
    assert_eq!(typer(Version::V2, 1, 0), 0);
    assert_eq!(typer(Version::V2, 8, 32), 7 << 5 | 1);
    assert_eq!(typer(Version::V2, 3, 256), 2 << 5 | 8);
    for (spis, lines) in [(0, 0), (1, 1), (32, 1), (33, 2), (256, 8), (1000, 8)] {
        assert_eq!(typer(Version::V3, 4, spis) & 0x1f, lines, "{spis} SPIs");
    }
    assert_eq!(typer(Version::V3, 4, 64) >> 19 & 0x1f, 9, "INTIDs of ten bits");
    assert_eq!(typer(Version::V3, 4, 64) >> 17 & 1, 0, "no LPIs");
    assert_eq!(typer(Version::V3, 4, 64) >> 10 & 1, 0, "one security state");
}

#[test]
fn pidr2_tells_the_architecture() {
    let v2 = Config::new(Version::V2, 1, 4, 32);
    let v3 = Config::new(Version::V3, 2, 4, 32);
    assert_eq!(v2.constant(Frame::Dist, 0xfe8, Width::B4), Some(0x2b));
    assert_eq!(v3.constant(Frame::Dist, 0xffe8, Width::B4), Some(0x3b));
    assert_eq!(v3.constant(Frame::Redist(1), 0xffe8, Width::B4), Some(0x3b));
    assert_eq!(v2.constant(Frame::Dist, 0xffe8, Width::B4), Some(0));
}

#[test]
fn redistributors_tell_their_affinity_and_which_is_last() {
    let gic = Vgic::new(Config::new(Version::V3, 3, 4, 32));
    for v in 0..3u64 {
        let frame = Frame::Redist(v as usize);
        let typer = gic.read(0, frame, 8, Width::B8);
        assert_eq!(typer >> 32, v, "affinity");
        assert_eq!(typer >> 8 & 0xffff, v, "processor number");
        assert_eq!(typer >> 4 & 1 != 0, v == 2, "Last");
        assert_eq!(typer & 1, 0, "no LPIs");
        assert_eq!(gic.read(0, frame, 8, Width::B4), typer & 0xffff_ffff);
        assert_eq!(gic.read(0, frame, 12, Width::B4), typer >> 32);
    }
}

#[test]
fn gicv3_has_affinity_routing_and_one_security_state_for_good() {
    let mut gic = Vgic::new(Config::new(Version::V3, 1, 4, 32));
    for value in [0, 3, 0xffff_ffff] {
        gic.write(0, Frame::Dist, 0, Width::B4, value);
        assert_eq!(gic.read(0, Frame::Dist, 0, Width::B4), 0x50 | value & 3);
    }
}

#[test]
fn waker_shakes_hands() {
    let mut gic = Vgic::new(Config::new(Version::V3, 2, 4, 32));
    let waker = |gic: &Vgic| gic.read(0, Frame::Redist(1), 0x14, Width::B4);
    assert_eq!(waker(&gic), 0, "awake, as firmware would leave it");
    gic.write(0, Frame::Redist(1), 0x14, Width::B4, 2);
    assert_eq!(waker(&gic), 6, "asleep, children too");
    assert_eq!(gic.read(0, Frame::Redist(0), 0x14, Width::B4), 0, "the other is not");
    gic.write(0, Frame::Redist(1), 0x14, Width::B4, 4);
    assert_eq!(waker(&gic), 0, "ChildrenAsleep is read-only");
}

#[test]
fn constants_do_not_depend_on_state() {
    for version in BOTH {
        let mut m = machine(version, 2, 4);
        let fresh = Vgic::new(*m.gic.config());
        m.write(0, None, 0x204, 4, 0xffff_ffff);
        m.write(0, None, 0x404, 4, 0xffff_ffff);
        let config = *fresh.config();
        let mut constants = 0;
        for frame in [Frame::Dist, Frame::Redist(0), Frame::Redist(1)] {
            for offset in (0..0x2_0000).step_by(4) {
                if let Some(value) = config.constant(frame, offset, Width::B4) {
                    assert_eq!(m.gic.read(1, frame, offset, Width::B4), value);
                    assert_eq!(fresh.read(0, frame, offset, Width::B4), value);
                    constants += usize::from(value != 0);
                }
            }
        }
        assert!(constants > 8);
        for offset in [0, 0x104, 0x204, 0x420] {
            assert_eq!(config.constant(Frame::Dist, offset, Width::B4), None, "{offset:#x}");
        }
        let write_only = config.constant(Frame::Dist, 0xf00, Width::B4);
        assert_eq!(write_only, Some(0), "SGIR reads 0");
    }
}

#[test]
fn gicv3_distributor_has_no_private_interrupts() {
    let mut gic = Vgic::new(Config::new(Version::V3, 2, 4, 32));
    let before = gic.clone();
    let mut offsets: Vec<u64> = (1..8).map(|n| 0x80 * n).collect();
    offsets.extend([0x400, 0x41c, 0xc00, 0xc04, 0x800, 0x820, 0xf00, 0xf10, 0xf20, 0xd00, 0xe00]);
    for offset in offsets {
        gic.write(0, Frame::Dist, offset, Width::B4, 0xffff_ffff);
        assert_eq!(gic.read(0, Frame::Dist, offset, Width::B4), 0, "{offset:#x}");
    }
    assert_eq!(gic, before);
}

// --- SGIs ---

#[test]
fn sgi1r_reaches_the_list_all_others_and_nobody_else() {
    let mut gic = Vgic::new(Config::new(Version::V3, 4, 4, 32));
    gic.write(0, Frame::Dist, 0, Width::B4, 2);
    let mut send = |by, value| gic.sgi1r(by, value).bits();
    assert_eq!(send(0, 5 << 24 | 0b1010), 0b1010);
    assert_eq!(send(1, 1 << 40 | 6 << 24), 0b1101, "IRM: all but the sender");
    assert_eq!(send(1, 1 << 40 | 6 << 24 | 0b0010), 0b1101, "whatever the list is");
    assert_eq!(send(0, 7 << 24 | 0xfff0), 0, "targets that do not exist");
    assert_eq!(send(0, 7 << 24), 0, "an empty list");
    let elsewhere = [16, 23, 32, 39, 44, 47, 48, 55];
    for bit in elsewhere {
        assert_eq!(send(0, 1 << bit | 7 << 24 | 0xf), 0, "another affinity or range: bit {bit}");
    }
    for (v, bits) in [(0, 1 << 6), (1, 1 << 5), (2, 1 << 6), (3, 1 << 5 | 1 << 6)] {
        assert_eq!(gic.read(v, Frame::Redist(v), 0x1_0200, Width::B4), bits, "vCPU {v}");
    }
}

#[test]
fn sgi0r_reaches_only_group_0() {
    let mut m = machine(Version::V3, 2, 4);
    private(&mut m, 1, 0x80, 4, !(1 << 3));
    m.sgi0r(0, 3 << 24 | 3);
    assert_eq!(private_read(&mut m, 0, 0x200, 4), 0, "group 1 there");
    assert_eq!(private_read(&mut m, 1, 0x200, 4), 1 << 3);
    m.sgi1r(0, 3 << 24 | 3);
    assert_eq!(private_read(&mut m, 0, 0x200, 4), 1 << 3);
    m.check();
}

#[test]
fn system_register_sgis_are_not_gicv2s() {
    let mut gic = Vgic::new(Config::new(Version::V2, 2, 4, 32));
    gic.write(0, Frame::Dist, 0, Width::B4, 3);
    let before = gic.clone();
    assert_eq!(gic.sgi1r(0, 3), VcpuSet::EMPTY);
    assert_eq!(gic.sgi0r(0, 3), VcpuSet::EMPTY);
    assert_eq!(gic.sync(0, Event::Sgi1r(1), 0xf), Sync::Fallback);
    assert_eq!(gic.sync(0, Event::Sgi1r(2), 0xf), Sync::Fallback);
    assert_eq!(gic, before);
}

#[test]
fn gicv2_sgis_keep_their_senders() {
    let mut m = machine(Version::V2, 4, 4);
    for by in [3, 1, 2] {
        m.write(by, None, 0xf00, 4, 1 << 16 | 9);
    }
    m.write(1, None, 0xf00, 4, 1 << 16 | 9);
    let mut sources = vec![];
    while let Some(ack) = m.ack(0) {
        assert_eq!(ack.intid, 9);
        sources.push(ack.source);
        m.eoi(0);
    }
    assert_eq!(sources, [1, 2, 3], "each once");
}

#[test]
fn gicv2_sgi_of_one_sender_is_taken_back() {
    let mut m = machine(Version::V2, 4, 4);
    for by in [1, 2, 3] {
        m.write(by, None, 0xf00, 4, 1 << 16 | 2);
    }
    assert_eq!(m.read(0, None, 0xf10, 4), 0x000e_0000);
    m.write(0, None, 0xf12, 1, 0b0110);
    assert_eq!(m.read(0, None, 0xf22, 1), 0b1000);
    m.write(0, None, 0xf22, 1, 0xf5);
    assert_eq!(m.read(0, None, 0xf12, 1), 0b1101, "senders that exist");
    m.write(0, None, 0x280, 4, 0xffff_ffff);
    assert_eq!(m.read(0, None, 0xf12, 1), 0b1101, "ICPENDR does not act on SGIs");
    assert_eq!(m.read(0, None, 0x200, 4), 1 << 2, "but they are seen there");
    m.write(0, None, 0x200, 4, 1 << 5);
    assert_eq!(m.read(0, None, 0x200, 4), 1 << 2, "nor ISPENDR");
    assert_eq!(take_all(&mut m, 0), [2, 2, 2]);
    assert_eq!(m.read(0, None, 0xf10, 4), 0);
    assert_eq!(m.read(0, None, 0x200, 4), 0);
}

#[test]
fn gicv2_sgi_without_a_sender_left_is_not_pending_and_the_others_are() {
    let mut m = machine(Version::V2, 2, 4);
    m.write(0, None, 0x180, 4, 0b1100);
    for sgi in [2, 3] {
        m.write(1, None, 0xf00, 4, 1 << 16 | sgi);
    }
    assert_eq!(m.read(0, None, 0x200, 4), 0b1100, "disabled, so that they wait");
    m.write(0, None, 0xf12, 1, 0b10);
    assert_eq!(m.read(0, None, 0x200, 4), 0b1000);
    m.write(0, None, 0x100, 4, 0b1100);
    assert_eq!(take_all(&mut m, 0), [3]);
}

#[test]
fn two_spis_are_found_behind_a_bank_with_nothing_left() {
    let mut m = machine(Version::V3, 1, 4);
    // SPI 40 is in its list register by now; 70 and 71 are more than the fast path places.
    m.write(0, None, 0x204, 4, 1 << 8);
    m.write(0, None, 0x208, 4, 1 << 6 | 1 << 7);
    assert_eq!(take_all(&mut m, 0), [40, 70, 71]);
}

#[test]
fn gicv2_sgi_in_a_list_register_is_taken_back_for_its_own_sender_only() {
    let mut m = machine(Version::V2, 4, 4);
    for by in [1, 3] {
        m.write(by, None, 0xf00, 4, 1 << 16 | 2);
    }
    m.write(0, None, 0xf12, 1, 0b1000);
    assert_eq!(m.read(0, None, 0xf12, 1), 0b0010, "sender 1 is in a list register");
    assert_eq!(m.read(0, None, 0x200, 4), 1 << 2, "and nothing else is pending");
    m.write(0, None, 0xf12, 1, 0b0101);
    assert_eq!(m.read(0, None, 0xf12, 1), 0b0010);
    m.write(0, None, 0xf12, 1, 0b0010);
    assert_eq!(m.ack(0), None);
    assert_eq!(m.read(0, None, 0xf12, 1), 0);
}

#[test]
fn gicv2_sgi_made_active_by_hand_has_no_former_sender() {
    let mut m = machine(Version::V2, 4, 4);
    m.write(3, None, 0xf00, 4, 1 << 16 | 2);
    assert_eq!(m.ack(0).unwrap().source, 3);
    // Folded while it is active, so that its sender is noted.
    m.resync(0);
    m.eoi(0);
    m.resync(0);
    m.write(0, None, 0x300, 4, 1 << 2);
    let lr = ListRegister::from_v2(m.cpus[0].lr[0] as u32);
    assert_eq!((lr.intid, lr.state, lr.source), (2, State::Active, 0));
}

#[test]
fn triggers_are_accessed_by_the_word() {
    for version in BOTH {
        let mut gic = Vgic::new(Config::new(version, 1, 4, 64));
        gic.write(0, Frame::Dist, 0xc08, Width::B4, 0b10);
        assert_eq!(gic.read(0, Frame::Dist, 0xc08, Width::B4), 0b10);
        let before = gic.clone();
        for width in [Width::B1, Width::B2] {
            assert_eq!(gic.read(0, Frame::Dist, 0xc08, width), 0);
            gic.write(0, Frame::Dist, 0xc08, width, 0b1000);
        }
        assert_eq!(gic, before);
    }
}

#[test]
fn gicv2_sgis_are_sent_by_the_word() {
    let mut gic = Vgic::new(Config::new(Version::V2, 2, 4, 32));
    let before = gic.clone();
    for width in [Width::B1, Width::B2] {
        // SGI 5 to the sender itself, were it a word.
        assert_eq!(gic.write(0, Frame::Dist, 0xf00, width, 2 << 24 | 5), VcpuSet::EMPTY);
        assert_eq!(gic, before);
    }
    gic.write(0, Frame::Dist, 0xf00, Width::B4, 2 << 24 | 5);
    assert_ne!(gic, before);
}

#[test]
fn private_interrupts_are_banked() {
    for version in BOTH {
        let mut m = machine(version, 3, 4);
        private(&mut m, 1, 0x404, 4, 0x1020_3040);
        assert_eq!(private_read(&mut m, 0, 0x404, 4), 0);
        assert_eq!(private_read(&mut m, 1, 0x404, 4), 0x1020_3040);
        private(&mut m, 2, 0x180, 4, 0xffff_0000);
        assert_eq!(private_read(&mut m, 0, 0x100, 4), 0xffff_ffff);
        assert_eq!(private_read(&mut m, 2, 0x100, 4), 0x0000_ffff);
        m.set_level(1, 20, true);
        assert_eq!(private_read(&mut m, 0, 0x200, 4), 0);
        assert_eq!(m.ack(0), None);
        assert_eq!(m.ack(1).unwrap().intid, 20);
    }
}

#[test]
fn gicv3_vcpus_reach_each_others_redistributors() {
    let mut m = machine(Version::V3, 2, 4);
    m.write(0, Some(1), 0x1_0200, 4, 1 << 5);
    assert_eq!(m.ack(0), None);
    assert_eq!(m.ack(1).unwrap().intid, 5);
}

#[test]
fn itargetsr_of_private_interrupts_names_the_reader() {
    let mut m = machine(Version::V2, 8, 4);
    for v in 0..8u64 {
        assert_eq!(m.read(v as usize, None, 0x800, 4), 0x0101_0101 << v);
        assert_eq!(m.read(v as usize, None, 0x81f, 1), 1 << v);
        m.write(v as usize, None, 0x800, 4, 0xffff_ffff);
        assert_eq!(m.read(v as usize, None, 0x800, 4), 0x0101_0101 << v, "read-only");
    }
}

// --- Level, edge, routing ---

#[test]
fn a_line_that_stays_high_comes_again_after_the_eoi() {
    for version in BOTH {
        let mut m = machine(version, 1, 4);
        m.set_level(0, 33, true);
        for _ in 0..5 {
            assert_eq!(m.ack(0).unwrap().intid, 33);
            assert_eq!(m.ack(0), None, "not while it is active");
            m.eoi(0);
        }
        m.ack(0).unwrap();
        m.set_level(0, 33, false);
        m.eoi(0);
        assert_eq!(m.ack(0), None, "the handler made the line fall");
    }
}

#[test]
fn a_line_that_falls_before_the_acknowledge_takes_the_interrupt_back() {
    for version in BOTH {
        let mut m = machine(version, 2, 4);
        m.set_level(0, 33, true);
        m.set_level(1, 33, false);
        assert_eq!(m.ack(0), None);
        assert_eq!(m.read(0, None, 0x204, 4), 0);
    }
}

#[test]
fn icpendr_does_not_hide_a_line_that_is_high() {
    for version in BOTH {
        let mut m = machine(version, 1, 4);
        m.set_level(0, 33, true);
        m.write(0, None, 0x284, 4, 2);
        assert_eq!(m.read(0, None, 0x204, 4), 2);
        assert_eq!(m.ack(0).unwrap().intid, 33);
    }
}

#[test]
fn ispendr_outlives_the_line_until_the_acknowledge() {
    for version in BOTH {
        let mut m = machine(version, 1, 4);
        m.set_level(0, 33, true);
        m.write(0, None, 0x204, 4, 2);
        m.set_level(0, 33, false);
        assert_eq!(m.read(0, None, 0x204, 4), 2);
        assert_eq!(take_all(&mut m, 0), [33], "once");
    }
}

#[test]
fn edges_while_pending_are_one_and_an_edge_while_active_is_one_more() {
    for version in BOTH {
        let mut m = machine(version, 1, 4);
        m.write(0, None, 0xc08, 4, 0b10 << 2);
        let pulse = |m: &mut Machine| {
            m.set_level(0, 33, true);
            m.set_level(0, 33, false);
        };
        pulse(&mut m);
        pulse(&mut m);
        m.ack(0).unwrap();
        pulse(&mut m);
        pulse(&mut m);
        m.eoi(0);
        assert_eq!(take_all(&mut m, 0), [33]);
    }
}

/// vCPU 0 acknowledges SPI 33, which is then routed to vCPU 1 and pulses again. vCPU 0 ends the first one: the second one
/// is vCPU 1's and comes once, whether it came before or after the new route.
#[test]
fn an_edge_behind_an_active_one_that_was_routed_away_goes_to_the_new_target() {
    for (version, early) in
        [(Version::V2, false), (Version::V2, true), (Version::V3, false), (Version::V3, true)]
    {
        let mut m = machine(version, 2, 4);
        m.write(0, None, 0xc08, 4, 0b10 << 2);
        let pulse = |m: &mut Machine| {
            m.set_level(0, 33, true);
            m.set_level(0, 33, false);
        };
        pulse(&mut m);
        assert_eq!(m.ack(0).unwrap().intid, 33);
        if early {
            pulse(&mut m);
        }
        match version {
            Version::V2 => m.write(0, None, 0x821, 1, 0b10),
            Version::V3 => m.write(0, None, 0x6108, 8, 1),
        }
        if !early {
            pulse(&mut m);
        }
        m.check();
        m.eoi(0);
        m.check();
        assert_eq!(m.ack(0), None, "{version:?}, early: {early}");
        assert_eq!(take_all(&mut m, 1), [33], "{version:?}, early: {early}");
        m.check_registers();
    }
}

#[test]
fn an_edge_behind_one_that_was_ended_takes_one_list_register() {
    let mut gic = Vgic::new(Config::new(Version::V3, 1, 4, 32));
    gic.write(0, Frame::Dist, 0, Width::B4, 2);
    gic.write(0, Frame::Dist, 0x104, Width::B4, 2);
    gic.write(0, Frame::Dist, 0xc08, Width::B4, 0b10 << 2);
    for _ in 0..3 {
        let set = gic.set_level(0, 33, true).union(gic.set_level(0, 33, false));
        assert_eq!(set, VcpuSet::single(0));
        // The guest has ended the one before: all list registers are free in hardware.
        assert!(matches!(gic.sync(0, Event::Marked, 0xf), Sync::Write(0, lr) if lr.intid == 33));
    }
    gic.set_level(0, 33, true);
    assert_eq!(gic.sync(0, Event::Marked, 0xe), Sync::Full, "it has not ended it");
}

#[test]
fn an_edge_behind_an_active_one_that_was_routed_away_reads_it_back() {
    let mut gic = Vgic::new(Config::new(Version::V3, 2, 4, 32));
    gic.write(0, Frame::Dist, 0, Width::B4, 2);
    gic.write(0, Frame::Dist, 0x104, Width::B4, 2);
    gic.write(0, Frame::Dist, 0xc08, Width::B4, 0b10 << 2);
    gic.set_level(0, 33, true);
    let Sync::Write(0, lr) = gic.sync(0, Event::Marked, 0xf) else { panic!("it is placed") };
    gic.set_level(0, 33, false);
    // Acknowledged, then routed to vCPU 1: it stays where it is active.
    gic.write(0, Frame::Dist, 0x6108, Width::B8, 1);
    let interface = vgic::Interface::new(0, 3);
    let active = ListRegister { state: State::Active, ..lr };
    gic.sync_from_lrs(0, interface, &[active]);
    gic.flush_to_lrs(0, &mut [ListRegister::FREE; 4]);
    assert_eq!(gic.set_level(0, 33, true), VcpuSet::single(0));
    // By now the guest has ended it: vCPU 1 is to get the new one.
    assert_eq!(gic.sync(0, Event::Marked, 0xf), Sync::Full);
    let ended = ListRegister { state: State::Invalid, ..lr };
    assert_eq!(gic.sync_from_lrs(0, interface, &[ended]), VcpuSet::single(1));
}

#[test]
fn a_line_held_high_is_one_edge() {
    let mut m = machine(Version::V3, 1, 4);
    m.write(0, None, 0xc08, 4, 0b10 << 2);
    m.set_level(0, 33, true);
    m.set_level(0, 33, true);
    assert_eq!(take_all(&mut m, 0), [33]);
    m.set_level(0, 33, true);
    assert_eq!(take_all(&mut m, 0), [0u32; 0]);
}

#[test]
fn a_line_that_rises_again_concerns_nobody_where_its_eoi_is_awaited() {
    let mut gic = Vgic::new(Config::new(Version::V3, 1, 4, 32));
    gic.write(0, Frame::Dist, 0, Width::B4, 2);
    gic.write(0, Frame::Dist, 0x104, Width::B4, 2);
    gic.set_level(0, 33, true);
    assert!(matches!(gic.sync(0, Event::Marked, 0xf), Sync::Write(0, lr) if lr.eoi_maintenance));
    assert_eq!(gic.set_level(0, 33, false), VcpuSet::single(0), "to be withdrawn");
    assert_eq!(gic.set_level(0, 33, true), VcpuSet::EMPTY);
}

#[test]
fn a_store_concerns_the_vcpu_that_holds_the_interrupt() {
    let mut gic = Vgic::new(Config::new(Version::V3, 3, 4, 64));
    gic.write(0, Frame::Dist, 0, Width::B4, 2);
    gic.write(0, Frame::Dist, 0x104, Width::B4, 2);
    gic.write(0, Frame::Dist, 0x6108, Width::B8, 2);
    assert_eq!(gic.set_level(1, 33, true), VcpuSet::single(2));
    assert!(matches!(gic.sync(2, Event::Marked, 0xf), Sync::Write(0, lr) if lr.intid == 33));
    gic.write(0, Frame::Dist, 0x6108, Width::B8, 1);
    // Routed to vCPU 1 by now, but in vCPU 2's list register until that is folded.
    for offset in [0x304, 0x384, 0x204, 0x284, 0x184, 0x104] {
        let set = gic.write(0, Frame::Dist, offset, Width::B4, 2);
        assert_eq!(set, VcpuSet::single(2), "{offset:#x}");
    }
    let lr = ListRegister { intid: 33, state: State::Pending, ..ListRegister::FREE };
    let interface = vgic::Interface { eoi_count: 0, group0: true, group1: true };
    assert_eq!(gic.sync_from_lrs(2, interface, &[lr]), VcpuSet::single(1), "now it is vCPU 1's");
    assert!(gic.deliverable(1) && !gic.deliverable(2));
}

#[test]
fn nothing_changes_while_a_line_does_not() {
    let mut gic = Vgic::new(Config::new(Version::V3, 1, 4, 32));
    gic.write(0, Frame::Dist, 0, Width::B4, 2);
    gic.write(0, Frame::Dist, 0x104, Width::B4, 2);
    assert_eq!(gic.set_level(0, 33, false), VcpuSet::EMPTY);
    assert_eq!(gic.set_level(0, 33, true), VcpuSet::single(0));
    let before = gic.clone();
    assert_eq!(gic.set_level(0, 33, true), VcpuSet::EMPTY);
    assert_eq!(gic, before);
}

#[test]
fn a_pending_spi_moves_with_its_route_and_an_active_one_stays() {
    for version in BOTH {
        let mut m = machine(version, 3, 4);
        let route = |m: &mut Machine, to: u64| {
            if version == Version::V3 {
                m.write(0, None, 0x6108, 8, to);
            } else {
                m.write(0, None, 0x821, 1, if to < 8 { 1 << to } else { 0 });
            }
        };
        m.set_level(0, 33, true);
        route(&mut m, 1);
        assert_eq!(m.ack(0), None);
        assert_eq!(m.ack(1).unwrap().intid, 33);
        route(&mut m, 2);
        assert_eq!(m.ack(2), None, "active at vCPU 1");
        m.eoi(1);
        assert_eq!(m.ack(2).unwrap().intid, 33);
        m.eoi(2);
        route(&mut m, 77);
        for v in 0..3 {
            assert_eq!(m.ack(v), None, "routed to no vCPU");
        }
        assert_eq!(m.read(0, None, 0x204, 4), 2, "and kept");
        route(&mut m, 0);
        assert_eq!(m.ack(0).unwrap().intid, 33);
    }
}

#[test]
fn gicv2_spi_goes_to_the_first_of_its_targets() {
    let mut m = machine(Version::V2, 4, 4);
    m.write(0, None, 0x821, 1, 0b1100);
    m.set_level(0, 33, true);
    assert_eq!(m.ack(3), None);
    assert_eq!(m.ack(2).unwrap().intid, 33);
}

#[test]
fn a_uniprocessor_need_not_write_itargetsr() {
    let mut m = Machine::new(Version::V2, 1, 4, 32);
    m.write(0, None, 0, 4, 1);
    m.write(0, None, 0x104, 4, 2);
    m.set_level(0, 33, true);
    assert_eq!(m.ack(0).unwrap().intid, 33);
}

#[test]
fn distributor_disable_withdraws_and_enable_returns() {
    for version in BOTH {
        let mut m = machine(version, 1, 4);
        m.set_level(0, 33, true);
        self_sgi(&mut m, 0, 1);
        m.write(0, None, 0, 4, 0);
        assert_eq!(m.ack(0), None);
        assert_eq!(private_read(&mut m, 0, 0x200, 4), 2, "kept");
        m.write(0, None, 0, 4, 3);
        assert_eq!(m.ack(0).unwrap().intid, 1);
    }
}

#[test]
fn groups_are_enabled_apart() {
    let mut m = machine(Version::V3, 1, 4);
    m.write(0, None, 0x84, 4, !2);
    m.write(0, None, 0, 4, 2);
    m.set_level(0, 33, true);
    assert_eq!(m.ack(0), None, "33 is of group 0");
    m.write(0, None, 0, 4, 1);
    assert_eq!(m.ack(0).unwrap().intid, 33);
    m.eoi(0);
    m.set_level(0, 34, true);
    assert_eq!(take_all_once(&mut m, 33), 33);
    assert_eq!(m.ack(0), None, "34 is of group 1");
}

#[test]
fn a_pending_interrupt_that_changes_its_group_is_delivered_as_that() {
    let mut m = machine(Version::V3, 1, 4);
    m.cpus[0].groups = [false, true];
    m.set_level(0, 33, true);
    m.write(0, None, 0x84, 4, !2);
    assert_eq!(m.ack(0), None, "a FIQ now");
    m.write(0, None, 0x84, 4, 2);
    assert_eq!(m.ack(0).unwrap().intid, 33);
}

#[test]
fn a_pending_interrupt_that_changes_its_priority_is_delivered_with_that() {
    for version in BOTH {
        let mut m = machine(version, 1, 4);
        private(&mut m, 0, 0x400, 4, 0x80_80_80_80);
        m.write(0, None, 0x421, 1, 0x80);
        self_sgi(&mut m, 0, 2);
        m.set_level(0, 33, true);
        m.write(0, None, 0x421, 1, 0x10);
        m.check();
        assert_eq!(m.ack(0).unwrap().intid, 33);
        self_sgi(&mut m, 0, 1);
        private(&mut m, 0, 0x401, 1, 0x08);
        assert_eq!(m.ack(0).unwrap().intid, 1, "preempts");
    }
}

#[test]
fn a_pending_interrupt_that_changes_its_trigger_is_pending_for_that() {
    for version in BOTH {
        let mut m = machine(version, 1, 4);
        m.set_level(0, 33, true);
        m.write(0, None, 0xc08, 4, 0b10 << 2);
        assert_eq!(m.ack(0), None, "no edge has come since");
        m.write(0, None, 0xc08, 4, 0);
        assert_eq!(m.ack(0).unwrap().intid, 33, "the line is high");
    }
}

#[test]
fn an_spi_made_active_by_hand_is_its_targets_to_end() {
    let mut m = machine(Version::V3, 2, 4);
    m.cpus[1].eoi_mode = true;
    m.write(0, None, 0x6108, 8, 1);
    m.write(0, None, 0x304, 4, 2);
    m.cpus[1].deactivate(33, 0);
    m.ideal.deactivate(1, 33);
    assert_eq!(m.read(0, None, 0x304, 4), 0);
    m.set_level(0, 33, true);
    assert_eq!(m.ack(1).unwrap().intid, 33);
}

#[test]
fn sgis_stay_edge_triggered() {
    for version in BOTH {
        let mut m = machine(version, 1, 4);
        private(&mut m, 0, 0xc00, 4, 0);
        assert_eq!(private_read(&mut m, 0, 0xc00, 4), 0xaaaa_aaaa);
        private(&mut m, 0, 0xc04, 4, 0xffff_ffff);
        let ppis = if version == Version::V3 { 0xaaaa_aaaa } else { 0 };
        assert_eq!(private_read(&mut m, 0, 0xc04, 4), ppis);
    }
}

// --- Forwarded physical interrupts ---

#[test]
fn a_forwarded_timer_is_deactivated_by_the_guest() {
    for version in BOTH {
        let mut m = machine(version, 1, 4);
        for _ in 0..20 {
            m.forward(0, 27);
            assert!(m.physical.contains(&(Some(0), 27)));
            assert_eq!(m.ack(0).unwrap().intid, 27);
            assert!(m.physical.contains(&(Some(0), 27)), "until the EOI");
            m.eoi(0);
            assert!(m.physical.is_empty());
        }
        assert!(m.full_plans < 5, "without folds");
    }
}

#[test]
fn a_forwarded_interrupt_that_is_disabled_waits_and_does_not_storm() {
    let mut m = machine(Version::V3, 1, 4);
    private(&mut m, 0, 0x180, 4, 1 << 27);
    m.forward(0, 27);
    assert_eq!(m.ack(0), None);
    assert!(m.physical.contains(&(Some(0), 27)), "it cannot fire again");
    private(&mut m, 0, 0x100, 4, 1 << 27);
    assert_eq!(m.ack(0).unwrap().intid, 27);
    m.eoi(0);
    assert!(m.physical.is_empty());
}

#[test]
fn a_forwarded_interrupt_whose_line_fell_is_withdrawn_and_released() {
    let mut m = machine(Version::V3, 1, 4);
    m.forward(0, 27);
    m.set_level(0, 27, false);
    assert_eq!(m.ack(0), None);
    assert!(m.physical.is_empty());
    // After the acknowledge the line does not matter.
    m.forward(0, 27);
    m.ack(0).unwrap();
    m.set_level(0, 27, false);
    assert!(m.physical.contains(&(Some(0), 27)));
    m.eoi(0);
    assert!(m.physical.is_empty());
}

/// A timer whose interrupt was disabled when it expired, and which is off when the interrupt is enabled.
#[test]
fn a_forwarded_line_that_fell_while_it_was_disabled_is_not_delivered() {
    for version in [Version::V2, Version::V3] {
        let mut m = machine(version, 1, 4);
        let (redist, base) = if version == Version::V3 { (Some(0), 0x1_0000) } else { (None, 0) };
        m.write(0, redist, base + 0x180, 4, 1 << 27);
        assert!(!m.gic.awaits_level(0, 27, m.cpus[0].empty()), "nothing is forwarded");
        m.forward(0, 27);
        assert_eq!(m.read(0, redist, base + 0x200, 4) >> 27 & 1, 1);
        assert!(m.gic.awaits_level(0, 27, m.cpus[0].empty()));
        m.fall(0, 27);
        assert!(m.physical.is_empty(), "the timer may fire again");
        assert_eq!(m.read(0, redist, base + 0x200, 4) >> 27 & 1, 0);
        m.write(0, redist, base + 0x100, 4, 1 << 27);
        assert_eq!(m.ack(0), None);
        // In a list register, and not acknowledged.
        m.forward(0, 27);
        assert!(m.gic.awaits_level(0, 27, m.cpus[0].empty()));
        m.fall(0, 27);
        assert_eq!(m.ack(0), None);
        // Acknowledged: it may be looked at, and stays active. Ended: there is nothing to look at.
        m.forward(0, 27);
        assert_eq!(m.ack(0).unwrap().intid, 27);
        m.fall(0, 27);
        assert_eq!(m.read(0, redist, base + 0x300, 4) >> 27 & 1, 1);
        assert!(!m.gic.awaits_level(0, 27, m.cpus[0].empty()), "known to be active");
        m.eoi(0);
        m.forward(0, 27);
        m.ack(0).unwrap();
        m.eoi(0);
        assert!(
            !m.gic.awaits_level(0, 27, m.cpus[0].empty()),
            "in a list register that is free again"
        );
        m.check();
    }
}

/// An edge has no line to look at.
#[test]
fn an_edge_that_is_forwarded_stays_pending() {
    let mut m = machine(Version::V3, 1, 4);
    m.write(0, None, 0xc08, 4, 2 << 16);
    m.write(0, None, 0x184, 4, 1 << 8);
    m.forward(0, 40);
    assert!(!m.gic.awaits_level(0, 40, m.cpus[0].empty()));
    m.write(0, None, 0x104, 4, 1 << 8);
    assert_eq!(m.ack(0).unwrap().intid, 40);
    m.check();
}

/// A level in another vCPU's list register: whether that vCPU has ended it is not known.
#[test]
fn a_forwarded_line_that_fell_is_withdrawn_from_another_vcpu() {
    let mut m = machine(Version::V3, 2, 4);
    m.write(0, None, 0x6000 + 8 * 40, 8, 1);
    m.forward(0, 40);
    assert!(m.gic.awaits_level(0, 40, m.cpus[0].empty()));
    m.fall(0, 40);
    assert_eq!(m.ack(1), None);
    assert!(!m.gic.awaits_level(9, 27, 0) && !m.gic.awaits_level(0, 2000, 0));
    m.check();
}

#[test]
fn icactiver_and_icpendr_release_a_forwarded_interrupt() {
    for version in BOTH {
        let mut m = machine(version, 2, 4);
        m.forward(0, 27);
        private(&mut m, 0, 0x280, 4, 1 << 27);
        assert!(m.physical.is_empty(), "ICPENDR");
        m.forward(0, 27);
        m.ack(0).unwrap();
        private(&mut m, 0, 0x380, 4, 1 << 27);
        assert!(m.physical.is_empty(), "ICACTIVER");
        m.eoi(0);
        m.forward(0, 40);
        m.ack(0).unwrap();
        m.write(1, None, 0x384, 4, 1 << 8);
        assert!(m.physical.is_empty(), "ICACTIVER of an SPI, by another vCPU");
    }
}

#[test]
fn whether_an_interrupt_is_forwarded_is_known_after_a_fold() {
    let mut m = machine(Version::V3, 2, 4);
    let forwarded = |m: &mut Machine| {
        m.resync(0);
        (m.gic.is_forwarded(0, 27), m.gic.is_forwarded(1, 27), m.gic.is_forwarded(0, 40))
    };
    assert_eq!(forwarded(&mut m), (false, false, false));
    m.forward(0, 27);
    m.forward(1, 40);
    assert_eq!(forwarded(&mut m), (true, false, true));
    m.ack(0).unwrap();
    assert_eq!(forwarded(&mut m), (true, false, true), "active");
    m.eoi(0);
    assert_eq!(forwarded(&mut m), (false, false, true));
    assert!(!m.gic.is_forwarded(9, 27) && !m.gic.is_forwarded(0, 2000));
}

#[test]
fn a_forwarded_interrupt_made_pending_while_active_comes_again() {
    // HW=1 allows no pending and active, and no EOI maintenance: software deactivates.
    for trigger in [0, 0xaaaa_aaaa] {
        let mut m = machine(Version::V3, 1, 4);
        private(&mut m, 0, 0xc04, 4, trigger);
        m.forward(0, 27);
        m.ack(0).unwrap();
        private(&mut m, 0, 0x200, 4, 1 << 27);
        m.eoi(0);
        assert_eq!(m.ack(0).unwrap().intid, 27);
        m.eoi(0);
        assert!(m.physical.is_empty());
        assert_eq!(m.ack(0), None);
    }
}

// --- List registers ---

// bug: 57
#[test]
fn many_pending_come_in_order_of_priority_whatever_the_number_of_list_registers() {
    for version in BOTH {
        for lrs in [1, 2, 3, 4, 16] {
            let mut m = machine(version, 1, lrs);
            let priority = |intid: u64| (intid * 7 % 31 + 1) * 8;
            for intid in 32..96 {
                m.write(0, None, 0x400 + intid, 1, priority(intid));
            }
            m.write(0, None, 0x204, 4, 0xffff_ffff);
            m.write(0, None, 0x208, 4, 0xffff_ffff);
            m.check();
            let mut expected: Vec<u32> = (32..96).collect();
            expected.sort_by_key(|&intid| (priority(intid.into()), intid));
            assert_eq!(take_all(&mut m, 0), expected, "{lrs} list registers");
        }
    }
}

#[test]
fn one_exit_serves_all_but_one_of_the_list_registers() {
    let mut m = machine(Version::V3, 1, 4);
    m.write(0, None, 0x204, 4, 0xffff_ffff);
    m.write(0, None, 0x208, 4, 0xffff_ffff);
    let before = m.full_plans;
    assert_eq!(take_all(&mut m, 0).len(), 64);
    assert!(m.full_plans - before <= 64 / 3 + 1, "{} plans", m.full_plans - before);
}

#[test]
fn a_line_that_falls_in_the_handler_costs_no_maintenance_interrupt() {
    let mut m = machine(Version::V3, 1, 4);
    m.set_level(0, 33, true);
    m.ack(0).unwrap();
    m.set_level(0, 33, false);
    let before = m.full_plans;
    m.eoi(0);
    assert_eq!(m.full_plans, before);
    m.set_level(0, 33, true);
    m.ack(0).unwrap();
    m.set_level(0, 33, false);
    m.set_level(0, 33, true);
    m.eoi(0);
    assert_eq!(m.ack(0).unwrap().intid, 33, "it rose again before the EOI");
}

#[test]
fn a_higher_priority_finds_a_place_when_all_list_registers_are_full() {
    for lrs in [1, 2, 4] {
        let mut m = machine(Version::V3, 1, lrs);
        for intid in 32..40 {
            m.write(0, None, 0x400 + intid, 1, 0x80);
        }
        m.write(0, None, 0x204, 4, 0xff);
        m.write(0, None, 0x205, 1, 0);
        m.write(0, None, 0x204, 4, 1 << 10);
        assert_eq!(m.ack(0).unwrap().intid, 42, "{lrs} list registers");
    }
}

#[test]
fn more_nested_than_there_are_list_registers() {
    for version in BOTH {
        for lrs in [1, 2, 4] {
            let mut m = machine(version, 1, lrs);
            for intid in 32..52u64 {
                m.write(0, None, 0x400 + intid, 1, 0xf8 - (intid - 32) * 8);
            }
            for intid in 32..52 {
                m.set_level(0, intid, true);
                assert_eq!(m.ack(0).unwrap().intid, intid, "preempts");
                m.check();
            }
            assert_eq!(m.read(0, None, 0x304, 4), 0xf_ffff, "all active");
            for intid in (32..52).rev() {
                m.set_level(0, intid, false);
                m.eoi(0);
                let active = m.read(0, None, 0x304, 4);
                assert_eq!(active, (1 << (intid - 32)) - 1, "{lrs} list registers");
            }
            assert_eq!(m.ack(0), None);
        }
    }
}

#[test]
fn eoi_mode_deactivates_in_any_order_what_is_in_no_list_register() {
    let mut m = machine(Version::V3, 1, 2);
    m.cpus[0].eoi_mode = true;
    for intid in 32..40 {
        m.set_level(0, intid, true);
        assert_eq!(m.ack(0).unwrap().intid, intid);
        m.eoi(0);
        m.set_level(0, intid, false);
    }
    assert_eq!(m.read(0, None, 0x304, 4), 0xff);
    assert!(m.cpus[0].dir_traps());
    for (which, left) in [(3, 0xf7), (0, 0xf6), (5, 0x76), (0, 0x74)] {
        m.dir(0, which);
        assert_eq!(m.read(0, None, 0x304, 4), left);
        m.check();
    }
}

#[test]
fn deactivating_what_is_not_active_or_anothers_does_nothing() {
    let mut m = machine(Version::V3, 2, 4);
    m.set_level(0, 33, true);
    m.ack(0).unwrap();
    for v in 0..2 {
        m.fold(v);
    }
    let before = m.gic.clone();
    assert_eq!(m.gic.deactivate(1, 33), VcpuSet::EMPTY, "active at vCPU 0");
    assert_eq!(m.gic.deactivate(0, 34), VcpuSet::EMPTY);
    assert_eq!(m.gic.deactivate(0, 5), VcpuSet::EMPTY);
    assert_eq!(m.gic, before);
    m.gic.deactivate(0, 33);
    assert_ne!(m.gic, before);
}

#[test]
fn an_eoi_of_what_was_never_acknowledged_does_nothing() {
    let mut m = machine(Version::V3, 1, 4);
    m.write(0, None, 0x304, 4, 0xf);
    for intid in [50, 51, 52] {
        m.cpus[0].deactivate(intid, 0);
    }
    m.settle();
    m.resync(0);
    assert_eq!(m.read(0, None, 0x304, 4), 0xf);
}

#[test]
fn a_group_that_the_guest_does_not_take_does_not_block_the_other() {
    let mut m = machine(Version::V3, 1, 2);
    m.write(0, None, 0x84, 4, 0xffff_0000);
    for intid in 48..64 {
        m.write(0, None, 0x400 + intid, 1, 0x80);
    }
    m.cpus[0].groups = [false, true];
    m.write(0, None, 0x204, 4, 0xffff_ffff);
    m.resync(0);
    m.check();
    assert_eq!(take_all(&mut m, 0), (48..64).collect::<Vec<_>>(), "group 1");
    m.cpus[0].groups = [true, true];
    m.settle();
    assert_eq!(take_all(&mut m, 0), (32..48).collect::<Vec<_>>(), "group 0, once it is taken");
}

#[test]
fn a_group_that_the_guest_stops_taking_makes_room_for_the_other() {
    for (first, last) in [(0, 1), (1, 0)] {
        let mut m = machine(Version::V3, 1, 2);
        // SPIs 32..=39 are of group `first` and more urgent than 48..=55 of group `last`.
        m.write(0, None, 0x84, 4, if first == 1 { 0xffff } else { 0xffff_0000 });
        for intid in 48..56 {
            m.write(0, None, 0x400 + intid, 1, 0x80);
        }
        m.write(0, None, 0x204, 4, 0x00ff_00ff);
        m.check();
        m.cpus[0].groups[first] = false;
        m.settle();
        m.check();
        assert_eq!(take_all(&mut m, 0), (48..56).collect::<Vec<_>>(), "group {last}");
        m.cpus[0].groups[first] = true;
        m.settle();
        assert_eq!(take_all(&mut m, 0), (32..40).collect::<Vec<_>>(), "group {first}");
    }
}

#[test]
fn pending_and_active_does_not_overtake_what_was_left_out() {
    for version in BOTH {
        let mut m = machine(version, 1, 3);
        private(&mut m, 0, 0x401, 1, 0x40);
        self_sgi(&mut m, 0, 1);
        assert_eq!(m.ack(0).unwrap().intid, 1);
        m.write(0, None, 0x204, 4, 0xff);
        self_sgi(&mut m, 0, 1);
        m.eoi(0);
        m.check();
        let mut expected: Vec<u32> = (32..40).collect();
        expected.push(1);
        assert_eq!(take_all(&mut m, 0), expected);
    }
}

#[test]
fn pending_and_active_is_one_list_register_where_there_is_room() {
    let mut m = machine(Version::V3, 1, 4);
    self_sgi(&mut m, 0, 1);
    m.ack(0).unwrap();
    self_sgi(&mut m, 0, 1);
    let lr = ListRegister::from_v3(m.cpus[0].lr[0]);
    assert_eq!((lr.intid, lr.state, lr.eoi_maintenance), (1, State::PendingActive, false));
    let before = m.full_plans;
    m.eoi(0);
    assert_eq!(m.ack(0).unwrap().intid, 1);
    assert_eq!(m.full_plans, before, "no exit in between");
}

#[test]
fn a_plan_that_was_not_preceded_by_a_fold_loses_nothing() {
    let mut m = machine(Version::V3, 1, 4);
    m.set_level(0, 33, true);
    m.forward(0, 27);
    self_sgi(&mut m, 0, 4);
    m.write(0, None, 0x304, 4, 1 << 9);
    m.plan(0);
    m.plan(0);
    m.check();
    assert_eq!(m.read(0, None, 0x304, 4), 1 << 9);
    assert_eq!(m.read(0, None, 0x204, 4), 1 << 1, "what is active is not pending too");
    assert_eq!(m.ack(0).unwrap().intid, 4);
    m.eoi(0);
    assert_eq!(m.ack(0).unwrap().intid, 27);
    m.eoi(0);
    assert_eq!(take_all_once(&mut m, 33), 33);
    assert_eq!(m.ack(0), None);
}

#[test]
fn the_short_way_writes_one_list_register() {
    let mut gic = Vgic::new(Config::new(Version::V3, 2, 4, 64));
    gic.write(0, Frame::Dist, 0, Width::B4, 2);
    gic.write(0, Frame::Dist, 0x104, Width::B4, 0xff);
    gic.write(0, Frame::Dist, 0x424, Width::B4, 0x4000);
    gic.write(0, Frame::Dist, 0xc08, Width::B4, 0x800);
    assert_eq!(gic.sync(0, Event::Marked, 0xf), Sync::Unchanged);
    assert_eq!(gic.set_level(1, 37, true), VcpuSet::single(0));
    let lr = ListRegister {
        intid: 37,
        state: State::Pending,
        priority: 0x40,
        group1: true,
        hw: None,
        eoi_maintenance: false,
        source: 0,
    };
    assert_eq!(
        gic.sync(0, Event::Marked, 0xe),
        Sync::Write(1, lr),
        "the first that is free in hardware"
    );
    assert_eq!(gic.used(0), 0b10);
    assert_eq!(gic.sync(0, Event::Marked, 0xd), Sync::Unchanged);
    gic.sgi1r(1, 1 << 24 | 1);
    gic.sgi1r(1, 2 << 24 | 1);
    assert_eq!(gic.sync(0, Event::Marked, 0xd), Sync::Full, "two at once");
}

#[test]
fn after_a_maintenance_interrupt_the_short_way_is_not_taken() {
    let mut gic = Vgic::new(Config::new(Version::V3, 1, 4, 32));
    gic.write(0, Frame::Dist, 0, Width::B4, 2);
    gic.write(0, Frame::Dist, 0x104, Width::B4, 0xff);
    gic.set_level(0, 33, true);
    assert!(matches!(gic.sync(0, Event::Marked, 0xf), Sync::Write(0, lr) if lr.eoi_maintenance));
    // Ended by the guest: ICH_EISR_EL2 has it, ICH_ELRSR_EL2 does not.
    assert_eq!(gic.sync(0, Event::Marked, 0xe), Sync::Full);
}

#[test]
fn gicv2_self_sgis_take_the_short_way() {
    let mut m = machine(Version::V2, 2, 4);
    let before = m.full_plans;
    for _ in 0..10 {
        self_sgi(&mut m, 0, 3);
        assert_eq!(m.ack(0).unwrap().intid, 3);
        m.eoi(0);
    }
    assert_eq!(m.full_plans, before);
}

#[test]
fn a_self_sgi_is_placed_at_once_and_stays_with_its_list_register() {
    let mut gic = Vgic::new(Config::new(Version::V3, 2, 4, 32));
    gic.write(0, Frame::Dist, 0, Width::B4, 2);
    let lr = ListRegister {
        intid: 3,
        state: State::Pending,
        priority: 0,
        group1: true,
        hw: None,
        eoi_maintenance: false,
        source: 0,
    };
    assert_eq!(gic.sync(0, Event::Sgi1r(3 << 24 | 1), 0xf), Sync::Write(0, lr));
    let other = ListRegister { intid: 5, ..lr };
    assert_eq!(gic.sync(0, Event::Sgi1r(5 << 24 | 1), 0xe), Sync::Write(1, other));
    assert_eq!(gic.sync(0, Event::Sgi1r(3 << 24 | 1), 0xf), Sync::Write(0, lr));
    assert_eq!(
        gic.sync(0, Event::Sgi1r(3 << 24 | 1), 0xe),
        Sync::Fallback,
        "still pending or active there"
    );
    assert_eq!(gic.sgi1r(0, 3 << 24 | 1), VcpuSet::single(0));
    assert_eq!(gic.sync(0, Event::Marked, 0xe), Sync::Full);
    assert_eq!(gic.sync(0, Event::Sgi1r(3 << 24 | 2), 0xf), Sync::Kick(1), "another vCPU");
    assert_eq!(gic.sync(0, Event::Sgi1r(3 << 24 | 3), 0xf), Sync::Fallback, "both");
}

/// A GICv3 of three vCPUs with group 1 enabled.
fn three() -> Vgic {
    let mut gic = Vgic::new(Config::new(Version::V3, 3, 4, 32));
    gic.write(0, Frame::Dist, 0, Width::B4, 2);
    gic
}

/// To one other vCPU, the fast path does what the slow path does, whatever the state of the SGI there.
#[test]
fn an_sgi_to_one_other_vcpu_is_what_the_general_way_makes_of_it() {
    const SGI: u64 = 3 << 24 | 0b10;
    let redist = Frame::Redist(1);
    let write = |gic: &mut Vgic, offset, value| {
        let _ = gic.write(0, redist, offset, Width::B4, value);
    };
    let placed = |gic: &mut Vgic| {
        assert_eq!(gic.sgi1r(0, SGI), VcpuSet::single(1));
        assert!(matches!(gic.sync(1, Event::Marked, 0xf), Sync::Write(0, _)));
    };
    let prepare: [&dyn Fn(&mut Vgic); 8] = [
        &|_| {},
        // Disabled, active, or of a group that is not enabled.
        &|gic| write(gic, 0x1_0180, 1 << 3),
        &|gic| write(gic, 0x1_0300, 1 << 3),
        &|gic| write(gic, 0x1_0080, 0),
        // In a list register, done with or not; and disabled since.
        &|gic| placed(gic),
        &|gic| {
            placed(gic);
            write(gic, 0x1_0180, 1 << 3);
        },
        // Pending already.
        &|gic| assert_eq!(gic.sgi1r(0, SGI), VcpuSet::single(1)),
        // More than the list registers hold.
        &|gic| {
            for n in 4..9 {
                gic.sgi1r(0, n << 24 | 0b10);
            }
            gic.flush_to_lrs(1, &mut [ListRegister::FREE; 4]);
        },
    ];
    let mut kicks = 0;
    for prepare in prepare {
        let mut short = three();
        prepare(&mut short);
        let mut general = short.clone();
        let set = general.sgi1r(0, SGI);
        match short.sync(0, Event::Sgi1r(SGI), 0xf) {
            Sync::Kick(1) => {
                assert_eq!(set, VcpuSet::single(1));
                kicks += 1;
            }
            sent => assert_eq!((sent, set), (Sync::Unchanged, VcpuSet::EMPTY)),
        }
        assert_eq!(short, general);
        assert!(general.read(0, redist, 0x1_0200, Width::B4) & 1 << 3 != 0, "pending");
    }
    assert_eq!(kicks, 4);
}

#[test]
fn an_sgi_to_one_vcpu_that_there_is_not_goes_nowhere() {
    let mut gic = three();
    let before = gic.clone();
    for targets in [0, 1 << 3, 1 << 7, 1 << 15, 1 << 16 | 2, 1 << 32 | 2, 1 << 44 | 2, 1 << 48 | 2]
    {
        assert_eq!(gic.sync(0, Event::Sgi1r(3 << 24 | targets), 0xf), Sync::Fallback);
        assert_eq!(gic.sgi1r(0, 3 << 24 | targets), VcpuSet::EMPTY);
        assert_eq!(gic, before);
    }
    assert_eq!(gic.sync(0, Event::Sgi1r(1 << 40 | 2), 0xf), Sync::Fallback, "to all others");
}

/// Which kicks are about one SGI and nothing else, and that they take one list register.
#[test]
fn a_kick_for_one_sgi_takes_the_shortest_way() {
    let mut gic = three();
    for (empty, slot) in [(0xf, 0), (0xf, 0), (0xe, 1)] {
        let _ = gic.sync(0, Event::Sgi1r(if slot == 0 { 3 } else { 5 } << 24 | 2), 0xf);
        let mut other = gic.clone();
        let placed = gic.sync(1, Event::Kick, empty);
        assert!(matches!(placed, Sync::Write(n, lr) if n == slot && lr.state == State::Pending));
        assert_eq!(placed, other.sync(1, Event::Marked, empty));
        assert_eq!(gic, other);
    }
    let nothing = |gic: &mut Vgic, empty: u16, why: &str| {
        let before = gic.clone();
        assert_eq!(gic.sync(1, Event::Kick, empty), Sync::Fallback, "{why}");
        assert_eq!(*gic, before, "{why}");
    };
    nothing(&mut gic, 0xc, "nothing new");
    let _ = gic.sync(0, Event::Sgi1r(3 << 24 | 2), 0xf);
    nothing(&mut gic, 0xc, "it is in a list register still");
    nothing(&mut gic.clone(), 0, "no list register is free");
    let mut two = gic.clone();
    let _ = two.sync(0, Event::Sgi1r(4 << 24 | 2), 0xf);
    nothing(&mut two, 0xf, "two at once");
    let mut device = gic.clone();
    device.write(0, Frame::Dist, 0x104, Width::B4, 1);
    device.write(0, Frame::Dist, 0x6100, Width::B8, 1);
    device.set_level(0, 32, true);
    nothing(&mut device, 0xf, "an SPI as well");
    let mut devices = three();
    devices.write(0, Frame::Dist, 0x104, Width::B4, 0b11);
    for spi in [0, 1] {
        devices.write(0, Frame::Dist, 0x6100 + 8 * spi, Width::B8, 1);
    }
    devices.set_level(0, 32, true);
    devices.flush_to_lrs(1, &mut [ListRegister::FREE; 4]);
    devices.set_level(0, 33, true);
    let _ = devices.sync(0, Event::Sgi1r(3 << 24 | 2), 0xf);
    nothing(&mut devices, 0xe, "an SPI as well, beside one whose line is looked at after its EOI");
    let mut timer = gic.clone();
    timer.set_level(1, 30, true);
    nothing(&mut timer, 0xf, "a line that is high");
    let mut changed = gic.clone();
    changed.write(0, Frame::Redist(1), 0x1_0180, Width::B4, 1 << 3);
    nothing(&mut changed, 0xf, "disabled");
    assert!(matches!(gic.sync(1, Event::Kick, 0xf), Sync::Write(..)));
    assert_eq!(gic.sync(8, Event::Kick, 0xf), Sync::Fallback);
    let mut v2 = Vgic::new(Config::new(Version::V2, 2, 4, 32));
    v2.write(0, Frame::Dist, 0, Width::B4, 3);
    v2.write(0, Frame::Dist, 0xf00, Width::B4, 2 << 16 | 3);
    nothing(&mut v2, 0xf, "GICv2: by sender");
    assert!(
        matches!(v2.sync(1, Event::Marked, 0xf), Sync::Write(0, lr) if lr.source == 0 && lr.intid == 3)
    );
}

#[test]
fn a_disabled_self_sgi_waits() {
    let mut gic = Vgic::new(Config::new(Version::V3, 1, 4, 32));
    gic.write(0, Frame::Dist, 0, Width::B4, 2);
    gic.write(0, Frame::Redist(0), 0x1_0180, Width::B4, 1 << 3);
    assert_eq!(gic.sync(0, Event::Sgi1r(3 << 24 | 1), 0xf), Sync::Fallback);
    assert_eq!(gic.sgi1r(0, 3 << 24 | 1), VcpuSet::EMPTY);
    assert!(!gic.deliverable(0));
    let set = gic.write(0, Frame::Redist(0), 0x1_0100, Width::B4, 1 << 3);
    assert_eq!(set, VcpuSet::single(0));
    assert!(gic.deliverable(0) && gic.needs_flush(0));
    assert!(matches!(gic.sync(0, Event::Marked, 0xf), Sync::Write(0, lr) if lr.intid == 3));
    assert!(!gic.needs_flush(0));
}

#[test]
fn exact_reads_name_the_list_registers_that_matter() {
    let mut m = machine(Version::V3, 3, 4);
    m.write(0, None, 0x6108, 8, 1);
    m.set_level(0, 33, true);
    m.forward(2, 27);
    let stale = |offset, frame| m.gic.stale(0, frame, offset, Width::B4).bits();
    assert_eq!(stale(0x204, Frame::Dist), 0b010);
    assert_eq!(stale(0x304, Frame::Dist), 0b010);
    assert_eq!(stale(0x308, Frame::Dist), 0);
    assert_eq!(stale(0x104, Frame::Dist), 0, "ISENABLER is not in list registers");
    assert_eq!(stale(0x1_0300, Frame::Redist(2)), 0b100);
    assert_eq!(stale(0x1_0300, Frame::Redist(0)), 0);
    assert_eq!(m.ack(1).unwrap().intid, 33);
    assert_eq!(m.read(0, None, 0x304, 4), 2, "active in vCPU 1's list register");
    assert_eq!(m.read(0, None, 0x204, 4), 2, "and the line is high");
}

#[test]
fn enabling_what_is_not_pending_kicks_nobody() {
    // As Linux brings up a distributor.
    let mut gic = Vgic::new(Config::new(Version::V3, 4, 4, 64));
    assert_eq!(gic.write(0, Frame::Dist, 0, Width::B4, 3), VcpuSet::EMPTY);
    for offset in [0x84, 0x104, 0x184, 0x284, 0x384, 0x424, 0xc08, 0x6100] {
        let set = gic.write(0, Frame::Dist, offset, Width::B4, 0x0101_0101);
        assert_eq!(set, VcpuSet::EMPTY, "{offset:#x}");
    }
}

#[test]
fn what_a_plan_left_out_is_not_overtaken_by_an_sgi_to_oneself() {
    let mut gic = Vgic::new(Config::new(Version::V3, 1, 2, 32));
    gic.write(0, Frame::Dist, 0, Width::B4, 2);
    // SGIs 0 to 3, less and less urgent; two list registers.
    gic.write(0, Frame::Redist(0), 0x1_0400, Width::B4, 0x4030_2010);
    for n in 0..3 {
        gic.sgi1r(0, n << 24 | 1);
    }
    gic.flush_to_lrs(0, &mut [ListRegister::FREE; 2]);
    let before = gic.clone();
    // The guest is through with SGI 0; SGI 2 waits for its place, so SGI 3 must as well.
    for n in [3, 0] {
        assert_eq!(gic.sync(0, Event::Sgi1r(n << 24 | 1), 0b01), Sync::Fallback);
        assert_eq!(gic, before);
    }
}

#[test]
fn a_list_register_that_was_active_as_well_is_taken_back_first() {
    let mut gic = Vgic::new(Config::new(Version::V3, 1, 4, 32));
    gic.write(0, Frame::Dist, 0, Width::B4, 2);
    gic.write(0, Frame::Redist(0), 0x1_0200, Width::B4, 1 << 3);
    gic.write(0, Frame::Redist(0), 0x1_0300, Width::B4, 1 << 3);
    let mut lrs = [ListRegister::FREE; 4];
    gic.flush_to_lrs(0, &mut lrs);
    assert_eq!(lrs[0].state, State::PendingActive);
    let before = gic.clone();
    assert_eq!(gic.sync(0, Event::Sgi1r(3 << 24 | 1), 0xf), Sync::Fallback);
    assert_eq!(gic, before);
}

/// The guest makes its timer's PPI pending itself, takes and ends it; then the timer fires. Its deactivation must be the
/// physical interrupt's, which a list register without HW would not pass on.
#[test]
fn a_timer_that_fires_after_its_interrupt_was_made_pending_by_hand_is_forwarded() {
    let mut m = machine(Version::V3, 1, 4);
    m.write(0, Some(0), 0x1_0100, 4, 1 << 27);
    m.write(0, Some(0), 0x1_0200, 4, 1 << 27);
    for _ in 0..2 {
        assert_eq!(m.ack(0).map(|ack| ack.intid), Some(27));
        m.eoi(0);
        assert!(m.physical.is_empty());
        m.forward(0, 27);
        assert_eq!(m.physical.len(), 1);
        // Whatever is done in between.
        m.resync(0);
        m.check();
    }
}

#[test]
fn an_sgi_that_waits_for_eoi_maintenance_already_kicks_nobody() {
    let mut gic = Vgic::new(Config::new(Version::V3, 2, 2, 32));
    gic.write(0, Frame::Dist, 0, Width::B4, 2);
    // SGI 3 of vCPU 1 active and pending, two more pending: two list registers do not hold it as both.
    gic.write(0, Frame::Redist(1), 0x1_0300, Width::B4, 1 << 3);
    for n in 3..6 {
        gic.sgi1r(0, n << 24 | 2);
    }
    let mut lrs = [ListRegister::FREE; 2];
    gic.flush_to_lrs(1, &mut lrs);
    assert_eq!((lrs[0].intid, lrs[0].state, lrs[0].eoi_maintenance), (3, State::Active, true));
    let before = gic.clone();
    assert_eq!(gic.sync(0, Event::Sgi1r(3 << 24 | 2), 0b11), Sync::Unchanged);
    assert_eq!(gic.sgi1r(0, 3 << 24 | 2), VcpuSet::EMPTY);
    assert_eq!(gic, before, "it is known to be pending");
}

#[test]
fn an_sgi_to_a_vcpu_with_more_than_fits_asks_for_a_whole_plan() {
    let mut gic = Vgic::new(Config::new(Version::V3, 2, 1, 32));
    gic.write(0, Frame::Dist, 0, Width::B4, 2);
    for n in 3..5 {
        gic.sgi1r(0, n << 24 | 2);
    }
    gic.flush_to_lrs(1, &mut [ListRegister::FREE; 1]);
    assert!(!gic.needs_flush(1));
    assert_eq!(gic.sync(0, Event::Sgi1r(5 << 24 | 2), 1), Sync::Kick(1));
    assert!(gic.needs_flush(1));
    assert_eq!(
        (gic.sync(1, Event::Kick, 1), gic.sync(1, Event::Marked, 1)),
        (Sync::Fallback, Sync::Full)
    );
}

#[test]
fn what_is_pending_stays_in_its_list_register_while_its_vcpu_is_away() {
    for version in [Version::V2, Version::V3] {
        let mut m = machine(version, 2, 4);
        m.forward(0, 27);
        m.switch(0);
        m.switch(0);
        assert_eq!(m.kept, 2, "{version:?}");
        m.check();
        let plans = m.full_plans;
        assert_eq!(m.ack(0).unwrap().intid, 27);
        m.switch(0);
        assert_eq!((m.kept, m.full_plans), (2, plans + 1), "active: it is taken back");
        m.eoi(0);
        m.switch(0);
        assert_eq!((m.kept, m.first_plans > 0), (2, true), "nothing is there");
        m.check();
    }
}

#[test]
fn what_changes_while_a_vcpu_is_away_is_planned_when_it_comes_back() {
    let mut gic = Vgic::new(Config::new(Version::V3, 2, 4, 32));
    gic.write(0, Frame::Dist, 0, Width::B4, 2);
    assert!(matches!(gic.sync(0, Event::Sgi1r(3 << 24 | 1), 0xf), Sync::Write(0, _)));
    assert!(gic.sync(0, Event::Put(State::Pending), 0) == Sync::Unchanged && !gic.needs_flush(0));
    for state in [State::Invalid, State::Active, State::PendingActive] {
        assert!(gic.sync(0, Event::Put(state), 0) == Sync::Full, "{state:?}: the guest has had it");
    }
    // The other vCPU withdraws it, or sends one more.
    let mut withdrawn = gic.clone();
    withdrawn.write(1, Frame::Redist(0), 0x1_0280, Width::B4, 1 << 3);
    assert!(
        withdrawn.needs_flush(0) && withdrawn.sync(0, Event::Put(State::Pending), 0) == Sync::Full
    );
    gic.sgi1r(1, 4 << 24 | 1);
    assert!(gic.needs_flush(0));
}

#[test]
fn an_active_spi_comes_back_with_the_vcpu_that_has_it_and_no_other() {
    let mut m = machine(Version::V3, 2, 4);
    m.write(0, None, 0x6000 + 8 * 60, 8, 1);
    m.set_level(0, 60, true);
    assert_eq!(m.ack(1).unwrap().intid, 60);
    m.write(0, None, 0x6000 + 8 * 60, 8, 0);
    for v in [0, 1] {
        m.switch(v);
        assert_eq!(m.gic.used(v), v as u16, "vCPU {v}");
    }
    m.set_level(0, 60, false);
    m.eoi(1);
    m.switch(1);
    assert_eq!(m.gic.used(1), 0);
    // ISACTIVER gives it to whom it goes.
    m.write(1, None, 0x304, 4, 1 << 28);
    m.switch(0);
    assert_eq!((m.gic.used(0), m.gic.used(1)), (1, 0));
    m.check();
}

#[test]
fn what_is_active_in_another_list_register_is_not_left_behind() {
    let mut m = machine(Version::V3, 1, 4);
    private(&mut m, 0, 0x401, 1, 0x80);
    for sgi in [1, 2] {
        m.sgi1r(0, sgi << 24 | 1);
        assert_eq!(u64::from(m.ack(0).unwrap().intid), sgi);
    }
    m.resync(0);
    m.eoi(0);
    m.set_level(0, 20, true);
    assert_eq!(m.gic.used(0), 0b11, "PPI 20 in the first, SGI 1 active in the second");
    m.switch(0);
    assert_eq!((m.kept, m.gic.used(0)), (0, 0b11));
    m.check();
}
