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
