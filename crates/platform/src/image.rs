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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn header(text_offset: u64, image_size: u64, flags: u64) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[8..16].copy_from_slice(&text_offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&image_size.to_le_bytes());
        bytes[24..32].copy_from_slice(&flags.to_le_bytes());
        bytes[56..60].copy_from_slice(MAGIC);
        bytes
    }

    #[test]
    fn a_kernels_header_is_read() {
        let expected = ImageHeader { text_offset: 0x8_0000, image_size: 0x1ab_0000, flags: 0xa };
        assert_eq!(ImageHeader::parse(&header(0x8_0000, 0x1ab_0000, 0xa)).unwrap(), Some(expected));
    }

    #[test]
    fn another_magic_or_too_few_bytes_are_a_flat_binary() {
        let mut bytes = header(0, 4096, 0);
        assert_eq!(ImageHeader::parse(&bytes[..63]).unwrap(), None);
        assert_eq!(ImageHeader::parse(&[]).unwrap(), None);
        for place in 56..60 {
            let mut other = bytes;
            other[place] ^= 1;
            assert_eq!(ImageHeader::parse(&other).unwrap(), None);
        }
        // Other fields do not matter without the magic.
        bytes = header(1, 0, BIG_ENDIAN);
        bytes[56] = 0;
        assert_eq!(ImageHeader::parse(&bytes).unwrap(), None);
    }

    #[test]
    fn headers_that_do_not_hold_are_refused() {
        let cases = [
            (header(0, 4096, 1), "big-endian"),
            (header(0, 4096, u64::MAX), "big-endian"),
            (header(0, 0, 0), "image_size 0"),
            (header(1, 4096, 0), "text_offset 0x1"),
            (header(0x800, 4096, 0), "text_offset 0x800"),
            (header(u64::MAX - 0xfff, 0x1000, 0), "must not wrap"),
            (header(0x1000, u64::MAX, 0), "must not wrap"),
        ];
        for (bytes, expected) in cases {
            let error = ImageHeader::parse(&bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Image);
            assert!(error.message().contains(expected), "{error}");
        }
    }
}
