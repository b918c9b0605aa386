// SPDX-License-Identifier: MIT OR Apache-2.0
//! The executable specification: what each exit of a guest leads to, in small maps and plain functions.
//!
//! It is slow, takes memory as it likes, and is there to be read beside docs/abi.md: each rule is written once,
//! in the order of that page, with nothing of how the image does it. Tests, and EL2 built with its feature
//! `oracle`, do every exit twice, here and there, and compare state and outcome. It shares no code with the
//! crates that it judges, their names of types included.
//!
//! # Key types
//! - [`Vm`]: the state of a VM, as much of it as a guest can notice through its guard, its memory and its
//!   power calls. A method per exit takes it from the state before to the state after.
//! - [`Config`]: what the VM's owner fixed.
//! - [`Call`], [`Data`], [`Fetch`]: exits. [`Outcome`]: what the guest, or EL2 on its behalf, gets.
//! - [`Link`]: what a VM and the VM that serves it have in common; [`call`] is a call of either.
//! - [`Tables`]: stage 2 as a map of entries that do not overlap, and the count of table pages left.
//!
//! # Invariants
//! - A call that fails changes nothing but the counter of calls (docs/abi.md, conventions).
//! - What is memory is the configuration's to say, never an entry's.
//! - What a device answers or holds, and interrupts, are not specified here; whether a device is asked is. So it is with
//!   the registers of a virtio transport; an access that a device VM answers is specified to its end.
//!
//! # Sources
//! docs/abi.md; docs/vm.md (firmware calls, lifecycle, flash); docs/trap-path.md (the table of accesses);
//! docs/stage2.md (entries, splits, the pool); docs/devices.md.
#![no_std]
#![forbid(unsafe_code)]
// Sums of guest input are made in 128 bits, where they cannot wrap; a wrong sum of ours stops the oracle,
// as it should, and so does a vCPU that does not exist. Boards never run this.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

extern crate alloc;

mod aborts;
mod access;
mod bank;
mod calls;
mod config;
mod flash;
mod forward;
mod guard;
mod link;
mod memory;
mod outcome;
mod power;
mod power_state;
mod serve;
mod tables;
mod vm;

pub use aborts::{Data, Fault, Fetch, Moment};
pub use bank::{Bank, Sentence};
pub use calls::{Call, Conduit};
pub use config::{
    Config, Device, DeviceKind, Dialect, Flash, MappedMmio, Policy, Region, Served, Sharing,
};
pub use link::{Link, Told};
pub use outcome::{Load, Outcome, Reason};
pub use power_state::{Parked, Phase, Power, StopReason};
pub use serve::{call, leave_peers};
pub use tables::{Entry, Found, Full, Hint, Leaf, Tables, size_of_level};
pub use vm::{Counters, Vm};

/// Bytes of a page, which is the granule of everything here.
pub const PAGE: u64 = 4096;
/// Most descriptors that one range call visits, and most pages that one call shares.
pub const BUDGET: u64 = 512;

/// First address of the page of `at`.
pub(crate) const fn page_of(at: u64) -> u64 {
    at & !(PAGE - 1)
}

pub(crate) const fn is_aligned(at: u64) -> bool {
    at.is_multiple_of(PAGE)
}
