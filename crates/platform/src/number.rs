// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers, sizes and ranges as people write them in `vm.` words.

use alloc::vec::Vec;
use arch::{Ipa, Range};

/// A decimal or, after `0x`, hexadecimal number with an optional suffix K, M or G (powers of 1024).
pub(crate) fn number(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (text.get(..text.len().checked_sub(1)?)?, 10),
        b'M' | b'm' => (text.get(..text.len().checked_sub(1)?)?, 20),
        b'G' | b'g' => (text.get(..text.len().checked_sub(1)?)?, 30),
        _ => (text, 0),
    };
    let (digits, radix) = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (digits, 10),
    };
    // from_str_radix would take a sign.
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()?.checked_mul(1 << shift)
}

/// `IPA+SIZE`.
pub(crate) fn range(text: &str) -> Option<Range<Ipa>> {
    let (start, size) = text.split_once('+')?;
    Range::<Ipa>::new(Ipa::new(number(start)?), number(size)?)
}

/// `IPA+SIZE[:IPA+SIZE...]`.
pub(crate) fn ranges(text: &str) -> Option<Vec<Range<Ipa>>> {
    text.split(':').map(range).collect()
}
