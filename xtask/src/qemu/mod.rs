// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU: from a typed description of a machine to its console, line by line, with hard limits of time.
//!
//! # Key types
//!
//! - [`Machine`]: what to boot, turned into a command line by [`Machine::arguments`].
//! - [`Session`]: a running QEMU; [`Run`]: what is left of one that ended.
//!
//! # Invariants
//!
//! - QEMU never outlives its [`Session`], nor the process that started it.
//! - QEMU's exit status says nothing about the guest (it is 0 whatever happened): callers judge lines.
//! - The whole console is kept in `target/qemu-logs/NAME.log`, below the command that repeats the run.

mod machine;
mod monitor;
mod session;

pub use crate::installed::qemu as program;
pub use machine::{Blob, Gic, LOADED, MODULES, Machine, Module, Start};
pub use monitor::Monitor;
pub use session::{Ended, IN_ASM, Limits, Run, Session};
