// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who runs: vCPU contexts, run queues, the scheduler, interrupts.

pub mod context;
pub mod crash;
pub mod crash_record;
pub mod inject;
pub mod interrupts;
pub mod lifecycle;
pub mod refusal;
pub mod registers;
pub mod scheduler;
pub mod serror;
