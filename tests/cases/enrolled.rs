// SPDX-License-Identifier: MIT OR Apache-2.0
//! Linux with the series in `linux/`: it enrols, keeps its early console, and gives back what it no longer maps.
//! docs/linux.md says how.

use xtask::guests::Guest;
use xtask::qemu::{Gic, Machine};

use crate::console::Console;
use crate::lab::{Checked, Lab, ensure, one};

const ENROLLED: &[Guest] = &[Guest::LinuxEnrolled, Guest::Initramfs];

cases_with![
    pkvm: ENROLLED, true;
    pkvm_gicv2_4_vcpus: ENROLLED, true;
    series_gicv2: ENROLLED, true;
    series_4_vcpus: ENROLLED, true;
    reboots: ENROLLED, true;
    another_dialect_leaves_it_as_mainline: ENROLLED, true;
    early_console_refused: ENROLLED, true;
];

/// A page with a device that no driver knows, two with nothing, and no more than those to play with.
const PAGES: &str = "vm.testdev=0xa000000 vm.allow=0x8000000+16M:0x9000000+4K:0xa000000+12K";

/// "test" in ASCII: what the device reads.
const ID: &str = "0x74657374";

/// Exit status of a process that died of SIGBUS.
const SIGBUS: u32 = 128 + 7;

impl Console {
    /// The test file does `command`; what it says then.
    fn test(&mut self, command: &str) -> Result<String, String> {
        let line = format!("echo {command} > /debug/mmio_guard/test && cat /debug/mmio_guard/test");
        Ok(self.run(&line, 0)?.unwrap_or_default().trim().to_owned())
    }

    /// As [`Self::test`], and it says `wanted`.
    fn expect(&mut self, command: &str, wanted: &str) -> Checked {
        let said = self.test(command)?;
        if said == wanted {
            Ok(())
        } else {
            Err(format!("`{command}`: `{said}` and not `{wanted}`"))
        }
    }

    /// Undoes the mapping of that number.
    fn unmap(&mut self, number: u32) -> Checked {
        self.run(&format!("echo unmap {number} > /debug/mmio_guard/test"), 0).map(drop)
    }

    /// How many granules EL2 has counted.
    fn declared(&mut self) -> Result<u64, String> {
        let said = self.test("host")?;
        said.parse().map_err(|_| format!("EL2's count is `{said}`"))
    }

    /// To the shell, with the file system that has the test file.
    fn ready(&mut self) -> Result<String, String> {
        let up = self.shell()?;
        self.run("mkdir /debug && mount -t debugfs none /debug", 0)?;
        Ok(up)
    }
}

/// All that the series does, in one boot.
fn enrolled(lab: &Lab, dialect: &str, gic: Gic, cpus: u32) -> Checked {
    let words = format!(
        "{PAGES} vm.dialect={dialect} vm.cpus={cpus} ioremap_guard={dialect} mmio_guard_test=0xa000000 ignore_loglevel"
    );
    let machine = Machine { gic, cpus, ..Machine::default() };
    let mut console = Console::boot(lab, machine, "linux-enrolled", &words)?;
    let up = early_log(&mut console, dialect)?;
    if !up.contains(&format!("{cpus} CPUs (0-{})", cpus - 1)) {
        return Err(format!("not all {cpus} CPUs came up: {up}"));
    }

    // early_ioremap(), while nothing else had the page: before, twice mapped, once, not any more.
    console.expect("early", "0 3 3 0")?;
    console.run("devmem 0xa000000 32", SIGBUS)?;

    let before = console.declared()?;
    twice(&mut console, before)?;
    types(&mut console)?;
    overlapping(&mut console)?;
    refused(&mut console)?;
    let after = console.declared()?;
    if after != before {
        return Err(format!("{before} granules were declared before, {after} afterwards"));
    }

    let run = console.power_off("poweroff\n")?;
    let refusals: Vec<_> = run.with("[hyp] warning: linux-enrolled: vCPU ").collect();
    let all =
        refusals.iter().all(|line| line.contains("refused load of 4 bytes at IPA 0xa000000 "));
    ensure(refusals.len() == 2 && all, "the refusals are not the two strays", &run)?;
    one(&run, ", 2 refused").map(drop)
}

/// The log is whole on the early console, which is declared right behind ENROLL. Returns the line of /init.
fn early_log(console: &mut Console, dialect: &str) -> Result<String, String> {
    console.wait_for("Booting Linux on physical CPU")?;
    console.wait_for("earlycon: pl11 at MMIO 0x0000000009000000")?;
    console.wait_for("smccc: KVM: hypervisor services detected")?;
    let ranges = if dialect == "pkvm" { ", ranges" } else { "" };
    console
        .wait_for(&format!("mmio_guard: enrolled: {dialect}, granules of 4096 bytes{ranges}"))?;
    console.wait_for("printk: legacy console [ttyAMA0] enabled")?;
    let up = console.ready()?;
    let before = console.session.lines().len();
    console.run("dmesg | sed '/console .ttyAMA0. enabled/q'", 0)?;
    let (early, log) = console.session.lines().split_at(before);
    let log: Vec<_> =
        log.iter().filter(|line| line.starts_with('[') && line.contains("] ")).collect();
    if log.len() < 30 {
        return Err(format!("dmesg has {} lines", log.len()));
    }
    match log.iter().find(|line| !early.contains(line)) {
        None => Ok(up),
        Some(line) => Err(format!("`{line}` was not on the early console")),
    }
}

/// Two mappings of a page: it is declared until both have gone.
fn twice(console: &mut Console, before: u64) -> Checked {
    console.expect("map 0xa000000 0x1000 device", "0")?;
    console.expect("map 0xa000008 4 device", "1")?;
    let declared = console.declared()?;
    if declared != before + 1 {
        return Err(format!("{declared} granules are declared, {before} were before"));
    }
    let line = "0x000000000a000000-0x000000000a000fff        1    2 Device-nGnRE";
    console.run(&format!("grep -q '{line}' /debug/mmio_guard/declared"), 0)?;
    console.expect("read 0", ID)?;
    console.unmap(0)?;
    console.test("read 1")?;
    let read = console.run("devmem 0xa000000 32", 0)?.unwrap_or_default();
    if !read.contains(ID) {
        return Err(format!("the page that is still mapped reads `{read}`"));
    }
    console.unmap(1)?;
    console.run("devmem 0xa000000 32", SIGBUS)?;
    console.run("! grep -q '0x000000000a000000' /debug/mmio_guard/declared", 0)?;
    Ok(())
}

/// Each memory type reaches EL2 as the index of its attribute; cacheable memory is not declared; neither is what
/// was mapped without ioremap() forgotten.
fn types(console: &mut Console) -> Checked {
    for (kind, state) in
        [("device", "3 4"), ("np", "3 3"), ("wc", "3 2"), ("io", "3 4"), ("cache", "0 0")]
    {
        console.expect(&format!("map 0xa001000 0x1000 {kind}"), "0")?;
        console.expect("page 0xa001000", state)?;
        console.unmap(0)?;
        console.expect("page 0xa001000", "0 0")?;
    }
    Ok(())
}

/// A range with another one inside it, undone in the order in which it was done.
fn overlapping(console: &mut Console) -> Checked {
    console.expect("map 0xa000000 0x3000 device", "0")?;
    console.expect("map 0xa001000 0x1000 wc", "1")?;
    console.unmap(0)?;
    for (page, state) in [("0xa000000", "0 0"), ("0xa002000", "0 0")] {
        console.expect(&format!("page {page}"), state)?;
    }
    if !console.test("page 0xa001000")?.starts_with('3') {
        return Err("the page in the middle went with the range around it".into());
    }
    console.unmap(1)?;
    console.expect("page 0xa001000", "0 0")
}

/// A range whose last page `vm.allow` does not have: nothing of it is declared, and the kernel says which page it was.
fn refused(console: &mut Console) -> Checked {
    console.run("echo map 0xa000000 0x4000 device > /debug/mmio_guard/test", 1)?;
    console.run("dmesg | grep -q 'mmio_guard: 0xa003000 cannot be declared'", 0)?;
    console.expect("page 0xa000000", "0 0")
}

fn pkvm(lab: &Lab) -> Checked {
    enrolled(lab, "pkvm", Gic::V3, 2)
}

fn pkvm_gicv2_4_vcpus(lab: &Lab) -> Checked {
    enrolled(lab, "pkvm", Gic::V2, 4)
}

fn series_gicv2(lab: &Lab) -> Checked {
    enrolled(lab, "series", Gic::V2, 2)
}

fn series_4_vcpus(lab: &Lab) -> Checked {
    enrolled(lab, "series", Gic::V3, 4)
}

/// After a reset nothing is left of the guard: the early console works before ENROLL once more.
fn reboots(lab: &Lab) -> Checked {
    let mut console = Console::boot(lab, Machine::default(), "linux-enrolled", "")?;
    console.wait_for("mmio_guard: enrolled: pkvm")?;
    console.shell()?;
    console.send("reboot\n")?;
    console.wait_for("linux-enrolled: life 2 begins: 0 declared, not enrolled")?;
    console.wait_for("Booting Linux on physical CPU")?;
    console.wait_for("earlycon: pl11 at MMIO 0x0000000009000000")?;
    console.wait_for("mmio_guard: enrolled: pkvm")?;
    console.shell()?;
    let run = console.power_off("poweroff\n")?;
    ensure(run.with(", 0 refused").count() == 2, "something was refused", &run)
}

/// Asked for calls that the host does not have, it says so, and is mainline: what it declares stays declared.
fn another_dialect_leaves_it_as_mainline(lab: &Lab) -> Checked {
    let words = format!("{PAGES} vm.guard=enforce vm.preset=0x9000000+4K ioremap_guard=series");
    let mut console = Console::boot(lab, Machine::default(), "linux-enrolled", &words)?;
    console
        .wait_for("mmio_guard: the hypervisor does not offer the calls of ioremap_guard=series")?;
    console.ready()?;
    let before = console.declared()?;
    for _ in 0..2 {
        console.expect("map 0xa000000 0x1000 device", "0")?;
        console.unmap(0)?;
    }
    let after = console.declared()?;
    if after != before + 1 {
        return Err(format!("{before} granules were declared before, {after} afterwards"));
    }
    console.run("devmem 0xa000000 32", 0)?;
    let run = console.power_off("poweroff\n")?;
    ensure(run.with("mmio_guard: enrolled").count() == 0, "it enrolled", &run)?;
    one(&run, ", 0 refused").map(drop)
}

/// The host refuses the early console's page: the kernel is silent from there on, and goes on. (It finds no first
/// process, and panics into a reboot.)
fn early_console_refused(lab: &Lab) -> Checked {
    let words = "vm.allow=0x8000000+16M rdinit=/none";
    let mut console = Console::boot(lab, Machine::default(), "linux-enrolled", words)?;
    console.wait_for("smccc: KVM: hypervisor services detected")?;
    let before = console.session.lines().len();
    let line = console.wait_for("linux-enrolled: stopped (reset): ")?;
    let silent = console.session.lines().len() == before + 1;
    if !(silent && line.ends_with(", 0 refused")) {
        return Err(format!("it was not silent, or strayed: {line}"));
    }
    console.wait_for("life 2 begins: 0 declared, not enrolled")?;
    console.wait_for("earlycon: pl11 at MMIO 0x0000000009000000").map(drop)
}
