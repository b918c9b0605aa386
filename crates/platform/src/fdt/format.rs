// SPDX-License-Identifier: MIT OR Apache-2.0
//! The format of a flattened device tree: its header, its blocks, its tokens and its strings.
//!
//! Sources: Devicetree Specification v0.4, chapter 5.

use crate::error::{Error, err};
use alloc::string::String;
use alloc::vec::Vec;

const MAGIC: u32 = 0xd00d_feed;
/// The version of the format that is read; every writer since 2007 makes it.
const VERSION: u32 = 17;
const HEADER_BYTES: usize = 40;
pub(crate) const TOKEN_BYTES: usize = 4;
/// A property's token, the length of its value, the offset of its name.
pub(crate) const PROP_BYTES: usize = 12;
pub(crate) const BEGIN_NODE: u32 = 1;
pub(crate) const END_NODE: u32 = 2;
pub(crate) const PROP: u32 = 3;
pub(crate) const NOP: u32 = 4;
pub(crate) const END: u32 = 9;

/// Largest tree: the arm64 boot protocol's own limit.
pub const MAX_TREE_BYTES: usize = 2 << 20;
/// Most nodes of a tree; the largest boards have a few thousand.
pub const MAX_NODES: usize = 32 * 1024;
/// Deepest nesting of nodes, the root being 1; boards have up to ten.
pub const MAX_DEPTH: usize = 32;
/// Longest name of a node or property, the terminator not counted.
const MAX_NAME: usize = 255;
/// Longest string that is taken over from a property: no command line is longer.
pub const MAX_STRING: usize = 4096;
/// Longest name that is taken over from a property, such as a `compatible`.
const MAX_SHORT: usize = 64;
/// Most entries of the memory reservation block.
const MAX_RESERVATIONS: usize = 128;

/// The header of a tree, checked, and the blocks that it names.
pub(crate) struct Header<'a> {
    /// The tree: `totalsize` bytes.
    pub data: &'a [u8],
    /// Offsets of the structure block.
    pub structure: core::ops::Range<usize>,
    /// The strings block.
    pub strings: &'a [u8],
    /// The memory reservation block: address and size of each entry.
    pub reservations: Vec<(u64, u64)>,
}

impl<'a> Header<'a> {
    /// Checks the header at the start of `blob`, whose tree has at most `most` bytes.
    ///
    /// # Errors
    /// Where a field is impossible: the message names it.
    pub(crate) fn parse(blob: &'a [u8], most: usize) -> Result<Self, Error> {
        let word = |offset| {
            be32(blob, offset).ok_or_else(|| {
                err!(
                    Tree,
                    "device tree: {} bytes are too few for its header; pass a whole tree",
                    blob.len()
                )
            })
        };
        let magic = word(0)?;
        if magic != MAGIC {
            return Err(err!(
                Tree,
                "device tree: bad magic {magic:#010x} instead of {MAGIC:#x}; x0 must hold the \
                 address of a flattened tree"
            ));
        }
        // The last field: a tree that has it has a whole header.
        word(HEADER_BYTES.saturating_sub(4))?;
        let total = word(4)? as usize;
        if !(HEADER_BYTES..=most).contains(&total) {
            return Err(err!(
                Tree,
                "device tree: its header says {total} bytes; {HEADER_BYTES} to {most} \
                 are possible"
            ));
        }
        let data = blob.get(..total).ok_or_else(|| {
            err!(
                Tree,
                "device tree: its header says {total} bytes, {} are there; it is truncated",
                blob.len()
            )
        })?;
        let (version, compatible) = (word(20)?, word(24)?);
        if version < VERSION || compatible > VERSION {
            return Err(err!(
                Tree,
                "device tree: format version {version} (compatible with {compatible}); only \
                 version {VERSION} is understood"
            ));
        }
        let block = |name: &str, at: u32, size: u32| {
            let start = at as usize;
            let end = start.checked_add(size as usize);
            end.filter(|_| start >= HEADER_BYTES).and_then(|end| data.get(start..end)).ok_or_else(
                || {
                    err!(
                        Tree,
                        "device tree: its {name} block {at:#x}+{size:#x} is not inside its \
                         {total} bytes"
                    )
                },
            )
        };
        let structure = word(8)?;
        if structure % 4 != 0 {
            return Err(err!(
                Tree,
                "device tree: its structure block at {structure:#x} is not 4-byte aligned"
            ));
        }
        block("structure", structure, word(36)?)?;
        let strings = block("strings", word(12)?, word(32)?)?;
        let structure_end = structure.saturating_add(word(36)?) as usize;
        let reservations = reservations(data, word(16)? as usize)?;

        Ok(Self { data, structure: structure as usize..structure_end, strings, reservations })
    }
}

pub(crate) fn be32(data: &[u8], offset: usize) -> Option<u32> {
    let bytes = data.get(offset..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}

fn be64(data: &[u8], offset: usize) -> Option<u64> {
    let bytes = data.get(offset..)?.first_chunk::<8>()?;
    Some(u64::from_be_bytes(*bytes))
}

/// Rounds up to the next token; offsets are below 2^32, plus a 32-bit length.
pub(crate) const fn token_aligned(offset: usize) -> usize {
    offset.saturating_add(TOKEN_BYTES - 1) & !(TOKEN_BYTES - 1)
}

/// Length of the string at the start of `bytes`, which is UTF-8 and ends with a NUL among them.
///
/// Every name of a tree is looked at: eight bytes at a time, wherever they lie.
pub(crate) fn string_len(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let mut len = 0_usize;
    let mut rest = bytes;
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        // Bit 7 of the first byte that is NUL, and of none before it.
        let nul = word.wrapping_sub(ONES) & !word & HIGH;
        if word & HIGH & !nul & nul.wrapping_sub(1) != 0 {
            break;
        }
        if nul != 0 {
            return Some(len.saturating_add((nul.trailing_zeros() / 8) as usize));
        }
        len = len.saturating_add(8);
        rest = after;
    }
    // Not all of it ASCII, or near the end.
    let text = core::ffi::CStr::from_bytes_until_nul(bytes).ok()?.to_str().ok()?;
    Some(text.len())
}

/// The name at `offset`: what [`text`] finds there.
pub(crate) fn name(data: &[u8], offset: usize) -> Option<&[u8]> {
    let tail = data.get(offset..)?;
    let most = tail.get(..MAX_NAME.saturating_add(1)).unwrap_or(tail);
    most.get(..string_len(most)?)
}

/// The text from `offset` to its NUL, which must come within [`MAX_NAME`] bytes and the block.
pub(crate) fn text(data: &[u8], offset: usize) -> Option<&str> {
    let tail = data.get(offset..)?;
    let most = tail.get(..MAX_NAME.saturating_add(1)).unwrap_or(tail);
    core::ffi::CStr::from_bytes_until_nul(most).ok()?.to_str().ok()
}

/// How many bytes the tree at the start of `blob` has, from its header alone.
///
/// For a caller that must map a tree before reading it. `None` where there is no tree, or one of a size that
/// is refused.
#[must_use]
pub fn tree_size(blob: &[u8]) -> Option<usize> {
    if be32(blob, 0)? != MAGIC {
        return None;
    }
    let size = usize::try_from(be32(blob, 4)?).ok()?;
    (HEADER_BYTES..=MAX_TREE_BYTES).contains(&size).then_some(size)
}

/// The beginning of a text, of at most [`MAX_SHORT`] bytes.
pub(crate) fn short(text: &str) -> String {
    String::from(text.get(..text.floor_char_boundary(MAX_SHORT)).unwrap_or_default())
}

/// Reads the memory reservation block.
fn reservations(data: &[u8], start: usize) -> Result<Vec<(u64, u64)>, Error> {
    if start < HEADER_BYTES || !start.is_multiple_of(8) {
        return Err(err!(
            Tree,
            "device tree: its memory reservation block at {start:#x} is inside its header or not \
             8-byte aligned"
        ));
    }
    let mut found = Vec::new();
    let mut offset = start;
    loop {
        let entry = be64(data, offset).zip(be64(data, offset.saturating_add(8)));
        match entry {
            Some((0, 0)) => return Ok(found),
            Some(_) if found.len() >= MAX_RESERVATIONS => {
                return Err(err!(
                    Tree,
                    "device tree: more than {MAX_RESERVATIONS} memory reservations, or their end \
                     is missing"
                ));
            }
            Some(entry) => found.push(entry),
            None => {
                return Err(err!(Tree, "device tree: its memory reservation block has no end"));
            }
        }
        offset = offset.saturating_add(16);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]

    use super::*;

    #[test]
    fn a_strings_length_is_what_the_standard_library_finds() {
        // In each place of a name two that are letters, not ASCII, half a character, or NUL.
        let kinds: [&[u8]; 5] = [b"a", b"\x7f", "\u{80}".as_bytes(), b"\x80", b"\0"];
        let same = |bytes: &[u8]| {
            let text = core::ffi::CStr::from_bytes_until_nul(bytes).ok();
            let expected = text.and_then(|it| it.to_str().ok()).map(str::len);
            assert_eq!(string_len(bytes), expected, "{bytes:x?}");
        };
        for length in 0..=19 {
            for at in 0..=length {
                for kind in kinds {
                    for second in kinds {
                        for tail in [&b""[..], b"\0", b"\0b", b"\0\xff\0\x01\0\0\0\0\x01"] {
                            let mut bytes = [b'n'].repeat(length);
                            bytes.splice(at..at, kind.iter().chain(second).copied());
                            bytes.extend_from_slice(tail);
                            same(&bytes);
                        }
                    }
                }
            }
        }
        let longest = [[b'n'].repeat(MAX_NAME), [0].to_vec()].concat();
        assert_eq!(name(&longest, 0).map(<[u8]>::len), Some(MAX_NAME));
        let beyond = [[b'n'].repeat(MAX_NAME + 1), [0].to_vec()].concat();
        assert_eq!((name(&beyond, 0), text(&beyond, 0)), (None, None));
        assert_eq!(name(&longest, MAX_NAME + 2), None);
    }
}
