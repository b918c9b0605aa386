// SPDX-License-Identifier: MIT OR Apache-2.0
//! ELF files as kernels of VMs: what is loaded is what another reader finds, and whatever is wrong is refused whole.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used)]

mod support;

use arch::Ipa;
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use platform::{ErrorKind, VmConfig};
use proptest::prelude::*;
use support::drive::try_image;
use support::*;

const KERNEL: u64 = 0x5000_0000;

/// A segment as a program header has it.
#[derive(Clone, Copy, Debug)]
struct Segment {
    kind: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    bytes: u64,
    memory: u64,
    align: u64,
}

fn load(offset: u64, at: u64, bytes: u64, memory: u64) -> Segment {
    Segment { kind: 1, offset, vaddr: at, paddr: at, bytes, memory, align: 0x1000 }
}

/// An ELF file of `size` bytes with these program headers behind its header.
fn file(kind: u16, entry: u64, segments: &[Segment], size: usize) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend(kind.to_le_bytes());
    bytes.extend(183_u16.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    for word in [entry, 64, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(0_u32.to_le_bytes());
    for half in [64, 56, segments.len() as u16, 64, 0, 0] {
        bytes.extend(half.to_le_bytes());
    }
    for it in segments {
        bytes.extend(it.kind.to_le_bytes());
        bytes.extend(5_u32.to_le_bytes());
        for word in [it.offset, it.vaddr, it.paddr, it.bytes, it.memory, it.align] {
            bytes.extend(word.to_le_bytes());
        }
    }
    bytes.resize(size.max(bytes.len()), 0);
    bytes
}

fn bench(bytes: &[u8], words: &str) -> Bench {
    Bench::new().kernel(KERNEL, bytes.len() as u64, words).file(KERNEL, bytes)
}

fn vm(bytes: &[u8]) -> VmConfig {
    bench(bytes, "").vm()
}

#[track_caller]
fn refused(bytes: &[u8], words: &str, expected: &str) {
    let error = bench(bytes, words).vms().unwrap_err();
    assert!(error.message().contains(expected), "{error}");
    assert!(matches!(error.kind(), ErrorKind::Image | ErrorKind::Vm));
}

#[test]
fn segments_go_to_their_physical_addresses() {
    let segments = [
        load(0x1000, 0x4008_0000, 0x2000, 0x2000),
        Segment { kind: 4, ..load(0, 0, 0x10, 0x10) },
        load(0x3000, 0x400a_0000, 0x100, 0x8000),
        load(0, 0x4100_0000, 0, 0x1000),
        load(0, 0x4200_0000, 0, 0),
    ];
    let vm = vm(&file(2, 0x4008_0008, &segments, 0x4000));
    let parts: Vec<_> = vm.placement.parts.iter().map(|part| (part.offset, part.to)).collect();
    let expected = [
        (0x1000, ipa(0x4008_0000, 0x2000)),
        (0x3000, ipa(0x400a_0000, 0x100)),
        (0, ipa(0x4100_0000, 0)),
    ];
    assert_eq!(parts, expected);
    assert_eq!(vm.placement.entry, Ipa::new(0x4008_0008));
    assert_eq!(vm.placement.image, ipa(0x4008_0000, 0xf8_1000));
    assert_eq!(vm.placement.tree.start(), Ipa::new(0x4000_0000));
}

#[test]
fn a_virtual_entry_is_translated_through_its_segment() {
    let high = 0xffff_0000_0010_0000;
    let text = Segment { vaddr: high, ..load(0x1000, 0x4010_0000, 0x2000, 0x2000) };
    let entered =
        |entry, segments: &[Segment]| vm(&file(2, entry, segments, 0x3000)).placement.entry;
    assert_eq!(entered(high + 0x40, &[text]), Ipa::new(0x4010_0040));
    // A physical one is taken where no segment has it as a virtual address.
    assert_eq!(entered(0x4010_0040, &[text]), Ipa::new(0x4010_0040));
    // The virtual address counts, whichever segment comes first.
    let crossed = Segment { vaddr: 0x4010_0000, ..load(0x1000, 0x4020_0000, 0x1000, 0x1000) };
    for segments in [[text, crossed], [crossed, text]] {
        assert_eq!(entered(0x4010_0040, &segments), Ipa::new(0x4020_0040));
    }
    // Neither in the BSS nor elsewhere nor between two instructions.
    let bss = load(0x1000, 0x4010_0000, 0x1000, 0x2000);
    for entry in [0x4010_1000, 0x4010_2000, 0x400f_fffc, 0, u64::MAX, 0x4010_0002] {
        refused(&file(2, entry, &[bss], 0x3000), "", "none of its segments has instructions");
    }
}

#[test]
fn what_is_no_program_for_arm64_is_refused() {
    let good = file(2, 0x4010_0000, &[load(0x1000, 0x4010_0000, 8, 8)], 0x2000);
    assert!(bench(&good, "").vms().is_ok());
    let with = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    refused(&with(4, &[1]), "", "not for arm64");
    refused(&with(5, &[2]), "", "not for arm64");
    refused(&with(18, &[62, 0]), "", "not for arm64");
    refused(&with(16, &[1, 0]), "", "no executable (type 1)");
    refused(&with(16, &[4, 0]), "", "no executable (type 4)");
    refused(&with(54, &[32, 0]), "", "program headers");
    refused(&with(56, &[0, 0]), "", "none of its segments");
    refused(&with(56, &[0xff, 0xff]), "", "program headers are not there");
    refused(&with(32, &[0xff; 8]), "", "program headers are not there");
    for len in 4..64 {
        refused(&good[..len], "", "ends in its header");
    }
    for len in 64..120 {
        refused(&good[..len], "", "program headers are not there");
    }
    for len in [120, 0x1000, 0x1007] {
        refused(&good[..len], "", "is truncated or damaged: a segment at 0x40100000 has 0x8 bytes");
    }
    assert!(bench(&good[..0x1008], "").vms().is_ok());
}

#[test]
fn segments_that_cannot_be_are_refused() {
    let one = |segment: Segment| file(2, 0x4010_0000, &[segment], 0x2000);
    let good = load(0x1000, 0x4010_0000, 8, 16);
    refused(
        &one(Segment { memory: 7, ..good }),
        "",
        "has 0x8 bytes at offset 0x1000 for 0x7 bytes",
    );
    refused(&one(Segment { align: 3, ..good }), "", "aligned to 0x3");
    refused(&one(Segment { offset: 0x1004, ..good }), "", "is truncated or damaged");
    refused(&one(Segment { memory: u64::MAX, ..good }), "", "is truncated or damaged");
    refused(&one(Segment { vaddr: !0xfff, memory: 0x2000, ..good }), "", "is truncated or damaged");
    refused(&one(Segment { offset: !0xfff, ..good }), "", "is truncated or damaged");
    refused(
        &one(Segment { bytes: u64::MAX, memory: u64::MAX, ..good }),
        "",
        "is truncated or damaged",
    );
    refused(
        &one(Segment { memory: 1 << 30, ..good }),
        "",
        "neither in its RAM 0x40000000+0x8000000",
    );
    refused(&one(Segment { paddr: 0x900_0000, ..good }), "", "at 0x9000000+0x10, 0x8 bytes");
    let other = load(0x1000, 0x4010_000c, 4, 4);
    refused(
        &file(2, 0x4010_0000, &[good, Segment { align: 1, ..other }], 0x2000),
        "",
        "at 0x4010000c+0x4 that overlaps another",
    );
    let many: Vec<Segment> =
        (0..33).map(|n| Segment { align: 1, ..load(0, 0x4010_0000 + n, 1, 1) }).collect();
    assert!(bench(&file(2, 0x4010_0000, &many[..32], 0x2000), "").vms().is_ok());
    refused(&file(2, 0x4010_0000, &many, 0x2000), "", "more than 32 of them");
    refused(&one(good), "vm.load=0x40200000", "leave vm.load out");
    refused(&one(good), "vm.dtb=0x400f8000", "its image is there, at 0x40100000+0x10");
}

#[test]
fn the_ramdisk_stays_out_of_every_segment() {
    let text = load(0x1000, 0x4400_0000, 8, 0x1000);
    let bss = load(0x1000, 0x4000_0000, 0, 0x1000);
    let bytes = file(2, 0x4400_0000, &[text, bss], 0x2000);
    let vm = bench(&bytes, "").ramdisk(0x5100_0000, 0x1000).vm();
    assert_eq!(vm.placement.ramdisk, Some(ipa(0x4420_0000, 0x1000)));
    assert_eq!(vm.placement.tree, ipa(0x4440_0000, 0x1_0000));
}

fn segments() -> impl Strategy<Value = Vec<Segment>> {
    let near = |base: u64| (0_u64..0x40).prop_map(move |n| base + n * 0x1000);
    let one = (
        prop_oneof![8 => Just(1_u32), 1 => 0_u32..8],
        prop_oneof![near(0), Just(!0xfff), (0_u64..0x4000)],
        prop_oneof![near(0x4000_0000), near(0xffff_0000_4000_0000), any::<u64>()],
        prop_oneof![6 => near(0x4000_0000), 1 => near(0x47fe_0000), 1 => near(0), 1 => any::<u64>()],
        prop_oneof![0_u64..0x3000, any::<u64>()],
        prop_oneof![0_u64..0x8000, any::<u64>()],
        prop_oneof![Just(0_u64), Just(1), Just(8), Just(0x1000), any::<u64>()],
    );
    let one = one.prop_map(|(kind, offset, vaddr, paddr, bytes, memory, align)| Segment {
        kind,
        offset,
        vaddr,
        paddr,
        bytes,
        memory,
        align,
    });
    prop::collection::vec(one, 0..5)
}

proptest! {
    /// What is accepted is loaded as another reader of ELF files has it.
    #[test]
    fn what_is_loaded_is_what_object_finds(
        kind in 0_u16..5,
        entry in prop_oneof![(0_u64..0x40_0000).prop_map(|n| 0x4000_0000 + n), any::<u64>()],
        segments in segments(),
        size in 0_usize..0x8000,
    ) {
        let bytes = file(kind, entry, &segments, size);
        try_image(&bytes, "vm.rom=0x0+256K");
        let Ok(vms) = bench(&bytes, "vm.rom=0x0+256K").vms() else { return Ok(()) };
        let place = &vms[0].placement;
        let header = FileHeader64::<object::LittleEndian>::parse(&*bytes).unwrap();
        let endian = header.endian().unwrap();
        let found = header.program_headers(endian, &*bytes).unwrap();
        let loaded = found.iter().filter(|it| it.p_type(endian) == PT_LOAD && it.p_memsz(endian) != 0);
        let mut expected: Vec<_> = loaded
            .map(|it| (it.p_paddr(endian), it.p_offset(endian), it.data(endian, &*bytes).unwrap().len() as u64))
            .collect();
        expected.sort();
        let parts: Vec<_> = place
            .parts
            .iter()
            .map(|part| (part.to.start().raw(), part.offset, part.to.size()))
            .collect();
        if kind == 2 {
            prop_assert_eq!(&parts, &expected);
        } else {
            // As a whole it may be moved.
            let moved = parts[0].0.wrapping_sub(expected[0].0);
            for part in &mut expected {
                part.0 = part.0.wrapping_add(moved);
            }
            prop_assert_eq!(&parts, &expected);
        }
    }

    /// Damage to a file that is right.
    #[test]
    fn damaged_files_are_survived(
        damage in prop::collection::vec((0_usize..0x200, any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, 0_usize..0x2000),
    ) {
        let text = load(0x1000, 0x4010_0000, 0x800, 0x800);
        let mut bytes = file(2, 0x4010_0000, &[text, load(0x1800, 0x4011_0800, 8, 0x9000)], 0x2000);
        for (at, byte) in damage {
            bytes[at] = byte;
        }
        bytes.truncate(cut.unwrap_or(0x2000).max(1));
        try_image(&bytes, "");
    }
}
