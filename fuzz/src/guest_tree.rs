// SPDX-License-Identifier: MIT OR Apache-2.0
//! Boot arguments of a module, and the device tree of the VM that they describe.

use crate::boards::drive::try_words;
use crate::boards::{image_header, one};
use crate::count;
use dtoolkit::fdt::Fdt;

/// One module's boot arguments.
pub fn run(data: &[u8]) {
    let words = String::from_utf8_lossy(data);
    for bench in [one(&words), one(&words).header(0x5000_0000, image_header(0, 0x20_0000, 0xa))] {
        for tree in try_words(&bench) {
            // Another reader takes it as it is, to its last node.
            let read = Fdt::new(&tree).expect("a tree that dtoolkit reads");
            let _ = dtoolkit::model::DeviceTree::from_fdt(&read);
        }
    }
    count::add(1);
}
