// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers, sizes and ranges as people write them in `vm.` options.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_write_them() {
        let good = [
            ("0", 0),
            ("128M", 128 << 20),
            ("128m", 128 << 20),
            ("4k", 4096),
            ("3G", 3 << 30),
            ("0x4000000", 0x400_0000),
            ("0XfF", 0xff),
            ("0x10K", 0x4000),
            ("18446744073709551615", u64::MAX),
            ("0xffffffffffffffff", u64::MAX),
            ("0x3ffffffffG", 0x3_ffff_ffff << 30),
            ("007", 7),
        ];
        for (text, value) in good {
            assert_eq!(number(text), Some(value), "{text}");
        }
        let bad = [
            "",
            "K",
            "0x",
            "0xK",
            "x",
            "-1",
            "+1",
            "1+",
            " 1",
            "1 ",
            "1_000",
            "1.5M",
            "ff",
            "0b1",
            "1T",
            "1KB",
            "1MM",
            "18446744073709551616",
            "0x10000000000000000",
            "0x400000000G",
            "99999999999999999999999999",
            "0x-1",
            "0x+1",
            "\u{663}",
            "1\u{212a}",
        ];
        for text in bad {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn ranges_as_people_write_them() {
        let one = |start, size| Range::<Ipa>::new(Ipa::new(start), size);
        assert_eq!(range("0x9000000+4K"), one(0x900_0000, 4096));
        assert_eq!(range("0+0"), one(0, 0));
        for text in ["", "+", "0x1000", "0x1000+", "+4K", "1+2+3", "0x1000-4K", "0x1000 +4K"] {
            assert_eq!(range(text), None, "{text}");
        }
        assert_eq!(range("0xffffffffffffffff+1"), None, "wraps");
        let list = ranges("0+4K:8K+4K").unwrap();
        assert_eq!(list, [one(0, 4096).unwrap(), one(8192, 4096).unwrap()]);
        for text in ["", ":", "0+4K:", ":0+4K", "0+4K::8K+4K", "0+4K,8K+4K"] {
            assert_eq!(ranges(text), None, "{text}");
        }
    }
}
