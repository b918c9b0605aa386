// SPDX-License-Identifier: MIT OR Apache-2.0
//! The scheduler of one CPU, with a fake clock.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod budgets;
mod cpu;
mod direct;
mod fair;
mod random;
mod state;
mod windows;
