// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where guests and their sources are, and the lock of who makes them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::paths;
use anyhow::{Context, Result};

/// `target/guests`.
pub fn folder() -> PathBuf {
    paths::target().join("guests")
}

/// What the project itself has of its guests.
pub fn sources() -> PathBuf {
    paths::root().join("guests")
}

/// The files in `path` and below, or `path` itself, always in the same order.
pub fn below(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).with_context(|| path.display().to_string())?;
    let mut inside: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    inside.sort();
    let mut files = Vec::new();
    for path in inside {
        files.extend(below(&path)?);
    }
    Ok(files)
}

/// Held until dropped: kernels are built one at a time.
pub fn lock(path: &Path) -> Result<fs::File> {
    let file = fs::File::create(path).with_context(|| path.display().to_string())?;
    if file.try_lock().is_err() {
        eprintln!("guests: waiting for another run that makes them");
        file.lock().with_context(|| path.display().to_string())?;
    }
    Ok(file)
}
