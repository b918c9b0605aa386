// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a VM's image, ramdisk and device tree stand in its memory.
//!
//! docs/boot.md has the picture.

use crate::error::{Error, err};
use crate::image::ImageHeader;
use crate::map::{IMAGE_OFFSET, TREE_SPACE};
use arch::{Ipa, PAGE_SIZE, Range};

/// Where the parts of a VM stand when it starts. No two overlap; those in RAM lie inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The kernel image: as many bytes as its module has.
    pub image: Range<Ipa>,
    /// First instruction of the boot vCPU: the start of the image.
    pub entry: Ipa,
    /// Which of the VM's ROMs, and behind those banks of flash, holds the image; `None`: RAM.
    pub image_rom: Option<usize>,
    /// The ramdisk.
    pub ramdisk: Option<Range<Ipa>>,
    /// The device tree: x0 of the boot vCPU, and the room kept for it.
    pub tree: Range<Ipa>,
}

/// What is to be placed.
pub(crate) struct Parts<'a> {
    pub ram: Range<Ipa>,
    pub roms: &'a [Range<Ipa>],
    pub load: Option<Ipa>,
    pub header: Option<ImageHeader>,
    pub kernel_bytes: u64,
    pub ramdisk_bytes: Option<u64>,
}

const TWO_MIB: u64 = 2 << 20;

fn aligned(address: u64, align: u64) -> Option<u64> {
    address.checked_next_multiple_of(align)
}

/// Places everything, or says what does not fit.
pub(crate) fn place(parts: &Parts<'_>) -> Result<Placement, Error> {
    let ram = parts.ram;
    let footprint = parts.header.map_or(0, |header| header.image_size).max(parts.kernel_bytes);
    let text_offset = parts.header.map_or(0, |header| header.text_offset);
    let start = match parts.load {
        Some(load) => load,
        None => {
            let offset = IMAGE_OFFSET.saturating_add(text_offset);
            Ipa::new(ram.start().raw().saturating_add(offset))
        }
    };
    if parts.header.is_some() && start.raw().wrapping_sub(text_offset) % TWO_MIB != 0 {
        return Err(err!(
            Vm,
            "vm.load={start}: an image with an Image header must stand {text_offset:#x} above a \
             multiple of 2M"
        ));
    }
    let rom = parts.roms.iter().position(|rom| rom.contains(start));
    let home = rom.and_then(|index| parts.roms.get(index)).copied().unwrap_or(ram);
    if rom.is_none() && parts.load.is_some() && !ram.contains(start) {
        return Err(err!(
            Vm,
            "vm.load={start} is neither in its RAM {ram} nor in a vm.rom or vm.flash; move it there"
        ));
    }
    let used = Range::<Ipa>::new(start, footprint).filter(|used| home.encloses(used));
    let Some(used) = used else {
        let place = if rom.is_some() { "ROM" } else { "RAM" };
        return Err(err!(
            Vm,
            "its image needs {footprint:#x} bytes at {start}, its {place} {home} ends before; give \
             it more vm.{} or a smaller image",
            if rom.is_some() { "rom" } else { "mem" }
        ));
    };

    // From here on: what RAM the image leaves. The tree goes first, so that it is at the start of
    // RAM unless the image is there.
    let ram_end = ram.end().raw();
    let tree_first = Range::<Ipa>::new(ram.start(), TREE_SPACE)
        .filter(|tree| ram.encloses(tree) && !tree.overlaps(&used));
    let mut floor = match (rom, tree_first) {
        (None, _) => used.end().raw(),
        (Some(_), Some(tree)) => tree.end().raw(),
        (Some(_), None) => ram.start().raw(),
    };
    let mut ramdisk = None;
    if let Some(bytes) = parts.ramdisk_bytes {
        let fits = |start: u64| {
            Range::<Ipa>::new(Ipa::new(start), bytes).filter(|range| range.end().raw() <= ram_end)
        };
        let placed = aligned(floor, TWO_MIB)
            .and_then(fits)
            .or_else(|| aligned(floor, PAGE_SIZE).and_then(fits));
        let Some(placed) = placed else {
            return Err(err!(
                Vm,
                "its ramdisk of {bytes:#x} bytes does not fit above its image, which ends at \
                 {floor:#x}, in its RAM {ram}; give it more vm.mem"
            ));
        };
        floor = placed.end().raw();
        ramdisk = Some(placed);
    }
    let tree = tree_first.or_else(|| {
        let start = aligned(floor, TREE_SPACE)?;
        Range::<Ipa>::new(Ipa::new(start), TREE_SPACE).filter(|tree| tree.end().raw() <= ram_end)
    });
    let Some(tree) = tree else {
        return Err(err!(
            Vm,
            "there is no room of {TREE_SPACE:#x} bytes for its device tree before its image or \
             behind {floor:#x} in its RAM {ram}; give it more vm.mem"
        ));
    };
    let image = Range::<Ipa>::new(start, parts.kernel_bytes).unwrap_or(used);
    Ok(Placement { image, entry: start, image_rom: rom, ramdisk, tree })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]

    use super::*;
    use crate::map::RAM_BASE;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn range(start: u64, size: u64) -> Range<Ipa> {
        Range::<Ipa>::new(Ipa::new(start), size).unwrap()
    }

    fn header(text_offset: u64, image_size: u64) -> Option<ImageHeader> {
        Some(ImageHeader { text_offset, image_size, flags: 0 })
    }

    fn parts(mem: u64) -> Parts<'static> {
        Parts {
            ram: range(RAM_BASE, mem),
            roms: &[],
            load: None,
            header: None,
            kernel_bytes: 0x1800,
            ramdisk_bytes: None,
        }
    }

    #[test]
    fn a_flat_image_stands_two_mib_above_ram_and_the_tree_below() {
        let placement = place(&parts(64 * MIB)).unwrap();
        let expected = Placement {
            image: range(0x4020_0000, 0x1800),
            entry: Ipa::new(0x4020_0000),
            image_rom: None,
            ramdisk: None,
            tree: range(0x4000_0000, 0x1_0000),
        };
        assert_eq!(placement, expected);
    }

    #[test]
    fn a_kernel_stands_at_its_text_offset_with_its_ramdisk_above_its_bss() {
        let parts = Parts {
            header: header(0x8_0000, 0x1ab_0000),
            kernel_bytes: 0x180_0000,
            ramdisk_bytes: Some(987_654),
            ..parts(64 * MIB)
        };
        let placement = place(&parts).unwrap();
        assert_eq!(placement.image, range(0x4028_0000, 0x180_0000));
        assert_eq!(placement.entry, Ipa::new(0x4028_0000));
        // 0x41d3_0000 rounded up to 2 MiB.
        assert_eq!(placement.ramdisk, Some(range(0x41e0_0000, 987_654)));
        assert_eq!(placement.tree, range(0x4000_0000, 0x1_0000));
    }

    #[test]
    fn a_ramdisk_takes_a_page_boundary_where_two_mib_is_too_much() {
        let parts = Parts { ramdisk_bytes: Some(MIB), ..parts(4 * MIB) };
        let placement = place(&parts).unwrap();
        assert_eq!(placement.ramdisk, Some(range(0x4020_2000, MIB)));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let fits = |parts: Parts<'_>| place(&parts).unwrap_err().message().to_owned();
        use alloc::borrow::ToOwned;
        assert!(fits(parts(2 * MIB)).contains("its image needs 0x1800 bytes at 0x40200000"));
        let bss = Parts { header: header(0, 62 * MIB + 1), ..parts(64 * MIB) };
        assert!(fits(bss).contains("more vm.mem or a smaller image"));
        let lying = Parts { header: header(0, u64::MAX), ..parts(64 * MIB) };
        assert!(fits(lying).contains("0xffffffffffffffff bytes"));
        let disk = Parts { ramdisk_bytes: Some(62 * MIB), ..parts(64 * MIB) };
        assert!(fits(disk).contains("its ramdisk of 0x3e00000 bytes does not fit"));
        let huge = Parts { ramdisk_bytes: Some(u64::MAX), ..parts(64 * MIB) };
        assert!(fits(huge).contains("does not fit"));
        let tree = Parts {
            load: Some(Ipa::new(RAM_BASE)),
            kernel_bytes: 2 * MIB - 0xffff,
            ..parts(2 * MIB)
        };
        assert!(fits(tree).contains("no room of 0x10000 bytes for its device tree"));
    }

    #[test]
    fn to_the_last_byte_it_fits() {
        let bss = Parts { header: header(0, 62 * MIB), ..parts(64 * MIB) };
        assert!(place(&bss).is_ok());
        let disk = Parts { ramdisk_bytes: Some(60 * MIB), ..parts(64 * MIB) };
        assert_eq!(place(&disk).unwrap().ramdisk.unwrap().end(), Ipa::new(0x4400_0000));
        let tree = Parts {
            load: Some(Ipa::new(RAM_BASE)),
            kernel_bytes: 2 * MIB - 0x1_0000,
            ..parts(2 * MIB)
        };
        assert_eq!(place(&tree).unwrap().tree, range(0x401f_0000, 0x1_0000));
    }

    #[test]
    fn an_image_at_the_start_of_ram_moves_the_tree_behind_the_ramdisk() {
        let parts = Parts {
            load: Some(Ipa::new(RAM_BASE)),
            ramdisk_bytes: Some(0x1_0001),
            ..parts(64 * MIB)
        };
        let placement = place(&parts).unwrap();
        assert_eq!(placement.entry, Ipa::new(RAM_BASE));
        assert_eq!(placement.ramdisk, Some(range(0x4020_0000, 0x1_0001)));
        assert_eq!(placement.tree, range(0x4022_0000, 0x1_0000));
        // So does one that only reaches into the tree's room, with its BSS.
        let parts = Parts {
            load: Some(Ipa::new(RAM_BASE + 0xf000)),
            ramdisk_bytes: None,
            kernel_bytes: 0x1000,
            ..parts
        };
        assert_eq!(place(&parts).unwrap().tree, range(0x4001_0000, 0x1_0000));
        // One that stands right behind it does not.
        let parts = Parts { load: Some(Ipa::new(RAM_BASE + 0x1_0000)), ..parts };
        assert_eq!(place(&parts).unwrap().tree, range(RAM_BASE, 0x1_0000));
    }

    #[test]
    fn an_image_in_rom_leaves_ram_to_tree_and_ramdisk() {
        let roms = [range(0x400_0000, 0x4_0000), range(0, 64 * MIB)];
        let parts = Parts {
            roms: &roms,
            load: Some(Ipa::new(0x1000)),
            kernel_bytes: 2 * MIB,
            ramdisk_bytes: Some(0x1000),
            ..parts(4 * MIB)
        };
        let placement = place(&parts).unwrap();
        assert_eq!(placement.image_rom, Some(1));
        assert_eq!(placement.image, range(0x1000, 2 * MIB));
        assert_eq!(placement.tree, range(RAM_BASE, 0x1_0000));
        assert_eq!(placement.ramdisk, Some(range(0x4020_0000, 0x1000)));
        let large = Parts { kernel_bytes: 64 * MIB, ..parts };
        let message = place(&large).unwrap_err();
        assert!(message.message().contains("its ROM 0x0+0x4000000 ends before"), "{message}");
        assert!(message.message().contains("more vm.rom"), "{message}");
    }

    #[test]
    fn a_load_address_must_be_in_memory_and_suit_the_header() {
        let at = |load, header| {
            let parts = Parts { load: Some(Ipa::new(load)), header, ..parts(64 * MIB) };
            place(&parts).map_err(|error| error.message().into())
        };
        let refused = |load, header| -> alloc::string::String { at(load, header).unwrap_err() };
        assert!(refused(0x900_0000, None).contains("vm.load=0x9000000 is neither in its RAM"));
        assert!(refused(0x4400_0000, None).contains("is neither"));
        assert!(refused(0x3fff_f000, None).contains("is neither"));
        assert!(refused(0x43ff_f000, None).contains("needs 0x1800 bytes at 0x43fff000"));
        assert!(refused(0x4020_1000, header(0, 0x2000)).contains("0x0 above a multiple of 2M"));
        assert!(refused(0x4020_0000, header(0x8_0000, 1)).contains("0x80000 above a multiple"));
        assert!(at(0x4068_0000, header(0x8_0000, 1)).is_ok());
        assert!(at(0x4020_1000, None).is_ok());
    }

    proptest! {
        /// Whatever is asked for: what is placed lies inside and apart, and is as large as asked.
        #[test]
        fn what_is_placed_lies_inside_and_apart(
            pieces in 1_u64..40,
            kernel_bytes in 1_u64..(80 << 20),
            ramdisk_bytes in prop::option::of(1_u64..(40 << 20)),
            image_size in prop::option::of(prop_oneof![1_u64..(80 << 20), any::<u64>()]),
            text_offset in prop_oneof![Just(0), Just(0x8_0000_u64)],
            load in prop::option::of(prop_oneof![
                (0_u64..0x5000).prop_map(|page| RAM_BASE + page * 0x1000),
                (0_u64..64).prop_map(|piece| RAM_BASE + piece * TWO_MIB),
                (0_u64..0x100).prop_map(|page| page * 0x1000),
            ]),
        ) {
            let roms = [range(0, 0x8_0000)];
            let ram = range(RAM_BASE, pieces * TWO_MIB);
            let parts = Parts {
                ram,
                roms: &roms,
                load: load.map(Ipa::new),
                header: image_size.and_then(|size| {
                    text_offset.checked_add(size)?;
                    header(text_offset, size)
                }),
                kernel_bytes,
                ramdisk_bytes,
            };
            let Ok(placement) = place(&parts) else { return Ok(()) };
            let size = parts.header.map_or(0, |header| header.image_size).max(kernel_bytes);
            let used = range(placement.image.start().raw(), size);
            prop_assert_eq!(placement.image.size(), kernel_bytes);
            let home = placement.image_rom.map_or(ram, |rom| roms[rom]);
            prop_assert!(home.encloses(&used));
            prop_assert!(ram.encloses(&placement.tree));
            prop_assert!(!placement.tree.overlaps(&used));
            prop_assert!(placement.tree.start().is_aligned(8));
            prop_assert_eq!(placement.ramdisk.map(|ramdisk| ramdisk.size()), ramdisk_bytes);
            if let Some(ramdisk) = placement.ramdisk {
                prop_assert!(ram.encloses(&ramdisk));
                prop_assert!(!ramdisk.overlaps(&used));
                prop_assert!(!ramdisk.overlaps(&placement.tree));
                prop_assert!(ramdisk.start().is_aligned(PAGE_SIZE));
            }
            if let Some(load) = load {
                prop_assert_eq!(placement.entry, Ipa::new(load));
            }
        }
    }
}
