// SPDX-License-Identifier: MIT OR Apache-2.0
//! EL2's own translation tables, its heap, and the owners of physical frames.

mod allocator;
pub mod frame_owners;
pub mod mmu;

pub use allocator::*;
