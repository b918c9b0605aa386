// SPDX-License-Identifier: MIT OR Apache-2.0
//! The console that VMs share, without its hardware: rings, lines of several VMs, and what keys mean.
//!
//! # Key types
//! - [`output::Console`]: lines of EL2 and of guests on their way to an [`output::Transmitter`].
//! - [`ring::Ring`]: the bytes that wait, each VM with a share of its own.
//! - [`line_mux::Mux`]: lines of several VMs in one piece each; [`live_line::Live`]: one VM's line as it is typed.
//! - [`escape_key::Keys`]: what the keys of the console mean.
//!
//! # Invariants
//! - No VM takes another VM's share of the ring, nor EL2's.
//! - Lost bytes and lines are counted per VM, and reported with the next line about it.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod escape_key;
pub mod line_mux;
pub mod live_line;
pub mod output;
pub mod ring;
