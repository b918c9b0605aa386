// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which vCPU a CPU runs next, and how much CPU time each has used.
//!
//! # Key types
//! - [`CpuTime`]: CPU time of one vCPU, written by its CPU and readable by all.
//!
//! # Invariants
//! - Nothing here reads a clock: times are counter values that the caller passes in.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod cpu_time;

pub use cpu_time::CpuTime;
