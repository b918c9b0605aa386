// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arithmetic of granules, in numbers of granules, so that the end of the address space needs no care.

/// Granules `first..end`; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub first: u64,
    pub end: u64,
}

impl Span {
    /// The granules of 1 << `shift` bytes that hold the `bytes` bytes from `ipa` on; `None` if there are
    /// none or they run past 2^64.
    pub const fn covering(ipa: u64, bytes: u64, shift: u32) -> Option<Self> {
        let Some(more) = bytes.checked_sub(1) else { return None };
        let Some(last) = ipa.checked_add(more) else { return None };
        // At most 2^52: the shift makes room for the one that is added.
        Some(Self { first: ipa >> shift, end: (last >> shift).wrapping_add(1) })
    }

    pub const fn contains(self, granule: u64) -> bool {
        self.first <= granule && granule < self.end
    }

    /// Its first and its last byte.
    pub const fn bytes(self, shift: u32) -> (u64, u64) {
        let last = (self.end.saturating_sub(1) << shift) | !(u64::MAX << shift);
        (self.first << shift, last)
    }

    pub const fn granules(self) -> u64 {
        self.end.saturating_sub(self.first)
    }
}

/// The parts of `span`, in order, that none of `used` covers.
pub(super) fn gaps<I>(used: I, span: Span) -> impl Iterator<Item = Span>
where
    I: Iterator<Item = Span> + Clone,
{
    let mut at = span.first;
    core::iter::from_fn(move || {
        // Step over what covers this granule; each step ends at the end of one of `used`.
        while let Some(end) = used.clone().filter(|s| s.contains(at)).map(|s| s.end).max() {
            at = end;
        }
        if at >= span.end {
            return None;
        }
        let next = used.clone().map(|s| s.first).filter(|first| *first > at).min();
        let gap = Span { first: at, end: next.unwrap_or(span.end).min(span.end) };
        at = gap.end;
        Some(gap)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]

    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn a_span_covers_every_touched_granule() {
        let span = |ipa, bytes| Span::covering(ipa, bytes, 12).map(|s| (s.first, s.end));
        assert_eq!(span(0x1000, 0x1000), Some((1, 2)));
        assert_eq!(span(0x1FFF, 1), Some((1, 2)));
        assert_eq!(span(0x1FFF, 2), Some((1, 3)));
        assert_eq!(span(0x1001, 0x1000), Some((1, 3)));
        assert_eq!(span(0, 1), Some((0, 1)));
    }

    #[test]
    fn a_span_is_not_empty_and_does_not_wrap() {
        assert_eq!(Span::covering(0x1000, 0, 12), None);
        assert_eq!(Span::covering(0, 0, 12), None);
        assert_eq!(Span::covering(u64::MAX, 2, 12), None);
        assert_eq!(Span::covering(0x1000, u64::MAX, 12), None);
        let last = Span::covering(u64::MAX, 1, 12).unwrap();
        assert_eq!((last.first, last.end), ((1 << 52) - 1, 1 << 52));
        assert_eq!(last.bytes(12), (u64::MAX - 0xFFF, u64::MAX));
        assert_eq!(Span::covering(0, u64::MAX, 12).unwrap().granules(), 1 << 52);
    }

    #[test]
    fn larger_granules_cover_more() {
        assert_eq!(Span::covering(0x1_F000, 0x2000, 16).map(Span::granules), Some(2));
        assert_eq!(Span::covering(0x9000, 0x1000, 14).map(|s| s.first), Some(2));
    }

    fn any_span() -> impl Strategy<Value = Span> {
        (0..40_u64, 1..12_u64).prop_map(|(first, len)| Span { first, end: first + len })
    }

    proptest! {
        #[test]
        fn gaps_are_what_nothing_covers(
            used in prop::collection::vec(any_span(), 0..8),
            span in any_span(),
        ) {
            let found: Vec<Span> = gaps(used.iter().copied(), span).collect();
            let flat: Vec<u64> = found.iter().flat_map(|gap| gap.first..gap.end).collect();
            let expected: Vec<u64> = (span.first..span.end)
                .filter(|granule| !used.iter().any(|s| s.contains(*granule)))
                .collect();
            prop_assert_eq!(flat, expected);
            for pair in found.windows(2) {
                prop_assert!(pair[0].end < pair[1].first, "as few gaps as possible: {:?}", found);
            }
        }
    }

    #[test]
    fn gaps_of_nothing_used_are_the_span() {
        let span = Span { first: 3, end: 9 };
        assert_eq!(gaps(core::iter::empty(), span).collect::<Vec<_>>(), vec![span]);
    }
}
