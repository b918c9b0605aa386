// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernels: what a file is, headers of arm64 Images, ELF files, and where they put their images.

use crate::boards::drive::{try_header, try_image, try_words};
use crate::boards::one;
use crate::count;

/// One header after another.
pub fn run(data: &[u8]) {
    try_header(data);
    if !data.is_empty() {
        try_image(data, "");
        try_image(data, "vm.rom=0x0+1M vm.mem=2M");
    }
    let mut tried = 1;
    for header in data.as_chunks::<64>().0 {
        try_header(header);
        try_words(&one("").header(0x5000_0000, *header));
        tried += 1;
    }
    count::add(tried);
}
