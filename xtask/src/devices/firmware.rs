// SPDX-License-Identifier: MIT OR Apache-2.0
//! Firmware that boots Linux from a disk of a device VM: U-Boot and EDK2, side by side, each with its own server.

use anyhow::Result;

use super::boot_disk;
use super::file::read;
use super::setup::{DiskFile, ramdisk};
use crate::build::Artifacts;
use crate::guests::Guest;
use crate::guests::boot::{Boot, machine_mib};
use crate::qemu::{Machine, Module};

/// What has to be fetched or built for it.
pub const FILES: [Guest; 9] = [
    Guest::Linux,
    Guest::LinuxGuarded,
    Guest::Initramfs,
    Guest::DeviceModule,
    Guest::DeviceRoot,
    Guest::DeviceServer,
    Guest::DeviceWindow,
    Guest::UBoot,
    Guest::Edk2,
];

/// Both read the same file.
const DISK: &str = "/disks/boot.img";
const SERVED: [(&str, &str); 2] =
    [("u-boot", "--blk /disks/boot.img:ro"), ("edk2", "--blk /disks/boot.img:ro")];

/// Words of both: firmware shares nothing itself, so that all of its RAM is shared; and its driver declares nothing.
const WORDS: &str = "vm.mem=256M vm.dialect=pkvm vm.share=all vm.devices=store:blk";
/// The page of the first transport.
const TRANSPORT: &str = ":0xa000000+4K";

const STORE: &str = "vm.name=store vm.mem=512M vm.role=device console=ttyAMA0 quiet panic=-1";

/// The machine: `u-boot` and `edk2` under `vm.guard=enforce`, and `store`.
///
/// # Errors
///
/// A file was not made.
pub fn machine(images: &Artifacts) -> Result<Machine> {
    let disk = boot_disk::image(
        &read(Guest::LinuxGuarded.existing()?)?,
        &read(Guest::Linux.existing()?)?,
        &read(Guest::Initramfs.existing()?)?,
    )?;
    let disk = DiskFile { path: DISK.into(), content: disk };
    let store = Module {
        kernel: Guest::Linux.existing()?,
        bootargs: STORE.into(),
        ramdisk: Some(ramdisk("device-vm-firmware", &[disk], &SERVED, &[])?),
        address: None,
    };
    let mut modules = Vec::new();
    for name in ["u-boot", "edk2"] {
        let Some(boot) = Boot::called(name) else { continue };
        let preset = boot.words.split(' ').find(|word| word.starts_with("vm.preset="));
        let preset = format!("{}{TRANSPORT}", preset.unwrap_or("vm.preset="));
        modules.push(boot.module(&format!("{WORDS} {preset}"))?);
    }
    modules.push(store);
    Ok(Machine {
        memory_mib: machine_mib(1024),
        kernel: Some(images.hypervisor.clone()),
        modules,
        ..Machine::default()
    })
}
