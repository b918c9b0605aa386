// SPDX-License-Identifier: MIT OR Apache-2.0
//! The console: the physical UART, the ring in front of it, and guests' input and output. It knows VMs by index only.

pub mod guest_input;
pub mod guest_output;
pub mod ring;
pub mod uart;
