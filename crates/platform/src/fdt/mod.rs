// SPDX-License-Identifier: MIT OR Apache-2.0
//! Flattened device trees: format, reading, cells and writing.

pub mod cells;
pub mod format;
mod tree;
pub mod writer;

pub(crate) use format::short;
pub use format::{MAX_DEPTH, MAX_NODES, MAX_STRING, MAX_TREE_BYTES, tree_size};
pub(crate) use tree::*;
