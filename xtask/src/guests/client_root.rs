// SPDX-License-Identifier: MIT OR Apache-2.0
//! The disk of a client of a device VM: an ext4 file system with a busybox root and a file of known content.
//!
//! mke2fs makes it empty and debugfs fills it, both of e2fsprogs: neither needs root or a loop device, owners are root, and
//! with `E2FSPROGS_FAKE_TIME` the same files give the same bytes. (`mke2fs -d` takes owners and times from this machine.)

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::folders::sources;
use crate::installed;

/// Bytes of the file system.
const SIZE: u64 = 16 << 20;
/// Its UUID, and the seed of its directories' hashes.
const UUID: &str = "2f6f7274-6375-4c6c-8973-2d636c69656e";
/// Bytes of the file of known content.
const KNOWN: usize = 1 << 20;
/// Where the client finds it.
pub const KNOWN_PATH: &str = "/data/known";
/// Where the client finds its program for streams.
pub const STREAM_PATH: &str = "/bin/portcullis-stream";

/// Folders, in order.
const FOLDERS: [&str; 9] = ["bin", "data", "dev", "etc", "proc", "root", "sbin", "sys", "tmp"];

const PACKAGE: &str = "e2fsprogs";
const PROGRAMS: [&str; 2] = ["mke2fs", "debugfs"];

/// The file of known content: no two of its blocks are the same.
#[must_use]
pub fn known() -> Vec<u8> {
    // xorshift64* (Vigna 2016): any sequence does that is the same everywhere.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    (0..KNOWN / 8).flat_map(|_| next().to_le_bytes()).collect()
}

/// The project's own files in it: where they are below `guests/`, where they go, and their modes.
pub const OWN: [(&str, &str, u32); 3] = [
    ("client/init", "sbin/init", 0o100_755),
    ("client/inittab", "etc/inittab", 0o100_644),
    ("client/profile", "etc/profile", 0o100_644),
];

/// The file system's bytes. `stream` is this repository's program for streams, as a file without dependencies.
///
/// # Errors
///
/// e2fsprogs is not installed, or one of the project's own files cannot be read.
pub fn image(busybox: &[u8], stream: &[u8]) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir().context("client's root")?;
    let beside = |name: &str, content: &[u8]| -> Result<PathBuf> {
        let path = folder.path().join(name);
        fs::write(&path, content).with_context(|| path.display().to_string())?;
        Ok(path)
    };
    let image = beside("image", &[])?;
    fs::File::options().write(true).open(&image)?.set_len(SIZE)?;
    let mut make = program("mke2fs")?;
    make.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-L", "root", "-U", UUID, "-E"]);
    make.arg(format!("hash_seed={UUID},lazy_itable_init=0,lazy_journal_init=0")).arg(&image);
    run(&mut make)?;

    let mut files = vec![
        (beside("busybox", busybox)?, "bin/busybox", 0o100_755),
        (beside("stream", stream)?, STREAM_PATH, 0o100_755),
        (beside("known", &known())?, KNOWN_PATH, 0o100_644),
    ];
    files.extend(OWN.map(|(name, path, mode)| (sources().join(name), path, mode)));
    let mut commands: String = FOLDERS.iter().map(|path| format!("mkdir {path}\n")).collect();
    for (file, path, mode) in files {
        let file = file.display();
        let path = path.trim_start_matches('/');
        commands += &format!("write \"{file}\" {path}\nset_inode_field {path} mode 0{mode:o}\n");
    }
    let script = beside("commands", commands.as_bytes())?;
    run(program("debugfs")?.args(["-w", "-f"]).arg(script).arg(&image))?;
    fs::read(&image).context("client's root")
}

/// Programs of the package e2fsprogs; they are not on every user's path.
fn program(name: &str) -> Result<Command> {
    let found = installed::find(name).or_else(|| {
        ["/usr/sbin", "/sbin"]
            .map(|at| Path::new(at).join(name))
            .into_iter()
            .find(|at| at.is_file())
    });
    let file = found.with_context(|| {
        format!("{name} is not installed; run\n  apt-get install --no-install-recommends {PACKAGE}")
    })?;
    let mut command = Command::new(file);
    command.env("E2FSPROGS_FAKE_TIME", "1").env("LC_ALL", "C");
    Ok(command)
}

/// Debian's package of both programs, if one of them is missing.
#[must_use]
pub fn missing_tools() -> Option<&'static str> {
    PROGRAMS.iter().any(|name| program(name).is_err()).then_some(PACKAGE)
}

/// Runs it. debugfs ends with status 0 whatever its commands do, so that what it complains of counts.
fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| name.clone())?;
    let said = String::from_utf8_lossy(&output.stderr);
    let complaint = said.lines().find(|line| !line.is_empty() && !line.starts_with("debugfs 1."));
    match complaint {
        None if output.status.success() => Ok(()),
        complaint => bail!("{name} failed: {}", complaint.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_give_the_same_bytes() {
        if missing_tools().is_some() {
            assert!(image(b"a shell", b"a stream").unwrap_err().to_string().contains("e2fsprogs"));
            return;
        }
        let first = image(b"a shell", b"a stream").unwrap();
        assert_eq!(first.len() as u64, SIZE);
        // Times in the superblock are whole seconds.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert!(image(b"a shell", b"a stream").unwrap() == first, "the bytes differ");
        assert!(image(b"a shall", b"a stream").unwrap() != first);
        let content = known();
        assert!(first.windows(64).any(|window| window == content.get(..64).unwrap()));
    }

    #[test]
    fn no_two_blocks_of_the_known_content_are_the_same() {
        let content = known();
        let blocks: std::collections::BTreeSet<_> = content.chunks(512).collect();
        assert_eq!(blocks.len(), KNOWN / 512);
    }
}
