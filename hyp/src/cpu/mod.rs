// SPDX-License-Identifier: MIT OR Apache-2.0
//! Leaves: registers, barriers, caches and timers of one CPU.

#![allow(clippy::arithmetic_side_effects)]

#[macro_use]
pub mod sysreg;
pub mod address_translation;
pub mod barrier;
pub mod cache;
pub mod feature_probe;
pub mod id_registers;
mod per_cpu;
pub mod qemu_timer;
pub mod timer;
pub mod trap_controls;

pub use per_cpu::*;
