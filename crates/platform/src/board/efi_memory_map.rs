// SPDX-License-Identifier: MIT OR Apache-2.0
//! What EFI's memory map leaves to who has left its boot services.
//!
//! Source: UEFI Specification 2.10, section 7.2.3 (memory types, and which of them are free afterwards).

/// Bytes of an EFI page.
const PAGE: u64 = 4096;

/// The ranges of memory that firmware keeps: start and size in bytes, neighbours joined. Allocates nothing.
#[derive(Clone, Debug)]
pub struct EfiMap<'a> {
    words: &'a [u64],
    /// Words of a descriptor; at least 5.
    each: usize,
    /// What has been read but may go on.
    open: Option<(u64, u64)>,
}

impl<'a> EfiMap<'a> {
    /// The map in `words`, whose descriptors have `each` bytes: what GetMemoryMap returns.
    #[must_use]
    pub const fn new(words: &'a [u64], each: usize) -> Self {
        let each = each / 8;
        Self { words, each: if each < 5 { 5 } else { each }, open: None }
    }

    /// Start and size of the next descriptor's memory if firmware keeps it, `Some(None)` if it does not.
    fn next_descriptor(&mut self) -> Option<Option<(u64, u64)>> {
        let [kind, start, _, pages, ..] = self.words.get(..self.each)? else { return None };
        self.words = self.words.get(self.each..)?;
        let kept = match *kind as u32 {
            // Loader's and boot services' code and data, and what is free: ours now.
            1..=4 | 7 => None,
            // Registers: no memory.
            11 | 12 => None,
            _ => Some((*start, pages.saturating_mul(PAGE))),
        };
        Some(kept)
    }
}

impl Iterator for EfiMap<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        while let Some(kept) = self.next_descriptor() {
            let Some((start, size)) = kept else { continue };
            match self.open {
                Some((open, length)) if open.saturating_add(length) == start => {
                    self.open = Some((open, length.saturating_add(size)));
                }
                before => {
                    self.open = Some((start, size));
                    if before.is_some() {
                        return before;
                    }
                }
            }
        }
        self.open.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// A map of (type, start, pages), descriptors of six words as EDK2 has them.
    fn kept(map: &[(u64, u64, u64)]) -> Vec<(u64, u64)> {
        let words: Vec<u64> = map
            .iter()
            .flat_map(|(kind, start, pages)| [*kind, *start, 0, *pages, 0xf, 0])
            .collect();
        EfiMap::new(&words, 48).collect()
    }

    #[test]
    fn what_boot_services_had_is_free_and_all_else_is_kept() {
        for kind in 0..=20 {
            let expected = match kind {
                1..=4 | 7 | 11 | 12 => vec![],
                _ => vec![(0x1000, 0x2000)],
            };
            assert_eq!(kept(&[(kind, 0x1000, 2)]), expected, "type {kind}");
        }
        // The upper half of the first word is padding.
        assert_eq!(kept(&[(0xffff_ffff_0000_0007, 0x1000, 2)]), []);
    }

    #[test]
    fn neighbours_are_joined_and_others_are_not() {
        let map = [(5, 0x1000, 1), (6, 0x2000, 2), (7, 0x4000, 1), (0, 0x5000, 1), (10, 0x7000, 1)];
        assert_eq!(kept(&map), [(0x1000, 0x3000), (0x5000, 0x1000), (0x7000, 0x1000)]);
    }

    #[test]
    fn maps_that_lie_end() {
        assert_eq!(kept(&[(0, u64::MAX, u64::MAX)]), [(u64::MAX, u64::MAX)]);
        let words = [0; 12];
        assert_eq!(EfiMap::new(&words, 0).count(), 1, "neighbours of no size");
        assert_eq!(EfiMap::new(&words, usize::MAX).count(), 0);
        assert_eq!(EfiMap::new(&words[..11], 48).count(), 1);
    }
}
