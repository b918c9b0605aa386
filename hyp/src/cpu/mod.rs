// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registers, barriers, caches and timers of one CPU. Imports no other folder.

pub mod address_translation;
pub mod barrier;
pub mod cache;
pub mod feature_probe;
pub mod id_registers;
mod per_cpu;
pub mod qemu_timer;
pub mod run_queue;
pub mod sysreg;
pub mod timer;
pub mod trap_controls;

pub use per_cpu::*;
