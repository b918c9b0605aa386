// SPDX-License-Identifier: MIT OR Apache-2.0
//! What drivers and servers do, step by step. Numbers are written out.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod drivers;
mod fixture;
mod registers;
mod server;
mod waits;
