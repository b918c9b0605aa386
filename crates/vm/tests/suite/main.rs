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
mod calls;
mod common;
mod devices;
mod endian;
mod fast_vs_slow;
mod flash;
mod lifecycle;
mod lines;
mod links;
mod mapped_mmio;
mod pause;
mod random_sequences;
mod setup;
mod smccc;
mod smoke;
mod sysregs;
mod threats;
