// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where things are: the repository and its build directory.

use std::env;
use std::path::{Path, PathBuf};

/// The repository's root folder.
#[must_use]
pub fn root() -> PathBuf {
    // The manifest of this crate lies in ROOT/xtask; that place was right when it was compiled, and
    // a repository that was moved since is built anew by cargo.
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Cargo's build directory: `$CARGO_TARGET_DIR` (relative to the current folder) or `ROOT/target`.
#[must_use]
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR").filter(|value| !value.is_empty()) {
        Some(directory) => {
            let directory = PathBuf::from(directory);
            if directory.is_absolute() {
                directory
            } else {
                env::current_dir().map_or(directory.clone(), |here| here.join(&directory))
            }
        }
        None => root().join("target"),
    }
}
