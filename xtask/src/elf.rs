// SPDX-License-Identifier: MIT OR Apache-2.0
//! Addresses in an image's ELF file, as offsets into the image.

use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSection, ObjectSymbol};

use anyhow::{Context, Result};

/// Where the image's first byte was linked: the lowest loaded address.
///
/// # Errors
///
/// No 64-bit ELF file, or nothing to load.
pub fn base(elf: &[u8]) -> Result<u64> {
    let header = FileHeader64::<Endianness>::parse(elf).context("not a 64-bit ELF")?;
    let endian = header.endian().context("ELF header")?;
    let segments = header.program_headers(endian, elf).context("program headers")?;
    segments
        .iter()
        .filter(|segment| segment.p_type(endian) == PT_LOAD)
        .map(|segment| segment.p_vaddr(endian))
        .min()
        .context("nothing to load")
}

/// Offset into the image of the first symbol whose name `wanted` accepts.
///
/// # Errors
///
/// No ELF file, or no such symbol.
pub fn symbol(elf: &[u8], wanted: impl Fn(&str) -> bool) -> Result<u64> {
    let base = base(elf)?;
    let file = object::File::parse(elf).context("not an ELF file")?;
    file.symbols()
        .find(|symbol| symbol.name().is_ok_and(&wanted))
        .and_then(|symbol| symbol.address().checked_sub(base))
        .context("the ELF file has no such symbol")
}

/// The instructions of section `.text`, in order.
///
/// # Errors
///
/// No ELF file, or no such section.
pub fn text(elf: &[u8]) -> Result<Vec<u32>> {
    let file = object::File::parse(elf).context("not an ELF file")?;
    let section = file.section_by_name(".text").context("the ELF file has no .text")?;
    let data = section.data().context(".text")?;
    Ok(data.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect())
}
