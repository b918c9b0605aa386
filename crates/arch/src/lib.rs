// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arm arithmetic without hardware: addresses, syndromes, exceptions, translation geometry.
//!
//! Everything here is a pure function of its arguments, so that it runs and is tested on any host.
//!
//! # Key types
//! - [`Ipa`], [`Pa`], [`Va`], [`Vmid`], [`Mpidr`]: numbers that must not be mixed up.
//! - [`GuestRegs`]: what the exception vectors save and restore.
//! - [`ExitInfo`]: the three registers read once per exit; [`Exit`]: what they mean.
//!
//! # Sources
//! Arm Architecture Reference Manual for A-profile, DDI 0487; sections are cited where they are used.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod addr;
mod exit;
mod regs;

pub use addr::{Ipa, Mpidr, PAGE_SHIFT, PAGE_SIZE, Pa, Range, Va, Vmid};
pub use exit::{
    Access, DataAbort, Exit, ExitInfo, Fault, FaultKind, InstructionAbort, SysRegAccess, Width,
};
pub use regs::GuestRegs;
