// SPDX-License-Identifier: MIT OR Apache-2.0
//! vCPUs: their registers and switch, the scheduler, interrupts, and what happens to them when a VM stops or crashes.

pub mod answer;
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
