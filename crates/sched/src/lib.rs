// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which vCPU a CPU runs next, and how much CPU time each has used.
//!
//! # Key types
//! - [`Scheduler`]: the vCPUs of one CPU. A VM on this CPU has a *seat*; seats of one priority share the CPU in turns, each
//!   with a quantum per epoch.
//! - [`VcpuState`]: what a vCPU does that is not loaded.
//! - [`Wake`]: what other CPUs tell a CPU about its vCPUs, and when that is worth a kick.
//! - [`WorstWake`]: how long a VM may wait after it woke.
//! - [`CpuTime`]: CPU time of one vCPU, written by its CPU and readable by all.
//!
//! # Invariants
//! - Nothing here reads a clock: times are counter values that the caller passes in.
//! - Every tick is charged to exactly one seat or to idle: [`Scheduler::account`].
//! - A seat cannot use more than its quantum in an epoch. An overrun is repaid from the next one.
//! - The work of each call has a bound that does not depend on what guests do.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod budget;
mod cpu_time;
mod scheduler;
mod seat;
mod vcpu_state;
mod wake;
mod windows;
mod worst_wake;

pub use budget::Budget;
pub use cpu_time::CpuTime;
pub use scheduler::{Scheduler, VCPUS};
pub use seat::{DEFAULT_PRIORITY, PRIORITIES, SEATS};
pub use vcpu_state::VcpuState;
pub use wake::{Reason, Wake, vcpus_of};
pub use windows::MAX_WINDOWS;
pub use worst_wake::{Costs, Frame, Tenant, WorstWake, worst_wake};
