// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that hold a kernel and are none: archives, containers of boot loaders, images for other machines.
//!
//! Sources: RFC 1952 (gzip), RFC 8878 (zstd), the LZ4 frame format, the .xz and .lzma formats, U-Boot's include/image.h
//! (uImage), the Devicetree Specification v0.4 section 5.2 (FIT), Linux's drivers/firmware/efi/libstub/zboot-header.S
//! (EFI zboot), Microsoft's PE/COFF specification, Linux's Documentation/arch/x86/boot (bzImage) and initramfs buffer
//! format (cpio).

use core::fmt;

/// Bytes of a file that [`ImageKind::of`] needs to see, where the file has as many.
pub const HEAD_BYTES: usize = 4096;

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// No known kind: a flat binary, which is entered at its first byte.
    Flat,
    /// An arm64 Image, EFI stub or not.
    Image,
    /// An ELF file.
    Elf,
    /// A file that holds the kernel in another form, or that is no kernel.
    Other(Container),
}

/// A file that EL2 cannot load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Container {
    name: &'static str,
    advice: Advice,
}

/// What the user is to do with a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Advice {
    /// `scripts/bundle` unpacks it.
    Bundle,
    /// The user unpacks it.
    Unpack,
    /// Another file is needed.
    Arm64,
}

impl Container {
    /// What it is, for messages: `a gzip file`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What to do about it, for messages.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self.advice {
            Advice::Bundle => "unpack it, or let scripts/bundle do so",
            Advice::Unpack => "take the kernel out of it",
            Advice::Arm64 => "give an arm64 Image, an ELF file or a flat binary",
        }
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.name, self.advice())
    }
}

use Advice::{Arm64, Bundle, Unpack};

/// Offset of a magic number, the number, and whose it is. The first that matches counts.
const MAGICS: &[(usize, &[u8], &str, Advice)] = &[
    (0, b"\x1f\x8b\x08", "a gzip file", Bundle),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file", Bundle),
    (0, b"\x04\x22\x4d\x18", "an lz4 file", Unpack),
    (0, b"\x02\x21\x4c\x18", "an lz4 file", Unpack),
    (0, b"\xfd7zXZ\0", "an xz file", Bundle),
    (4, b"1AY&SY", "a bzip2 file", Unpack),
    (0, b"\x89LZO\0", "an lzop file", Unpack),
    (0, b"PK\x03\x04", "a zip file", Unpack),
    (257, b"ustar", "a tar archive", Unpack),
    (0, b"!<arch>\n", "an ar archive", Unpack),
    (0, b"\x27\x05\x19\x56", "a uImage", Unpack),
    (0, b"\xd0\x0d\xfe\xed", "a device tree or a FIT image", Unpack),
    (0, b"PCBUNDLE", "a bundle", Unpack),
    (0, b"ANDROID!", "an Android boot image", Unpack),
    (4, b"zimg", "an EFI zboot image", Bundle),
    (0x202, b"HdrS", "an x86 bzImage", Arm64),
    (0x24, b"\x18\x28\x6f\x01", "a 32-bit Arm zImage", Arm64),
    (0x38, b"RSC\x05", "a RISC-V Image", Arm64),
    (0, b"070701", "a cpio archive", Arm64),
    (0, b"070702", "a cpio archive", Arm64),
    (0, b"070707", "a cpio archive", Arm64),
];

/// Offset of the PE header's offset in a file that begins with `MZ`.
const PE_OFFSET: usize = 0x3c;

impl ImageKind {
    /// What the file that begins with `head` is: its first [`HEAD_BYTES`], or all of it.
    #[must_use]
    #[inline(never)]
    pub fn of(head: &[u8]) -> Self {
        let at = |offset: usize, magic: &[u8]| {
            head.get(offset..).is_some_and(|rest| rest.starts_with(magic))
        };
        if at(0, b"\x7fELF") {
            return Self::Elf;
        }
        if at(56, b"ARM\x64") && head.len() >= 64 {
            return Self::Image;
        }
        let other = |name, advice| Self::Other(Container { name, advice });
        let known = MAGICS.iter().find(|(offset, magic, ..)| at(*offset, magic));
        if let Some((_, _, name, advice)) = known {
            return other(name, *advice);
        }
        if at(0, b"MZ") && is_pe(head) {
            return other("a PE file, not for arm64 or no kernel", Arm64);
        }
        if is_lzma(head) {
            return other("an lzma file", Bundle);
        }
        if !head.is_empty() && head.iter().all(|byte| is_text(*byte)) {
            return other("a text file", Arm64);
        }
        Self::Flat
    }
}

/// Whether the file that begins with `MZ` has a PE header. One behind `head` counts.
fn is_pe(head: &[u8]) -> bool {
    let offset = head.get(PE_OFFSET..).and_then(|rest| rest.first_chunk::<4>());
    let offset = offset.map(|bytes| u32::from_le_bytes(*bytes) as usize);
    offset.is_some_and(|offset| match head.get(offset..) {
        Some(rest) => rest.starts_with(b"PE\0\0"),
        None => head.len() >= HEAD_BYTES,
    })
}

/// Whether it is LZMA alone, which has no magic number: the usual properties, a dictionary of 2^n or 3 * 2^n bytes, and
/// a size that is unknown or possible.
fn is_lzma(head: &[u8]) -> bool {
    let Some([0x5d, a, b, c, d, size @ ..]) = head.first_chunk::<13>() else { return false };
    let dictionary = u32::from_le_bytes([*a, *b, *c, *d]);
    let size = u64::from_le_bytes(*size);
    let shape = dictionary.checked_shr(dictionary.trailing_zeros());
    dictionary >= 4096 && matches!(shape, Some(1 | 3)) && (size == u64::MAX || size < 1 << 40)
}

/// A byte of ASCII text.
fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x20..=0x7e)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]

    use super::*;
    use std::string::ToString;
    use std::vec;
    use std::vec::Vec;

    /// Offsets, and the bytes there.
    type Parts<'a> = &'a [(usize, &'a [u8])];

    fn name(head: &[u8]) -> Option<&'static str> {
        match ImageKind::of(head) {
            ImageKind::Other(container) => Some(container.name()),
            _ => None,
        }
    }

    fn with(len: usize, parts: Parts<'_>) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for (at, part) in parts {
            bytes[*at..*at + part.len()].copy_from_slice(part);
        }
        bytes
    }

    #[test]
    fn containers_have_their_names() {
        let cases: [(Parts<'_>, &str); 21] = [
            (&[(0, b"\x1f\x8b\x08\0")], "a gzip file"),
            (&[(0, b"\x28\xb5\x2f\xfd")], "a zstd file"),
            (&[(0, b"\x04\x22\x4d\x18")], "an lz4 file"),
            (&[(0, b"\x02\x21\x4c\x18")], "an lz4 file"),
            (&[(0, b"\xfd7zXZ\0")], "an xz file"),
            (&[(0, b"BZh91AY&SY")], "a bzip2 file"),
            (&[(0, b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff")], "an lzma file"),
            (&[(0, b"\x5d\0\0\x10\0\0\x10\x20\0\0\0\0\0")], "an lzma file"),
            (&[(0, b"\x27\x05\x19\x56")], "a uImage"),
            (&[(0, b"\xd0\x0d\xfe\xed")], "a device tree or a FIT image"),
            (&[(0, b"MZ\0\0zimg"), (0x3c, b"\x40"), (0x40, b"PE\0\0")], "an EFI zboot image"),
            (
                &[(0, b"MZ"), (0x3c, b"\x80"), (0x80, b"PE\0\0\x64\x86")],
                "a PE file, not for arm64 or no kernel",
            ),
            (&[(0, b"MZ"), (0x3c, b"\0\0\x10")], "a PE file, not for arm64 or no kernel"),
            (&[(0, b"MZ"), (0x1fe, b"\x55\xaa"), (0x202, b"HdrS")], "an x86 bzImage"),
            (&[(0, b"\xea\x05"), (0x202, b"HdrS")], "an x86 bzImage"),
            (&[(0, b"070701")], "a cpio archive"),
            (&[(0, b"070707")], "a cpio archive"),
            (&[(257, b"ustar")], "a tar archive"),
            (&[(0x24, b"\x18\x28\x6f\x01")], "a 32-bit Arm zImage"),
            (&[(0, b"PCBUNDLE")], "a bundle"),
            (&[(0, b"ANDROID!")], "an Android boot image"),
        ];
        for (parts, expected) in cases {
            assert_eq!(name(&with(HEAD_BYTES, parts)), Some(expected));
        }
        assert_eq!(name(b"console=ttyAMA0\n"), Some("a text file"));
        assert_eq!(name(&[b'#'; HEAD_BYTES]), Some("a text file"));
        let Some(gzip) = (match ImageKind::of(b"\x1f\x8b\x08") {
            ImageKind::Other(gzip) => Some(gzip),
            _ => None,
        }) else {
            return assert_eq!(name(b"\x1f\x8b\x08"), Some("a gzip file"));
        };
        assert_eq!(gzip.to_string(), "a gzip file; unpack it, or let scripts/bundle do so");
    }

    #[test]
    fn kernels_are_kernels() {
        let image = with(64, &[(0, b"MZ"), (56, b"ARM\x64")]);
        assert_eq!(ImageKind::of(&image), ImageKind::Image);
        // Cut before the end of the header.
        assert_eq!(ImageKind::of(&image[..63]), ImageKind::Flat);
        assert_eq!(ImageKind::of(b"\x7fELF"), ImageKind::Elf);
        assert_eq!(ImageKind::of(&[]), ImageKind::Flat);
        assert_eq!(ImageKind::of(&[0; HEAD_BYTES]), ImageKind::Flat);
        // Instructions of A64: `b .`, `wfi`, and what old EFI stubs begin with, without a PE header.
        assert_eq!(ImageKind::of(&[0, 0, 0, 0x14]), ImageKind::Flat);
        assert_eq!(ImageKind::of(&[0x7f, 0x20, 0x03, 0xd5]), ImageKind::Flat);
        assert_eq!(ImageKind::of(&with(512, &[(0, b"MZ\0\x91")])), ImageKind::Flat);
        // `udf #93`, and almost LZMA.
        assert_eq!(ImageKind::of(&with(64, &[(0, b"\x5d")])), ImageKind::Flat);
        let odd = with(64, &[(0, b"\x5d\0\0\x50\0\xff\xff\xff\xff\xff\xff\xff\xff")]);
        assert_eq!(ImageKind::of(&odd), ImageKind::Flat);
        // One byte that is no text.
        let mut text = [b' '; 300];
        text[299] = 0x7f;
        assert_eq!(ImageKind::of(&text), ImageKind::Flat);
    }
}
