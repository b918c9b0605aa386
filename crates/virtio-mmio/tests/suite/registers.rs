// SPDX-License-Identifier: MIT OR Apache-2.0
//! Single rules of the registers, and a sweep over all of them.

use crate::fixture::*;
use arch::{Ipa, Width};
use virtio_mmio::{EventKind, Limits, Register, Store};

const WIDTHS: [Width; 4] = [Width::B1, Width::B2, Width::B4, Width::B8];
const VALUES: [u64; 14] =
    [0, 1, 2, 4, 8, 15, 16, 0x40, 0xff, 0x100, 0x7fff_ffff, 0xffff_ffff, 0x1_0000_0000, u64::MAX];

#[test]
fn every_offset_width_and_edge_value_is_survived() {
    let huge = [0xffff, 0x1_0000, u64::MAX - 7, u64::MAX - 3, u64::MAX - 1, u64::MAX];
    for start in [Machine::new(LIMITS), Machine::served(LIMITS), Machine::in_use()] {
        let waits = start.load(0, Width::B4).is_err();
        for offset in (0..0x1100).chain(huge) {
            for width in WIDTHS {
                let loaded = start.load(offset, width);
                assert_eq!(loaded.is_err(), waits);
                assert!(loaded.unwrap_or(0) <= width.mask());
                for value in VALUES {
                    let mut transport = start.transport.clone();
                    let first = transport.store(offset, width, value);
                    assert_eq!(first.is_err(), waits);
                    let _ = transport.store(offset, width, !value);
                    // Nothing is left in it that other accesses cannot stand.
                    let _ = transport.store(0x44, Width::B4, 1);
                    let _ = transport.store(0x70, Width::B4, 0xff);
                    let _ = transport.store(0x44, Width::B4, 0);
                    let _ = transport.store(0x50, Width::B4, value);
                }
            }
        }
    }
}

#[test]
fn registers_take_aligned_words_only() {
    let machine = Machine::in_use();
    for offset in 0..0x100 {
        for width in WIDTHS {
            if width == Width::B4 && offset % 4 == 0 {
                continue;
            }
            assert_eq!(machine.load(offset, width), Ok(0), "{offset:#x} {width:?}");
            let mut transport = machine.transport.clone();
            assert_eq!(transport.store(offset, width, 1), Ok(Store::Done));
            assert_eq!(transport, machine.transport, "{offset:#x} {width:?}");
        }
    }
    assert!(machine.config_loads.borrow().is_empty());
}

#[test]
fn what_cannot_be_read_reads_zero() {
    let machine = Machine::in_use();
    let readable =
        [0x00, 0x04, 0x08, 0x0c, 0x10, 0x34, 0x44, 0x60, 0x70, 0xb0, 0xb4, 0xb8, 0xbc, 0xfc];
    for offset in (0..0x100).step_by(4).filter(|offset| !readable.contains(offset)) {
        assert_eq!(machine.read(offset), 0, "{offset:#x}");
    }
    assert_eq!(machine.load(0x200, Width::B4), Ok(0));
    assert_eq!(machine.load(0xffc, Width::B4), Ok(0));
}

#[test]
fn there_is_no_shared_memory_region() {
    let mut machine = Machine::served(LIMITS);
    machine.set(0xac, 0);
    for offset in [0xb0, 0xb4, 0xb8, 0xbc] {
        assert_eq!(machine.read(offset), 0xffff_ffff);
    }
}

#[test]
fn configuration_space_takes_aligned_accesses_of_each_width() {
    let machine = Machine::served(LIMITS);
    for offset in 0..0x100 {
        for width in WIDTHS {
            machine.config_loads.borrow_mut().clear();
            let aligned = offset % width.bytes() == 0;
            let byte = |n| u64::from(machine.config[(offset + n) as usize]) << (8 * n);
            let expected = if aligned { (0..width.bytes()).map(byte).sum() } else { 0 };
            assert_eq!(machine.load(0x100 + offset, width), Ok(expected));
            let loads = if aligned { vec![(offset, width.bytes())] } else { vec![] };
            assert_eq!(*machine.config_loads.borrow(), loads);
        }
    }
    for (offset, width) in [(0xff, Width::B2), (0xfe, Width::B4), (0x1ff, Width::B2)] {
        assert_eq!(machine.load(offset, width), Ok(0));
    }
    assert_eq!(machine.load(0x200, Width::B1), Ok(0));
}

#[test]
fn status_bits_are_cleared_by_a_reset_alone() {
    let mut machine = Machine::served(LIMITS);
    machine.set(0x70, 3);
    machine.set(0x70, 1);
    assert_eq!(machine.read(0x70), 3);
    // DEVICE_NEEDS_RESET is the device's, and two bits are reserved.
    machine.set(0x70, 0x70);
    assert_eq!(machine.read(0x70), 3);
    machine.set(0x70, 0x80);
    assert_eq!(machine.read(0x70), 0x83);
    let _ = machine.post(0x70, 0x100, EventKind::Reset);
    assert_eq!(machine.read(0x70), 0);
}

#[test]
fn features_ok_needs_a_subset_with_what_is_demanded() {
    for (limits, features, accepted) in [
        (LIMITS, VERSION_1, true),
        (LIMITS, FEATURES, true),
        (LIMITS, FEATURES & !0x2_0000_0000, true),
        (LIMITS, 0, false),
        (LIMITS, FEATURES & !VERSION_1, false),
        (LIMITS, VERSION_1 | 1, false),
        (LIMITS, VERSION_1 | 1 << 63, false),
        (POOL, FEATURES, true),
        (POOL, 0x3_0000_0000, true),
        (POOL, VERSION_1, false),
        (POOL, 0x2_0000_0000, false),
    ] {
        let mut machine = Machine::served(limits);
        machine.negotiate(features);
        let expected = if accepted { 0xb } else { 3 };
        assert_eq!(machine.read(0x70), expected, "{features:#x}");
        assert_eq!(machine.get(Register::DriverFeatures), if accepted { features } else { 0 });
        // DRIVER_OK comes after FEATURES_OK alone.
        let driver_ok = machine.write(0x70, 7);
        assert_eq!(matches!(driver_ok, Store::Posted { .. }), accepted);
        assert_eq!(machine.read(0x70), if accepted { 0xf } else { 3 });
        assert_eq!(machine.write(0x70, 7), Store::Done);
    }
}

#[test]
fn features_ok_is_set_only_where_the_driver_sets_it() {
    let mut machine = Machine::served(LIMITS);
    machine.accept(FEATURES);
    for status in [1, 3, 7, 0x83] {
        machine.set(0x70, status);
        assert_eq!(machine.read(0x70), status & 0x83);
    }
    // With DRIVER_OK at once: both are set.
    machine.post(0x70, 0x0c, EventKind::DriverOk);
    assert_eq!(machine.read(0x70), 0x8f);
}

#[test]
fn features_do_not_change_after_features_ok() {
    let mut machine = Machine::served(POOL);
    machine.negotiate(FEATURES);
    machine.set(0x24, 1);
    machine.set(0x20, 1);
    machine.set(0x70, 8);
    assert_eq!(machine.get(Register::DriverFeatures), FEATURES);
}

#[test]
fn feature_words_that_there_are_not_read_zero_and_are_not_written() {
    let mut machine = Machine::served(LIMITS);
    for word in [2, 3, 32, 33, 64, u32::MAX] {
        machine.set(0x14, word);
        assert_eq!(machine.read(0x10), 0);
        machine.set(0x24, word);
        machine.set(0x20, u32::MAX);
    }
    machine.negotiate(FEATURES);
    assert_eq!(machine.read(0x70), 0xb);
}

/// Whether a queue of 8 becomes ready, with these areas.
fn starts(limits: Limits, size: u32, areas: [u64; 3]) -> bool {
    let mut machine = Machine::served(limits);
    machine.negotiate(FEATURES);
    machine.place_queue(2, size, areas);
    let store = machine.write(0x44, 1);
    let ready = machine.read(0x44) == 1;
    assert_eq!(matches!(store, Store::Posted { .. }), ready);
    assert_eq!(machine.get(Register::QueueReady(2)) != 0, ready);
    let seen = [
        machine.get(Register::QueueDesc(2)),
        machine.get(Register::QueueDriver(2)),
        machine.get(Register::QueueDevice(2)),
    ];
    assert_eq!(seen, if ready { areas } else { [0; 3] });
    assert_eq!(machine.write(0x50, 2), if ready { Store::Notify(2) } else { Store::Done });
    ready
}

#[test]
fn each_area_lies_wholly_inside_the_limits() {
    let limits = Limits { start: Ipa::new(0x10_0000), bytes: 0x1000, access_platform: false };
    let good = [0x10_0000, 0x10_0100, 0x10_0200];
    assert!(starts(limits, 8, good));
    // Bytes of the areas of a queue of 8: 128, 22, 70.
    for (area, bytes, align) in [(0, 128, 16), (1, 22, 2), (2, 70, 4)] {
        let end = (0x10_1000 - bytes) & !(align - 1);
        for (at, fits) in [
            (0x10_0000, true),
            (0x10_0000 - align, false),
            (end, true),
            (end + align, false),
            (0x10_1000, false),
            (0, false),
            (0xffff_ffff_ffff_fff0, false),
            // The address of which only the low word fits.
            (0x1_0010_0000, false),
        ] {
            let mut areas = good;
            areas[area] = at;
            assert_eq!(starts(limits, 8, areas), fits, "area {area} at {at:#x}");
        }
    }
}

#[test]
fn areas_at_the_end_of_the_address_space_do_not_wrap() {
    let limits = Limits { start: Ipa::new(0), bytes: u64::MAX, access_platform: false };
    assert!(starts(limits, 8, [0xffff_ffff_ffff_ff00; 3]));
    assert!(!starts(limits, 8, [0xffff_ffff_ffff_fff0, 0, 0]));
    let limits = Limits { start: Ipa::new(u64::MAX - 15), bytes: u64::MAX, access_platform: false };
    assert!(!starts(limits, 1, [0xffff_ffff_ffff_fff0; 3]));
}

#[test]
fn areas_are_aligned() {
    let good = [RAM, RAM + 0x1000, RAM + 0x2000];
    for (area, align) in [(0, 16), (1, 2), (2, 4)] {
        for offset in 0..32 {
            let mut areas = good;
            areas[area] += offset;
            assert_eq!(starts(LIMITS, 8, areas), offset % align == 0, "area {area} + {offset}");
        }
    }
}

#[test]
fn queue_sizes_are_powers_of_two_up_to_the_largest() {
    let areas = [RAM, RAM + 0x1000, RAM + 0x2000];
    for size in 0..600_u32 {
        assert_eq!(starts(LIMITS, size, areas), [1, 2, 4, 8, 16, 32, 64, 128, 256].contains(&size));
    }
    for size in [0x8000, 0x1_0000, 0x1_0008, 0x8000_0000, u32::MAX] {
        assert!(!starts(LIMITS, size, areas), "{size:#x}");
    }
}

#[test]
fn queues_come_after_features_ok() {
    let mut machine = Machine::served(LIMITS);
    machine.set(0x70, 3);
    machine.place_queue(0, 8, [RAM; 3]);
    machine.set(0x44, 1);
    assert_eq!(machine.read(0x44), 0);
}

#[test]
fn a_ready_queue_keeps_its_registers() {
    let mut machine = Machine::in_use();
    machine.place_queue(0, 8, [RAM + 0x8000; 3]);
    machine.set(0x44, 1);
    assert_eq!(machine.get(Register::QueueNum(0)), 256);
    assert_eq!(machine.get(Register::QueueDesc(0)), RAM);
    assert_eq!(machine.get(Register::QueueDriver(0)), RAM + 0x1000);
    assert_eq!(machine.get(Register::QueueDevice(0)), RAM + 0x2000);
}

#[test]
fn queues_that_there_are_not_do_nothing() {
    let mut machine = Machine::in_use();
    // Queue 3 is not the server's; 16 and beyond are nowhere, nor do their numbers wrap onto queue 0.
    for queue in [3, 15, 16, 17, 32, 0x100, 0x1_0000, 0x8000_0000, u32::MAX] {
        machine.set(0x30, queue);
        assert_eq!((machine.read(0x34), machine.read(0x44)), (0, 0), "{queue:#x}");
        machine.place_queue(queue, 8, [RAM; 3]);
        machine.set(0x44, 1);
        assert_eq!(machine.read(0x44), 0);
        machine.set(0x44, 0);
        machine.set(0x50, queue);
    }
    assert_eq!(machine.write(0x50, 0), Store::Notify(0));
}

#[test]
fn a_sixteenth_queue_of_the_largest_size_works() {
    let mut machine = Machine::new(LIMITS);
    machine.transport.set(Register::DeviceFeatures, FEATURES).unwrap();
    machine.transport.set(Register::QueueNumMax(15), 32768).unwrap();
    machine.transport.set(Register::Ready, 1).unwrap();
    machine.negotiate(FEATURES);
    let end = RAM + RAM_BYTES;
    // 524,288, 65,542 and 262,150 bytes.
    machine.start_queue(15, 32768, [end - 0x8_0000, end - 0x1_0006, end - 0x4_0008]);
    assert_eq!(machine.write(0x50, 15), Store::Notify(15));
    let seq = machine.wait(0x44, 0, EventKind::QueueStop(15));
    assert_eq!(machine.get(Register::Outstanding), 0x8000);
    assert!(machine.transport.event_done(seq).is_ok());
}
