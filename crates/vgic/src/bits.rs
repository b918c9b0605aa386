// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sets of up to 32 interrupts, slots or vCPUs as words.

/// The word with bit `n % 32`.
#[inline(always)]
pub(crate) const fn bit(n: u32) -> u32 {
    1u32.wrapping_shl(n)
}

/// The numbers of the bits that are set, lowest first.
#[derive(Clone, Copy)]
pub(crate) struct Bits(pub u32);

impl Iterator for Bits {
    type Item = u32;

    #[inline(always)]
    fn next(&mut self) -> Option<u32> {
        if self.0 == 0 {
            return None;
        }
        let n = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        Some(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn bits_come_lowest_first() {
        assert_eq!(Bits(0).count(), 0);
        assert_eq!(Bits(0x8000_0011).collect::<Vec<_>>(), [0, 4, 31]);
        assert_eq!(Bits(u32::MAX).count(), 32);
        assert_eq!((0..64).map(bit).fold(0u32, |a, b| a ^ b), 0, "numbers wrap at 32");
    }
}
