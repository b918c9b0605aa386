// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files of this machine.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// The bytes of `file`.
///
/// # Errors
///
/// It cannot be read.
pub fn read(file: PathBuf) -> Result<Vec<u8>> {
    fs::read(&file).with_context(|| file.display().to_string())
}
