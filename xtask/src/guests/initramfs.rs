// SPDX-License-Identifier: MIT OR Apache-2.0
//! The root of the Linux guests: busybox and the three files that start it, as the archive that Linux unpacks
//! (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! The same files give the same bytes: times are 0, owners root, inode numbers count up.

use std::fs;
use std::io::Write;

use anyhow::{Context, Result};
use cpio::newc::{Builder, ModeFileType, trailer};

/// The archive.
///
/// # Errors
///
/// One of the project's own files cannot be read.
pub fn archive(busybox: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut inodes = 0..;
    let mut add = |path: &str, kind, permissions, device: (u32, u32), content: &[u8]| {
        let entry = Builder::new(path)
            .ino(inodes.next().unwrap_or_default())
            .mode(permissions)
            .set_mode_file_type(kind)
            .nlink(1)
            .rdev_major(device.0)
            .rdev_minor(device.1);
        let mut entry = entry.write(&mut bytes, u32::try_from(content.len())?);
        entry.write_all(content)?;
        entry.finish().map(drop).context("initramfs")
    };
    for path in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        add(path, ModeFileType::Directory, 0o755, (0, 0), &[])?;
    }
    // Linux opens it for the first process, before anything is mounted.
    add("dev/console", ModeFileType::Char, 0o600, (5, 1), &[])?;
    add("dev/null", ModeFileType::Char, 0o666, (1, 3), &[])?;
    add("bin/busybox", ModeFileType::Regular, 0o755, (0, 0), busybox)?;
    for (path, name, permissions) in [
        ("init", "init", 0o755),
        ("etc/inittab", "inittab", 0o644),
        ("etc/profile", "profile", 0o644),
    ] {
        let file = super::folders::sources().join(name);
        let content = fs::read(&file).with_context(|| file.display().to_string())?;
        add(path, ModeFileType::Regular, permissions, (0, 0), &content)?;
    }
    trailer(bytes).context("initramfs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpio::newc::Reader;
    use std::io::Read;

    #[test]
    fn what_linux_needs_for_its_first_process_is_there() {
        let bytes = archive(b"a shell").unwrap();
        assert_eq!(bytes, archive(b"a shell").unwrap());
        let mut rest = bytes.as_slice();
        let mut all = Vec::new();
        loop {
            let mut reader = Reader::new(rest).unwrap();
            let entry = reader.entry().clone();
            if entry.is_trailer() {
                break;
            }
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            let device = (entry.rdev_major(), entry.rdev_minor());
            all.push((entry.name().to_owned(), entry.mode(), device, content));
            rest = reader.finish().unwrap();
        }
        let found = |name: &str| all.iter().find(|entry| entry.0 == name).unwrap();
        assert_eq!(found("dev").1, 0o040_755);
        assert_eq!((found("dev/console").1, found("dev/console").2), (0o020_600, (5, 1)));
        assert_eq!((found("dev/null").1, found("dev/null").2), (0o020_666, (1, 3)));
        assert_eq!(
            (found("bin/busybox").1, &*found("bin/busybox").3),
            (0o100_755, &b"a shell"[..])
        );
        assert_eq!((found("init").1, found("etc/profile").1), (0o100_755, 0o100_644));
        assert!(found("init").3.starts_with(b"#!"));
        assert_eq!(all.len(), 13);
    }
}
