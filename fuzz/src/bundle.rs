// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bundles: VMs and their images in one device tree.

use crate::boards::drive::try_bundle;
use crate::count;

/// One bundle, without its magic.
pub fn run(data: &[u8]) {
    try_bundle(data);
    count::add(1);
}
