// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers like random ones, the same in each run: xorshift64* (Vigna).

/// The generator.
#[derive(Clone, Copy, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Any seed; 0 is replaced.
    pub const fn new(seed: u64) -> Self {
        Self(if seed == 0 { 0x9e37_79b9_7f4a_7c15 } else { seed })
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// One of the first `count` numbers.
    pub fn below(&mut self, count: usize) -> usize {
        (self.next() >> 33) as usize % count.max(1)
    }

    /// One of these.
    pub fn choose<T: Copy>(&mut self, from: &[T], other: T) -> T {
        from.get(self.below(from.len())).copied().unwrap_or(other)
    }
}
