// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers from a seed, or from bytes that a fuzzer makes.
#![allow(dead_code)]

/// splitmix64: small, and the same everywhere.
pub struct Random {
    state: u64,
    /// Two bytes decide a number as long as there are any.
    given: std::vec::IntoIter<u8>,
}

impl Random {
    /// The numbers of scenario `number` of a run.
    pub fn new(seed: u64, number: u64) -> Self {
        let state = seed ^ number.wrapping_mul(0xd134_2543_de82_ef95);
        let mut random = Self { state, given: Vec::new().into_iter() };
        random.next();
        random
    }

    /// Numbers that are decided by `bytes`, each by two of them alone; when these are used up, by all of them.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let state = bytes.iter().fold(0, |sum: u64, byte| sum.rotate_left(7) ^ u64::from(*byte));
        Self { state, given: Vec::from(bytes).into_iter() }
    }

    pub fn next(&mut self) -> u64 {
        if let (Some(low), Some(high)) = (self.given.next(), self.given.next()) {
            return Self::mix(u64::from(low) | u64::from(high) << 8);
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        Self::mix(self.state)
    }

    fn mix(state: u64) -> u64 {
        let a = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let b = (a ^ a >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        b ^ b >> 31
    }

    /// Below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Whether one of `n` came.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// A random seed.
pub fn from_clock() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Random::new(now.as_nanos() as u64, 0).next() >> 16
}
