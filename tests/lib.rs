// SPDX-License-Identifier: MIT OR Apache-2.0
//! End-to-end tests: Portcullis in QEMU, with the test guest under it.
//!
//! `cargo test -p e2e` (or ./scripts/test, which sets up and builds before) boots the images that
//! `scripts/build` has made. Each test of guest-stub is one case per machine, called `MACHINE::TEST`; what
//! takes several guests, bad inputs or a look from outside is a Rust function in [`cases`].
//!
//! # Key types
//!
//! - [`matrix::Configuration`]: a machine, and how much runs on it.
//! - [`schedule::Schedule`]: which cases there are, and which boots they need.
//! - [`fixture::Fixture`]: what a case in Rust boots machines with.
//!
//! # Invariants
//!
//! - A case passes by a line that must be there; a machine that dies, hangs or says nothing fails all that
//!   it had left to do.
//! - Boots run side by side, one per core of the host; cases only wait for them, in order.
#![forbid(unsafe_code)]

#[macro_use]
pub mod fixture;

pub mod asm;
pub mod cases;
pub mod console;
pub mod guests;
pub mod matrix;
pub mod pool;
pub mod schedule;
pub mod strict_disk;
