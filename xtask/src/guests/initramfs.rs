// SPDX-License-Identifier: MIT OR Apache-2.0
//! The roots of the Linux guests: busybox and the files that start it, as the archive that Linux unpacks
//! (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! The same files give the same bytes: times are 0, owners root, inode numbers count up.

use std::fs;
use std::io::Write;

use anyhow::{Context, Result};
use cpio::newc::{Builder, ModeFileType, trailer};
use duct::cmd;

/// An archive that is being written.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    inodes: u32,
}

impl Archive {
    /// A folder. Linux makes none by itself: those above come before it.
    ///
    /// # Errors
    ///
    /// The path is too long.
    pub fn folder(&mut self, path: &str) -> Result<()> {
        self.add(path, ModeFileType::Directory, 0o755, (0, 0), &[])
    }

    /// A character device.
    ///
    /// # Errors
    ///
    /// The path is too long.
    pub fn device(&mut self, path: &str, permissions: u32, number: (u32, u32)) -> Result<()> {
        self.add(path, ModeFileType::Char, permissions, number, &[])
    }

    /// A file.
    ///
    /// # Errors
    ///
    /// It is larger than an archive can have.
    pub fn file(&mut self, path: &str, permissions: u32, content: &[u8]) -> Result<()> {
        self.add(path, ModeFileType::Regular, permissions, (0, 0), content)
    }

    /// One of the project's own files below `guests/`.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn own(&mut self, path: &str, permissions: u32, name: &str) -> Result<()> {
        let file = super::folders::sources().join(name);
        let content = fs::read(&file).with_context(|| file.display().to_string())?;
        self.file(path, permissions, &content)
    }

    /// The whole archive.
    ///
    /// # Errors
    ///
    /// None that memory has.
    pub fn finish(self) -> Result<Vec<u8>> {
        trailer(self.bytes).context("initramfs")
    }

    fn add(
        &mut self,
        path: &str,
        kind: ModeFileType,
        permissions: u32,
        device: (u32, u32),
        content: &[u8],
    ) -> Result<()> {
        let entry = Builder::new(path)
            .ino(self.inodes)
            .mode(permissions)
            .set_mode_file_type(kind)
            .nlink(1)
            .rdev_major(device.0)
            .rdev_minor(device.1);
        self.inodes += 1;
        let mut entry = entry.write(&mut self.bytes, u32::try_from(content.len())?);
        entry.write_all(content)?;
        entry.finish().map(drop).context("initramfs")
    }
}

/// What each root begins with: the folders that /init mounts something on, what Linux opens for the first process before
/// anything is mounted, and busybox.
///
/// # Errors
///
/// None that memory has.
pub fn root(busybox: &[u8]) -> Result<Archive> {
    let mut archive = Archive::default();
    for path in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        archive.folder(path)?;
    }
    archive.device("dev/console", 0o600, (5, 1))?;
    archive.device("dev/null", 0o666, (1, 3))?;
    archive.file("bin/busybox", 0o755, busybox)?;
    Ok(archive)
}

/// The root of the Linux guests.
///
/// # Errors
///
/// One of the project's own files cannot be read.
pub fn archive(busybox: &[u8]) -> Result<Vec<u8>> {
    let mut archive = root(busybox)?;
    archive.own("init", 0o755, "init")?;
    archive.own("etc/inittab", 0o644, "inittab")?;
    archive.own("etc/profile", 0o644, "profile")?;
    archive.finish()
}

/// `bytes` compressed, without a time in them.
///
/// # Errors
///
/// There is no gzip here.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let gzip = cmd!("gzip", "-9", "-n", "-c").stdin_bytes(bytes).stdout_capture();
    Ok(gzip.run().context("cannot run gzip")?.stdout)
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

    #[test]
    fn what_gzip_makes_it_undoes() {
        // More than a pipe holds, both ways.
        let bytes: Vec<u8> =
            (0..1_u32 << 18).flat_map(|n| (n.wrapping_mul(0x9e37_79b9)).to_le_bytes()).collect();
        let packed = gzip(&bytes).unwrap();
        assert_eq!(packed, gzip(&bytes).unwrap());
        let gunzip = cmd!("gzip", "-d", "-c").stdin_bytes(packed).stdout_capture();
        assert!(gunzip.run().unwrap().stdout == bytes);
    }
}
