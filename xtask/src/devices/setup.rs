// SPDX-License-Identifier: MIT OR Apache-2.0
//! The VMs, and what the device VM finds in its ramdisk.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::build::{self, Artifacts};
use crate::guests::initramfs::Archive;
use crate::guests::{Guest, boot, gzip};
use crate::paths;
use crate::qemu::{Machine, Module};

/// A VM: its place among the modules is its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vm {
    /// Its name.
    pub name: &'static str,
    /// RAM in MiB.
    memory_mib: u64,
    /// Its kernel.
    kernel: Guest,
    /// Boot arguments beyond name and memory.
    words: &'static str,
}

/// The protected Linux. New pages are zero (`init_on_alloc`): its kernel copies the old contents of a buffer that a device
/// fills into the pool, where the device VM sees them (docs/devices.md).
pub const WEB: Vm = Vm {
    name: "web",
    memory_mib: 256,
    kernel: Guest::LinuxGuarded,
    words: "vm.cpus=2 vm.guard=enforce vm.dialect=pkvm vm.share=pool:8M vm.devices=store:blk \
            console=ttyAMA0 quiet panic=-1 hostname=web init_on_alloc=1 root=/dev/vda rw rootwait",
};

/// The device VM.
pub const STORE: Vm = Vm {
    name: "store",
    memory_mib: 512,
    kernel: Guest::Linux,
    words: "vm.cpus=2 vm.role=device console=ttyAMA0 quiet panic=-1 hostname=store",
};

/// All VMs. The first has the keyboard.
pub const VMS: [Vm; 2] = [WEB, STORE];

/// Its disk, in the device VM.
pub const DISK: &str = "/disks/web.img";

/// What is served to whom: the options of `portcullis-devices`.
const SERVED: [(&str, &str); 1] = [("web", "--blk /disks/web.img")];

/// What has to be fetched or built for it.
pub const FILES: [Guest; 5] =
    [Guest::Linux, Guest::LinuxGuarded, Guest::DeviceModule, Guest::DeviceRoot, Guest::ClientRoot];

/// The machine with all VMs.
///
/// # Errors
///
/// A file was not made.
pub fn machine(images: &Artifacts) -> Result<Machine> {
    let module = |vm: &Vm| -> Result<Module> {
        let ramdisk = (vm.name == STORE.name).then(ramdisk).transpose()?;
        let bootargs = format!("vm.name={} vm.mem={}M {}", vm.name, vm.memory_mib, vm.words);
        Ok(Module { kernel: vm.kernel.existing()?, bootargs, ramdisk, address: None })
    };
    Ok(Machine {
        memory_mib: boot::machine_mib(VMS.iter().map(|vm| vm.memory_mib).sum()),
        kernel: Some(images.hypervisor.clone()),
        modules: VMS.iter().map(module).collect::<Result<_>>()?,
        ..Machine::default()
    })
}

/// The device VM's ramdisk: its root, and behind it an archive with what is built here. Linux unpacks one after the other
/// (Documentation/driver-api/early-userspace/buffer-format.rst).
fn ramdisk() -> Result<PathBuf> {
    let read = |file: PathBuf| fs::read(&file).with_context(|| file.display().to_string());
    let mut archive = Archive::default();
    archive.file(
        "lib/modules/portcullis-device.ko",
        0o644,
        &read(Guest::DeviceModule.existing()?)?,
    )?;
    for program in [Guest::DeviceServer, Guest::DeviceWindow] {
        let file = program.existing()?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        archive.file(&format!("bin/{name}"), 0o755, &read(file)?)?;
    }
    archive.folder("disks")?;
    archive.file(DISK.trim_start_matches('/'), 0o600, &read(Guest::ClientRoot.existing()?)?)?;
    archive.folder("etc/devices")?;
    for (name, options) in SERVED {
        archive.file(&format!("etc/devices/{name}"), 0o644, options.as_bytes())?;
    }
    let mut bytes = read(Guest::DeviceRoot.existing()?)?;
    bytes.extend(gzip(&archive.finish()?)?);
    let file = paths::target().join("guests/device-vm.cpio.gz");
    build::replace(&file, &bytes)?;
    Ok(file)
}
