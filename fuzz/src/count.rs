// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much was tried.

use std::sync::atomic::{AtomicU64, Ordering};

static TRIED: AtomicU64 = AtomicU64::new(0);

/// Lines come in steps of this.
const STEP: u64 = 1 << 16;

/// `n` more things were tried: a line `tried N` each time that passes a multiple of 65,536.
pub fn add(n: u64) {
    let before = TRIED.fetch_add(n, Ordering::Relaxed);
    let now = before + n;
    if before / STEP != now / STEP {
        eprintln!("tried {}", now / STEP * STEP);
    }
}
