// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a VM does, from outside: exits in, registers, state and the machine's log out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod accesses;
mod beside;
mod calls;
mod common;
mod devices;
mod direct;
mod endian;
mod first_path;
mod flash;
mod lifecycle;
mod lines;
mod pause;
mod setup;
mod smccc;
mod streams;
mod sysregs;
mod threats;
