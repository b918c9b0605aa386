// SPDX-License-Identifier: MIT OR Apache-2.0
//! Figures: what benchmarks find.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Median, minimum and maximum of an operation, in hundredths of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figure {
    /// The highest.
    pub max: u64,
    /// The middle one of the batches.
    pub median: u64,
    /// The lowest.
    pub min: u64,
}

impl Figure {
    /// Something counted once, in whole units.
    #[must_use]
    pub const fn exact(value: u64) -> Self {
        let value = value * 100;
        Self { median: value, min: value, max: value }
    }
}

/// Figures by name.
pub type Figures = BTreeMap<String, Figure>;
