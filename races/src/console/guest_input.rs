// SPDX-License-Identifier: MIT OR Apache-2.0
//! The keyboard beside hyp/src/console/guest_output.rs: the VM that has it may change at any time.

use std::sync::atomic::{AtomicUsize, Ordering};

static OWNER: AtomicUsize = AtomicUsize::new(usize::MAX);

pub fn give(index: usize) {
    OWNER.store(index, Ordering::SeqCst);
}

pub fn has_keyboard(index: usize) -> bool {
    lock::atomic::chance();
    OWNER.load(Ordering::SeqCst) == index
}
