// SPDX-License-Identifier: MIT OR Apache-2.0
//! What to boot, and the command line that says so.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::boards::model::{Board, Loaded, newer, surroundings};
use crate::installed;
use anyhow::{Context, Result};

/// Where QEMU's loader and the tests put the image.
pub const LOADED: u64 = 0x4020_0000;

/// Where the first guest module lies, if RAM reaches beyond it.
pub const MODULES: u64 = 0x5000_0000;

/// The same on a machine with less RAM than that: above the tree, which QEMU puts at 0x4800_0000.
const MODULES_SMALL: u64 = 0x4a00_0000;

/// RAM of QEMU's virt machine.
const RAM_BASE: u64 = 0x4000_0000;

/// Version of the interrupt controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gic {
    /// GICv2: memory-mapped CPU interface, at most 8 CPUs.
    V2,
    /// GICv3: redistributors and system registers.
    V3,
}

/// Exception levels that the machine has, and so where a `-kernel` image starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Neither EL2 nor EL3: at EL1, firmware reached by HVC.
    El1,
    /// EL2 but no EL3: at EL2, firmware (QEMU itself) reached by SMC.
    El2,
    /// EL2 and EL3 (`secure=on`): a kernel starts at EL2, a loader blob at EL3.
    El2Secure,
    /// EL3 but no EL2: a kernel starts at EL1, a loader blob at EL3.
    El3,
}

/// A guest: one `guest-loader` device, and a second one for its ramdisk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Module {
    /// Its image.
    pub kernel: PathBuf,
    /// Its boot arguments.
    pub bootargs: String,
    /// The ramdisk that lies next above it.
    pub ramdisk: Option<PathBuf>,
    /// Where it lies, if not in the next free 2 MiB above [`MODULES`].
    pub address: Option<u64>,
}

/// A file put into memory as it is, by `-device loader`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Bytes to load.
    pub file: PathBuf,
    /// Physical address.
    pub address: u64,
    /// CPU 0 starts here, at the highest exception level.
    pub start: bool,
}

/// A machine to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// A board of its own kind, instead of the virt machine with what the fields below say of it.
    pub board: Option<&'static Board>,
    /// Interrupt controller.
    pub gic: Gic,
    /// QEMU's name of the CPU model, with properties if any.
    pub cpu: String,
    /// Number of CPUs.
    pub cpus: u32,
    /// RAM in MiB.
    pub memory_mib: u64,
    /// Exception levels.
    pub start: Start,
    /// The image started as Linux would be, with the tree's address in x0.
    pub kernel: Option<PathBuf>,
    /// Its initial ramdisk: a bundle.
    pub initrd: Option<PathBuf>,
    /// That image's own boot arguments.
    pub append: Option<String>,
    /// Device tree instead of QEMU's own.
    pub dtb: Option<PathBuf>,
    /// Guests.
    pub modules: Vec<Module>,
    /// Other things in memory.
    pub blobs: Vec<Blob>,
    /// Further QEMU arguments.
    pub extra: Vec<String>,
    /// Boot with the QEMU of `scripts/boards qemu` where it has been fetched.
    pub newer: bool,
    /// Somebody sits at the console: Ctrl-C goes to the guest, Ctrl-A x ends QEMU.
    pub attended: bool,
}

impl Default for Machine {
    /// Two Cortex-A57, GICv3, 1 GiB, EL2, nothing to run.
    fn default() -> Self {
        Self {
            board: None,
            gic: Gic::V3,
            cpu: "cortex-a57".into(),
            cpus: 2,
            memory_mib: 1024,
            start: Start::El2,
            kernel: None,
            initrd: None,
            append: None,
            dtb: None,
            modules: Vec::new(),
            blobs: Vec::new(),
            extra: Vec::new(),
            newer: false,
            attended: false,
        }
    }
}

impl Machine {
    /// QEMU's arguments for this machine, console on its standard output.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn arguments(&self) -> Result<Vec<OsString>> {
        let mut all: Vec<OsString> = Vec::new();
        let surroundings = self.program().ok().and_then(|program| surroundings(&program));
        if let Some((data, _)) = surroundings {
            all.extend(["-L".into(), data.into()]);
        }
        // No defaults, no network: the option ROMs of its default card are not installed. A reset of the
        // machine ends QEMU, which a reset of a VM must not do.
        for word in ["-nodefaults", "-no-user-config", "-nic", "none", "-no-reboot"] {
            all.push(word.into());
        }
        let serial = if self.attended { "mon:stdio" } else { "stdio" };
        for _ in 0..self.board.map_or(0, |board| board.serial) {
            all.extend(["-serial".into(), "null".into()]);
        }
        for word in ["-display", "none", "-serial", serial, "-machine"] {
            all.push(word.into());
        }
        match self.board {
            Some(board) => all.push(board.machine.into()),
            None => {
                all.push(self.virt().into());
                all.extend(["-cpu".into(), self.cpu.clone().into()]);
            }
        }
        for (option, value) in
            [("-smp", self.cpus.to_string()), ("-m", format!("{}M", self.memory_mib))]
        {
            all.push(option.into());
            all.push(value.into());
        }
        for (option, file) in
            [("-kernel", &self.kernel), ("-initrd", &self.initrd), ("-dtb", &self.dtb)]
        {
            if let Some(file) = file {
                all.push(option.into());
                all.push(file.into());
            }
        }
        if let Some(append) = &self.append {
            all.push("-append".into());
            all.push(append.into());
        }
        let placed = self.placed()?;
        if let Some(board) = self.board {
            // guest-loader knows the virt machine's tree alone.
            let mut loaded = Vec::new();
            let mut load = |address, file: &Path, bootargs| -> Result<()> {
                let size = fs::metadata(file).with_context(|| file.display().to_string())?.len();
                loaded.push(Loaded { address, size, bootargs });
                all.push("-device".into());
                let device = format!("loader,addr={address:#x},force-raw=on,file=");
                all.push(option(&device, file, ""));
                Ok(())
            };
            for (address, module) in &placed {
                load(*address, &module.kernel, Some(module.bootargs.clone()))?;
                if let Some(ramdisk) = &module.ramdisk {
                    load(next_free(*address, &module.kernel)?, ramdisk, None)?;
                }
            }
            // QEMU takes a tree for a kernel only; firmware finds its own in memory.
            if self.kernel.is_some() {
                all.extend(["-dtb".into(), board.tree_with(&loaded, None)?.into()]);
            }
        }
        for (address, module) in placed.into_iter().filter(|_| self.board.is_none()) {
            all.push("-device".into());
            all.push(module.device(address));
            if let Some(ramdisk) = &module.ramdisk {
                let above = next_free(address, &module.kernel)?;
                all.push("-device".into());
                all.push(option(&format!("guest-loader,addr={above:#x},initrd="), ramdisk, ""));
            }
        }
        for blob in &self.blobs {
            all.push("-device".into());
            let address = format!("loader,addr={:#x},force-raw=on,file=", blob.address);
            all.push(option(&address, &blob.file, ""));
            if blob.start {
                all.push("-device".into());
                all.push(format!("loader,addr={:#x},cpu-num=0", blob.address).into());
            }
        }
        all.extend(self.extra.iter().map(OsString::from));
        Ok(all)
    }

    /// The virt machine, with its interrupt controller and exception levels.
    fn virt(&self) -> String {
        let gic = match self.gic {
            Gic::V2 => "2",
            Gic::V3 => "3",
        };
        let levels = match self.start {
            Start::El1 => "",
            Start::El2 => ",virtualization=on",
            Start::El2Secure => ",secure=on,virtualization=on",
            Start::El3 => ",secure=on",
        };
        format!("virt,gic-version={gic}{levels}")
    }

    /// The QEMU that models this machine.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn program(&self) -> Result<PathBuf> {
        let newer = || newer().filter(|_| self.newer);
        self.board.and_then(Board::program).or_else(newer).map_or_else(installed::qemu, Ok)
    }

    /// The device tree that QEMU makes for this machine, with its modules in /chosen. `file` is where QEMU
    /// puts it.
    ///
    /// # Errors
    ///
    /// QEMU is missing or makes none.
    pub fn tree(&self, file: &Path) -> Result<Vec<u8>> {
        let mut extra = vec!["-machine".into(), format!("dumpdtb={}", file.display())];
        extra.extend(self.extra.iter().cloned());
        let machine = Self { extra, ..self.clone() };
        let output = Command::new(machine.program()?)
            .args(machine.arguments()?)
            .stdin(Stdio::null())
            .output()
            .context("cannot start QEMU")?;
        fs::read(file).with_context(|| {
            let why = String::from_utf8_lossy(&output.stderr);
            format!("QEMU made no tree ({}): {}", why.trim(), file.display())
        })
    }

    /// Each module with its address.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn placed(&self) -> Result<Vec<(u64, &Module)>> {
        let top = RAM_BASE + (self.memory_mib << 20);
        let mut free = match self.board {
            Some(board) => board.modules,
            None if top > MODULES => MODULES,
            None => MODULES_SMALL,
        };
        let mut placed = Vec::new();
        for module in &self.modules {
            let address = module.address.unwrap_or(free);
            free = next_free(address, &module.kernel)?;
            if let Some(ramdisk) = &module.ramdisk {
                free = next_free(free, ramdisk)?;
            }
            placed.push((address, module));
        }
        Ok(placed)
    }
}

impl Module {
    fn device(&self, address: u64) -> OsString {
        let bootargs = if self.bootargs.is_empty() {
            String::new()
        } else {
            format!(",bootargs={}", self.bootargs.replace(',', ",,"))
        };
        option(&format!("guest-loader,addr={address:#x},kernel="), &self.kernel, &bootargs)
    }
}

/// `before FILE after` as one argument; QEMU reads a doubled comma as one.
fn option(before: &str, file: &Path, after: &str) -> OsString {
    let mut whole = OsString::from(before);
    whole.push(file.to_string_lossy().replace(',', ",,"));
    whole.push(after);
    whole
}

/// The 2 MiB boundary at or above the end of `file` if it lies at `address`.
fn next_free(address: u64, file: &Path) -> Result<u64> {
    let bytes = fs::metadata(file).with_context(|| file.display().to_string())?.len();
    Ok((address + bytes.max(1)).next_multiple_of(2 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::NamedTempFile;

    fn words(machine: &Machine) -> String {
        let all = machine.arguments().unwrap();
        all.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    fn file(suffix: &str, bytes: u64) -> NamedTempFile {
        let file = tempfile::Builder::new().suffix(suffix).tempfile().unwrap();
        file.as_file().set_len(bytes).unwrap();
        file
    }

    #[test]
    fn levels_and_gic_are_machine_properties() {
        let line = words(&Machine::default());
        assert!(
            line.contains("-machine virt,gic-version=3,virtualization=on -cpu cortex-a57 -smp 2")
        );
        let plain = Machine { start: Start::El1, gic: Gic::V2, ..Machine::default() };
        assert!(words(&plain).contains("-machine virt,gic-version=2 "));
        let secure = Machine { start: Start::El3, ..Machine::default() };
        assert!(words(&secure).contains("virt,gic-version=3,secure=on -cpu"));
    }

    #[test]
    fn modules_follow_one_another_at_2_mib() {
        let kernel = file("kernel", (2 << 20) + 1);
        let path = kernel.path().to_owned();
        let guest = Module { kernel: path.clone(), ..Module::default() };
        let with_disk = Module { ramdisk: Some(path), bootargs: "run=a b".into(), ..guest.clone() };
        let machine = Machine { modules: vec![with_disk, guest], ..Machine::default() };
        let line = words(&machine);
        assert!(line.contains("guest-loader,addr=0x50000000,kernel="), "{line}");
        assert!(line.contains(",bootargs=run=a b "), "{line}");
        assert!(line.contains("guest-loader,addr=0x50400000,initrd="), "{line}");
        assert!(line.contains("guest-loader,addr=0x50800000,kernel="), "{line}");
    }

    #[test]
    fn modules_of_a_small_machine_stand_within_its_ram() {
        let kernel = file("small", 1);
        let guest = Module { kernel: kernel.path().into(), ..Module::default() };
        let machine = Machine { memory_mib: 256, modules: vec![guest], ..Machine::default() };
        let address = machine.placed().unwrap()[0].0;
        assert!(address < RAM_BASE + (256 << 20));
    }

    #[test]
    fn a_comma_in_bootargs_or_a_name_is_doubled() {
        let kernel = file("a,b", 1);
        let guest = Module {
            kernel: kernel.path().into(),
            bootargs: "earlycon=pl011,0x9000000".into(),
            ..Module::default()
        };
        let line = words(&Machine { modules: vec![guest], ..Machine::default() });
        assert!(line.contains("a,,b,bootargs=earlycon=pl011,,0x9000000"), "{line}");
    }
}
