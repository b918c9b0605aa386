// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the image lies.

unsafe extern "C" {
    /// Where the image ends, stacks and tables included.
    static __footprint_end: u8;
    /// Where the image begins.
    static __image_start: u8;
}

/// The addresses that the image and its data occupy.
pub fn footprint() -> core::ops::Range<u64> {
    (&raw const __image_start) as u64..(&raw const __footprint_end) as u64
}
