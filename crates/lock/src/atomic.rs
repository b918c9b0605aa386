// SPDX-License-Identifier: MIT OR Apache-2.0
//! Atomics: those of the machine, or under `--cfg shuttle` those whose every use is a chance for another thread.
//!
//! Crates whose state several CPUs share take them from here, so that the models in `races/` run the same code.

#[cfg(not(shuttle))]
pub use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(shuttle)]
pub use shuttle::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

/// A chance for another thread, in what is no atomic itself: a fake's memory. Nothing unless modelled.
#[inline(always)]
pub fn chance() {
    #[cfg(shuttle)]
    AtomicU8::new(0).store(1, Ordering::SeqCst);
}
