// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guests that others wrote, in `target/guests/`: Debian's arm64 kernel, U-Boot and EDK2 as their packages
//! hold them, a busybox root for Linux, and two kernels built from Debian's source: mainline's client of the guard, and
//! the series in `linux/`. That one also with larger pages, for who asks for it.
//!
//! # Key types
//!
//! - [`Guest`]: one file that can be made; [`make`] makes it, unless it is there.
//! - [`boot::Boot`]: a guest as a VM.
//!
//! # Invariants
//!
//! - A file that is there and was made from what `guests/` and `linux/` hold now is not made again, and needs no
//!   network.
//! - A file appears in one step, never as a part of one.
//! - The same packages give the same bytes.

pub mod boot;
pub mod client_root;
mod daemons;
mod device_root;
pub mod file;
mod folders;
mod guest_root;
pub mod initramfs;
pub mod kernel;
mod made_of;
pub mod module;
mod modules;

use std::fs;
use std::path::PathBuf;

use self::folders::{folder, lock};
pub use self::initramfs::gzip;
use self::kernel::Tree;
use crate::apt::{self, Apt};
use crate::build::{self, replace};
use anyhow::{Context, Result, anyhow, bail};

/// A file in `target/guests/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// Debian's stock kernel, the cloud flavour: its PL011 is built in, and it is the smallest.
    Linux,
    /// Debian's stock kernel of a later series, from the same suite.
    Linux612,
    /// The kernel module of the device VM for [`Guest::Linux`].
    DeviceModule,
    /// The same for [`Guest::Linux612`].
    DeviceModule612,
    /// A busybox root with the modules of a client for [`Guest::Linux`], and what of that kernel's own they need.
    GuestModules,
    /// The same for [`Guest::Linux612`].
    GuestModules612,
    /// A busybox root for all kernels.
    Initramfs,
    /// The root of a device VM: busybox, the modules of the stock kernel that it needs, and e2fsck.
    DeviceRoot,
    /// The disk of a client of a device VM.
    ClientRoot,
    /// The server of a device VM, of this repository.
    DeviceServer,
    /// The program that reads what that one can, of this repository.
    DeviceWindow,
    /// One end of a byte stream, of this repository.
    DeviceStream,
    /// The daemon of a vsock device, of a published crate.
    VsockDaemon,
    /// The daemon of a shared directory, of Debian's package, with its libraries.
    DirectoryDaemon,
    /// The small kernel that is a client of the MMIO guard.
    LinuxGuarded,
    /// The same kernel with the series in `linux/`: it enrols, and undeclares.
    LinuxEnrolled,
    /// That one with pages of 16 KiB.
    LinuxEnrolled16K,
    /// That one with pages of 64 KiB.
    LinuxEnrolled64K,
    /// Debian's U-Boot for QEMU's virt machine.
    UBoot,
    /// Debian's UEFI firmware for QEMU's virt machine.
    Edk2,
    /// The same from Debian's unstable suite: the newest EDK2 that is packaged.
    Edk2Unstable,
    /// Debian's TF-A for the Raspberry Pi 4: no guest, but the firmware at EL3 below all of them.
    TfARpi4,
}

/// Debian's source package of the kernels that are built: the first version that has mainline's driver.
const SOURCE: &str = "linux-source-6.12";

impl Guest {
    /// All of them, in the order in which they are made: those that take longest last, and the series behind the
    /// kernel that it would change.
    pub const ALL: [Self; 22] = [
        Self::Initramfs,
        Self::Linux,
        Self::Linux612,
        Self::DeviceModule,
        Self::DeviceModule612,
        Self::GuestModules,
        Self::GuestModules612,
        Self::DeviceRoot,
        Self::ClientRoot,
        Self::DeviceServer,
        Self::DeviceWindow,
        Self::DeviceStream,
        Self::VsockDaemon,
        Self::DirectoryDaemon,
        Self::UBoot,
        Self::Edk2,
        Self::Edk2Unstable,
        Self::TfARpi4,
        Self::LinuxGuarded,
        Self::LinuxEnrolled,
        Self::LinuxEnrolled16K,
        Self::LinuxEnrolled64K,
    ];

    /// Whether it is made, and wanted by tests, only on request, by its name: its tests take longer than a run of all
    /// tests may, or its package changes from one day to the next.
    #[must_use]
    pub const fn on_request(self) -> bool {
        matches!(self, Self::Edk2Unstable | Self::LinuxEnrolled16K | Self::LinuxEnrolled64K)
    }

    /// The word for it at a shell.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Linux612 => "linux-6.12",
            Self::DeviceModule => "device-module",
            Self::DeviceModule612 => "device-module-6.12",
            Self::GuestModules => "guest-modules",
            Self::GuestModules612 => "guest-modules-6.12",
            Self::Initramfs => "initramfs",
            Self::DeviceRoot => "device-root",
            Self::ClientRoot => "client-root",
            Self::DeviceServer => "device-server",
            Self::DeviceWindow => "device-window",
            Self::DeviceStream => "device-stream",
            Self::VsockDaemon => "vsock-daemon",
            Self::DirectoryDaemon => "directory-daemon",
            Self::LinuxGuarded => "linux-guarded",
            Self::LinuxEnrolled => "linux-enrolled",
            Self::LinuxEnrolled16K => "linux-enrolled-16k",
            Self::LinuxEnrolled64K => "linux-enrolled-64k",
            Self::UBoot => "u-boot",
            Self::Edk2 => "edk2",
            Self::Edk2Unstable => "edk2-unstable",
            Self::TfARpi4 => "tf-a-rpi4",
        }
    }

    /// The guest called `name`.
    #[must_use]
    pub fn called(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|guest| guest.name() == name)
    }

    /// Its file, made or not.
    #[must_use]
    pub fn file(self) -> PathBuf {
        folder().join(match self {
            Self::DeviceServer => "device/portcullis-devices",
            Self::DeviceWindow => "device/portcullis-window",
            Self::DeviceStream => "device/portcullis-stream",
            Self::VsockDaemon => "device/vhost-device-vsock",
            Self::DirectoryDaemon => "directory-daemon.cpio.gz",
            Self::Linux => "linux.img",
            Self::Linux612 => "linux-6.12.img",
            Self::DeviceModule => "device/6.1/portcullis-device.ko",
            Self::DeviceModule612 => "device/6.12/portcullis-device.ko",
            Self::GuestModules => "guest-modules.cpio.gz",
            Self::GuestModules612 => "guest-modules-6.12.cpio.gz",
            Self::Initramfs => "initramfs.cpio.gz",
            Self::DeviceRoot => "device-root.cpio.gz",
            Self::ClientRoot => "client-root.img",
            Self::LinuxGuarded => "linux-guarded.img",
            Self::LinuxEnrolled => "linux-enrolled.img",
            Self::LinuxEnrolled16K => "linux-enrolled-16k.img",
            Self::LinuxEnrolled64K => "linux-enrolled-64k.img",
            Self::UBoot => "u-boot.bin",
            Self::Edk2 => "edk2.fd",
            Self::Edk2Unstable => "edk2-unstable.fd",
            Self::TfARpi4 => "tf-a-rpi4.bin",
        })
    }

    /// Its file, if it was made.
    ///
    /// # Errors
    ///
    /// It was not.
    pub fn existing(self) -> Result<PathBuf> {
        let file = self.file();
        if file.is_file() {
            Ok(file)
        } else {
            let name = self.name();
            Err(anyhow!("{} is missing: run ./scripts/guests {name}", file.display()))
        }
    }

    /// The Debian packages it was made from, if it was.
    #[must_use]
    pub fn origin(self) -> Option<String> {
        let text = fs::read_to_string(self.stamp()).ok()?;
        text.lines().next().map(str::to_owned)
    }

    /// What it was made from: the package in the first line, then the project's own files as they were.
    fn stamp(self) -> PathBuf {
        folder().join(format!("{}.from", self.name()))
    }

    /// Which kernel it is, if it is one that is built here.
    const fn kernel(self) -> Option<kernel::Kernel> {
        match self {
            Self::LinuxGuarded => Some(kernel::GUARDED),
            Self::LinuxEnrolled => Some(kernel::ENROLLED),
            Self::LinuxEnrolled16K => Some(kernel::ENROLLED_16K),
            Self::LinuxEnrolled64K => Some(kernel::ENROLLED_64K),
            Self::Linux
            | Self::Linux612
            | Self::DeviceModule
            | Self::DeviceModule612
            | Self::GuestModules
            | Self::GuestModules612
            | Self::Initramfs
            | Self::DeviceRoot
            | Self::ClientRoot
            | Self::DeviceServer
            | Self::DeviceWindow
            | Self::DeviceStream
            | Self::VsockDaemon
            | Self::DirectoryDaemon
            | Self::UBoot
            | Self::Edk2
            | Self::Edk2Unstable
            | Self::TfARpi4 => None,
        }
    }

    /// The kernel that it is loaded into, if it is a module.
    const fn module_of(self) -> Option<Self> {
        match self {
            Self::DeviceModule | Self::GuestModules => Some(Self::Linux),
            Self::DeviceModule612 | Self::GuestModules612 => Some(Self::Linux612),
            _ => None,
        }
    }

    /// Debian's name for the newest of its kernels.
    const fn metapackage(self) -> Option<&'static str> {
        match self {
            Self::Linux => Some("linux-image-cloud-arm64"),
            Self::Linux612 => Some("linux-image-6.12-cloud-arm64"),
            _ => None,
        }
    }

    /// Its bytes, and the package they come from. Kernels share `tree`.
    fn produce(self, apt: &Apt, tree: &mut Option<Tree>) -> Result<(Vec<u8>, String)> {
        let (package, bytes) = match self {
            Self::Linux | Self::Linux612 => {
                let name = self.metapackage().context("it has no package")?;
                let name = apt.stands_for(name, "linux-image-")?;
                let package = apt.package(&name)?;
                let bytes = package.read("./boot/vmlinuz-*")?;
                (package, bytes)
            }
            Self::DeviceModule | Self::DeviceModule612 => {
                let name = self.module_of().and_then(Self::metapackage);
                let name = name.context("it is for no kernel")?;
                let built = module::DEVICE.build(apt, name, &folder().join("module"))?;
                (built.headers, built.modules.concat())
            }
            Self::GuestModules | Self::GuestModules612 => {
                let name = self.module_of().and_then(Self::metapackage);
                let name = name.context("it is for no kernel")?;
                let built = module::GUEST.build(apt, name, &folder().join("module"))?;
                let (_, busybox) = busybox(apt)?;
                let root = guest_root::archive(&busybox, &built.modules, &built.image)?;
                (built.headers, gzip(&root)?)
            }
            Self::UBoot => {
                let package = apt.package("u-boot-qemu")?;
                let bytes = package.read("./usr/lib/u-boot/qemu_arm64/u-boot.bin")?;
                (package, bytes)
            }
            Self::Edk2 | Self::Edk2Unstable => {
                let unstable = (self == Self::Edk2Unstable)
                    .then(|| Apt::unstable(&folder().join("unstable")))
                    .transpose()?;
                let package = unstable.as_ref().unwrap_or(apt).package("qemu-efi-aarch64")?;
                let bytes = package.read("./usr/share/qemu-efi-aarch64/QEMU_EFI.fd")?;
                (package, bytes)
            }
            Self::TfARpi4 => {
                let package = apt.package("arm-trusted-firmware")?;
                let bytes = package.read("./usr/lib/arm-trusted-firmware/rpi4/bl31.bin")?;
                (package, bytes)
            }
            Self::Initramfs => {
                let (package, busybox) = busybox(apt)?;
                (package, gzip(&initramfs::archive(&busybox)?)?)
            }
            Self::ClientRoot => {
                let (package, busybox) = busybox(apt)?;
                let stream = build::device_program("portcullis-stream", false)?;
                let stream = fs::read(&stream).with_context(|| stream.display().to_string())?;
                (package, client_root::image(&busybox, &stream)?)
            }
            Self::VsockDaemon => return daemons::vsock(&folder()),
            Self::DirectoryDaemon => return daemons::directory(apt),
            Self::DeviceServer | Self::DeviceWindow | Self::DeviceStream => {
                let program = self.file();
                let program = program.file_name().unwrap_or_default().to_string_lossy();
                let file = build::device_program(&program, false)?;
                let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
                return Ok((bytes, format!("{} of this repository", build::DEVICE_SERVER)));
            }
            Self::DeviceRoot => {
                let origin = Self::Linux.origin().context("make the guest linux first")?;
                let name = origin.split(' ').next().unwrap_or_default();
                let (_, busybox) = busybox(apt)?;
                let package = apt.package(name)?;
                if package.version() != origin {
                    bail!("linux.img is of {origin}: run ./scripts/guests --update linux");
                }
                let checker = apt.package("e2fsck-static")?.read("./sbin/e2fsck.static")?;
                (package.clone(), gzip(&device_root::archive(&busybox, &checker, &package)?)?)
            }
            Self::LinuxGuarded
            | Self::LinuxEnrolled
            | Self::LinuxEnrolled16K
            | Self::LinuxEnrolled64K => {
                let package = apt.package(SOURCE)?;
                let kernel = self.kernel().context("it is no kernel")?;
                let tree = match tree {
                    Some(tree) => tree,
                    None => tree.insert(Tree::unpack(&package, SOURCE, &folder().join("kernels"))?),
                };
                (package, tree.build(&kernel)?)
            }
        };
        let arm64 = bytes.get(56..60) == Some(b"ARM\x64");
        if !arm64 && (self.metapackage().is_some() || self.kernel().is_some()) {
            bail!("{}: it holds no arm64 Image", package.file.display());
        }
        Ok((bytes, package.version()))
    }

    fn make(self, apt: &Apt, tree: &mut Option<Tree>) -> Result<()> {
        if self.fresh()? {
            return Ok(());
        }
        let text = self.source_text()?;
        let (bytes, version) = self.produce(apt, tree)?;
        let file = self.file();
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        replace(&file, &bytes)?;
        replace(&self.stamp(), format!("{version}\n{text}").as_bytes())?;
        eprintln!("guests: {} from {version}", file.display());
        Ok(())
    }
}

/// Makes what is missing of `wanted`; with `update`, all of it, from the newest packages.
///
/// # Errors
///
/// The first that cannot be made, and why; the others are made all the same.
pub fn make(wanted: &[Guest], update: bool) -> Result<()> {
    let folder = folder();
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let _one_at_a_time = lock(&folder.join("lock"))?;
    let apt = Apt::new(&folder);
    if update {
        apt.forget()?;
        let _ = fs::remove_dir_all(folder.join("packages"));
        let _ = fs::remove_dir_all(folder.join("machine"));
        for guest in wanted {
            let _ = fs::remove_file(guest.stamp());
        }
    }
    let mut tree = None;
    let mut result = Ok(());
    for guest in Guest::ALL.into_iter().filter(|guest| wanted.contains(guest)) {
        result = result.and(guest.make(&apt, &mut tree).with_context(|| guest.name().to_owned()));
    }
    match tree {
        Some(tree) if result.is_ok() => tree.remove(),
        _ => result,
    }
}

/// The stock kernel as its package has it now: name and version of the package, and the Image.
///
/// # Errors
///
/// It was not fetched, or the package is damaged.
pub fn stock_kernel() -> Result<(String, Vec<u8>)> {
    let origin = Guest::Linux.origin().context("the guest linux was not fetched")?;
    let name = origin.split(' ').next().unwrap_or_default();
    let package = Apt::new(&folder()).cached(name);
    let package = package.with_context(|| format!("the package {name} is not there any more"))?;
    Ok((package.version(), package.read("./boot/vmlinuz-*")?))
}

/// The daemon of a shared directory as its package has it now: name and version of the package, and the program.
///
/// # Errors
///
/// It was not fetched, or the package is damaged.
pub fn directory_daemon() -> Result<(String, Vec<u8>)> {
    daemons::directory_program(&folder())
}

/// Installs the Debian packages that making `wanted` needs, where this user may. Elsewhere making them says which.
///
/// # Errors
///
/// apt-get cannot install them.
pub fn install_tools(wanted: &[Guest]) -> Result<()> {
    let old = wanted.iter().filter(|guest| !guest.fresh().unwrap_or(false));
    let mut missing: Vec<&str> = Vec::new();
    for guest in old {
        if guest.kernel().is_some() {
            missing.extend(kernel::missing_tools(&kernel::TOOLS));
        }
        if guest.module_of().is_some() {
            missing.extend(kernel::missing_tools(&module::TOOLS));
        }
        if *guest == Guest::ClientRoot {
            missing.extend(client_root::missing_tools());
        }
    }
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() || !apt::may_install() {
        return Ok(());
    }
    let names = missing.join(" ");
    apt::install(&missing, &format!("installing {names}"))
        .with_context(|| format!("making the guests needs {names}"))
}

/// For people: each guest with its file and where it comes from.
#[must_use]
pub fn table() -> String {
    let line = |guest: Guest| {
        let state = match (guest.file().is_file(), guest.origin()) {
            (true, Some(origin)) => format!("{} from {origin}", guest.file().display()),
            _ => format!("not made: ./scripts/guests {}", guest.name()),
        };
        format!("{:<18} {state}\n", guest.name())
    };
    Guest::ALL.into_iter().map(line).collect()
}

/// Debian's busybox, and its package.
fn busybox(apt: &Apt) -> Result<(apt::Package, Vec<u8>)> {
    let package = apt.package("busybox-static")?;
    // It moved when Debian merged /bin into /usr/bin.
    let bytes = package.read("./bin/busybox").or_else(|_| package.read("./usr/bin/busybox"))?;
    Ok((package, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for guest in Guest::ALL {
            assert_eq!(Guest::called(guest.name()), Some(guest));
        }
        assert_eq!(Guest::called("windows"), None);
    }

    #[test]
    fn a_kernel_is_made_again_when_something_that_goes_into_it_changes() {
        let files = |guest: Guest| -> Vec<String> {
            let name = |file: &PathBuf| file.file_name().unwrap().to_string_lossy().into_owned();
            guest.own_files().unwrap().iter().map(name).collect()
        };
        assert_eq!(files(Guest::LinuxGuarded), ["linux-guarded.config", "device-client.config"]);
        let enrolled = files(Guest::LinuxEnrolled);
        for file in ["linux-guarded.config", "linux-enrolled.config", "apply", "mmio_guard.c"] {
            assert!(enrolled.iter().any(|name| name == file), "{file}");
        }
        assert!(enrolled.iter().any(|name| name.ends_with(".patch")));
        assert!(files(Guest::Linux).is_empty());
        let larger = files(Guest::LinuxEnrolled64K);
        assert!(enrolled.iter().all(|name| larger.contains(name)));
        assert!(larger.iter().any(|name| name == "linux-enrolled-64k.config"));
    }

    #[test]
    fn kernels_with_different_pages_do_not_share_object_files() {
        let output = |guest: Guest| guest.kernel().unwrap().output;
        assert_eq!(output(Guest::LinuxGuarded), output(Guest::LinuxEnrolled));
        for guest in [Guest::LinuxEnrolled16K, Guest::LinuxEnrolled64K] {
            assert!(guest.on_request());
            let same = Guest::ALL.into_iter().filter_map(Guest::kernel);
            assert_eq!(same.filter(|other| other.output == output(guest)).count(), 1);
        }
    }

    #[test]
    fn a_guest_that_was_not_made_says_how() {
        // Independent of what this machine has made: the message alone.
        let error = match Guest::Edk2.existing() {
            Err(error) => error.to_string(),
            Ok(_) => return,
        };
        assert!(error.contains("./scripts/guests edk2"), "{error}");
    }
}
