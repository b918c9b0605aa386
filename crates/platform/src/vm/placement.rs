// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a VM's image, ramdisk and device tree lie in its memory.
//!
//! docs/boot.md has the picture.

use crate::error::{Error, err};
use crate::vm::elf_image::ElfImage;
use crate::vm::image_header::ImageHeader;
use crate::vm::memory_map::{IMAGE_OFFSET, TREE_SPACE};
use crate::vm::options::Load;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use arch::{Ipa, PAGE_SIZE, Range};

/// Where the parts of a VM lie when it starts. No two overlap; those in RAM lie inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// From the first to the last byte of the kernel image: as many bytes as its module has, or all segments of an ELF
    /// file with what lies between them.
    pub image: Range<Ipa>,
    /// What is copied out of the kernel's file, in the order of the addresses. One part, but for ELF files.
    pub parts: Vec<ImagePart>,
    /// First instruction of the boot vCPU.
    pub entry: Ipa,
    /// Which of the VM's ROMs, and behind those banks of flash, holds `entry`; `None`: RAM.
    pub image_rom: Option<usize>,
    /// The ramdisk.
    pub ramdisk: Option<Range<Ipa>>,
    /// The device tree: x0 of the boot vCPU, and the room kept for it.
    pub tree: Range<Ipa>,
}

/// Bytes of the kernel's file, and where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImagePart {
    /// Offset in the file.
    pub offset: u64,
    /// Where they lie; may be empty.
    pub to: Range<Ipa>,
}

/// A kernel image, as its file's first bytes say.
pub(crate) enum Image {
    /// A flat binary.
    Flat,
    /// With the header of an arm64 Image.
    Header(ImageHeader),
    /// An ELF file.
    Elf(ElfImage),
}

/// What is to be placed.
pub(crate) struct Parts<'a> {
    pub ram: Range<Ipa>,
    pub roms: &'a [Range<Ipa>],
    pub load: Option<Load>,
    pub dtb: Option<Ipa>,
    pub image: Image,
    pub kernel_bytes: u64,
    pub ramdisk_bytes: Option<u64>,
}

const TWO_MIB: u64 = 2 << 20;
/// QEMU puts an image of text_offset below this 2 MiB further up, to have room for its own first instructions.
const QEMU_LOADER: u64 = 4096;
/// QEMU puts ramdisk and device tree in the middle of RAM, but no further up than this.
const QEMU_MIDDLE: u64 = 128 << 20;
/// From here on an image_size that no RAM holds is taken for nonsense, an address most likely: RAM begins here.
const NONSENSE_SIZE: u64 = 1 << 30;

/// `size` bytes at the first multiple of `align` from `start` on, if they lie in RAM and none of `taken` is there.
#[inline(never)]
fn free_at(
    start: u64,
    align: u64,
    size: u64,
    ram: Range<Ipa>,
    taken: &[Range<Ipa>],
) -> Option<Range<Ipa>> {
    let range = Range::<Ipa>::new(Ipa::new(start.checked_next_multiple_of(align)?), size)?;
    let free = ram.encloses(&range) && !taken.iter().any(|taken| taken.overlaps(&range));
    free.then_some(range)
}

/// Where the image lies, before ramdisk and tree are placed.
struct Placed {
    parts: Vec<ImagePart>,
    entry: Ipa,
    extent: Range<Ipa>,
    /// All memory that it needs from its start, by what is known.
    used: Vec<Range<Ipa>>,
    /// `used` is all: its header says so. Else a BSS or a heap may follow.
    sized: bool,
}

/// Places everything, or says what does not fit. The second value is a warning for the VM's owner.
#[inline(never)]
pub(crate) fn place(parts: &Parts<'_>) -> Result<(Placement, Option<String>), Error> {
    let ram = parts.ram;
    let mut warning = None;
    let image = match &parts.image {
        Image::Flat => one_part(parts, ram.start().raw().saturating_add(IMAGE_OFFSET), 0, None)?,
        Image::Header(header) => {
            let (size, said) = believed_size(header, parts);
            warning = said;
            let offset = if header.anywhere() || header.text_offset < QEMU_LOADER {
                IMAGE_OFFSET.saturating_add(header.text_offset)
            } else {
                header.text_offset
            };
            let start = ram.start().raw().saturating_add(offset);
            one_part(parts, start, header.text_offset, size)?
        }
        Image::Elf(elf) => segments(parts, elf)?,
    };
    let image_rom = home_of(parts, image.entry);
    let tree = tree_first(parts, &image.used)?;
    let mut floor = ram.start().raw();
    for used in image.used.iter().filter(|used| ram.encloses(used)) {
        floor = floor.max(used.end().raw());
    }
    // What follows an image that does not say its size lies where QEMU puts it, and behind the image where that is
    // further up or too far.
    let middle = ram.start().raw().saturating_add((ram.size() / 2).min(QEMU_MIDDLE));
    let beyond = if image.sized { floor } else { middle };
    let mut taken = image.used;
    taken.extend(tree);
    let mut ramdisk = None;
    if let Some(bytes) = parts.ramdisk_bytes {
        let behind_tree = tree.map_or(floor, |tree| tree.end().raw().max(floor));
        ramdisk = [TWO_MIB, PAGE_SIZE].into_iter().find_map(|align| {
            [beyond, floor, behind_tree]
                .into_iter()
                .find_map(|start| free_at(start, align, bytes, ram, &taken))
        });
        if ramdisk.is_none() {
            return Err(err!(
                Vm,
                "its ramdisk of {bytes:#x} bytes does not fit above its image, which ends at \
                 {floor:#x}, in its RAM {ram}; give it more vm.mem"
            ));
        }
        taken.extend(ramdisk);
    }
    let tree = tree.or_else(|| {
        let behind = ramdisk.map_or(beyond, |ramdisk| ramdisk.end().raw());
        let last = ram.end().raw().saturating_sub(TREE_SPACE) & !TREE_SPACE.wrapping_sub(1);
        let align = if image.sized { TREE_SPACE } else { TWO_MIB };
        [(behind, align), (floor, align), (last, TREE_SPACE)]
            .into_iter()
            .find_map(|(start, align)| free_at(start, align, TREE_SPACE, ram, &taken))
    });
    let Some(tree) = tree else {
        return Err(err!(
            Vm,
            "there is no room of {TREE_SPACE:#x} bytes for its device tree before its image or \
             behind {floor:#x} in its RAM {ram}; give it more vm.mem"
        ));
    };
    let Placed { parts, entry, extent, .. } = image;
    Ok((Placement { image: extent, parts, entry, image_rom, ramdisk, tree }, warning))
}

/// Which ROM or bank of flash holds `at`.
fn home_of(parts: &Parts<'_>, at: Ipa) -> Option<usize> {
    parts.roms.iter().position(|rom| rom.contains(at))
}

/// The image_size of a header as far as it is believed, and what is to be said where it is not.
#[inline(never)]
fn believed_size(header: &ImageHeader, parts: &Parts<'_>) -> (Option<u64>, Option<String>) {
    let size = header.image_size;
    let holds = |home: &Range<Ipa>| home.size() >= size;
    let possible = size < NONSENSE_SIZE || holds(&parts.ram) || parts.roms.iter().any(holds);
    if size != 0 && possible {
        return (Some(size), None);
    }
    let said = format!(
        "its Image header has image_size {size:#x}: it is taken to need no more than its file's \
         {:#x} bytes and what follows them",
        parts.kernel_bytes
    );
    (None, Some(said))
}

/// Places an image of one part, by default at `start`; `size` is what its header says that it needs.
fn one_part(
    parts: &Parts<'_>,
    start: u64,
    text_offset: u64,
    size: Option<u64>,
) -> Result<Placed, Error> {
    let ram = parts.ram;
    let start = match parts.load {
        Some(Load::At(load)) => load,
        Some(Load::Ram) => Ipa::new(ram.start().raw().saturating_add(text_offset)),
        None => Ipa::new(start),
    };
    if matches!((&parts.image, parts.load), (Image::Header(_), Some(Load::At(_))))
        && start.raw().wrapping_sub(text_offset) % TWO_MIB != 0
    {
        return Err(err!(
            Vm,
            "vm.load={start}: an image with an Image header must stand {text_offset:#x} above a \
             multiple of 2M"
        ));
    }
    let rom = home_of(parts, start);
    let home = rom.and_then(|index| parts.roms.get(index)).copied().unwrap_or(ram);
    if rom.is_none() && matches!(parts.load, Some(Load::At(_))) && !ram.contains(start) {
        return Err(err!(
            Vm,
            "vm.load={start} is neither in its RAM {ram} nor in a vm.rom or vm.flash; move it there"
        ));
    }
    let footprint = size.unwrap_or(0).max(parts.kernel_bytes);
    let used = Range::<Ipa>::new(start, footprint).filter(|used| home.encloses(used));
    let extent = Range::<Ipa>::new(start, parts.kernel_bytes);
    let (Some(used), Some(extent)) = (used, extent) else {
        let place = if rom.is_some() { "ROM" } else { "RAM" };
        return Err(err!(
            Vm,
            "its image needs {footprint:#x} bytes at {start}, its {place} {home} ends before; give \
             it more vm.{} or a smaller image",
            if rom.is_some() { "rom" } else { "mem" }
        ));
    };
    Ok(Placed {
        parts: Vec::from([ImagePart { offset: 0, to: extent }]),
        entry: start,
        extent,
        used: Vec::from([used]),
        sized: size.is_some(),
    })
}

/// Places the segments of an ELF file.
#[inline(never)]
fn segments(parts: &Parts<'_>, elf: &ElfImage) -> Result<Placed, Error> {
    let ram = parts.ram;
    let homes = || parts.roms.iter().chain([&ram]);
    let fits = |elf: &ElfImage| {
        elf.segments.iter().all(|it| homes().any(|home| home.encloses(&it.memory)))
    };
    let base = match parts.load {
        Some(_) if !elf.relocatable => {
            return Err(err!(
                Vm,
                "vm.load: its ELF file says itself where it stands; leave vm.load out"
            ));
        }
        Some(Load::At(load)) => Some(load),
        Some(Load::Ram) => Some(ram.start()),
        None if elf.relocatable && !fits(elf) => {
            Some(Ipa::new(ram.start().raw().saturating_add(IMAGE_OFFSET)))
        }
        None => None,
    };
    let moved = base.and_then(|base| elf.moved(base));
    let elf = moved.as_ref().unwrap_or(elf);
    for segment in &elf.segments {
        let at = segment.memory;
        let home = homes().find(|home| home.encloses(&at));
        let zeros = segment.bytes != at.size();
        if home.is_none_or(|home| zeros && *home != ram) {
            return Err(err!(
                Vm,
                "its ELF file has a segment at {at}, {:#x} bytes of it in the file: that is neither \
                 in its RAM {ram} nor, without zeros behind it, in a vm.rom or vm.flash; give it \
                 more vm.mem or link it elsewhere",
                segment.bytes
            ));
        }
    }
    let part = |segment: &crate::vm::elf_image::ElfSegment| {
        let to = Range::<Ipa>::new(segment.memory.start(), segment.bytes)?;
        Some(ImagePart { offset: segment.offset, to })
    };
    let extent = elf.extent().ok_or_else(|| err!(Image, "its ELF file has nothing to load"))?;
    Ok(Placed {
        parts: elf.segments.iter().filter_map(part).collect(),
        entry: elf.entry,
        extent,
        used: elf.segments.iter().map(|segment| segment.memory).collect(),
        sized: false,
    })
}

/// Where the tree lies, if that does not depend on what else there is: where `vm.dtb` says, or else at the start of RAM,
/// where the image leaves room there.
#[inline(never)]
fn tree_first(parts: &Parts<'_>, used: &[Range<Ipa>]) -> Result<Option<Range<Ipa>>, Error> {
    let ram = parts.ram;
    let overlaps = |tree: &Range<Ipa>| used.iter().find(|used| used.overlaps(tree)).copied();
    let Some(dtb) = parts.dtb else {
        let first = Range::<Ipa>::new(ram.start(), TREE_SPACE);
        return Ok(first.filter(|tree| ram.encloses(tree) && overlaps(tree).is_none()));
    };
    let tree = Range::<Ipa>::new(dtb, TREE_SPACE).filter(|tree| ram.encloses(tree));
    let Some(tree) = tree else {
        return Err(err!(
            Vm,
            "vm.dtb={dtb}: the {TREE_SPACE:#x} bytes from there are not all in its RAM {ram}; move \
             it"
        ));
    };
    match overlaps(&tree) {
        Some(used) => {
            Err(err!(Vm, "vm.dtb={dtb}: its image is there, at {used}; move one of them"))
        }
        None => Ok(Some(tree)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]

    use super::*;
    use crate::vm::elf_image::ElfSegment;
    use crate::vm::memory_map::RAM_BASE;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn range(start: u64, size: u64) -> Range<Ipa> {
        Range::<Ipa>::new(Ipa::new(start), size).unwrap()
    }

    /// An Image that may lie anywhere.
    fn header(text_offset: u64, image_size: u64) -> Image {
        Image::Header(ImageHeader { text_offset, image_size, flags: 0xa })
    }

    /// An Image that has to lie in the first 2 MiB of RAM.
    fn fixed(text_offset: u64, image_size: u64) -> Image {
        Image::Header(ImageHeader { text_offset, image_size, flags: 2 })
    }

    fn at(start: u64) -> Option<Load> {
        Some(Load::At(Ipa::new(start)))
    }

    fn placed(parts: &Parts<'_>) -> Placement {
        let (placement, warning) = place(parts).unwrap();
        assert_eq!(warning, None);
        placement
    }

    fn refused(parts: &Parts<'_>) -> String {
        match place(parts) {
            Ok(placed) => format!("accepted: {placed:?}"),
            Err(error) => error.message().into(),
        }
    }

    fn elf(relocatable: bool, entry: u64, segments: &[(u64, u64, u64)]) -> Image {
        let segment = |(n, (start, bytes, size)): (usize, &(u64, u64, u64))| ElfSegment {
            offset: 0x1000 * (n as u64 + 1),
            bytes: *bytes,
            memory: range(*start, *size),
        };
        let segments = segments.iter().enumerate().map(segment).collect();
        Image::Elf(ElfImage { entry: Ipa::new(entry), segments, relocatable })
    }

    fn parts(mem: u64) -> Parts<'static> {
        Parts {
            ram: range(RAM_BASE, mem),
            roms: &[],
            load: None,
            dtb: None,
            image: Image::Flat,
            kernel_bytes: 0x1800,
            ramdisk_bytes: None,
        }
    }

    #[test]
    fn a_flat_image_stands_two_mib_above_ram_and_the_tree_below() {
        let placement = placed(&parts(64 * MIB));
        let expected = Placement {
            image: range(0x4020_0000, 0x1800),
            parts: [ImagePart { offset: 0, to: range(0x4020_0000, 0x1800) }].to_vec(),
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
            image: header(0x8_0000, 0x1ab_0000),
            kernel_bytes: 0x180_0000,
            ramdisk_bytes: Some(987_654),
            ..parts(64 * MIB)
        };
        let placement = placed(&parts);
        assert_eq!(placement.image, range(0x4028_0000, 0x180_0000));
        assert_eq!(placement.entry, Ipa::new(0x4028_0000));
        // 0x41d3_0000 rounded up to 2 MiB.
        assert_eq!(placement.ramdisk, Some(range(0x41e0_0000, 987_654)));
        assert_eq!(placement.tree, range(0x4000_0000, 0x1_0000));
    }

    #[test]
    fn a_ramdisk_takes_a_page_boundary_where_two_mib_is_too_much() {
        let parts = Parts { ramdisk_bytes: Some(MIB), ..parts(4 * MIB) };
        let placement = placed(&parts);
        assert_eq!(placement.ramdisk, Some(range(0x4020_2000, MIB)));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        assert!(refused(&parts(2 * MIB)).contains("its image needs 0x1800 bytes at 0x40200000"));
        let bss = Parts { image: header(0, 62 * MIB + 1), ..parts(64 * MIB) };
        assert!(refused(&bss).contains("more vm.mem or a smaller image"));
        let most = Parts { image: header(0, NONSENSE_SIZE - 1), ..parts(64 * MIB) };
        assert!(refused(&most).contains("0x3fffffff bytes"));
        let far = Parts { image: fixed(u64::MAX - 3, 0x1000), ..parts(64 * MIB) };
        assert!(refused(&far).contains("its image needs"));
        let disk = Parts { ramdisk_bytes: Some(62 * MIB), ..parts(64 * MIB) };
        assert!(refused(&disk).contains("its ramdisk of 0x3e00000 bytes does not fit"));
        let huge = Parts { ramdisk_bytes: Some(u64::MAX), ..parts(64 * MIB) };
        assert!(refused(&huge).contains("does not fit"));
        let tree = Parts { load: at(RAM_BASE), kernel_bytes: 2 * MIB - 0xffff, ..parts(2 * MIB) };
        assert!(refused(&tree).contains("no room of 0x10000 bytes for its device tree"));
    }

    #[test]
    fn to_the_last_byte_it_fits() {
        let bss = Parts { image: header(0, 62 * MIB), ..parts(64 * MIB) };
        assert!(place(&bss).is_ok());
        let disk = Parts { ramdisk_bytes: Some(60 * MIB), ..parts(64 * MIB) };
        assert_eq!(placed(&disk).ramdisk.unwrap().end(), Ipa::new(0x4400_0000));
        let tree = Parts { load: at(RAM_BASE), kernel_bytes: 2 * MIB - 0x1_0000, ..parts(2 * MIB) };
        assert_eq!(placed(&tree).tree, range(0x401f_0000, 0x1_0000));
    }

    #[test]
    fn an_image_that_needs_the_first_2_mib_stands_as_qemu_places_it() {
        let entry = |image| placed(&Parts { image, ..parts(64 * MIB) }).entry.raw();
        assert_eq!(entry(fixed(0x8_0000, MIB)), 0x4008_0000);
        assert_eq!(entry(fixed(0x1000, MIB)), 0x4000_1000);
        // Less than QEMU's own first instructions need.
        assert_eq!(entry(fixed(0, MIB)), 0x4020_0000);
        assert_eq!(entry(fixed(0xffc, MIB)), 0x4020_0ffc);
        assert_eq!(entry(header(0x8_0000, MIB)), 0x4028_0000);
        // Any offset, whatever the bit says.
        assert_eq!(entry(fixed(0xf_ffc0, MIB)), 0x400f_ffc0);
        assert_eq!(entry(header(0xf_ffc0, MIB)), 0x402f_ffc0);
        let ram = Parts { load: Some(Load::Ram), image: header(0xf_ffc0, MIB), ..parts(64 * MIB) };
        assert_eq!(placed(&ram).entry.raw(), 0x400f_ffc0);
        let load = Parts { load: at(0x400f_ffc0), image: header(0xf_ffc0, MIB), ..parts(64 * MIB) };
        assert_eq!(placed(&load).entry.raw(), 0x400f_ffc0);
        let flat = Parts { load: Some(Load::Ram), ..parts(64 * MIB) };
        assert_eq!(placed(&flat).entry.raw(), 0x4000_0000);
    }

    #[test]
    fn a_size_that_cannot_be_is_warned_of_and_the_file_counts() {
        for size in [0, 0x4005_b856, u64::MAX] {
            let parts = Parts {
                load: at(RAM_BASE),
                image: fixed(if size == 0 { 0x8_0000 } else { 0 }, size),
                ..parts(64 * MIB)
            };
            let parts = if size == 0 { Parts { load: None, ..parts } } else { parts };
            let (placement, warning) = place(&parts).unwrap();
            let warning = warning.unwrap();
            assert!(warning.contains(&format!("image_size {size:#x}: ")), "{warning}");
            assert!(warning.contains("0x1800 bytes"), "{warning}");
            let start = if size == 0 { 0x4008_0000 } else { RAM_BASE };
            assert_eq!(placement.image, range(start, 0x1800));
        }
        // Memory that there is may be wanted.
        let large = Parts { image: header(0, NONSENSE_SIZE), ..parts(2048 * MIB) };
        assert_eq!(placed(&large).tree.start().raw(), RAM_BASE);
    }

    #[test]
    fn an_image_at_the_start_of_ram_moves_the_tree_out_of_its_bss() {
        let flat = |ram| Parts { load: at(RAM_BASE), ..parts(ram) };
        // Where QEMU has it: in the middle, or 128 MiB above the start of RAM.
        assert_eq!(placed(&flat(64 * MIB)).tree, range(0x4200_0000, 0x1_0000));
        assert_eq!(placed(&flat(1024 * MIB)).tree, range(0x4800_0000, 0x1_0000));
        // The ramdisk comes before it.
        let disk = Parts { ramdisk_bytes: Some(0x1_0001), ..flat(64 * MIB) };
        assert_eq!(placed(&disk).ramdisk, Some(range(0x4200_0000, 0x1_0001)));
        assert_eq!(placed(&disk).tree, range(0x4220_0000, 0x1_0000));
        // One that reaches beyond the middle.
        let long = Parts { kernel_bytes: 40 * MIB + 1, ..flat(64 * MIB) };
        assert_eq!(placed(&long).tree, range(0x42a0_0000, 0x1_0000));
        // One that only reaches into the tree's room.
        let parts = Parts { load: at(RAM_BASE + 0xf000), ..flat(64 * MIB) };
        assert_eq!(placed(&parts).tree, range(0x4200_0000, 0x1_0000));
        // One that lies right behind it does not move it.
        let parts = Parts { load: at(RAM_BASE + 0x1_0000), ..parts };
        assert_eq!(placed(&parts).tree, range(RAM_BASE, 0x1_0000));
        // Of an image that says its size no more is free: right behind it.
        let sized = Parts { image: header(0, MIB), ..flat(64 * MIB) };
        assert_eq!(placed(&sized).tree, range(0x4010_0000, 0x1_0000));
    }

    #[test]
    fn the_tree_stands_where_its_owner_wants_it() {
        let dtb = |start, parts| Parts { dtb: Some(Ipa::new(start)), ..parts };
        assert_eq!(placed(&dtb(0x4300_0000, parts(64 * MIB))).tree, range(0x4300_0000, 0x1_0000));
        let last = 0x4400_0000 - 0x1_0000;
        assert_eq!(placed(&dtb(last, parts(64 * MIB))).tree, range(last, 0x1_0000));
        for start in [0x900_0000, 0x3fff_f000, last + 0x1000, 0x4400_0000] {
            let message = refused(&dtb(start, parts(64 * MIB)));
            assert!(message.contains("are not all in its RAM"), "{message}");
        }
        for start in [0x401f_1000, 0x4020_0000, 0x4020_1000] {
            let message = refused(&dtb(start, parts(64 * MIB)));
            assert!(message.contains("its image is there, at 0x40200000+0x1800"), "{message}");
        }
        assert!(place(&dtb(0x4020_2000, parts(64 * MIB))).is_ok());
        // The ramdisk goes around it.
        let disk = || Parts { image: header(0, MIB), ramdisk_bytes: Some(MIB), ..parts(64 * MIB) };
        let around = placed(&dtb(0x4040_0000, disk()));
        assert_eq!(around.ramdisk, Some(range(0x4060_0000, MIB)));
        let behind = placed(&dtb(0x4030_0000, disk()));
        assert_eq!(behind.ramdisk, Some(range(0x4040_0000, MIB)));
        let both = placed(&dtb(0x4038_0000, Parts { ramdisk_bytes: Some(4 * MIB), ..disk() }));
        assert_eq!(both.ramdisk, Some(range(0x4040_0000, 4 * MIB)));
    }

    #[test]
    fn segments_stand_where_their_file_says() {
        let image = elf(
            false,
            0x4010_0040,
            &[(0x4010_0000, 0x3000, 0x3000), (0x4010_4000, 0x100, 0x20_0000)],
        );
        let parts = Parts { image, kernel_bytes: 0x5000, ..parts(64 * MIB) };
        let placement = placed(&parts);
        let part = |offset, start, bytes| ImagePart { offset, to: range(start, bytes) };
        let expected = [part(0x1000, 0x4010_0000, 0x3000), part(0x2000, 0x4010_4000, 0x100)];
        assert_eq!(placement.parts, expected);
        assert_eq!(placement.image, range(0x4010_0000, 0x20_4000));
        assert_eq!(placement.entry, Ipa::new(0x4010_0040));
        assert_eq!(placement.tree, range(RAM_BASE, 0x1_0000));
        let message = refused(&Parts { load: at(0x4020_0000), ..parts });
        assert!(message.contains("leave vm.load out"), "{message}");
    }

    #[test]
    fn segments_that_do_not_fit_are_said() {
        let roms = [range(0, 0x8_0000)];
        let with = |segments: &[(u64, u64, u64)]| {
            let image = elf(false, segments[0].0, segments);
            let parts = Parts { image, roms: &roms, kernel_bytes: 0x5000, ..parts(4 * MIB) };
            place(&parts).map(|it| it.0).map_err(|error| String::from(error.message()))
        };
        let refused = |segments: &[(u64, u64, u64)]| with(segments).unwrap_err();
        assert!(refused(&[(0x900_0000, 8, 8)]).contains("a segment at 0x9000000+0x8, 0x8 bytes"));
        for segment in [
            (0xffff_0000_0000_0000, 8, 8),
            (0x403f_0000, 8, 0x2_0000),
            (0x7_f000, 0x2000, 0x2000),
            (0x1000, 8, 16),
        ] {
            assert!(refused(&[segment]).contains("neither in its RAM 0x40000000+0x400000 nor"));
        }
        // Text in ROM, variables in RAM, the tree at the start of RAM as nothing is there.
        let both = with(&[(0x1000, 0x2000, 0x2000), (0x4030_0000, 0, 0x1000)]).unwrap();
        assert_eq!((both.image_rom, both.entry), (Some(0), Ipa::new(0x1000)));
        assert_eq!(both.tree.start().raw(), RAM_BASE);
        // A BSS at the end of RAM and an image at its start: the tree finds what is between.
        let ends = with(&[(RAM_BASE, 8, 8), (0x403f_0000, 0, 0x1_0000)]).unwrap();
        assert_eq!(ends.tree.start().raw(), 0x4020_0000);
    }

    #[test]
    fn a_position_independent_file_stands_where_there_is_memory() {
        let at_zero = || elf(true, 0x40, &[(0, 0x100, 0x100), (0x1_0000, 8, 0x1000)]);
        let entry = |load| {
            let image = at_zero();
            let parts = Parts { image, load, kernel_bytes: 0x5000, ..parts(64 * MIB) };
            placed(&parts).entry.raw()
        };
        assert_eq!(entry(None), 0x4020_0040);
        assert_eq!(entry(at(0x4100_0000)), 0x4100_0040);
        assert_eq!(entry(Some(Load::Ram)), 0x4000_0040);
        // One with addresses that are memory stays there.
        let image = elf(true, 0x4030_0000, &[(0x4030_0000, 0x100, 0x100)]);
        assert_eq!(placed(&Parts { image, ..parts(64 * MIB) }).entry.raw(), 0x4030_0000);
    }

    #[test]
    fn an_image_in_rom_leaves_ram_to_tree_and_ramdisk() {
        let roms = [range(0x400_0000, 0x4_0000), range(0, 64 * MIB)];
        let parts = Parts {
            roms: &roms,
            load: at(0x1000),
            kernel_bytes: 2 * MIB,
            ramdisk_bytes: Some(0x1000),
            ..parts(4 * MIB)
        };
        let placement = placed(&parts);
        assert_eq!(placement.image_rom, Some(1));
        assert_eq!(placement.image, range(0x1000, 2 * MIB));
        assert_eq!(placement.tree, range(RAM_BASE, 0x1_0000));
        assert_eq!(placement.ramdisk, Some(range(0x4020_0000, 0x1000)));
        let large = Parts { kernel_bytes: 64 * MIB, ..parts };
        let message = refused(&large);
        assert!(message.contains("its ROM 0x0+0x4000000 ends before"), "{message}");
        assert!(message.contains("more vm.rom"), "{message}");
    }

    #[test]
    fn a_load_address_must_be_in_memory_and_suit_the_header() {
        let at = |load, image| {
            let parts = Parts { load: at(load), image, ..parts(64 * MIB) };
            place(&parts).map_err(|error| String::from(error.message()))
        };
        let refused = |load, image| at(load, image).unwrap_err();
        assert!(
            refused(0x900_0000, Image::Flat).contains("vm.load=0x9000000 is neither in its RAM")
        );
        assert!(refused(0x4400_0000, Image::Flat).contains("is neither"));
        assert!(refused(0x3fff_f000, Image::Flat).contains("is neither"));
        assert!(refused(0x43ff_f000, Image::Flat).contains("needs 0x1800 bytes at 0x43fff000"));
        assert!(refused(0x4020_1000, header(0, 0x2000)).contains("0x0 above a multiple of 2M"));
        assert!(refused(0x4020_0000, header(0x8_0000, 1)).contains("0x80000 above a multiple"));
        assert!(at(0x4068_0000, header(0x8_0000, 1)).is_ok());
        assert!(at(0x4020_1000, Image::Flat).is_ok());
    }

    proptest! {
        /// Whatever is asked for: what is placed lies inside and apart, and is as large as asked.
        #[test]
        fn what_is_placed_lies_inside_and_apart(
            pieces in 1_u64..40,
            kernel_bytes in 1_u64..(80 << 20),
            ramdisk_bytes in prop::option::of(1_u64..(40 << 20)),
            image_size in prop::option::of(prop_oneof![1_u64..(80 << 20), any::<u64>()]),
            text_offset in prop_oneof![Just(0), Just(0x8_0000_u64), Just(0xf_ffc0_u64), any::<u64>()],
            flags in prop_oneof![Just(2_u64), Just(0xa_u64)],
            dtb in prop::option::weighted(0.3, (0_u64..0x5000).prop_map(|page| RAM_BASE + page * 0x1000)),
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
                load: load.map(Ipa::new).map(Load::At),
                dtb: dtb.map(Ipa::new),
                image: image_size.map_or(Image::Flat, |image_size| {
                    Image::Header(ImageHeader { text_offset, image_size, flags })
                }),
                kernel_bytes,
                ramdisk_bytes,
            };
            let Ok((placement, warning)) = place(&parts) else { return Ok(()) };
            let believed = image_size.filter(|_| warning.is_none()).unwrap_or(0);
            let size = believed.max(kernel_bytes);
            let used = range(placement.image.start().raw(), size);
            prop_assert_eq!(placement.image.size(), kernel_bytes);
            prop_assert_eq!(&placement.parts, &[ImagePart { offset: 0, to: placement.image }]);
            prop_assert!(dtb.is_none_or(|dtb| placement.tree.start().raw() == dtb));
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
