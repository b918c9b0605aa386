// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the CPU does to EL2: vectors, guest exits, injected aborts, panics.

pub mod guest_exit;
pub mod panic;
pub mod vectors;
