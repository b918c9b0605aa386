// SPDX-License-Identifier: MIT OR Apache-2.0
//! The header of an arm64 Linux Image, which U-Boot, EDK2 loaders and unikernels use too.
//!
//! Source: Linux's Documentation/arch/arm64/booting, "Call the kernel image".

use crate::error::{Error, err};
/// Bytes of the header.
pub const HEADER_BYTES: usize = 64;
/// `ARM\x64` at offset 56.
const MAGIC: &[u8] = b"ARM\x64";
/// The image is for big-endian kernels.
const BIG_ENDIAN: u64 = 1;
/// The image may lie anywhere in memory.
const ANYWHERE: u64 = 1 << 3;

/// text_offset of an image whose header has an image_size of 0: the field means nothing there.
const OLD_TEXT_OFFSET: u64 = 0x8_0000;
/// A64 instructions lie at multiples of this.
const INSTRUCTION: u64 = 4;

/// What the header of a kernel image asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageHeader {
    /// Offset in bytes of the image from a 2 MiB boundary, a multiple of 4.
    pub text_offset: u64,
    /// Memory in bytes that the image needs from its start, BSS included. 0: the header does not say.
    pub image_size: u64,
    /// Flags as in the header: bit 0 big-endian, 2:1 page size, 3 anywhere in memory.
    pub flags: u64,
}

impl ImageHeader {
    /// The header at the start of `image`; `None` where there is none: a flat binary.
    ///
    /// # Errors
    /// The image is big-endian, or its text_offset is no multiple of an instruction's size.
    pub fn parse(image: &[u8]) -> Result<Option<Self>, Error> {
        let Some(header) = image.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        if header.get(56..60) != Some(MAGIC) {
            return Ok(None);
        }
        let field = |offset: usize| {
            let bytes = header.get(offset..).and_then(|tail| tail.first_chunk::<8>());
            bytes.copied().map_or(0, u64::from_le_bytes)
        };
        let (mut text_offset, image_size, flags) = (field(8), field(16), field(24));
        if flags & BIG_ENDIAN != 0 {
            return Err(err!(Image, "its Image header says big-endian; build it little-endian"));
        }
        if image_size == 0 {
            text_offset = OLD_TEXT_OFFSET;
        }
        if !text_offset.is_multiple_of(INSTRUCTION) {
            return Err(err!(
                Image,
                "its Image header has text_offset {text_offset:#x}, which must be a multiple of 4"
            ));
        }
        Ok(Some(Self { text_offset, image_size, flags }))
    }

    /// Whether the image runs at any multiple of 2 MiB plus its text_offset, and not only in the first 2 MiB of RAM.
    #[must_use]
    pub const fn anywhere(&self) -> bool {
        self.flags & ANYWHERE != 0
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
    fn a_header_without_a_size_stands_where_old_kernels_do() {
        let read = |text_offset| ImageHeader::parse(&header(text_offset, 0, 0)).unwrap().unwrap();
        for text_offset in [0, 0x8_0000, u64::MAX] {
            let expected = ImageHeader { text_offset: 0x8_0000, image_size: 0, flags: 0 };
            assert_eq!(read(text_offset), expected);
        }
    }

    #[test]
    fn any_offset_and_any_size_are_taken() {
        for (text_offset, image_size) in
            [(0xf_ffc0, 0x1000), (4, 0x4005_b856), (u64::MAX - 3, u64::MAX)]
        {
            let expected = ImageHeader { text_offset, image_size, flags: 0xa };
            let read = ImageHeader::parse(&header(text_offset, image_size, 0xa));
            assert_eq!(read.unwrap(), Some(expected));
        }
    }

    #[test]
    fn bit_3_alone_says_that_an_image_may_stand_anywhere() {
        for flags in [0, 2, 6, 0xa, 8, !1] {
            let read = ImageHeader::parse(&header(0, 4096, flags)).unwrap().unwrap();
            assert_eq!(read.anywhere(), flags & 8 != 0, "{flags:#x}");
        }
    }

    #[test]
    fn headers_that_do_not_hold_are_refused() {
        let cases = [
            (header(0, 4096, 1), "big-endian"),
            (header(0, 4096, u64::MAX), "big-endian"),
            (header(1, 4096, 0), "text_offset 0x1"),
            (header(0x802, 4096, 0), "text_offset 0x802"),
        ];
        for (bytes, expected) in cases {
            let error = ImageHeader::parse(&bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Image);
            assert!(error.message().contains(expected), "{error}");
        }
    }
}
