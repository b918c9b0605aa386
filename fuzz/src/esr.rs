// SPDX-License-Identifier: MIT OR Apache-2.0
//! Syndromes against another decoder, and whole triples of registers for what holds of every exit.

use crate::{count, oracle};

/// Three registers at a time; then variants of the first that change one field each.
pub fn run(data: &[u8]) {
    let mut tried = 0;
    for chunk in data.as_chunks::<24>().0 {
        let [esr, far, hpfar] = std::array::from_fn(|n| {
            u64::from_le_bytes(std::array::from_fn(|byte| chunk[8 * n + byte]))
        });
        oracle::check_any(esr, far, hpfar);
        // The classes that EL2 emulates, with these bits as their ISS.
        for class in [0x01, 0x16, 0x17, 0x18, 0x20, 0x24] {
            let esr = class << 26 | 1 << 25 | esr & 0x1ff_ffff;
            oracle::check(esr);
            oracle::check_any(esr, far, hpfar);
            tried += 2;
        }
        tried += 1;
    }
    count::add(tried);
}
