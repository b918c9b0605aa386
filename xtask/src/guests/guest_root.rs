// SPDX-License-Identifier: MIT OR Apache-2.0
//! The root of a stock kernel that a device VM serves: the one of all guests, with the modules of `linux/guest/`, and those of
//! the kernel's own package that a disk and a network card need. Nothing is loaded by itself, unless the boot argument
//! `rdinit=/bin/stock-init` asks for it.

use anyhow::{Context, Result};

use super::initramfs;
use super::module::GUEST;
use super::modules::with_dependencies;
use crate::apt::Package;

/// The project's own files in it: where they are below `guests/`, where they go, and their permissions.
pub const OWN: [(&str, &str, u32); 4] = [
    ("init", "init", 0o755),
    ("stock/init", "bin/stock-init", 0o755),
    ("inittab", "etc/inittab", 0o644),
    ("profile", "etc/profile", 0o644),
];

/// Modules of Debian's kernel for a disk and a network card.
const MODULES: [&str; 3] = ["virtio_mmio", "virtio_blk", "virtio_net"];

/// The archive. `own` are the modules of [`GUEST`].
///
/// # Errors
///
/// The package `linux` has not all modules, or one of the project's own files cannot be read.
pub fn archive(busybox: &[u8], own: &[Vec<u8>], linux: &Package) -> Result<Vec<u8>> {
    let tree = tempfile::tempdir().context("root of a guest")?;
    linux.unpack("./lib/modules/*", 3, tree.path())?;
    let mut archive = initramfs::root(busybox)?;
    for (name, path, permissions) in OWN {
        archive.own(path, permissions, name)?;
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
