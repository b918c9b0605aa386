// SPDX-License-Identifier: MIT OR Apache-2.0
//! The physical UART, its ring, and the guests' lines in and out.

pub mod guest_input;
pub mod guest_output;
pub mod ring;
pub mod uart;
