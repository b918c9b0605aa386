// SPDX-License-Identifier: MIT OR Apache-2.0
//! A VM's stage-2 translation: descriptors, annotations, walker, table pool, and owners of frames.
//!
//! The crate touches no hardware: tables are read and written through [`TableMemory`], TLBs and
//! caches are maintained through [`Tlb`].
//!
//! # Key types
//! - [`Stage2`]: the tables of one VM. [`Stage2::lookup`] takes no lock; writers take one.
//! - [`Entry`], [`GuardAnnotation`], [`Attr`]: what a descriptor means; the table of all of them is in [`codec`].
//! - [`Pool`]: the table pages of one VM, and its bound.
//! - [`FrameTable`]: the owner of every physical frame.
//!
//! # Invariants
//! - Bits 1 and 0 of an annotation are clear, so that no walker takes one for a table or a leaf.
//! - A valid descriptor is only replaced through break-before-make; the break writes `locked`.
//! - An invalid descriptor may become any other without TLB or cache maintenance.
//! - A table is filled before it is published by one store, and goes back to the pool only after the
//!   whole VMID was invalidated.
//! - A call that fails has changed nothing; one that stops early says how far it got.
//! - Cache maintenance is only ever done on the output of a leaf that was valid Normal memory.
//!
//! # Sources
//! Arm Architecture Reference Manual for A-profile, DDI 0487: D8.3 (descriptors), D8.14 (TLB
//! maintenance), D8.16 (break-before-make). docs/stage2.md has the reasoning.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "fake"))]
extern crate std;

mod annotate;
mod clearing;
pub mod codec;
mod device;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod frames;
mod host;
mod invalidate;
mod map;
mod pool;
mod reset;
mod tables;
mod unmap;
mod visit;
mod window;

pub use annotate::DeclareError;
pub use arch::Stage2Geometry;
pub use codec::{Annotation, Attr, Entry, GuardAnnotation};
pub use frames::{Chunk, FrameError, FrameTable, NO_OWNER, Parties, Split};
pub use host::{TableMemory, Tlb};
pub use map::{MapError, Over};
pub use pool::{Pool, tables_for};
pub use tables::{Found, Probe, Stage2};
pub use window::{NeedsTable, Window, Windowed};

/// How many descriptors one guest call may visit (docs/abi.md).
pub const BUDGET: u32 = 512;
