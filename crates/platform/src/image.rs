// SPDX-License-Identifier: MIT OR Apache-2.0
//! The header of an arm64 Linux Image, which U-Boot, EDK2 loaders and unikernels use too.
//!
//! Source: Linux's Documentation/arch/arm64/booting, "Call the kernel image".

use crate::error::{Error, err};
use arch::PAGE_SIZE;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 64;
/// `ARM\x64` at offset 56.
const MAGIC: &[u8] = b"ARM\x64";
/// The image is for big-endian kernels.
const BIG_ENDIAN: u64 = 1;

/// What the header of a kernel image asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageHeader {
    /// Offset in bytes of the image from a 2 MiB boundary.
    pub text_offset: u64,
    /// Memory in bytes that the image needs from its start, BSS included; not 0.
    pub image_size: u64,
    /// Flags as in the header: bit 0 big-endian, 2:1 page size, 3 anywhere in memory.
    pub flags: u64,
}

impl ImageHeader {
    /// The header at the start of `image`; `None` where there is none: a flat binary.
    ///
    /// # Errors
    /// Where the header is there but does not hold: big-endian, no size, an odd offset, a wrap.
    pub fn parse(image: &[u8]) -> Result<Option<Self>, Error> {
        let Some(header) = image.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        if header.get(56..60) != Some(MAGIC) {
            return Ok(None);
        }
        let field = |offset: usize| {
            let bytes = header.get(offset..).and_then(|tail| tail.first_chunk::<8>());
            bytes.copied().map_or(0, u64::from_le_bytes)
        };
        let (text_offset, image_size, flags) = (field(8), field(16), field(24));
        if flags & BIG_ENDIAN != 0 {
            return Err(err!(Image, "its Image header says big-endian; build it little-endian"));
        }
        if image_size == 0 {
            return Err(err!(
                Image,
                "its Image header has image_size 0 (a kernel before 3.17?); use a newer one"
            ));
        }
        if !text_offset.is_multiple_of(PAGE_SIZE) || text_offset.checked_add(image_size).is_none() {
            return Err(err!(
                Image,
                "its Image header has text_offset {text_offset:#x}, image_size {image_size:#x}; \
                 the offset must be a multiple of 4K and their sum must not wrap"
            ));
        }
        Ok(Some(Self { text_offset, image_size, flags }))
    }
}
