// SPDX-License-Identifier: MIT OR Apache-2.0
//! The virtual interrupt controller: distributor and redistributor registers, and the contents of list registers.
//!
//! Pure state machines for GICv2 and GICv3: no lock, no allocation, no hardware. The owner of a [`Vgic`] puts a
//! lock around it. docs/vgic.md says what a caller must do.
//!
//! # Key types
//! - [`Config`]: version and size; answers registers that never change.
//! - [`Vgic`]: the state of one VM's interrupts, all vCPUs.
//! - [`ListRegister`]: one list register, with the codecs of both versions.
//! - [`Vgic::sync`]: the entry point for list registers; [`Event`], [`Sync`]: what has happened, and what to do.
//! - [`Plan`]: what else to program besides the list registers.
//!
//! # Invariants
//! - No guest access panics; what is unknown, misaligned or of the wrong size reads 0 and is not written.
//! - An INTID is in at most one list register of the whole VM.
//! - A pending or active interrupt is never lost: it is in the state here or in a list register.
//! - A forwarded physical interrupt stays active until the guest deactivates it or [`Vgic::take_released`] names it.
//!
//! # Sources
//! GICv3/v4: Arm IHI 0069; GICv2: Arm IHI 0048. Choices that these leave open: docs/vgic.md.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod bank;
mod bits;
mod config;
mod dist;
mod fast_path;
mod list_register;
mod regs;
mod sgi;
mod sync;
mod vgic;

pub use config::{
    Config, Frame, MAX_LIST_REGISTERS, MAX_SPIS, PRIORITY_MASK, PRIVATE, SGIS, Version,
};
pub use fast_path::{Event, Sync};
pub use list_register::{ListRegister, State};
pub use sync::{Interface, Plan};
pub use vgic::Vgic;
