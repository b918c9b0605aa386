// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine: what its device tree says of CPUs, memory, interrupts, timers and UARTs.

pub mod chosen;
pub mod cpus;
mod description;
pub mod early_console;
pub mod efi_memory_map;
pub mod el2_map;
pub mod gic;
pub mod interrupt;
pub mod memory;
pub mod report;
pub mod timer;
mod types;
pub mod uart;
pub mod uart_driver;

pub use description::Board;
pub use types::*;
