// SPDX-License-Identifier: MIT OR Apache-2.0
//! The root of a device VM, without what is built here: [`super::initramfs`] with modules of the stock kernel's own package,
//! and e2fsck, which looks at its clients' disks.

use anyhow::{Context, Result};

use super::initramfs;
use super::modules::with_dependencies;
use crate::apt::Package;

/// The project's own files in it: where they are below `guests/`, where they go, and their permissions.
pub const OWN: [(&str, &str, u32); 4] = [
    ("device-vm/init", "init", 0o755),
    ("device-vm/serve", "bin/serve", 0o755),
    ("device-vm/inittab", "etc/inittab", 0o644),
    ("device-vm/profile", "etc/profile", 0o644),
];

/// Modules that a device VM needs of Debian's kernel.
const MODULES: [&str; 2] = ["tun", "bridge"];

/// The archive. Those who boot it put one with the server, the module and the disks behind it.
///
/// # Errors
///
/// The package `linux` has not all modules, or one of the project's own files cannot be read.
pub fn archive(busybox: &[u8], e2fsck: &[u8], linux: &Package) -> Result<Vec<u8>> {
    let tree = tempfile::tempdir().context("device VM's root")?;
    linux.unpack("./lib/modules/*", 3, tree.path())?;
    let mut archive = initramfs::root(busybox)?;
    for (name, path, permissions) in OWN {
        archive.own(path, permissions, name)?;
    }
    archive.file("bin/e2fsck", 0o755, e2fsck)?;
    archive.folder("lib")?;
    archive.folder("lib/modules")?;
    let mut order = String::new();
    for module in with_dependencies(tree.path(), &MODULES)? {
        archive.file(&format!("lib/modules/{}", module.file), 0o644, &module.bytes)?;
        order += &format!("{}\n", module.file);
    }
    archive.file("lib/modules/order", 0o644, order.as_bytes())?;
    archive.finish()
}
