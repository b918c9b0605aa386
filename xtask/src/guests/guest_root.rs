// SPDX-License-Identifier: MIT OR Apache-2.0
//! The root of a stock kernel that a device VM serves: the one of all guests, with the modules of `linux/guest/`, and those of
//! the kernel's own package that a disk needs. Nothing is loaded by itself.

use anyhow::{Context, Result};

use super::initramfs;
use super::module::GUEST;
use super::modules::with_dependencies;
use crate::apt::Package;

/// Modules of Debian's kernel for a disk.
const MODULES: [&str; 2] = ["virtio_mmio", "virtio_blk"];

/// The archive. `own` are the modules of [`GUEST`].
///
/// # Errors
///
/// The package `linux` has not all modules, or one of the project's own files cannot be read.
pub fn archive(busybox: &[u8], own: &[Vec<u8>], linux: &Package) -> Result<Vec<u8>> {
    let tree = tempfile::tempdir().context("root of a guest")?;
    linux.unpack("./lib/modules/*", 3, tree.path())?;
    let mut archive = initramfs::root(busybox)?;
    for (path, permissions) in [("init", 0o755), ("etc/inittab", 0o644), ("etc/profile", 0o644)] {
        archive.own(path, permissions, path.trim_start_matches("etc/"))?;
    }
    archive.folder("lib")?;
    archive.folder("lib/modules")?;
    let mut order = String::new();
    for module in with_dependencies(tree.path(), &MODULES)? {
        archive.file(&format!("lib/modules/{}", module.file), 0o644, &module.bytes)?;
        order += &format!("{}\n", module.file);
    }
    archive.file("lib/modules/order", 0o644, order.as_bytes())?;
    for (name, bytes) in GUEST.names.iter().zip(own) {
        archive.file(&format!("lib/modules/{name}.ko"), 0o644, bytes)?;
    }
    archive.finish()
}
