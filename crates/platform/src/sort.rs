// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sorting a few things. Each use of the standard library's sorts is 2 to 4 KiB of code, made for long slices.

/// Sorts `items` by `key`; equal ones keep their order. For what is short, or nearly sorted as it comes from a tree:
/// in the worst case the work grows with the square of the length.
pub(crate) fn by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    for end in 2..=items.len() {
        let mut rest = items.get_mut(..end);
        // Moves the last of `rest` down to its place.
        while let Some([.., before, last]) = &mut rest
            && key(before) > key(last)
        {
            core::mem::swap(before, last);
            rest = rest.and_then(<[T]>::split_last_mut).map(|(_, sorted)| sorted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::by_key;
    use std::vec::Vec;

    #[test]
    fn it_is_the_standard_librarys_stable_sort() {
        // All sequences of up to six items with keys 0 to 3.
        for length in 0..=6_u32 {
            for code in 0..4_u32.pow(length) {
                let items: Vec<(u32, u32)> =
                    (0..length).map(|n| (code >> (2 * n) & 3, n)).collect();
                let (mut ours, mut theirs) = (items.clone(), items);
                by_key(&mut ours, |item| item.0);
                theirs.sort_by_key(|item| item.0);
                assert_eq!(ours, theirs);
            }
        }
    }
}
