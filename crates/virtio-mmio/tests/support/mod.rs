// SPDX-License-Identifier: MIT OR Apache-2.0
//! A transport as a driver and a server see it, and beside it a naive model of the same rules.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

pub mod model;
pub mod scene;
