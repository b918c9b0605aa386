// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices of web that daemons of others serve, by vhost-user.

use anyhow::Result;

use super::file::read;
use crate::guests::initramfs::Archive;
use crate::guests::{Guest, gzip};

/// A device that a daemon serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// Its kind, as `vm.devices` has it.
    pub kind: &'static str,
    /// The daemon: it may be one that the scripts cannot get.
    pub guest: Guest,
    /// The daemon's socket.
    pub socket: &'static str,
    /// Behind the socket in the option of the server.
    suffix: &'static str,
    /// Where the daemon is in the device VM.
    pub path: &'static str,
    /// Its arguments.
    arguments: &'static str,
}

/// CID of web.
pub const CID: u32 = 3;
/// The socket at which streams to web begin; those from web to port N end at it with `_N` behind.
pub const STREAMS: &str = "/run/web.vsock";
/// The directory that is shared.
pub const SHARED: &str = "/shared";
/// Its tag.
pub const TAG: &str = "share";

/// Sockets between VMs.
pub const VSOCK: Served = Served {
    kind: "vsock",
    guest: Guest::VsockDaemon,
    socket: "/run/web.vhost-vsock",
    suffix: "",
    path: "/bin/vhost-device-vsock",
    arguments: "--guest-cid 3 --socket /run/web.vhost-vsock --uds-path /run/web.vsock",
};

/// A shared directory. An initramfs cannot be left by pivot_root(2), so that the daemon uses chroot(2).
pub const DIRECTORY: Served = Served {
    kind: "fs",
    guest: Guest::DirectoryDaemon,
    socket: "/run/web.vhost-fs",
    suffix: ":share",
    path: "/usr/lib/qemu/virtiofsd",
    arguments: "--socket-path=/run/web.vhost-fs -o source=/shared -o sandbox=chroot",
};

/// Both, in the order of web's transports.
pub const ALL: [Served; 2] = [VSOCK, DIRECTORY];

/// Those daemons that could be got.
#[must_use]
pub fn present() -> Vec<Served> {
    ALL.into_iter().filter(|served| served.guest.existing().is_ok()).collect()
}

/// The options of web's server for them.
#[must_use]
pub fn options() -> String {
    let option = |served: Served| {
        format!(" --vhost-user {}={}{}", served.kind, served.socket, served.suffix)
    };
    present().into_iter().map(option).collect()
}

/// What of them goes behind the device VM's root: programs, command lines, and the directory that is shared.
///
/// # Errors
///
/// A file cannot be read.
pub fn archive() -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.folder(SHARED.trim_start_matches('/'))?;
    archive.folder("etc/daemons")?;
    let stream = read(Guest::DeviceStream.existing()?)?;
    archive.file("bin/portcullis-stream", 0o755, &stream)?;
    let mut commands = String::new();
    let mut behind = Vec::new();
    for served in present() {
        let bytes = read(served.guest.existing()?)?;
        if served == VSOCK {
            archive.file(served.path.trim_start_matches('/'), 0o755, &bytes)?;
        } else {
            // An archive itself, with the daemon's libraries.
            behind.extend(bytes);
        }
        commands += &format!("{} {} {}\n", served.socket, served.path, served.arguments);
    }
    if !commands.is_empty() {
        archive.file("etc/daemons/web", 0o644, commands.as_bytes())?;
    }
    let mut bytes = gzip(&archive.finish()?)?;
    bytes.extend(behind);
    Ok(bytes)
}
