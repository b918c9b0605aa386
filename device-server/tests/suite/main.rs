// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server on the host, with a fake module and the register model of EL2.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects)]

mod block;
mod confined;
mod driver;
mod fake;
mod hostile;
mod recovery;
mod served;
mod streams;
#[path = "../support/hostile.rs"]
mod support;
mod uapi;
mod vhost_user;
