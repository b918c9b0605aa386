// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much was tried.

use std::sync::atomic::{AtomicU64, Ordering};

static TRIED: AtomicU64 = AtomicU64::new(0);

/// Lines come in steps of this, and at powers of two before.
const STEP: u64 = 1 << 14;

/// `n` more things were tried: a line `tried N` now and then.
pub fn add(n: u64) {
    let before = TRIED.fetch_add(n, Ordering::Relaxed);
    let now = before + n;
    if before / STEP != now / STEP || now < STEP && before.leading_zeros() != now.leading_zeros() {
        eprintln!("tried {now}");
    }
}
