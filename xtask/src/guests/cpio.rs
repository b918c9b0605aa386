// SPDX-License-Identifier: MIT OR Apache-2.0
//! Archives in the "new ASCII" cpio format that Linux unpacks as its first root
//! (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! The same entries give the same bytes: times are 0, owners root, inode numbers count up. No file system
//! is asked, so device nodes need no privileges.

/// An archive in the making.
#[derive(Debug, Default)]
pub struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

// Types in `st_mode`.
const TYPE: u32 = 0o17_0000;
const DIRECTORY: u32 = 0o04_0000;
const CHARACTER: u32 = 0o02_0000;
const FILE: u32 = 0o10_0000;
const LINK: u32 = 0o12_0000;

impl Cpio {
    /// A folder that everybody may enter.
    pub fn folder(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
    }

    /// A file with these permissions.
    pub fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        self.entry(path, FILE | permissions & 0o7777, (0, 0), content);
    }

    /// A symbolic link to `target`.
    pub fn link(&mut self, path: &str, target: &str) {
        self.entry(path, LINK | 0o777, (0, 0), target.as_bytes());
    }

    /// A character device.
    pub fn device(&mut self, path: &str, permissions: u32, major: u32, minor: u32) {
        self.entry(path, CHARACTER | permissions & 0o7777, (major, minor), &[]);
    }

    /// The archive, with the entry that ends it.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entries = 0;
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        let path = path.trim_start_matches('/');
        // No file here comes near 4 GiB, the format's limit.
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
        let links = if mode & TYPE == DIRECTORY { 2 } else { 1 };
        self.bytes.extend_from_slice(b"070701");
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        for field in [self.entries, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0] {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        self.entries += 1;
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (path, mode, links, device, content) of each entry.
    type Entry = (String, u32, u32, (u32, u32), Vec<u8>);

    fn read(mut bytes: &[u8]) -> Vec<Entry> {
        let mut all = Vec::new();
        let whole = bytes.len();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            assert_eq!((whole - bytes.len()) % 4, 0, "headers stand at multiples of 4");
            let field = |n: usize| {
                let text = std::str::from_utf8(&bytes[6 + 8 * n..14 + 8 * n]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            let (name_end, size) = (110 + field(11) as usize, field(6) as usize);
            let name = String::from_utf8(bytes[110..name_end - 1].to_vec()).unwrap();
            assert_eq!(bytes[name_end - 1], 0);
            let start = name_end.next_multiple_of(4);
            if name == "TRAILER!!!" {
                assert_eq!(bytes.len(), start);
                return all;
            }
            let content = bytes[start..start + size].to_vec();
            all.push((name, field(1), field(4), (field(9), field(10)), content));
            bytes = &bytes[(start + size).next_multiple_of(4)..];
        }
    }

    #[test]
    fn what_is_put_in_comes_out() {
        let mut cpio = Cpio::default();
        cpio.folder("/dev");
        cpio.device("/dev/console", 0o600, 5, 1);
        cpio.file("/init", 0o755, b"#!/bin/sh\n");
        cpio.link("/bin/sh", "busybox");
        let entries = read(&cpio.finish());
        assert_eq!(
            entries,
            [
                ("dev".into(), 0o040_755, 2, (0, 0), vec![]),
                ("dev/console".into(), 0o020_600, 1, (5, 1), vec![]),
                ("init".into(), 0o100_755, 1, (0, 0), b"#!/bin/sh\n".to_vec()),
                ("bin/sh".into(), 0o120_777, 1, (0, 0), b"busybox".to_vec()),
            ]
        );
    }

    #[test]
    fn every_length_of_name_and_content_is_padded() {
        for length in 0..9 {
            let mut cpio = Cpio::default();
            let name = "x".repeat(length + 1);
            cpio.file(&name, 0o644, &vec![7; length]);
            cpio.file("after", 0o644, b"y");
            let entries = read(&cpio.finish());
            assert_eq!((entries[0].0.len(), entries[0].4.len()), (length + 1, length));
            assert_eq!(entries[1].4, b"y");
        }
    }
}
