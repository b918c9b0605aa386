// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exceptions that EL2 takes: vectors, exits from guests, panics.

pub mod guest_exit;
pub mod panic;
pub mod vectors;
