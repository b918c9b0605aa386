// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sets of physical ranges: joining, and cutting holes.

use crate::sort;
use alloc::vec::Vec;
use arch::{Pa, Range};

/// Sorts ranges and joins those that touch or overlap.
pub(crate) fn joined(mut ranges: Vec<Range<Pa>>) -> Vec<Range<Pa>> {
    ranges.retain(|range| range.size() != 0);
    sort::by_key(&mut ranges, |range| (range.start(), range.size()));
    let mut out: Vec<Range<Pa>> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.start() <= last.end() => {
                let end = last.end().max(range.end()).raw();
                let size = end.saturating_sub(last.start().raw());
                *last = Range::<Pa>::new(last.start(), size).unwrap_or(*last);
            }
            _ => out.push(range),
        }
    }
    out
}

/// What is left of sorted, joined `ranges` without `holes`.
pub(crate) fn without(ranges: &[Range<Pa>], holes: Vec<Range<Pa>>) -> Vec<Range<Pa>> {
    let holes = joined(holes);
    let mut out = Vec::new();
    for range in ranges {
        let mut start = range.start().raw();
        let end = range.end().raw();
        for hole in holes.iter().filter(|hole| hole.overlaps(range)) {
            let free = hole.start().raw().saturating_sub(start);
            if free > 0 {
                out.extend(Range::<Pa>::new(Pa::new(start), free));
            }
            start = start.max(hole.end().raw());
        }
        if start < end {
            out.extend(Range::<Pa>::new(Pa::new(start), end.saturating_sub(start)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn pa(start: u64, size: u64) -> Range<Pa> {
        Range::<Pa>::new(Pa::new(start), size).unwrap()
    }

    #[test]
    fn ranges_that_touch_overlap_or_enclose_are_joined() {
        let cases = [
            (vec![pa(8, 4), pa(0, 4)], vec![pa(0, 4), pa(8, 4)]),
            (vec![pa(4, 4), pa(0, 4)], vec![pa(0, 8)]),
            (vec![pa(0, 6), pa(4, 4)], vec![pa(0, 8)]),
            (vec![pa(0, 16), pa(4, 4)], vec![pa(0, 16)]),
            (vec![pa(4, 4), pa(0, 16), pa(4, 0), pa(20, 0)], vec![pa(0, 16)]),
            (vec![pa(0, 4), pa(0, 8), pa(0, 4)], vec![pa(0, 8)]),
            (vec![], vec![]),
        ];
        for (from, to) in cases {
            assert_eq!(joined(from.clone()), to, "{from:?}");
        }
    }

    #[test]
    fn holes_are_cut_out() {
        let ram = [pa(0, 16), pa(32, 16)];
        let cases = [
            (vec![], vec![pa(0, 16), pa(32, 16)]),
            (vec![pa(0, 64)], vec![]),
            (vec![pa(4, 4)], vec![pa(0, 4), pa(8, 8), pa(32, 16)]),
            (vec![pa(8, 32)], vec![pa(0, 8), pa(40, 8)]),
            (vec![pa(0, 1), pa(15, 18)], vec![pa(1, 14), pa(33, 15)]),
            (vec![pa(16, 16)], vec![pa(0, 16), pa(32, 16)]),
            (vec![pa(4, 0)], vec![pa(0, 16), pa(32, 16)]),
        ];
        for (holes, left) in cases {
            assert_eq!(without(&ram, holes.clone()), left, "{holes:?}");
        }
    }

    fn some_ranges() -> impl Strategy<Value = Vec<Range<Pa>>> {
        prop::collection::vec((0_u64..64, 0_u64..16), 0..8)
            .prop_map(|all| all.into_iter().map(|(start, size)| pa(start, size)).collect())
    }

    proptest! {
        /// Against a bitmap: an address is in RAM, or free, exactly when it should be.
        #[test]
        fn joining_and_cutting_are_as_a_bitmap_has_it(
            banks in some_ranges(),
            holes in some_ranges(),
        ) {
            let has = |ranges: &[Range<Pa>], at| {
                ranges.iter().filter(|range| range.contains(Pa::new(at))).count()
            };
            let ram = joined(banks.clone());
            let free = without(&ram, holes.clone());
            for at in 0..96 {
                prop_assert_eq!(has(&ram, at), usize::from(has(&banks, at) > 0));
                let expected = has(&banks, at) > 0 && has(&holes, at) == 0;
                prop_assert_eq!(has(&free, at), usize::from(expected));
            }
            for pair in ram.windows(2) {
                prop_assert!(pair[0].end() < pair[1].start());
            }
        }
    }
}
