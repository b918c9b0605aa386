// SPDX-License-Identifier: MIT OR Apache-2.0
//! The MMIO guard: its hypercall interface and the guest's side of it.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod abi;
mod call;
mod dialect;

pub use call::{Call, call};
pub use dialect::{Dialect, Policy, UnknownName, feature_map};
