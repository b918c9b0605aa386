// SPDX-License-Identifier: MIT OR Apache-2.0
//! Boot arguments of modules, and the device trees of the VMs that they describe.

use crate::boards::drive::try_words;
use crate::boards::{Bench, image_header};
use crate::count;
use dtoolkit::fdt::Fdt;

/// Boot arguments of up to three modules, a line each.
pub fn run(data: &[u8]) {
    let words = String::from_utf8_lossy(data);
    let modules = || {
        let at = (0_u64..).map(|n| 0x5000_0000 + (n << 24));
        let lines = words.splitn(3, '\n').zip(at);
        lines.fold(Bench::new(), |bench, (line, at)| bench.kernel(at, 4096, line))
    };
    for bench in [modules(), modules().header(0x5000_0000, image_header(0, 0x20_0000, 0xa))] {
        for tree in try_words(&bench) {
            // Another reader takes it as it is, to its last node.
            let read = Fdt::new(&tree).expect("a tree that dtoolkit reads");
            let _ = dtoolkit::model::DeviceTree::from_fdt(&read);
        }
    }
    count::add(1);
}
