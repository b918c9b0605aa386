// SPDX-License-Identifier: MIT OR Apache-2.0
//! What of this repository a guest is made of, and whether that has changed.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::folders::{below, sources};
use super::{Guest, client_root, daemons, device_root, guest_root, kernel, module};
use crate::{build, paths};

impl Guest {
    /// The project's own files that go into it.
    pub(super) fn own_files(self) -> Result<Vec<PathBuf>> {
        let here = |names: &[&str]| names.iter().map(|name| sources().join(name)).collect();
        let Some(kernel) = self.kernel() else {
            return Ok(match self {
                Self::Initramfs => here(&["init", "inittab", "profile"]),
                Self::DeviceModule | Self::DeviceModule612 => module::DEVICE.own_files()?,
                Self::GuestModules | Self::GuestModules612 => {
                    let mut files = here(&guest_root::OWN.map(|(name, _, _)| name));
                    files.extend(module::GUEST.own_files()?);
                    files
                }
                Self::DeviceRoot => here(&device_root::OWN.map(|(name, _, _)| name)),
                Self::ClientRoot => {
                    let mut files = here(&client_root::OWN.map(|(name, _, _)| name));
                    let folder = paths::root().join(build::DEVICE_SERVER);
                    files.extend(["Cargo.toml", "src/stream.rs"].map(|name| folder.join(name)));
                    files
                }
                Self::DeviceServer | Self::DeviceWindow | Self::DeviceStream => {
                    let folder = paths::root().join(build::DEVICE_SERVER);
                    let mut files = below(&folder.join("src"))?;
                    files.extend([folder.join("Cargo.toml"), paths::root().join("Cargo.lock")]);
                    files
                }
                _ => Vec::new(),
            });
        };
        let mut files: Vec<PathBuf> = here(kernel.fragments);
        if kernel.series {
            for part in ["apply", "files", "patches"] {
                files.extend(below(&kernel::series().join(part))?);
            }
        }
        Ok(files)
    }

    /// All that it is made of but packages: if that changes, it is made again.
    pub(super) fn source_text(self) -> Result<String> {
        // A module is for one version of its kernel.
        let mut text = self.module_of().and_then(Self::origin).unwrap_or_default();
        for file in self.own_files()? {
            text += &fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        }
        if self == Self::VsockDaemon {
            text += daemons::VSOCK;
        }
        if self == Self::DeviceRoot {
            // Modules of another version do not load.
            text += &Self::Linux.origin().unwrap_or_default();
        }
        Ok(text)
    }

    /// Whether its file is there and what it was made from has not changed since.
    pub(super) fn fresh(self) -> Result<bool> {
        let text = self.source_text()?;
        let stamp = fs::read_to_string(self.stamp()).unwrap_or_default();
        let before = stamp.split_once('\n').map(|(_, text)| text);
        Ok(self.file().is_file() && before == Some(text.as_str()))
    }
}
