// SPDX-License-Identifier: MIT OR Apache-2.0
//! Flattened device trees: reading, cells, writing, and what works before the MMU is on.

pub mod cells;
pub mod early;
mod tree;
pub mod writer;

pub use tree::*;
