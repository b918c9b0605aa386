// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trees that lie or are not whole: each is refused with a message that names the place, none panics.
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used)]

mod support;

use dtoolkit::model::DeviceTreeProperty;
use platform::{Board, ErrorKind, MAX_DEPTH, MAX_NODES, MAX_TREE_BYTES, tree_size};
use std::time::{Duration, Instant};
use support::*;

/// Asserts that the message has all of `parts`.
#[track_caller]
fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "'{message}' does not say '{part}'");
    }
}

// bug: 84
#[test]
fn truncation_at_each_byte_is_refused() {
    for blob in [VIRT_G2, BOARD_SOC] {
        for len in 0..blob.len() {
            let error = Board::from_tree(&blob[..len]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Tree, "at {len}");
            assert!(Board::with_console(&blob[..len]).0.is_none(), "at {len}");
        }
    }
}

/// As above, but the header says that it is all there.
#[test]
fn truncation_with_a_header_that_fits_is_refused() {
    for len in 40..VIRT_G2.len() {
        let blob = with_header(&VIRT_G2[..len], 1, len as u32);
        let error = Board::from_tree(&blob).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tree, "at {len}");
    }
}

#[test]
fn a_bad_magic_is_refused() {
    let message = refusal(&with_header(VIRT_G2, 0, 0xd00d_feee));
    assert_says(&message, &["bad magic 0xd00dfeee", "x0"]);
    assert_eq!(tree_size(&with_header(VIRT_G2, 0, 0)), None);
}

// bug: 84
#[test]
fn a_total_size_beyond_the_region_is_refused() {
    let total = VIRT_G2.len() as u32 + 1;
    assert_says(&refusal(&with_header(VIRT_G2, 1, total)), &["truncated"]);
    assert_says(&refusal(&with_header(VIRT_G2, 1, u32::MAX)), &["4294967295 bytes"]);
    assert_eq!(tree_size(&with_header(VIRT_G2, 1, u32::MAX)), None);
}

#[test]
fn a_tree_larger_than_the_boot_protocol_allows_is_refused() {
    let mut blob = VIRT_G2.to_vec();
    blob.resize(MAX_TREE_BYTES + 1, 0);
    let blob = with_header(&blob, 1, MAX_TREE_BYTES as u32 + 1);
    assert_says(&refusal(&blob), &["2097153 bytes"]);
}

#[test]
fn another_version_of_the_format_is_refused() {
    assert_says(&refusal(&with_header(VIRT_G2, 5, 16)), &["version 16"]);
    assert_says(&refusal(&with_header(VIRT_G2, 6, 18)), &["compatible with 18"]);
}

#[test]
fn blocks_outside_the_tree_are_refused() {
    let wild = [0, 4, 36, 41, VIRT_G2.len() as u32, u32::MAX - 3, u32::MAX];
    // Offsets of the structure, the strings and the reservations; sizes of strings and structure.
    for (word, name) in [(2, "structure"), (3, "strings"), (4, "reservation"), (8, "strings")] {
        for value in wild {
            if word == 8 && value < VIRT_G2.len() as u32 {
                // Fewer strings than are used: the property that lacks its name is refused.
                assert!(Board::from_tree(&with_header(VIRT_G2, word, value)).is_err());
                continue;
            }
            let message = refusal(&with_header(VIRT_G2, word, value));
            // Offset 0 of the strings is inside the header.
            assert!(
                message.contains(name) || message.contains("property"),
                "{name} {value:#x}: {message}"
            );
        }
    }
    for value in wild {
        assert!(Board::from_tree(&with_header(VIRT_G2, 9, value)).is_err());
    }
}

#[test]
fn a_reservation_block_without_end_is_refused() {
    // It runs through structure and strings and off the end.
    let mut raw = Raw::default().begin("").end().finish();
    raw.structure = vec![0xff; 64];
    let blob = raw.blob();
    let blob = with_header(&blob, 4, 56);
    assert_says(&refusal(&blob), &["reservation", "no end"]);
}

#[test]
fn a_flood_of_reservations_is_refused() {
    let mut raw = Raw::default().begin("").end().finish();
    for index in 0..1000 {
        raw = raw.reserve(0x1000 * (index + 1), 0x1000);
    }
    assert_says(&refusal(&raw.blob()), &["more than 128 memory reservations"]);
}

#[test]
fn structure_blocks_that_are_no_trees_are_refused() {
    let new = Raw::default;
    let cases: [(Raw, &str); 14] = [
        (new(), "without an end"),
        (new().finish(), "without one"),
        (new().nop().nop().finish(), "without one"),
        (new().begin("").finish(), "inside a node"),
        (new().begin("").end(), "without an end"),
        (new().end().finish(), "never began"),
        (new().begin("").end().end().finish(), "never began"),
        (new().begin("").end().begin("").end().finish(), "second root"),
        (new().begin("").begin("").end().end().finish(), "no proper name"),
        (new().begin("").begin("a/b").end().end().finish(), "no proper name"),
        (new().begin("").token(7), "unknown token 0x7"),
        (new().prop("p", b"x").begin("").end().finish(), "outside a node's properties"),
        (new().begin("").begin("a").end().prop("p", b"x").end().finish(), "outside a node's"),
        (new().begin("").prop("", b"x").end().finish(), "empty name"),
    ];
    for (index, (raw, expected)) in cases.into_iter().enumerate() {
        let message = refusal(&raw.blob());
        assert!(message.contains(expected), "case {index}: {message}");
    }
}

#[test]
fn names_that_do_not_end_are_refused() {
    let unended = Raw::default().begin("").token(1).bytes(&[b'a'; 400]).end().end().finish();
    assert_says(&refusal(&unended.blob()), &["no proper name"]);
    let not_text = Raw::default().begin("").token(1).bytes(b"\xff\xfe\0").end().end().finish();
    assert_says(&refusal(&not_text.blob()), &["no proper name"]);
    let mut property = Raw::default().begin("").prop("p", b"x").end().finish();
    property.strings = vec![b'p'; 4];
    assert_says(&refusal(&property.blob()), &["property", "no proper name"]);
}

#[test]
fn properties_beyond_the_tree_are_refused() {
    for len in [0x1000, i32::MAX as u32, u32::MAX - 2, u32::MAX] {
        let raw = Raw { strings: b"p\0".to_vec(), ..Raw::default() };
        let blob = raw.begin("").prop_at(0, len, b"").end().finish().blob();
        assert_says(&refusal(&blob), &["property at", "beyond the tree"]);
    }
    for name in [2, 0x1000, u32::MAX] {
        let raw = Raw { strings: b"p\0".to_vec(), ..Raw::default() };
        let blob = raw.begin("").prop_at(name, 0, b"").end().finish().blob();
        assert_says(&refusal(&blob), &["property at", "no proper name"]);
    }
}

#[test]
fn deep_nesting_is_refused_by_name() {
    let nested = |depth: usize| {
        let mut raw = Raw::default().begin("");
        for _ in 1..depth {
            raw = raw.begin("deeper");
        }
        for _ in 0..depth {
            raw = raw.end();
        }
        raw.finish().blob()
    };
    assert_says(&refusal(&nested(MAX_DEPTH + 1)), &["'deeper'", "nested more than 32 deep"]);
    assert_says(&refusal(&nested(80_000)), &["nested more than 32 deep"]);
    // The last that is read: it lacks the board, but is a tree.
    assert_says(&refusal(&nested(MAX_DEPTH)), &["memory"]);
}

#[test]
fn a_hundred_thousand_nodes_are_refused_in_time() {
    let many = |count: usize| {
        let mut raw = Raw::default().begin("");
        for _ in 0..count {
            raw = raw.begin("n").end();
        }
        raw.end().finish().blob()
    };
    let start = Instant::now();
    assert_says(&refusal(&many(100_000)), &["more than 32768 nodes"]);
    assert_says(&refusal(&many(MAX_NODES)), &["more than 32768 nodes"]);
    // One less is a tree, without a board.
    assert_says(&refusal(&many(MAX_NODES - 1)), &["memory"]);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn a_hundred_thousand_properties_are_read_in_time() {
    let mut raw = Raw { strings: vec![b'p'; 20], ..Raw::default() };
    raw.strings.push(0);
    raw = raw.begin("");
    for _ in 0..100_000 {
        raw = raw.prop_at(0, 0, b"");
    }
    let start = Instant::now();
    assert_says(&refusal(&raw.end().finish().blob()), &["memory"]);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn nops_are_skipped_wherever_they_stand() {
    // Every property and node of the fixture, with a NOP before each token.
    let tree = model(VIRT_G2);
    fn add(mut raw: Raw, node: &dtoolkit::model::DeviceTreeNode) -> Raw {
        use dtoolkit::{Node, Property};
        raw = raw.nop().begin((&node).name()).nop();
        for property in (&node).properties() {
            raw = raw.nop().prop(property.name(), property.value()).nop();
        }
        for child in (&node).children() {
            raw = add(raw, child);
        }
        raw.nop().end().nop()
    }
    let blob = add(Raw::default(), &tree.root).finish().blob();
    let (with, without) = (Board::from_tree(&blob).unwrap(), Board::from_tree(VIRT_G2).unwrap());
    assert_eq!(format!("{with:?}"), format!("{without:?}"));
}

#[test]
fn cells_of_none_three_and_huge_are_refused_by_name() {
    for cells in [0, 3, 4, 0x8000_0000, u32::MAX] {
        let blob = with_cells(VIRT_G2, "/", "#address-cells", &[cells]);
        assert_says(&refusal(&blob), &["/: #address-cells is", &cells.to_string()]);
        let blob = with_cells(VIRT_G2, "/cpus", "#address-cells", &[cells]);
        assert_says(&refusal(&blob), &["/cpus: #address-cells is", &cells.to_string()]);
    }
    for cells in [3, 0x8000_0000, u32::MAX] {
        let blob = with_cells(VIRT_G2, "/", "#size-cells", &[cells]);
        assert_says(&refusal(&blob), &["/: #size-cells is", &cells.to_string()]);
    }
    let blob = with_bytes(VIRT_G2, "/", "#size-cells", vec![0, 2]);
    assert_says(&refusal(&blob), &["/: #size-cells has 2 bytes"]);
    // No sizes at all: no RAM.
    let blob = with_cells(VIRT_G2, "/", "#size-cells", &[0]);
    assert_says(&refusal(&blob), &["RAM"]);
}

#[test]
fn a_reg_of_another_length_is_refused_by_name() {
    let blob = with_cells(VIRT_G2, "/memory@40000000", "reg", &[0, 0x4000_0000, 0]);
    assert_says(&refusal(&blob), &["/memory@40000000: reg has 12 bytes", "multiple of 16"]);
    let blob = with_cells(VIRT_G2, "/memory@40000000", "reg", &[0; 4 * 257]);
    assert_says(&refusal(&blob), &["/memory@40000000: reg has more than 256 entries"]);
    let blob = with_cells(VIRT_G2, "/memory@40000000", "linux,usable-memory", &[0, 0x4000_0000]);
    assert_says(&refusal(&blob), &["/memory@40000000: linux,usable-memory has 8 bytes"]);
    let blob = with_cells(VIRT_G2, "/chosen", "linux,usable-memory-range", &[0x4000_0000]);
    assert_says(&refusal(&blob), &["/chosen: linux,usable-memory-range has 4 bytes"]);
}

#[test]
fn no_memory_is_refused() {
    let blob = without_node(VIRT_G2, "/", "memory@40000000");
    assert_says(&refusal(&blob), &["RAM", "/memory"]);
    let blob = with_cells(VIRT_G2, "/memory@40000000", "reg", &[0, 0x4000_0000, 0, 0]);
    assert_says(&refusal(&blob), &["RAM", "/memory"]);
    let blob = with_bytes(VIRT_G2, "/memory@40000000", "status", b"disabled\0".to_vec());
    assert_says(&refusal(&blob), &["RAM", "/memory"]);
    let blob = without_property(VIRT_G2, "/memory@40000000", "reg");
    assert_says(&refusal(&blob), &["RAM", "/memory"]);
    let blob = with_cells(VIRT_G2, "/memory@40000000", "linux,usable-memory", &[0; 4]);
    assert_says(&refusal(&blob), &["RAM", "/memory"]);
    let blob = with_cells(VIRT_G2, "/chosen", "linux,usable-memory-range", &[1, 0, 1, 0]);
    assert_says(&refusal(&blob), &["RAM", "/memory"]);
}

#[test]
fn a_memory_node_is_what_has_that_type_whatever_its_name() {
    // As Linux has it: the name alone, or another type, makes no RAM.
    for kind in [None, Some(&b"Memory\0"[..]), Some(b"memory"), Some(b"ram\0"), Some(b"\xff\0")] {
        let mut blob = without_property(VIRT_G2, "/memory@40000000", "device_type");
        if let Some(kind) = kind {
            blob = with_bytes(&blob, "/memory@40000000", "device_type", kind.to_vec());
        }
        assert_says(&refusal(&blob), &["RAM", "/memory"]);
    }
    let blob = edited(VIRT_G2, |tree| {
        let mut ram = node("sdram@80000000", &[("reg", &[0, 0x8000_0000, 0, 0x1000_0000])]);
        ram.add_property(DeviceTreeProperty::new_unchecked("device_type", "memory"));
        tree.root.add_child(ram);
        tree.root.add_child(node("memory@a0000000", &[("reg", &[0, 0xa000_0000, 0, 0x1000])]));
    });
    let ram = Board::from_tree(&blob).unwrap().ram;
    assert_eq!(ram, [pa(0x4000_0000, 0x5000_0000)]);
}

// bug: 84
#[test]
fn ranges_that_wrap_or_leave_physical_memory_are_refused_by_name() {
    let wraps = [
        [u32::MAX, 0xffff_f000, 0, 0x1001],
        [0, 0x4000_0000, u32::MAX, u32::MAX],
        [0x10_0000, 0, 0, 1],
        [0xf_ffff, 0xffff_f000, 0, 0x1001],
    ];
    for cells in wraps {
        let blob = with_cells(VIRT_G2, "/memory@40000000", "reg", &cells);
        assert_says(&refusal(&blob), &["/memory@40000000: reg 0x", "wraps or ends beyond 2^52"]);
        let blob = with_cells(VIRT_G2, "/chosen/module@0x50000000", "reg", &cells);
        assert_says(&refusal(&blob), &["/chosen/module@0x50000000: reg 0x", "wraps"]);
        let blob = edited(VIRT_G2, |tree| {
            let mut reserved =
                node("reserved-memory", &[("#address-cells", &[2]), ("#size-cells", &[2])]);
            reserved.add_child(node("fw@0", &[("reg", &cells)]));
            tree.root.add_child(reserved);
        });
        assert_says(&refusal(&blob), &["/reserved-memory/fw@0: reg 0x", "wraps"]);
    }
    // The last byte of physical memory is one.
    let last = [0xf_ffff, 0xffff_f000, 0, 0x1000];
    let blob = with_cells(VIRT_G2, "/memory@40000000", "reg", &last);
    assert_eq!(Board::from_tree(&blob).unwrap().ram, [pa(0xf_ffff_ffff_f000, 0x1000)]);

    let raw = Raw::default().reserve(u64::MAX, 2).begin("").end().finish();
    // RAM is looked at first; what counts is that nothing wraps on the way.
    assert!(Board::from_tree(&raw.blob()).is_err());
}

#[test]
fn a_memory_reservation_that_wraps_is_refused() {
    use dtoolkit::memreserve::MemoryReservation;
    let blob = edited(VIRT_G2, |tree| {
        tree.memory_reservations.push(MemoryReservation::new(u64::MAX - 0xfff, 0x1001));
    });
    assert_says(&refusal(&blob), &["/memreserve/ 0xfffffffffffff000+0x1001", "wraps"]);
}

#[test]
fn cpus_that_cannot_be_are_refused_by_name() {
    let cases: [(&str, &[u32], &str); 3] = [
        ("reg", &[], "/cpus/cpu@1: its reg is empty"),
        ("reg", &[0], "/cpus/cpu@1: a second CPU with MPIDR 0x0"),
        ("reg", &[0x8000_0001], "/cpus/cpu@1: reg 0x80000001 is no MPIDR"),
    ];
    for (name, cells, expected) in cases {
        let blob = with_cells(VIRT_G2, "/cpus/cpu@1", name, cells);
        assert_says(&refusal(&blob), &[expected]);
    }
    let blob = without_property(VIRT_G2, "/cpus/cpu@1", "reg");
    assert_says(&refusal(&blob), &["/cpus/cpu@1: it has no reg"]);
    let blob = without_node(VIRT_G2, "/", "cpus");
    assert_says(&refusal(&blob), &["no /cpus"]);
    let blob = edited(VIRT_G2, |tree| {
        tree.root.add_child(node("cpus", &[("#address-cells", &[1]), ("#size-cells", &[0])]));
    });
    assert_says(&refusal(&blob), &["/cpus: it has no usable CPU"]);
}

#[test]
fn spin_tables_need_an_aligned_address() {
    let spin = with_bytes(VIRT_G2, "/cpus/cpu@1", "enable-method", b"spin-table\0".to_vec());
    // Firmware that has not filled it in has a CPU that cannot be started.
    let start = &Board::from_tree(&spin).unwrap().cpus[1].start;
    assert_eq!(
        start,
        &platform::StartMethod::Unknown("spin-table without cpu-release-addr".into())
    );
    let blob = with_cells(&spin, "/cpus/cpu@1", "cpu-release-addr", &[0, 0x44]);
    assert_says(&refusal(&blob), &["/cpus/cpu@1", "0x44 is not 8-byte aligned"]);
    let blob = with_cells(&spin, "/cpus/cpu@1", "cpu-release-addr", &[0, 0, 0]);
    assert_says(&refusal(&blob), &["/cpus/cpu@1: cpu-release-addr has 12 bytes"]);
    let blob = with_cells(&spin, "/cpus/cpu@1", "cpu-release-addr", &[u32::MAX, u32::MAX - 7]);
    assert_says(&refusal(&blob), &["/cpus/cpu@1: cpu-release-addr", "wraps"]);
}

#[test]
fn a_psci_method_that_is_none_is_refused() {
    let blob = with_bytes(VIRT_G2, "/psci", "method", b"eret\0".to_vec());
    assert_says(&refusal(&blob), &["/psci: method 'eret' is neither smc nor hvc"]);
    let blob = with_bytes(VIRT_G2, "/psci", "method", b"smc".to_vec());
    assert_says(&refusal(&blob), &["/psci: method is not a string"]);
}

// bug: 83
#[test]
fn a_gic_that_cannot_serve_guests_is_refused_by_name() {
    let gic = "/intc@8000000";
    let blob = without_node(VIRT_G2, "/", "intc@8000000");
    assert_says(&refusal(&blob), &["no interrupt controller", "arm,gic-v3"]);
    let v2 = |cells: &[u32]| with_cells(VIRT_G2, gic, "reg", cells);
    let two = v2(&[0, 0x800_0000, 0, 0x1_0000, 0, 0x801_0000, 0, 0x1_0000]);
    assert_says(&refusal(&two), &[gic, "without GICH and GICV", "virtualization=on"]);
    let three =
        v2(&[0, 0x800_0000, 0, 0x1_0000, 0, 0x801_0000, 0, 0x1_0000, 0, 0x803_0000, 0, 0x1_0000]);
    assert_says(&refusal(&three), &[gic, "without GICH and GICV"]);
    let odd = v2(&[
        0, 0x800_0000, 0, 0x1_0000, 0, 0x801_0000, 0, 0x1_0000, 0, 0x803_0000, 0, 0x1_0000, 0,
        0x804_0800, 0, 0x1_0000,
    ]);
    assert_says(&refusal(&odd), &[gic, "GICV 0x8040800+0x10000", "multiple of 0x1000"]);
    // GICC_DIR is in its second page.
    let short = with_cells(
        VIRT_G2,
        gic,
        "reg",
        &[
            0, 0x800_0000, 0, 0x1_0000, 0, 0x801_0000, 0, 0x1000, 0, 0x803_0000, 0, 0x1_0000, 0,
            0x804_0000, 0, 0x1_0000,
        ],
    );
    assert_says(&refusal(&short), &[gic, "GICC 0x8010000+0x1000", "at least 0x2000 bytes"]);
    let v3 = |name: &str, cells: &[u32]| with_cells(VIRT_G3, gic, name, cells);
    assert_says(&refusal(&v3("#redistributor-regions", &[0])), &[gic, "regions is 0"]);
    assert_says(
        &refusal(&v3("#redistributor-regions", &[u32::MAX])),
        &[gic, "regions is 4294967295"],
    );
    assert_says(&refusal(&v3("#redistributor-regions", &[2])), &[gic, "no GICR"]);
    assert_says(&refusal(&v3("redistributor-stride", &[0, 0x1_0000])), &[gic, "stride 0x10000"]);
    assert_says(&refusal(&v3("redistributor-stride", &[0, 0x2_8000])), &[gic, "stride 0x28000"]);
    let small = v3("reg", &[0, 0x800_0000, 0, 0x1_0000, 0, 0x80a_0000, 0, 0x1_0000]);
    assert_says(&refusal(&small), &[gic, "GICR 0x80a0000+0x10000", "at least 0x20000"]);
    let empty = v3("reg", &[]);
    assert_says(&refusal(&empty), &[gic, "no GICR"]);
}

#[test]
fn a_timer_without_its_interrupts_is_refused_by_name() {
    let blob = without_node(VIRT_G2, "/", "timer");
    assert_says(&refusal(&blob), &["arm,armv8-timer"]);
    let blob = with_cells(VIRT_G2, "/timer", "interrupts", &[1, 13, 4, 1, 14, 4]);
    assert_says(&refusal(&blob), &["/timer: the PPI of timer 'virt' is missing"]);
    let blob = with_cells(VIRT_G2, "/timer", "interrupts", &[1, 13, 4, 1, 14, 4, 1, 11]);
    assert_says(&refusal(&blob), &["/timer: its interrupts end inside one of 3 cells"]);
    // A controller with too few cells for a GIC's interrupts has none that are known.
    let blob = without_property(VIRT_G2, "/intc@8000000", "interrupts");
    let blob = with_cells(&blob, "/intc@8000000", "#interrupt-cells", &[2]);
    let blob = with_cells(&blob, "/timer", "interrupts", &[1, 13, 1, 14, 1, 11, 1, 10]);
    assert_says(&refusal(&blob), &["/timer: the PPI of timer 'phys' is missing"]);
    // SPIs and what no GIC has are no PPIs.
    for kind in [0, 7, u32::MAX] {
        let cells = [1, 13, 4, 1, 14, 4, kind, 11, 4, 1, 10, 4];
        let blob = with_cells(VIRT_G2, "/timer", "interrupts", &cells);
        assert_says(&refusal(&blob), &["/timer: the PPI of timer 'virt' is missing"]);
    }
}

#[test]
fn phandles_that_lead_nowhere_or_to_themselves_are_refused() {
    let blob = with_cells(VIRT_G2, "/timer", "interrupt-parent", &[0x1234]);
    assert_says(&refusal(&blob), &["/timer", "no interrupt controller that exists"]);
    // The timer as its own interrupt parent.
    let blob = with_cells(VIRT_G2, "/timer", "phandle", &[0x1234]);
    let blob = with_cells(&blob, "/timer", "interrupt-parent", &[0x1234]);
    assert_says(&refusal(&blob), &["/timer", "no interrupt controller that exists"]);
    // Two controllers as each other's parents: one step is taken, no more.
    let blob = with_cells(VIRT_G2, "/intc@8000000", "interrupt-parent", &[0x1234]);
    let blob = with_cells(&blob, "/timer", "phandle", &[0x1234]);
    let blob = with_cells(&blob, "/timer", "interrupt-parent", &[0x8003]);
    assert_says(&refusal(&blob), &["/intc@8000000", "no interrupt controller that exists"]);
}

#[test]
fn of_two_phandles_the_first_counts_unless_it_is_none() {
    let two = |first: u32, second: u32, parent: u32| {
        let blob = with_cells(VIRT_G2, "/intc@8000000", "phandle", &[first]);
        let blob = with_cells(&blob, "/intc@8000000", "linux,phandle", &[second]);
        let blob = with_cells(&blob, "/", "interrupt-parent", &[parent]);
        Board::from_tree(&with_cells(&blob, "/timer", "interrupt-parent", &[parent]))
    };
    two(0x1234, 0x5678, 0x1234).unwrap();
    let message = two(0x1234, 0x5678, 0x5678).unwrap_err().to_string();
    assert_says(&message, &["no interrupt controller that exists"]);
    two(0, 0x5678, 0x5678).unwrap();
}

#[test]
fn a_stdout_path_that_leads_nowhere_is_no_console() {
    let at = |path: &[u8]| with_bytes(VIRT_G2, "/chosen", "stdout-path", path.to_vec());
    for path in [&b"/nothing@0:115200\0"[..], b"serial9\0", b"\0"] {
        assert_eq!(Board::from_tree(&at(path)).unwrap().uart, None);
    }
    assert_says(&refusal(&at(b"/pl011@9000000")), &["/chosen: stdout-path is not a string"]);
    // An alias that names itself leads nowhere, not round in circles.
    let blob = edited(VIRT_G2, |tree| {
        let mut aliases = node("aliases", &[]);
        aliases.add_property(DeviceTreeProperty::new_unchecked("round", "round"));
        tree.root.add_child(aliases);
    });
    let blob = with_bytes(&blob, "/chosen", "stdout-path", b"round\0".to_vec());
    assert_eq!(Board::from_tree(&blob).unwrap().uart, None);
}

#[test]
fn a_word_for_the_console_that_leads_to_no_driven_uart_is_refused_by_name() {
    let with = |bootargs: &str| {
        with_bytes(VIRT_G2, "/chosen", "bootargs", [bootargs.as_bytes(), &[0]].concat())
    };
    let good = Board::from_tree(&with("hyp.console=/pl011@9000000:115200n8 quiet")).unwrap();
    assert_eq!(good.uart.unwrap().options, "115200n8");
    for place in ["/nowhere", "serial9", "/timer", "/pl031@9010000", ""] {
        let blob = with(&format!("quiet hyp.console={place}"));
        let words = format!("hyp.console={place}: no UART that Portcullis drives");
        assert_says(&refusal(&blob), &[&words]);
        // It is said on the console that the tree names.
        assert_eq!(Board::with_console(&blob).0.unwrap().path, "/pl011@9000000");
    }
    let twice = with("hyp.console=/pl011@9000000 hyp.console=/pl011@9000000");
    assert_says(&refusal(&twice), &["'hyp.console=' is given twice; keep one"]);
}

#[test]
fn a_console_with_impossible_registers_is_refused_by_name() {
    let uart = "/pl011@9000000";
    let blob = with_cells(VIRT_G2, uart, "reg", &[0, 0x900_0000, 0, 0]);
    assert_says(&refusal(&blob), &[uart, "reg is empty"]);
    let blob = with_bytes(VIRT_G2, uart, "compatible", b"ns16550a\0".to_vec());
    let wide = with_cells(&blob, uart, "reg-io-width", &[8]);
    assert_says(&refusal(&wide), &[uart, "reg-io-width 8"]);
    let far = with_cells(&blob, uart, "reg-shift", &[u32::MAX]);
    assert_says(&refusal(&far), &[uart, "reg-shift 4294967295"]);
}

#[test]
fn ranges_that_do_not_reach_are_refused_by_name() {
    // The console moves onto a bus.
    let bus = |ranges: &[u32]| {
        let uart = "/bus@c000000/uart@8";
        let blob = edited(VIRT_G2, |tree| {
            let mut bus = node(
                "bus@c000000",
                &[("#address-cells", &[1]), ("#size-cells", &[1]), ("ranges", ranges)],
            );
            bus.add_child(node("uart@8", &[("reg", &[8, 0x100])]));
            tree.root.add_child(bus);
        });
        with_bytes(&blob, "/chosen", "stdout-path", [uart.as_bytes(), &[0]].concat())
    };
    let good = bus(&[0, 0, 0xc00_0000, 0x108]);
    assert_eq!(Board::from_tree(&good).unwrap().uart.unwrap().registers, pa(0xc00_0008, 0x100));
    // Empty: the same addresses.
    assert_eq!(Board::from_tree(&bus(&[])).unwrap().uart.unwrap().registers, pa(8, 0x100));
    // A window that ends one byte early; one that starts late; one whose target wraps; not whole.
    assert_says(&refusal(&bus(&[0, 0, 0xc00_0000, 0x107])), &["uart@8: 0x8+0x100", "/bus@c000000"]);
    assert_says(&refusal(&bus(&[9, 0, 0xc00_0000, 0x1000])), &["is in no window"]);
    assert_says(&refusal(&bus(&[0, u32::MAX, 0xffff_fff8, 0x1000])), &["is in no window"]);
    assert_says(&refusal(&bus(&[0, 0, 0xc00_0000])), &["/bus@c000000: ranges has 12 bytes"]);
}

#[test]
fn an_initrd_that_cannot_be_is_refused() {
    let set = |start: Option<&[u32]>, end: Option<&[u32]>| {
        edited(VIRT_G2, |tree| {
            let chosen = tree.find_node_mut("/chosen").unwrap();
            for (name, cells) in [("linux,initrd-start", start), ("linux,initrd-end", end)] {
                if let Some(cells) = cells {
                    let bytes: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
                    chosen.add_property(DeviceTreeProperty::new_unchecked(name, bytes));
                }
            }
        })
    };
    assert_says(&refusal(&set(Some(&[0x6000]), None)), &["linux,initrd-start and -end"]);
    assert_says(&refusal(&set(Some(&[0x6000]), Some(&[0x5fff]))), &["before its start 0x6000"]);
    assert_says(&refusal(&set(Some(&[1, 2, 3]), Some(&[0]))), &["linux,initrd-start has 12 bytes"]);
    let wide = set(Some(&[0, 0x6000]), Some(&[1, 0]));
    let initrd = Board::from_tree(&wide).unwrap().initrd;
    assert_eq!(initrd, Some(pa(0x6000, 0x1_0000_0000 - 0x6000)));
    assert_eq!(Board::from_tree(&set(Some(&[7]), Some(&[7]))).unwrap().initrd, None);
}

#[test]
fn modules_that_cannot_be_are_refused_by_name() {
    let module = "/chosen/module@0x50000000";
    let blob = with_cells(VIRT_G2, module, "reg", &[0, 0x5000_0000, 0, 0]);
    assert_says(&refusal(&blob), &[module, "it is empty"]);
    let blob = with_cells(VIRT_G2, module, "reg", &[0x5000_0000, 0x1000]);
    assert_says(&refusal(&blob), &[module, "8 bytes"]);
    let blob = with_cells(VIRT_G2, module, "reg", &[0; 8]);
    assert_says(&refusal(&blob), &[module, "2 entries instead of one"]);
    let blob = with_bytes(VIRT_G2, module, "bootargs", b"vm.name=\xff\0".to_vec());
    assert_says(&refusal(&blob), &[module, "bootargs is not a string"]);
    let long = with_bytes(VIRT_G2, module, "bootargs", [&[b'x'; 4097][..], &[0]].concat());
    assert_says(&refusal(&long), &[module, "bootargs has 4098 bytes", "shorten"]);
    let most = with_bytes(VIRT_G2, module, "bootargs", [&[b'x'; 4096][..], &[0]].concat());
    assert_eq!(Board::from_tree(&most).unwrap().modules[0].bootargs.len(), 4096);
    let blob = edited(VIRT_G2, |tree| {
        let chosen = tree.find_node_mut("/chosen").unwrap();
        for index in 0..100_u32 {
            let mut module = node(&format!("module@{index}"), &[("reg", &[0, index << 16, 0, 1])]);
            let compatible = DeviceTreeProperty::new_unchecked("compatible", "multiboot,module");
            module.add_property(compatible);
            chosen.add_child(module);
        }
    });
    assert_says(&refusal(&blob), &["more than 64 modules"]);
}

#[test]
fn control_characters_of_a_tree_do_not_reach_the_console() {
    let blob = edited(VIRT_G2, |tree| {
        let mut memory = node("memory@\n[hyp] fine\x1b[2J", &[("reg", &[0])]);
        memory.add_property(DeviceTreeProperty::new_unchecked("device_type", "memory"));
        tree.root.add_child(memory);
    });
    let message = refusal(&blob);
    assert_says(&message, &["/memory@\\n[hyp] fine\\u{1b}[2J: reg has 4 bytes"]);
    assert!(!message.contains('\n') && !message.contains('\x1b'));
}

#[test]
fn a_flood_of_reserved_memory_is_refused() {
    let with = |count: u32| {
        edited(VIRT_G2, |tree| {
            let mut reserved =
                node("reserved-memory", &[("#address-cells", &[2]), ("#size-cells", &[2])]);
            for index in 0..count {
                let reg = [0, index << 12, 0, 0x1000];
                reserved.add_child(node(&format!("r@{index:x}"), &[("reg", &reg)]));
            }
            tree.root.add_child(reserved);
        })
    };
    assert_eq!(Board::from_tree(&with(128)).unwrap().reserved.len(), 128);
    assert_says(&refusal(&with(129)), &["/reserved-memory/r@80", "more than 128 reservations"]);
}

#[test]
fn a_flood_of_banks_is_refused() {
    let cells: Vec<u32> = (0..129).flat_map(|index| [0, index << 13, 0, 0x1000]).collect();
    let blob = with_cells(VIRT_G2, "/memory@40000000", "reg", &cells);
    assert_says(&refusal(&blob), &["/memory@40000000", "more than 128 banks"]);
    let blob = with_cells(VIRT_G2, "/memory@40000000", "reg", &cells[..128 * 4]);
    assert_eq!(Board::from_tree(&blob).unwrap().ram.len(), 128);
}

#[test]
fn empty_reservations_reserve_nothing() {
    use dtoolkit::memreserve::MemoryReservation;
    let blob = edited(VIRT_G2, |tree| {
        tree.memory_reservations.push(MemoryReservation::new(0x4000_0000, 0));
        tree.memory_reservations.push(MemoryReservation::new(0x4100_0000, 0x1000));
    });
    let reserved = Board::from_tree(&blob).unwrap().reserved;
    assert_eq!(reserved.len(), 1, "{reserved:?}");
    assert_eq!(reserved[0].range, pa(0x4100_0000, 0x1000));
}

#[test]
fn a_module_of_no_kind_says_what_it_is() {
    let module = "/chosen/module@0x50000000";
    let as_kind = |compatible: &[u8]| {
        let blob = with_bytes(VIRT_G2, module, "compatible", compatible.to_vec());
        Board::from_tree(&blob).unwrap().modules[0].kind.clone()
    };
    let other = |name: &str| platform::ModuleKind::Other(name.into());
    assert_eq!(as_kind(b"multiboot,module\0"), other(""));
    assert_eq!(as_kind(b"multiboot,module\0xen,flask\0"), other("xen,flask"));
    assert_eq!(as_kind(b"multiboot,kernel\0multiboot,module\0"), platform::ModuleKind::Kernel);
    // A megabyte of names is not taken over.
    let long = [&b"multiboot,module\0"[..], &vec![b'x'; 1 << 20], &[0]].concat();
    assert_eq!(as_kind(&long), other(&"x".repeat(64)));
}

#[test]
fn floods_of_names_are_survived() {
    // Each would be a large list if it were read whole.
    let names = vec![0; 1 << 20];
    for (path, name) in [
        ("/timer", "interrupt-names"),
        ("/timer", "compatible"),
        ("/cpus/cpu@0", "enable-method"),
        ("/intc@8000000", "compatible"),
        ("/", "model"),
    ] {
        let _ = Board::from_tree(&with_bytes(VIRT_G2, path, name, names.clone()));
    }
    let long = [&[b'\xc3', b'\xa9'].repeat(1000)[..], &[0]].concat();
    let blob = with_bytes(VIRT_G2, "/", "model", long);
    assert_eq!(Board::from_tree(&blob).unwrap().model, "\u{e9}".repeat(32));
}
