// SPDX-License-Identifier: MIT OR Apache-2.0
//! Boards that QEMU models. QEMU starts the image there as it starts Linux: at EL2, with the vendor's own tree, in which
//! it fills in the RAM. Guests are added to the tree's /chosen, as a boot loader would.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::{installed, paths};
use anyhow::{Context, Result, anyhow, bail};
use duct::cmd;

/// A board.
#[derive(Debug, PartialEq, Eq)]
pub struct Board {
    /// QEMU's name of the machine, with properties if any.
    pub machine: &'static str,
    /// Its tree, below [`super::trees`].
    pub tree: &'static str,
    /// What stdout-path becomes, where it is not to be the tree's own.
    pub stdout: Option<&'static str>,
    /// How many UARTs QEMU counts before the console.
    pub serial: usize,
    /// Where modules begin.
    pub modules: u64,
    /// Whether it takes a QEMU that Debian 12 has in its backports only.
    pub newer: bool,
    /// Whether QEMU's model passes virtual interrupts to its CPUs: without, a guest gets none.
    pub virtual_interrupts: bool,
    /// Whether it has no firmware that turns it off: then it parks, and says so.
    pub parks: bool,
}

/// Raspberry Pi 4 Model B: Cortex-A72, GIC-400, BCM mini UART, spin-table, no PSCI.
pub static RASPI4B: Board = Board {
    machine: "raspi4b",
    tree: "broadcom/bcm2711-rpi-4-b.dtb",
    stdout: None,
    serial: 1,
    modules: 0x1000_0000,
    newer: true,
    virtual_interrupts: true,
    parks: true,
};
/// The same with the PL011 as its console.
pub static RASPI4B_PL011: Board = Board { stdout: Some("serial0:115200n8"), serial: 0, ..RASPI4B };
/// NXP i.MX 8M Plus EVK: Cortex-A53, GICv3, i.MX UART, PSCI.
pub static IMX8MP_EVK: Board = Board {
    machine: "imx8mp-evk",
    tree: "freescale/imx8mp-evk.dtb",
    stdout: None,
    serial: 1,
    modules: 0x6000_0000,
    newer: true,
    // QEMU 10 connects its GIC's IRQ and FIQ outputs only (hw/arm/fsl-imx8mp.c).
    virtual_interrupts: false,
    parks: false,
};
/// AMD (Xilinx) ZCU102: Cortex-A53, GIC-400 whose pages are repeated through 64 KiB, Cadence UART, PSCI.
pub static ZCU102: Board = Board {
    machine: "xlnx-zcu102,virtualization=on",
    tree: "xilinx/zynqmp-zcu102-rev1.0.dtb",
    stdout: None,
    serial: 0,
    modules: 0x1000_0000,
    newer: false,
    virtual_interrupts: true,
    parks: false,
};

/// A file in memory for /chosen.
#[derive(Debug, Clone, Hash)]
pub struct Loaded {
    /// Physical address.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// A kernel's arguments; `None` for a ramdisk.
    pub bootargs: Option<String>,
}

impl Board {
    /// What must be fetched before it can be booted, if anything.
    ///
    /// # Errors
    ///
    /// What is missing, and how to get it.
    pub fn available(&self) -> Result<()> {
        if !self.source().is_file() {
            bail!("{} is missing: run ./scripts/boards trees", self.source().display());
        }
        if self.newer && newer().is_none() && !installed_knows_all() {
            bail!("no QEMU here has a {}: run ./scripts/boards qemu", self.machine);
        }
        Ok(())
    }

    fn source(&self) -> PathBuf {
        super::place::trees().join(self.tree)
    }

    /// The QEMU that models it, if not the usual one.
    #[must_use]
    pub fn program(&self) -> Option<PathBuf> {
        newer().filter(|_| self.newer)
    }

    /// A file with its tree, and these in /chosen. `ram`: bytes of RAM from 0 on, where nothing else fills them in.
    ///
    /// # Errors
    ///
    /// The tree is missing or damaged, or the file cannot be written.
    pub fn tree_with(&self, modules: &[Loaded], ram: Option<u32>) -> Result<PathBuf> {
        let blob = fs::read(self.source()).with_context(|| self.source().display().to_string())?;
        let mut hasher = DefaultHasher::new();
        (&blob, self.stdout, modules, ram).hash(&mut hasher);
        let folder = paths::target().join("boards").join("with-modules");
        let file = folder.join(format!("{:016x}.dtb", hasher.finish()));
        if !file.is_file() {
            let tree = with_modules(&blob, self.stdout, modules, ram)?;
            fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            // Boots run side by side: each writes its own and moves it there.
            let new =
                folder.join(format!("{:016x}.{:?}", hasher.finish(), std::thread::current().id()));
            fs::write(&new, tree).with_context(|| new.display().to_string())?;
            fs::rename(&new, &file).with_context(|| file.display().to_string())?;
        }
        Ok(file)
    }
}

/// The tree in `blob` with modules in /chosen, as a boot loader leaves it.
fn with_modules(
    blob: &[u8],
    stdout: Option<&str>,
    modules: &[Loaded],
    ram: Option<u32>,
) -> Result<Vec<u8>> {
    let mut source = String::from_utf8(dtc(["dtb", "dts"], blob)?)
        .map_err(|error| anyhow!("dtc's source of the board's tree: {error}"))?;
    // dtc merges what follows the tree into it.
    if let Some(ram) = ram {
        let _ = writeln!(source, "/ {{ memory@0 {{ reg = <0 0 {ram:#x}>; }}; }};");
    }
    source += "/ { chosen { #address-cells = <2>; #size-cells = <2>;\n";
    if let Some(stdout) = stdout {
        let _ = writeln!(source, "stdout-path = \"{stdout}\";");
    }
    // Made of nothing secret: the tests must be the same each time.
    source += "rng-seed = <1 2 3 4 5 6 7 8>; kaslr-seed = <9 10>;\n";
    for Loaded { address, size, bootargs } in modules {
        let (kind, words) = match bootargs {
            Some(bootargs) => ("kernel", format!("bootargs = \"{bootargs}\";")),
            None => ("ramdisk", String::new()),
        };
        let _ = writeln!(
            source,
            "module@{address:x} {{ compatible = \"multiboot,module\", \"multiboot,{kind}\";\n\
             reg = /bits/ 64 <{address:#x} {size:#x}>; {words} }};"
        );
    }
    source += "}; };\n";
    dtc(["dts", "dtb"], source.as_bytes())
}

/// What dtc makes of `input`, from one format to the other.
fn dtc([from, to]: [&str; 2], input: &[u8]) -> Result<Vec<u8>> {
    let dtc = cmd!("dtc", "-q", "-I", from, "-O", to, "-").stdin_bytes(input).unchecked();
    let output = dtc
        .stdout_capture()
        .stderr_capture()
        .run()
        .context("cannot run dtc (Debian's device-tree-compiler; ./scripts/setup --lints)")?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("dtc refuses the board's tree: {}", why.trim());
    }
    Ok(output.stdout)
}

/// The QEMU that `scripts/boards` unpacked.
#[must_use]
pub fn newer() -> Option<PathBuf> {
    Some(super::place::qemu().join("bin/qemu-system-aarch64")).filter(|file| file.is_file())
}

/// Where that QEMU, if `program` is it, finds its data and its modules.
#[must_use]
pub fn surroundings(program: &Path) -> Option<(PathBuf, PathBuf)> {
    if newer()? != program {
        return None;
    }
    let libraries = fs::read_dir(super::place::qemu().join("lib")).ok()?;
    let modules = libraries.flatten().map(|entry| entry.path().join("qemu"));
    Some((
        super::place::qemu().join("share/qemu"),
        modules.into_iter().find(|folder| folder.is_dir())?,
    ))
}

/// Whether the installed QEMU models all the boards.
#[must_use]
pub fn installed_knows_all() -> bool {
    static KNOWS: OnceLock<bool> = OnceLock::new();
    *KNOWS.get_or_init(|| {
        let Ok(program) = installed::qemu() else { return false };
        let help = Command::new(program).args(["-machine", "help"]).stdin(Stdio::null()).output();
        let help =
            help.map(|it| String::from_utf8_lossy(&it.stdout).into_owned()).unwrap_or_default();
        [&RASPI4B, &IMX8MP_EVK].into_iter().all(|board| {
            help.lines().any(|line| line.split_whitespace().next() == Some(board.machine))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_put_into_a_tree_as_a_boot_loader_does() {
        let blob = include_bytes!("../../../crates/platform/tests/fixtures/virt-g2.dtb");
        let modules = [
            Loaded { address: 0x4000_1000, size: 0x123, bootargs: Some("run=a vm.mem=16M".into()) },
            Loaded { address: 0x4020_0000, size: 5, bootargs: None },
        ];
        let tree = with_modules(blob, Some("/pl031@9010000"), &modules, None).unwrap();
        let board = platform::Board::from_tree(&tree).unwrap();
        let found: Vec<_> = board
            .modules
            .iter()
            .map(|it| (it.range.start().raw(), it.range.size(), it.bootargs.as_str()))
            .collect();
        for (address, size, bootargs) in
            [(0x4000_1000, 0x123, "run=a vm.mem=16M"), (0x4020_0000, 5, "")]
        {
            assert!(found.contains(&(address, size, bootargs)), "{found:?}");
        }
        assert!(!board.seeds.is_empty());
        assert_eq!(board.uart.unwrap().path, "/pl031@9010000");
    }
}
