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
    /// Which of the VM's ROMs holds the image; `None`: RAM.
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
            "vm.load={start} is neither in its RAM {ram} nor in a vm.rom; move it there"
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
