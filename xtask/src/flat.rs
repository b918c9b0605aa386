// SPDX-License-Identifier: MIT OR Apache-2.0
//! From ELF to the flat image that boot loaders take.
//!
//! A flat image is what memory holds from the lowest loaded address on: the bytes of all `PT_LOAD`
//! segments at their physical addresses, with zeros between them. What the segments reserve beyond the
//! bytes they carry (.bss) is not part of the file: the arm64 Image header's `image_size` says how much
//! memory the image needs, and its entry code clears the rest.

use object::Endianness;
use object::elf::{EM_AARCH64, FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};

use anyhow::{Context, Result, anyhow, bail};

/// More than any image of ours: a linker script that leaves a hole should be an error, not a full disk.
const LIMIT: u64 = 64 << 20;

/// The flat image of the 64-bit little-endian AArch64 `elf`.
///
/// # Errors
///
/// Not such a file, no segment to load, segments that overlap, or more than 64 MiB.
pub fn flatten(elf: &[u8]) -> Result<Vec<u8>> {
    let header = FileHeader64::<Endianness>::parse(elf).context("not a 64-bit ELF")?;
    let endian = header.endian().context("ELF header")?;
    if header.e_machine(endian) != EM_AARCH64 {
        bail!("the ELF file is not for AArch64");
    }
    let mut segments = Vec::new();
    for segment in header.program_headers(endian, elf).context("program headers")? {
        if segment.p_type(endian) == PT_LOAD && segment.p_filesz(endian) != 0 {
            let bytes = segment
                .data(endian, elf)
                .map_err(|()| anyhow!("a segment lies outside the ELF file"))?;
            segments.push((segment.p_paddr(endian), bytes));
        }
    }
    segments.sort_by_key(|(address, _)| *address);
    let Some(&(base, _)) = segments.first() else {
        bail!("the ELF file has nothing to load");
    };
    let mut image = Vec::new();
    for (address, bytes) in segments {
        let offset = address - base;
        let end = offset.saturating_add(bytes.len() as u64);
        if offset < image.len() as u64 {
            bail!("the segment at {address:#x} lies over the one before");
        }
        if end > LIMIT {
            bail!("the image would be {end} bytes long: a hole between segments?");
        }
        image.resize(offset as usize, 0);
        image.extend_from_slice(bytes);
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use object::elf::{EM_X86_64, Machine};

    use super::*;

    /// An ELF file with the given (physical address, bytes, memory size) segments.
    fn elf(machine: Machine, segments: &[(u64, &[u8], u64)]) -> Vec<u8> {
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
        file.resize(16, 0);
        file.extend(3u16.to_le_bytes());
        file.extend(machine.0.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend(0u64.to_le_bytes());
        file.extend(64u64.to_le_bytes());
        file.extend(0u64.to_le_bytes());
        file.extend(0u32.to_le_bytes());
        for half in [64u16, 56, segments.len() as u16, 64, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        let mut at = 64 + 56 * segments.len() as u64;
        for (address, bytes, memory) in segments {
            file.extend(PT_LOAD.0.to_le_bytes());
            file.extend(7u32.to_le_bytes());
            for word in [at, *address, *address, bytes.len() as u64, *memory, 1] {
                file.extend(word.to_le_bytes());
            }
            at += bytes.len() as u64;
        }
        for (_, bytes, _) in segments {
            file.extend_from_slice(bytes);
        }
        file
    }

    #[test]
    fn segments_stand_at_their_offsets_with_zeros_between() {
        let file = elf(EM_AARCH64, &[(0x1000, b"head", 4), (0x1008, b"tail", 4)]);
        assert_eq!(flatten(&file).unwrap(), b"head\0\0\0\0tail");
    }

    #[test]
    fn order_in_the_file_does_not_matter() {
        let file = elf(EM_AARCH64, &[(0x1004, b"tail", 4), (0x1000, b"head", 4)]);
        assert_eq!(flatten(&file).unwrap(), b"headtail");
    }

    #[test]
    fn memory_without_bytes_is_not_in_the_image() {
        let file = elf(EM_AARCH64, &[(0, b"data", 0x2000), (0x4000, b"", 0x1000)]);
        assert_eq!(flatten(&file).unwrap(), b"data");
    }

    #[test]
    fn overlapping_segments_are_refused() {
        let file = elf(EM_AARCH64, &[(0, b"head", 4), (2, b"tail", 4)]);
        assert!(flatten(&file).unwrap_err().to_string().contains("0x2 lies over"));
    }

    #[test]
    fn a_hole_as_large_as_an_address_space_is_refused() {
        let file = elf(EM_AARCH64, &[(0, b"head", 4), (u64::MAX - 8, b"tail", 4)]);
        assert!(flatten(&file).unwrap_err().to_string().contains("hole"));
    }

    #[test]
    fn other_files_are_refused() {
        assert!(flatten(b"MZ").is_err());
        assert!(
            flatten(&elf(EM_X86_64, &[(0, b"head", 4)]))
                .unwrap_err()
                .to_string()
                .contains("AArch64")
        );
        assert!(
            flatten(&elf(EM_AARCH64, &[])).unwrap_err().to_string().contains("nothing to load")
        );
        let mut cut = elf(EM_AARCH64, &[(0, b"head", 4)]);
        cut.truncate(cut.len() - 1);
        assert!(flatten(&cut).unwrap_err().to_string().contains("outside"));
    }
}
