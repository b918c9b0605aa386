// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where fetched trees and the newer QEMU are.

use std::path::PathBuf;

use crate::paths;

/// The folder of both.
pub fn folder() -> PathBuf {
    paths::target().join("boards")
}

/// Where the trees are once fetched: `VENDOR/BOARD.dtb`.
#[must_use]
pub fn trees() -> PathBuf {
    folder().join("trees")
}

/// Where the newer QEMU is once fetched: its `/usr`.
#[must_use]
pub fn qemu() -> PathBuf {
    folder().join("qemu")
}
