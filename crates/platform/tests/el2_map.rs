// SPDX-License-Identifier: MIT OR Apache-2.0
//! EL2's own tables: what is mapped where, and how, page by page.
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::collections::BTreeMap;

use arch::{Pa, Range};
use platform::{Board, El2Image, El2Memory, Gic, Reserved, StartMethod, el2_map};

const PAGE: u64 = 4096;

fn range(start: u64, end: u64) -> Range<Pa> {
    Range::<Pa>::new(Pa::new(start), end - start).unwrap()
}

/// QEMU's machine: RAM from 1 GiB on, and the image in it.
fn board(name: &str) -> Board {
    let path = format!("{}/tests/fixtures/{name}.dtb", env!("CARGO_MANIFEST_DIR"));
    Board::from_tree(&std::fs::read(path).unwrap()).unwrap()
}

const IMAGE: u64 = 0x4008_0000;
const TREE: u64 = 0x4800_0100;

/// The ranges, in their order.
fn plan(board: Option<&Board>) -> Vec<(Range<Pa>, El2Memory)> {
    let guards = [range(IMAGE + 0x8000, IMAGE + 0x9000), range(IMAGE + 0xa000, IMAGE + 0xb000)];
    let image = El2Image {
        all: range(IMAGE, IMAGE + 0xc000),
        code: range(IMAGE, IMAGE + 0x3000),
        constants: range(IMAGE + 0x3000, IMAGE + 0x5000),
        data: range(IMAGE + 0x5000, IMAGE + 0xc000),
        guards: &guards,
    };
    let mut ranges = Vec::new();
    let uart = board.and_then(|board| board.uart.as_ref());
    el2_map(&image, range(TREE, TREE + 0x1800), uart, board, |range, memory| {
        ranges.push((range, memory));
        Ok::<(), ()>(())
    })
    .unwrap();
    ranges
}

/// How a page is mapped after all of `plan`.
fn at(plan: &[(Range<Pa>, El2Memory)], address: u64) -> El2Memory {
    let last = plan.iter().rfind(|(range, _)| range.contains(Pa::new(address)));
    last.map_or(El2Memory::None, |(_, memory)| *memory)
}

#[test]
fn the_image_is_writable_or_executable_and_never_both() {
    let g3 = board("virt-g3");
    let mut reserved = g3.clone();
    let name = String::from("firmware");
    reserved.reserved.push(Reserved { name, range: range(IMAGE, IMAGE + 0x10_0000) });
    for board in [None, Some(&g3), Some(&reserved)] {
        let plan = plan(board);
        let image: BTreeMap<u64, _> =
            (0..12).map(|page| (page, at(&plan, IMAGE + page * PAGE))).collect();
        for (page, memory) in image {
            let want = match page {
                0..3 => El2Memory::Code,
                3..5 => El2Memory::Constants,
                8 | 10 => El2Memory::None,
                _ => El2Memory::Data,
            };
            assert_eq!(memory, want, "page {page}");
        }
        let code: Vec<_> = plan.iter().filter(|(_, memory)| *memory == El2Memory::Code).collect();
        assert_eq!(code, [&(range(IMAGE, IMAGE + 0x3000), El2Memory::Code)]);
    }
}

#[test]
fn the_image_and_the_tree_are_split_from_ram_only_where_they_must_be() {
    let board = board("virt-g3");
    let own = |plan: &[(Range<Pa>, El2Memory)]| {
        let inside = plan
            .iter()
            .filter(|(range, memory)| *memory == El2Memory::Data && range.size() < 0x10_0000);
        inside.map(|(range, _)| range.start().raw()).collect::<Vec<_>>()
    };
    assert_eq!(own(&plan(Some(&board))), [0; 0]);
    assert_eq!(own(&plan(None)), [TREE & !0xfff, IMAGE + 0x5000]);
    for at in [TREE, IMAGE] {
        let mut reserved = board.clone();
        let name = String::from("firmware");
        reserved.reserved = vec![Reserved { name, range: range(at, at + 1) }];
        let want = if at == TREE { TREE & !0xfff } else { IMAGE + 0x5000 };
        assert_eq!(own(&plan(Some(&reserved))), [want], "{at:#x}");
    }
    let mut elsewhere = board;
    elsewhere.ram = vec![range(0x8000_0000, 0x9000_0000)];
    elsewhere.reserved.clear();
    assert_eq!(own(&plan(Some(&elsewhere))), [TREE & !0xfff, IMAGE + 0x5000]);
}

#[test]
fn the_tree_is_mapped_in_whole_pages() {
    let plan = plan(None);
    for address in [TREE & !0xfff, TREE, TREE + 0x17ff, TREE + 0x1eff] {
        assert_eq!(at(&plan, address), El2Memory::Data, "{address:#x}");
    }
    assert_eq!(at(&plan, (TREE & !0xfff) - 1), El2Memory::None);
    assert_eq!(at(&plan, TREE + 0x1f00), El2Memory::None);
}

#[test]
fn devices_are_those_that_el2_drives() {
    for name in ["virt-g2", "virt-g3"] {
        let board = board(name);
        let plan = plan(Some(&board));
        let mut want = vec![board.uart.as_ref().unwrap().registers];
        match &board.gic {
            Gic::V2 { gicd, gicc, gich, .. } => want.extend([gicd, gicc, gich]),
            Gic::V3 { gicd, redistributors, .. } => {
                want.push(*gicd);
                want.extend(redistributors);
            }
        }
        let devices: Vec<_> = plan
            .iter()
            .filter(|(_, memory)| *memory == El2Memory::Device)
            .map(|(range, _)| *range)
            .collect();
        assert_eq!(devices, want, "{name}");
    }
    let devices = plan(None).iter().filter(|(_, memory)| *memory == El2Memory::Device).count();
    assert_eq!(devices, 0);
}

#[test]
fn ram_is_mapped_but_for_what_firmware_keeps() {
    let mut board = board("virt-g3");
    let secret = range(0x4400_0800, 0x4400_1001);
    board.reserved.push(Reserved { name: String::from("secret"), range: secret });
    let release = 0x4400_0ff8;
    board.cpus[0].start = StartMethod::SpinTable(Pa::new(release));
    let plan = plan(Some(&board));
    for bank in &board.ram {
        assert_eq!(at(&plan, bank.start().raw()), El2Memory::Data);
        assert_eq!(at(&plan, bank.end().raw() - 1), El2Memory::Data);
        assert_eq!(at(&plan, bank.end().raw()), El2Memory::None);
    }
    assert_eq!(at(&plan, 0x43ff_ffff), El2Memory::Data);
    assert_eq!(at(&plan, 0x4400_0000), El2Memory::Data, "EL2 writes the release address");
    assert_eq!(at(&plan, 0x4400_1000), El2Memory::None);
    assert_eq!(at(&plan, 0x4400_2000), El2Memory::Data);
}

#[test]
fn an_initrd_in_ram_is_mapped_although_it_is_reserved() {
    let mut board = board("virt-g3");
    let initrd = range(0x4500_0000, 0x4500_0fff);
    board.reserved.push(Reserved { name: String::from("/memreserve/"), range: initrd });
    board.initrd = Some(initrd);
    assert_eq!(at(&plan(Some(&board)), 0x4500_0000), El2Memory::Data);
    let outside = range(0x1_0000, 0x1_1000);
    board.initrd = Some(outside);
    let plan = plan(Some(&board));
    assert_eq!(at(&plan, 0x4500_0000), El2Memory::None);
    assert_eq!(at(&plan, 0x1_0000), El2Memory::None);
}

#[test]
fn every_range_is_whole_pages_and_none_is_empty() {
    let mut board = board("virt-g3");
    let empty = range(0x4600_0000, 0x4600_0000);
    board.reserved.push(Reserved { name: String::from("nothing"), range: empty });
    let top = range(u64::MAX - 0x10, u64::MAX - 1);
    board.reserved.push(Reserved { name: String::from("top"), range: top });
    for (range, _) in plan(Some(&board)) {
        assert!(range.start().is_aligned(PAGE) && range.end().is_aligned(PAGE), "{range}");
        assert!(range.size() != 0, "{range}");
    }
}

#[test]
fn an_error_ends_it() {
    let guards = [];
    let image = El2Image {
        all: range(IMAGE, IMAGE + 0xc000),
        code: range(IMAGE, IMAGE + 0x3000),
        constants: range(IMAGE + 0x3000, IMAGE + 0x5000),
        data: range(IMAGE + 0x5000, IMAGE + 0xc000),
        guards: &guards,
    };
    for fine in 0..4 {
        let mut calls = 0;
        let result = el2_map(&image, range(TREE, TREE + 1), None, None, |_, _| {
            calls += 1;
            if calls > fine { Err(calls) } else { Ok(()) }
        });
        assert_eq!(result, Err(fine + 1));
    }
}
