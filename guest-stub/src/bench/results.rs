// SPDX-License-Identifier: MIT OR Apache-2.0
//! Results, kept until all of them are there.

use arrayvec::{ArrayString, ArrayVec};
use core::fmt::Write;

use crate::scratch::Shared;

/// A figure in hundredths of an instruction: median, minimum, maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// The middle one of the batches.
    pub median: u64,
    /// The lowest.
    pub min: u64,
    /// The highest.
    pub max: u64,
}

impl Figure {
    /// Something that was counted, not sampled.
    pub const fn exact(value: u64) -> Self {
        let value = value * 100;
        Self { median: value, min: value, max: value }
    }
}

type Results = ArrayVec<(ArrayString<40>, Figure), 96>;
static RESULTS: Shared<Results> = Shared::new(ArrayVec::new_const());

/// Keeps a result.
pub fn note(name: core::fmt::Arguments<'_>, figure: Figure) {
    let mut text = ArrayString::new();
    // A name that is too long is cut.
    let _ = text.write_fmt(name);
    // SAFETY: only the first vCPU comes here.
    let full = unsafe { (*RESULTS.get()).try_push((text, figure)).is_err() };
    if full {
        say!("FAIL bench: too many results");
    }
}

/// Prints all results.
pub fn print() {
    // SAFETY: only the first vCPU comes here.
    for (name, figure) in unsafe { &*RESULTS.get() } {
        say!("bench;{name};{};{};{}", figure.median, figure.min, figure.max);
    }
}
