// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who runs: vCPU contexts, run queues, the scheduler, interrupts.

#![allow(clippy::arithmetic_side_effects)]

mod context;
pub mod crash;
pub mod interrupts;
pub mod lifecycle;
pub mod registers;
pub mod run_queue;
pub mod scheduler;

pub use context::*;
