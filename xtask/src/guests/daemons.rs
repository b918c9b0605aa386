// SPDX-License-Identifier: MIT OR Apache-2.0
//! Daemons of others that serve a device of a device VM by vhost-user, as its root needs them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::initramfs::{Archive, gzip};
use crate::apt::Apt;
use crate::toolchain::Toolchain;

/// The crate of a vsock device's daemon, and its version.
pub const VSOCK: &str = "vhost-device-vsock@0.3.0";

/// The package with the daemon of a shared directory. Debian 12 has none of the newer daemon in Rust.
const DIRECTORY: &str = "qemu-system-common";
/// The daemon in it, and where the device VM has it.
const PROGRAM: &str = "./usr/lib/qemu/virtiofsd";
/// The interpreter of programs in Debian's arm64, and its package.
const INTERPRETER: (&str, &str) = ("libc6", "./lib/aarch64-linux-gnu/ld-linux-aarch64.so.1");
/// What the daemon is linked with: the package, the file in it, and the name by which it is looked for.
const LIBRARIES: [(&str, &str, &str); 8] = [
    ("libc6", "./lib/aarch64-linux-gnu/libc.so.6", "libc.so.6"),
    ("libc6", "./lib/aarch64-linux-gnu/libm.so.6", "libm.so.6"),
    ("libcap-ng0", "./lib/aarch64-linux-gnu/libcap-ng.so.0.*", "libcap-ng.so.0"),
    ("libglib2.0-0", "./usr/lib/aarch64-linux-gnu/libglib-2.0.so.0.*", "libglib-2.0.so.0"),
    ("libglib2.0-0", "./usr/lib/aarch64-linux-gnu/libgmodule-2.0.so.0.*", "libgmodule-2.0.so.0"),
    ("libnuma1", "./usr/lib/aarch64-linux-gnu/libnuma.so.1.*", "libnuma.so.1"),
    ("libpcre2-8-0", "./usr/lib/aarch64-linux-gnu/libpcre2-8.so.0.*", "libpcre2-8.so.0"),
    ("libseccomp2", "./usr/lib/aarch64-linux-gnu/libseccomp.so.2.*", "libseccomp.so.2"),
];

/// The daemon of a vsock device: the crate's program, built static below `folder` with the versions in its own lock file. And
/// where it comes from.
///
/// # Errors
///
/// No network, or it does not build.
pub fn vsock(folder: &Path) -> Result<(Vec<u8>, String)> {
    let root = tempfile::tempdir_in(folder).context("a folder for it")?;
    let mut cargo = Toolchain::cargo_install(VSOCK, root.path())?;
    if !cargo.status().context("cannot run cargo")?.success() {
        bail!("the crate {VSOCK} cannot be built");
    }
    let (name, version) = VSOCK.split_once('@').context("it has a version")?;
    let program = root.path().join("bin").join(name);
    let bytes = fs::read(&program).with_context(|| program.display().to_string())?;
    Ok((bytes, format!("{name} {version} of crates.io")))
}

/// The daemon of a shared directory, with its libraries, as an archive that Linux unpacks. And where it comes from.
///
/// # Errors
///
/// A package cannot be had, or has other files.
pub fn directory(apt: &Apt) -> Result<(Vec<u8>, String)> {
    let package = apt.package(DIRECTORY)?;
    let mut archive = Archive::default();
    for path in ["lib", "lib/aarch64-linux-gnu", "usr", "usr/lib", "usr/lib/qemu"] {
        archive.folder(path)?;
    }
    let inside = PROGRAM.trim_start_matches("./");
    archive.file(inside, 0o755, &package.read(PROGRAM)?)?;
    let (from, path) = INTERPRETER;
    archive.file("lib/ld-linux-aarch64.so.1", 0o755, &apt.package(from)?.read(path)?)?;
    for (from, path, name) in LIBRARIES {
        let library = apt.package(from)?.read(path)?;
        archive.file(&format!("lib/aarch64-linux-gnu/{name}"), 0o644, &library)?;
    }
    Ok((gzip(&archive.finish()?)?, package.version()))
}

/// The daemon of a shared directory as its package, which is below `folder`, has it: name and version of the package, and the
/// program.
///
/// # Errors
///
/// It was not fetched, or the package is damaged.
pub fn directory_program(folder: &Path) -> Result<(String, Vec<u8>)> {
    let package = Apt::new(folder).cached(DIRECTORY);
    let package = package.with_context(|| format!("the package {DIRECTORY} is not there"))?;
    Ok((package.version(), package.read(PROGRAM)?))
}
