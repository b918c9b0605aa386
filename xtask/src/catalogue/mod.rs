// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask catalogue`: docs/assurance.md, from the marks above the tests.
//!
//! # Key types
//!
//! - [`Registry`]: bug and scenario -> the tests that cover it, read from the sources alone.
//! - [`bugs::BUGS`], [`scenarios::SUBJECTS`]: what there is to cover, in words.
//! - [`reasons::REASONS`]: scenarios that no test can cover, and why.
//!
//! # Invariants
//!
//! - What is covered and has a reason why it cannot be is an error: one of the two is wrong.
//! - The page in `docs/` is what [`page`] makes; a test of this crate compares them.

pub mod bugs;
mod page;
pub mod reasons;
mod registry;
pub mod scenarios;

pub use page::{PATH, page};
pub use registry::{Id, Registry};
