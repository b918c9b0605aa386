// SPDX-License-Identifier: MIT OR Apache-2.0
//! Boards beyond QEMU's virt machine: the vendors' own device trees, as Debian's kernel package for arm64 carries them,
//! a QEMU that models more of the boards than the installed one, and what Portcullis makes of a tree.
//!
//! # Key types
//!
//! - [`make`]: fetches trees and QEMU into `target/boards/`.
//! - [`check::Report`]: what Portcullis would use of a board, or why it would refuse it.
//! - [`model::Board`]: a board that QEMU models.
//!
//! # Invariants
//!
//! - Nothing of the machine changes: packages are unpacked under `target/`, not installed.
//! - What is there is not fetched again; a folder appears whole or not at all.

pub mod check;
pub mod model;
mod place;

use std::fs;
use std::path::{Path, PathBuf};

use crate::apt::Apt;
use anyhow::{Context, Result, anyhow};

use place::folder;
pub use place::{qemu, trees};

/// What `scripts/boards` fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Device trees of the boards that Debian's kernel for arm64 knows.
    Trees,
    /// The QEMU of the backports suite; not where the installed one models the boards already.
    Qemu,
}

impl Part {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Trees, Self::Qemu];

    /// The word for it at a shell.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trees => "trees",
            Self::Qemu => "qemu",
        }
    }

    /// The part called `name`.
    #[must_use]
    pub fn called(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }

    fn make(self) -> Result<()> {
        match self {
            Self::Trees => {
                if trees().is_dir() {
                    return Ok(());
                }
                let kernel = |apt: Apt| {
                    apt.stands_for("linux-image-arm64", "linux-image-")
                        .and_then(|name| apt.package(&name))
                };
                // The kernel of the backports suite knows nearly twice as many boards.
                let package = Apt::backports(&folder().join("arm64-backports"), Some("arm64"))
                    .and_then(kernel)
                    .or_else(|error| {
                        eprintln!("boards: {error:#}; the stable kernel's trees will do");
                        kernel(Apt::new(&folder().join("arm64")))
                    })?;
                unpacked(&trees(), |new| package.unpack("./usr/lib/linux-image-*/*.dtb", 4, new))?;
                eprintln!("boards: {} from {}", trees().display(), package.version());
            }
            Self::Qemu => {
                if qemu().is_dir() || model::installed_knows_all() {
                    return Ok(());
                }
                let apt = Apt::backports(&folder().join("backports"), None)?;
                let packages = ["qemu-system-arm", "qemu-system-common", "qemu-system-data"];
                let packages = packages.map(|name| apt.package(name));
                unpacked(&qemu(), |new| {
                    for package in packages {
                        let package = package?;
                        package.unpack("./usr/*", 2, new)?;
                        eprintln!("boards: {} from {}", qemu().display(), package.version());
                    }
                    Ok(())
                })?;
            }
        }
        Ok(())
    }
}

/// Fetches what is missing of `wanted`; with `update`, all of it, from the newest packages.
///
/// # Errors
///
/// The first that cannot be had, and why; the others are fetched all the same.
pub fn make(wanted: &[Part], update: bool) -> Result<()> {
    if update {
        let _ = fs::remove_dir_all(folder());
    }
    fs::create_dir_all(folder()).with_context(|| folder().display().to_string())?;
    let lock = folder().join("lock");
    let lock = fs::File::create(&lock).with_context(|| lock.display().to_string())?;
    lock.lock().with_context(|| folder().display().to_string())?;
    let mut result = Ok(());
    for part in wanted {
        result = result.and(part.make().with_context(|| part.name().to_owned()));
    }
    result
}

/// Makes the folder `to` by `fill`, in one step.
fn unpacked(to: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let new = to.with_extension("new");
    let _ = fs::remove_dir_all(&new);
    fs::create_dir_all(&new).with_context(|| new.display().to_string())?;
    fill(&new)?;
    fs::rename(&new, to).with_context(|| to.display().to_string())
}

/// Every tree, sorted by its path.
///
/// # Errors
///
/// They were not fetched.
pub fn all_trees() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![trees()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder)
            .map_err(|_| anyhow!("{} is missing: run ./scripts/boards trees", folder.display()))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "dtb") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// What became of every tree.
///
/// # Errors
///
/// They were not fetched.
pub fn count_all() -> Result<check::Counts> {
    let mut counts = check::Counts::default();
    for file in all_trees()? {
        let blob = fs::read(&file).with_context(|| file.display().to_string())?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        counts.add(&name, &check::Report::of(&blob));
    }
    Ok(counts)
}
