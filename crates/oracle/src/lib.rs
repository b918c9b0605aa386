// SPDX-License-Identifier: MIT OR Apache-2.0
//! Holds a VM against its specification: the outcome of an exit, the registers, the state.
//!
//! Two use it: the tests of `vm`, over stage2's recording fake, and EL2 built with its feature `oracle`, over
//! the tables that the MMU walks. Neither image nor crates that it is made of do otherwise.
//!
//! # Key types
//! - [`judge`]: one exit, which `vm` has handled, is handled by `spec`; what differs is an error.
//! - [`state`], [`shallow`]: the state of both; [`entries`] says which entry differs.
//! - [`mark`], [`marks`]: the sum over all descriptors that a walker can reach, as `spec` has it over its
//!   entries.
//! - [`finish`]: the same for the end of an access that waited for the VM's server.
//! - [`window`]: what a VM shares against what its server reaches; [`told`]: what that is told of an access.
//!
//! # Invariants
//! - Nothing here changes a `Vm`.
//!
//! # Sources
//! docs/abi.md, docs/trap-path.md, docs/vm.md, through `spec`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod outcome;
mod state;
mod window;

pub use outcome::{Machine, finish, judge, stop_reason};
pub use state::{entries, mark, marks, shallow, state};
pub use window::{leaves, told, window};
