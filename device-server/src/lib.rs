// SPDX-License-Identifier: MIT OR Apache-2.0
//! The user-space half of a device VM: one process serves the virtio devices of one other VM, its *peer*.
//!
//! The kernel module of `linux/device` gives it `/dev/portcullis/NAME`: a window on what the peer shares, the registers of each
//! transport, and eventfds. docs/devices.md has the whole picture.
//!
//! # Key types
//! - [`port::Port`]: what the server needs of the module. [`module::Module`] is the real one.
//! - [`backend::Device`]: a kind of device; [`backend::Handler`] serves one of its queues.
//! - [`server::Server`]: attaches, serves, and attaches again when the peer has begun a new life.
//! - [`chain::Chain`]: one request of a ring, walked once.
//!
//! # Invariants
//! - The peer may be hostile: it changes rings and buffers at any time. Only `virtio-queue` and `vm-memory` follow what is in
//!   them. Each chain is walked once, and each length and index is bounded.
//! - A ring that breaks the rules stops its own queue and nothing else.
//! - Requests of a queue are finished in ring order, so that used.idx says where the next server goes on.
//! - EVENT_DONE for a reset or the stop of a queue is sent after the threads of those queues have ended.
//! - `unsafe` is in [`sys`] only.
//!
//! # Sources
//! Virtual I/O Device (VIRTIO) version 1.2, OASIS. Sections are cited as "virtio 2.7". docs/virtio-mmio.md.

pub mod backend;
pub mod chain;
pub mod counters;
pub mod module;
pub mod options;
pub mod port;
pub mod seccomp;
pub mod server;
pub mod stats;
pub mod sys;
pub mod transport;
pub mod uapi;
pub mod worker;
