// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that are installed on this machine.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// The QEMU to run: `$PORTCULLIS_QEMU`, else `qemu-system-aarch64` from the path.
///
/// # Errors
///
/// There is none.
pub fn qemu() -> Result<PathBuf> {
    if let Some(given) = env::var_os("PORTCULLIS_QEMU").filter(|value| !value.is_empty()) {
        return Ok(given.into());
    }
    find("qemu-system-aarch64").context("qemu-system-aarch64 is not installed: run ./scripts/setup")
}

/// The first file called `name` in the folders of PATH.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
