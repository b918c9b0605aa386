// SPDX-License-Identifier: MIT OR Apache-2.0
//! The virtio-mmio register file of one transport (virtio 1.2, section 4.2.2, version 2), held by EL2 for a guest and the
//! VM that serves it.
//!
//! The guest, as *driver*, loads and stores the registers. The *server* sees what the driver has set up and answers events.
//! Rings and buffers are memory that both share: nothing here reads or writes them. docs/virtio-mmio.md has the tables.
//!
//! # Key types
//! - [`Transport`]: the registers. [`Transport::load`] and [`Transport::store`] are the driver's accesses.
//! - [`Store`], [`Blocked`]: what the caller does after a store, and why an access must wait.
//! - [`Register`]: the registers that the server gets and sets, with their numbers in the ABI.
//! - [`Event`]: what the server is told. [`Transport::event_done`] is its answer.
//! - [`Limits`]: where rings may be, and whether VIRTIO_F_ACCESS_PLATFORM is demanded.
//!
//! # Invariants
//! - Every offset, width and value of the driver, and every register number and value of the server, is survivable.
//! - The work of each call has a bound that depends on neither side.
//! - A queue is ready only while its three areas are aligned, inside the limits, and of a size that the server allows.
//! - FEATURES_OK is set only while the driver's features are a subset of the offered ones and hold what is demanded.
//! - Each wait ends exactly once: by the server, by its deadline, by the server's detaching, or by a reset.
//! - The interrupt's level is high exactly while InterruptStatus is not 0. The server can neither hold it high nor lose it.
//!
//! # Sources
//! Virtual I/O Device (VIRTIO) version 1.2, OASIS. Sections are cited as "virtio 4.2.2".
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod driver;
mod event;
mod features;
mod offsets;
mod queue;
mod register;
mod server;
mod transport;

pub use event::{Blocked, Event, EventKind, Line, Refused, Store};
pub use offsets::INTERRUPT_STATUS;
pub use queue::MAX_QUEUE_SIZE;
pub use register::Register;
pub use transport::{DeviceId, Limits, QUEUES, Transport};
