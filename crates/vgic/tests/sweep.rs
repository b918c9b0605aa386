// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every offset, every size: defined results, and those of the ideal GIC (scenario I1).
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod support;

use arch::{VcpuSet, Width};
use support::ideal::Ideal;
use support::machine::{frame, width};
use vgic::{Config, Event, Frame, ListRegister, Sync, Version, Vgic};

const VALUES: [u64; 3] = [0, u64::MAX, 0x5a21_84c3_9600_f183];

/// Writes each value everywhere in `offsets` with each size and reads it back, beside the ideal GIC; `by` is who accesses.
fn sweep(
    version: Version,
    vcpus: usize,
    spis: usize,
    by: usize,
    redist: Option<usize>,
    offsets: std::ops::Range<u64>,
) {
    let config = Config::new(version, vcpus, 4, spis);
    let mut gic = Vgic::new(config);
    let mut ideal = Ideal::new(version == Version::V3, vcpus, spis);
    for value in VALUES {
        for offset in offsets.clone() {
            for size in [1, 2, 4, 8] {
                let set = gic.write(by, frame(redist), offset, width(size), value);
                assert!(set.iter().all(|v| v < vcpus), "{set:?}");
                ideal.write(by, redist, offset, size, value);
                let read = gic.read(by, frame(redist), offset, width(size));
                let expected = ideal.read(by, redist, offset, size);
                assert_eq!(
                    read, expected,
                    "{redist:?} {offset:#x}, {size} bytes, after {value:#x}"
                );
                if size < 8 {
                    assert_eq!(read >> (8 * size), 0, "{offset:#x} is wider than {size} bytes");
                }
                if let Some(constant) = config.constant(frame(redist), offset, width(size)) {
                    assert_eq!(read, constant, "{redist:?} {offset:#x}, {size} bytes");
                }
            }
        }
        // What came of it can be planned, delivered and taken back.
        for v in 0..vcpus {
            let mut lrs = [ListRegister::FREE; 4];
            gic.sync_from_lrs(
                v,
                vgic::Interface { eoi_count: 3, group0: true, group1: true },
                &lrs,
            );
            gic.flush_to_lrs(v, &mut lrs);
            gic.sync(v, Event::Marked, 0xffff);
        }
    }
}

// bug: 55
#[test]
fn v3_distributor_of_eight_vcpus() {
    sweep(Version::V3, 8, 256, 7, None, 0..0x1_0100);
}

#[test]
fn v3_distributor_without_spis() {
    sweep(Version::V3, 1, 0, 0, None, 0..0x8000);
}

#[test]
fn v3_redistributor_of_another_vcpu() {
    sweep(Version::V3, 3, 32, 0, Some(2), 0..0x2_0100);
}

// bug: 55
#[test]
fn v3_redistributor_that_is_not_there() {
    sweep(Version::V3, 2, 32, 0, Some(2), 0x1_0000..0x1_1000);
    sweep(Version::V3, 2, 32, 0, Some(usize::MAX), 0..0x100);
}

// bug: 55
#[test]
fn v2_distributor_of_eight_vcpus() {
    sweep(Version::V2, 8, 256, 5, None, 0..0x1_0100);
}

#[test]
fn v2_distributor_of_one_vcpu() {
    sweep(Version::V2, 1, 32, 0, None, 0..0x1100);
}

#[test]
fn v2_has_no_redistributor() {
    sweep(Version::V2, 2, 32, 0, Some(0), 0..0x800);
    sweep(Version::V2, 2, 32, 0, Some(0), 0x1_0000..0x1_0800);
}

// bug: 55
#[test]
fn huge_offsets_read_zero() {
    for version in [Version::V2, Version::V3] {
        let mut gic = Vgic::new(Config::new(version, 2, 4, 64));
        let fresh = gic.clone();
        for frame in [Frame::Dist, Frame::Redist(0), Frame::Redist(1)] {
            for shift in 17..64 {
                for offset in [1 << shift, (1 << shift) + 0x100, u64::MAX - 7, u64::MAX] {
                    for size in [1, 2, 4, 8] {
                        assert_eq!(gic.read(0, frame, offset, width(size)), 0);
                        gic.write(0, frame, offset, width(size), u64::MAX);
                    }
                }
            }
        }
        assert_eq!(gic, fresh);
    }
}

// bug: 55
#[test]
fn a_vcpu_that_is_not_there_reads_zero_and_changes_nothing() {
    for version in [Version::V2, Version::V3] {
        let mut gic = Vgic::new(Config::new(version, 2, 4, 64));
        let fresh = gic.clone();
        for vcpu in [2, 7, 8, usize::MAX] {
            for frame in [Frame::Dist, Frame::Redist(vcpu)] {
                for offset in (0..0x1000).chain(0x1_0000..0x1_1000) {
                    assert_eq!(gic.read(vcpu, frame, offset, Width::B4), 0);
                    let set = gic.write(vcpu, frame, offset, Width::B4, u64::MAX);
                    assert_eq!(set, VcpuSet::EMPTY);
                }
            }
            for intid in [0, 16, 27, 31] {
                assert_eq!(gic.set_level(vcpu, intid, true), VcpuSet::EMPTY);
                assert_eq!(gic.forward(vcpu, intid, 27), VcpuSet::EMPTY);
                assert_eq!(gic.deactivate(vcpu, intid), VcpuSet::EMPTY);
            }
            assert_eq!(gic.take_released(vcpu), None);
            assert_eq!(gic.used(vcpu), 0);
            assert!(!gic.deliverable(vcpu));
        }
        assert_eq!(gic, fresh);
    }
}

#[test]
fn interrupts_that_are_not_there_are_ignored() {
    for (version, spis) in [(Version::V2, 64), (Version::V3, 64), (Version::V3, 0)] {
        let mut gic = Vgic::new(Config::new(version, 2, 4, spis));
        let fresh = gic.clone();
        let beyond = 32 + spis as u32;
        let all = (0..16).chain([beyond, beyond + 31, 256 + 32, 1019, 1020, 1023, 8192, u32::MAX]);
        for intid in all {
            assert_eq!(gic.set_level(0, intid, true), VcpuSet::EMPTY);
            assert_eq!(gic.set_level(0, intid, false), VcpuSet::EMPTY);
            assert_eq!(gic.forward(0, intid, intid), VcpuSet::EMPTY);
            let event = Event::Forward { intid, pintid: intid };
            assert_eq!(gic.sync(0, event, 0xffff), Sync::Fallback);
            assert_eq!(gic.deactivate(0, intid), VcpuSet::EMPTY);
        }
        assert_eq!(gic, fresh);
    }
}
