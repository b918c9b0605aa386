// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest's side: find the guard, enrol, declare pages.
//!
//! [`Guard`] is the calls themselves, one method each; it remembers nothing about pages. [`Ioremap`]
//! remembers which ranges are in use, so that a page stays declared until its last user is gone, and
//! leaves nothing half done when a call fails.
//!
//! Nothing here touches memory, allocates or blocks. A guest with several CPUs keeps its [`Ioremap`]
//! behind its own lock; a [`Guard`] needs none.

mod detect;
mod error;
mod guard;
mod hypercall;
mod ioremap;
mod own;
mod span;

pub use detect::{Version, smccc_version};
pub use error::{CallError, Code, DetectError, EnrolError, Error, IoremapError, RangeError};
pub use guard::{AttrIndex, Guard};
pub use hypercall::Hypercall;
#[cfg(target_arch = "aarch64")]
pub use hypercall::SmcccHvc;
pub use ioremap::{Ioremap, Mapping, Region};
pub use own::{Counters, Own, Page};
