// SPDX-License-Identifier: MIT OR Apache-2.0
//! The VMs, and what the device VM finds in its ramdisk.

use std::path::PathBuf;

use anyhow::Result;

use super::daemons;
use super::file::read;
use crate::build::{self, Artifacts};
use crate::guests::initramfs::Archive;
use crate::guests::{Guest, boot, gzip};
use crate::paths;
use crate::qemu::{Machine, Module};
use crate::show::dialogue::Named;

/// A VM: its place among the modules is its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vm {
    /// Its name.
    pub name: &'static str,
    /// RAM in MiB.
    memory_mib: u64,
    /// Its kernel.
    pub(super) kernel: Guest,
    /// Boot arguments beyond name and memory.
    words: &'static str,
}

impl Named for Vm {
    fn name(&self) -> &'static str {
        self.name
    }
}

/// The protected Linux, but for its devices. New pages are zero (`init_on_alloc`): its kernel copies the old contents of a buffer that a device
/// fills into the pool, where the device VM sees them (docs/devices.md).
pub const WEB: Vm = Vm {
    name: "web",
    memory_mib: 256,
    kernel: Guest::LinuxGuarded,
    words: "vm.cpus=2 vm.guard=enforce vm.dialect=pkvm vm.share=pool:8M \
            console=ttyAMA0 quiet panic=-1 hostname=web address=10.77.0.2/24 init_on_alloc=1 root=/dev/vda rw rootwait",
};

/// Another one: Debian's stock kernel, confined and enrolled by the modules of `linux/guest/`, which its ramdisk loads before
/// any driver. Its disk is read-only, so that it is the same after the device VM has lost all that it had.
pub const MAIL: Vm = Vm {
    name: "mail",
    memory_mib: 192,
    kernel: Guest::Linux,
    words: "vm.cpus=1 vm.guard=enrol vm.dialect=pkvm vm.share=pool:8M vm.devices=store:blk:net \
            vm.preset=0x8000000+64K:0x80a0000+256K:0x9000000+4K \
            console=ttyAMA0 quiet panic=-1 hostname=mail address=10.77.0.3/24 rdinit=/bin/stock-init",
};

/// The device VM.
pub const STORE: Vm = Vm {
    name: "store",
    memory_mib: 512,
    kernel: Guest::Linux,
    words: "vm.cpus=2 vm.role=device console=ttyAMA0 quiet panic=-1 hostname=store",
};

/// All VMs. The first has the keyboard.
pub const VMS: [Vm; 3] = [WEB, STORE, MAIL];

/// Web's disk, in the device VM.
pub const DISK: &str = "/disks/web.img";

/// The socket in the device VM with the counters of web's server.
pub const STATS: &str = "/run/web.stats";

/// What is served to whom: the options of `portcullis-devices`.
const SERVED: [(&str, &str); 2] = [
    ("web", "--blk /disks/web.img --net tap-web --rng --stats /run/web.stats"),
    ("mail", "--blk /disks/mail.img:ro --net tap-mail"),
];

/// What may be missing: then web has no such device.
pub const DAEMONS: [Guest; 2] = [Guest::VsockDaemon, Guest::DirectoryDaemon];

/// All that is fetched or built for it, with [`DAEMONS`].
pub const ALL_FILES: [Guest; 11] = {
    let [a, b, c, d, e, f, g, h, i] = FILES;
    let [j, k] = DAEMONS;
    [a, b, c, d, e, f, g, h, i, j, k]
};

/// What has to be fetched or built for it.
pub const FILES: [Guest; 9] = [
    Guest::Linux,
    Guest::LinuxGuarded,
    Guest::GuestModules,
    Guest::DeviceModule,
    Guest::DeviceServer,
    Guest::DeviceWindow,
    Guest::DeviceStream,
    Guest::DeviceRoot,
    Guest::ClientRoot,
];

/// Kinds of web's devices, in the order of its transports.
#[must_use]
pub fn kinds_of_web() -> Vec<&'static str> {
    let daemons = daemons::present();
    ["blk", "net", "rng"].into_iter().chain(daemons.iter().map(|served| served.kind)).collect()
}

/// The machine with all VMs.
///
/// # Errors
///
/// A file was not made.
pub fn machine(images: &Artifacts) -> Result<Machine> {
    let module = |vm: &Vm| -> Result<Module> {
        let ramdisk = match vm.name {
            name if name == STORE.name => Some(of_store()?),
            name if name == MAIL.name => Some(Guest::GuestModules.existing()?),
            _ => None,
        };
        let mut bootargs = format!("vm.name={} vm.mem={}M {}", vm.name, vm.memory_mib, vm.words);
        if *vm == WEB {
            bootargs += &format!(" vm.devices={}:{}", STORE.name, kinds_of_web().join(":"));
        }
        Ok(Module { kernel: vm.kernel.existing()?, bootargs, ramdisk, address: None })
    };
    Ok(Machine {
        memory_mib: boot::machine_mib(VMS.iter().map(|vm| vm.memory_mib).sum()),
        kernel: Some(images.hypervisor.clone()),
        modules: VMS.iter().map(module).collect::<Result<_>>()?,
        ..Machine::default()
    })
}

/// The ramdisk of the device VM.
fn of_store() -> Result<PathBuf> {
    let content = read(Guest::ClientRoot.existing()?)?;
    let disk = |(name, _): &(&str, _)| DiskFile {
        path: format!("/disks/{name}.img"),
        content: content.clone(),
    };
    let disks: Vec<DiskFile> = SERVED.iter().map(disk).collect();
    let of_daemons = daemons::options();
    let served = SERVED.map(|(name, options)| {
        (name, if name == WEB.name { format!("{options}{of_daemons}") } else { options.to_owned() })
    });
    let served: Vec<_> = served.iter().map(|(name, options)| (*name, options.as_str())).collect();
    ramdisk("device-vm", &disks, &served, &daemons::archive()?)
}

/// A file of the device VM's ramdisk.
#[derive(Debug, Clone)]
pub struct DiskFile {
    /// Where it is: an absolute path, in `/disks`.
    pub path: String,
    /// What it holds.
    pub content: Vec<u8>,
}

/// Writes a device VM's ramdisk to `target/guests/NAME.cpio.gz`: its root, and behind it an archive with what is built here, these
/// `disks`, and for each peer the options of its server; and behind that one `more` archives. Linux unpacks one after the other
/// (Documentation/driver-api/early-userspace/buffer-format.rst).
///
/// # Errors
///
/// A file was not made, or cannot be written.
pub fn ramdisk(
    name: &str,
    disks: &[DiskFile],
    served: &[(&str, &str)],
    more: &[u8],
) -> Result<PathBuf> {
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
    for disk in disks {
        archive.file(disk.path.trim_start_matches('/'), 0o600, &disk.content)?;
    }
    archive.folder("etc/devices")?;
    for (name, options) in served {
        archive.file(&format!("etc/devices/{name}"), 0o644, options.as_bytes())?;
    }
    let mut bytes = read(Guest::DeviceRoot.existing()?)?;
    bytes.extend(gzip(&archive.finish()?)?);
    bytes.extend(more);
    let file = paths::target().join(format!("guests/{name}.cpio.gz"));
    build::replace(&file, &bytes)?;
    Ok(file)
}
