// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where mutation testing keeps its files.

use std::path::PathBuf;

use crate::paths;
use anyhow::{Context, Result};

/// Where the steps of mutation testing keep their files.
///
/// # Errors
/// It cannot be made.
pub fn folder() -> Result<PathBuf> {
    let folder = paths::target().join("mutants");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}
