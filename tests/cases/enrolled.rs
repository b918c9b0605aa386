// SPDX-License-Identifier: MIT OR Apache-2.0
//! Linux with the series in `linux/`: it enrols, keeps its early console, and gives back what it no longer maps.
//! docs/linux.md says how.

use anyhow::{Context, anyhow};
use xtask::guests::Guest;
use xtask::guests::boot::Boot;
use xtask::qemu::{Gic, Machine};

use crate::console::Console;
use crate::fixture::{Checked, Fixture, ensure, one};

const ENROLLED: &[Guest] = &[Guest::LinuxEnrolled, Guest::Initramfs];
const ENROLLED_16K: &[Guest] = &[Guest::LinuxEnrolled16K, Guest::Initramfs];
const ENROLLED_64K: &[Guest] = &[Guest::LinuxEnrolled64K, Guest::Initramfs];

cases_with![
    pkvm: ENROLLED, true;
    pkvm_gicv2_4_vcpus: ENROLLED, true;
    series_gicv2: ENROLLED, true;
    series_4_vcpus: ENROLLED, true;
    reboots: ENROLLED, true;
    figures: ENROLLED, true;
    without_the_option_it_is_mainline: ENROLLED, true;
    without_a_guard_it_is_mainline: ENROLLED, true;
    a_larger_granule_leaves_it_as_mainline: ENROLLED, true;
    a_failed_enrolment_leaves_it_as_mainline: ENROLLED, true;
    another_dialect_leaves_it_as_mainline: ENROLLED, true;
    early_console_refused: ENROLLED, true;
    pages_16k_pkvm: ENROLLED_16K, true;
    pages_16k_pkvm_gicv2_4_vcpus: ENROLLED_16K, true;
    pages_16k_series: ENROLLED_16K, true;
    pages_64k_pkvm: ENROLLED_64K, true;
    pages_64k_series_gicv2: ENROLLED_64K, true;
    pages_64k_series_4_vcpus: ENROLLED_64K, true;
];

/// The guard's granule.
const GRANULE: u64 = 4096;

/// Where there is a device that no driver knows.
const DEVICE: u64 = 0xa00_0000;

/// Where RAM begins. In front of it there is nothing.
const RAM: u64 = 0x4000_0000;

/// Nothing either, at a multiple of its size.
const LARGE: (u64, u64) = (0x1000_0000, 4 << 20);

/// One of the kernels with the series.
#[derive(Debug, Clone, Copy)]
struct Kernel {
    /// What [`Console::boot`] calls it.
    name: &'static str,
    /// Size of its pages, in bytes.
    page: u64,
}

const KIB4: Kernel = Kernel { name: "linux-enrolled", page: 4 << 10 };
const KIB16: Kernel = Kernel { name: "linux-enrolled-16k", page: 16 << 10 };
const KIB64: Kernel = Kernel { name: "linux-enrolled-64k", page: 64 << 10 };

impl Kernel {
    /// A page with the device, two with nothing, and no more than those to play with; of the page behind them all but
    /// the last granule, where it has several.
    fn words(self) -> String {
        let pages = 4 * self.page - GRANULE;
        let below = RAM - self.page;
        format!(
            "vm.testdev={DEVICE:#x} vm.allow=0x8000000+16M:0x9000000+{:#x}:{DEVICE:#x}+{pages:#x}:{below:#x}+{:#x}:{:#x}+{:#x}",
            self.page, self.page, LARGE.0, LARGE.1
        )
    }

    /// Granules in a page.
    fn granules(self) -> u64 {
        self.page / GRANULE
    }
}

/// "test" in ASCII: what the device reads.
const ID: &str = "0x74657374";

/// Exit status of a process that died of SIGBUS.
const SIGBUS: u32 = 128 + 7;

impl Console {
    /// The test file does `command`; what it says then.
    fn test(&mut self, command: &str) -> anyhow::Result<String> {
        let line = format!("echo {command} > /debug/mmio_guard/test && cat /debug/mmio_guard/test");
        Ok(self.run(&line, 0)?.unwrap_or_default().trim().to_owned())
    }

    /// As [`Self::test`], and it says `wanted`.
    fn expect(&mut self, command: &str, wanted: &str) -> Checked {
        let said = self.test(command)?;
        if said == wanted {
            Ok(())
        } else {
            Err(anyhow!("`{command}`: `{said}` and not `{wanted}`"))
        }
    }

    /// Undoes the mapping of that number.
    fn unmap(&mut self, number: u32) -> Checked {
        self.run(&format!("echo unmap {number} > /debug/mmio_guard/test"), 0).map(drop)
    }

    /// How many granules EL2 has counted.
    fn declared(&mut self) -> anyhow::Result<u64> {
        let said = self.test("host")?;
        said.parse().map_err(|_| anyhow!("EL2's count is `{said}`"))
    }

    /// What the kernel's own list has: granules, and how many hypercalls the guard has made for them. EL2 has counted as
    /// many granules.
    fn listed(&mut self) -> anyhow::Result<(u64, u64)> {
        let said = self.run("tail -n 1 /debug/mmio_guard/declared", 0)?.unwrap_or_default();
        let number = |before: &str, behind: &str| -> Option<u64> {
            let (_, rest) = said.split_once(before)?;
            rest.split_once(behind)?.0.trim().parse().ok()
        };
        let granules = number("# ", " granules of 4096 bytes,");
        let counts = granules.zip(number("bytes,", " hypercalls,"));
        let counts = counts.ok_or_else(|| anyhow!("the list of declared pages ends `{said}`"))?;
        let declared = self.declared()?;
        if counts.0 != declared {
            return Err(anyhow!("`{said}`, but EL2 has counted {declared} granules"));
        }
        Ok(counts)
    }

    /// To the shell, with the file system that has the test file.
    fn ready(&mut self) -> anyhow::Result<String> {
        let up = self.shell()?;
        self.run("mkdir /debug && mount -t debugfs none /debug", 0)?;
        Ok(up)
    }
}

/// All that the series does, in one boot.
fn enrolled(fixture: &Fixture, kernel: Kernel, dialect: &str, machine: Machine) -> Checked {
    let cpus = machine.cpus;
    let words = format!(
        "{} vm.dialect={dialect} vm.cpus={cpus} ioremap_guard={dialect} mmio_guard_test={DEVICE:#x} ignore_loglevel",
        kernel.words()
    );
    let mut console = Console::boot(fixture, machine, kernel.name, &words)?;
    let up = early_log(&mut console, dialect)?;
    if !up.contains(&format!("{cpus} CPUs (0-{})", cpus - 1)) {
        return Err(anyhow!("not all {cpus} CPUs came up: {up}"));
    }

    let size = format!("grep -q '^KernelPageSize: *{} kB' /proc/self/smaps", kernel.page >> 10);
    console.run(&size, 0)?;

    // early_ioremap(), while nothing else had the page: before, twice mapped, once, not any more.
    console.expect("early", "0 3 3 0")?;
    console.run("devmem 0xa000000 32", SIGBUS)?;

    let (before, calls) = console.listed()?;
    // Ranges take few calls; without them it is one for each granule, and two to enrol.
    if (dialect == "pkvm") == (calls > before) {
        return Err(anyhow!("{calls} hypercalls for {before} granules"));
    }
    twice(&mut console, kernel, before)?;
    types(&mut console, kernel, dialect)?;
    overlapping(&mut console, kernel)?;
    beside_ram(&mut console, kernel)?;
    large(&mut console, before)?;
    refused(&mut console, kernel)?;
    let (after, _) = console.listed()?;
    if after != before {
        return Err(anyhow!("{before} granules were declared before, {after} afterwards"));
    }

    let run = console.power_off("poweroff\n")?;
    let refusals: Vec<_> = run.with("[hyp] warning: linux-enrolled: vCPU ").collect();
    let all =
        refusals.iter().all(|line| line.contains("refused load of 4 bytes at IPA 0xa000000 "));
    ensure(refusals.len() == 2 && all, "the refusals are not the two strays", &run)?;
    one(&run, ", 2 refused").map(drop)
}

/// The log is whole on the early console, which is declared right behind ENROLL. Returns the line of /init.
fn early_log(console: &mut Console, dialect: &str) -> anyhow::Result<String> {
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
        return Err(anyhow!("dmesg has {} lines", log.len()));
    }
    match log.iter().find(|line| !early.contains(line)) {
        None => Ok(up),
        Some(line) => Err(anyhow!("`{line}` was not on the early console")),
    }
}

/// Two mappings of a page: all of it is declared until both have gone.
fn twice(console: &mut Console, kernel: Kernel, before: u64) -> Checked {
    let granules = kernel.granules();
    console.expect("map 0xa000000 0x1000 device", "0")?;
    console.expect("map 0xa000008 4 device", "1")?;
    let declared = console.declared()?;
    if declared != before + granules {
        return Err(anyhow!("{declared} granules are declared, {before} were before"));
    }
    for granule in 0..granules {
        let page = DEVICE + granule * GRANULE;
        if !console.test(&format!("page {page:#x}"))?.starts_with('3') {
            return Err(anyhow!("{page:#x} was not declared with the page that it is in"));
        }
    }
    let last = DEVICE + kernel.page - 1;
    let line = format!("{DEVICE:#018x}-{last:#018x} {granules:8}    2 Device-nGnRE");
    console.run(&format!("grep -q '{line}' /debug/mmio_guard/declared"), 0)?;
    console.expect("read 0", ID)?;
    console.unmap(0)?;
    console.test("read 1")?;
    let read = console.run("devmem 0xa000000 32", 0)?.unwrap_or_default();
    if !read.contains(ID) {
        return Err(anyhow!("the page that is still mapped reads `{read}`"));
    }
    console.unmap(1)?;
    console.run("devmem 0xa000000 32", SIGBUS)?;
    console.run("! grep -q '0x000000000a000000' /debug/mmio_guard/declared", 0)?;
    Ok(())
}

/// Each memory type reaches EL2 as the index of its attribute, unless a call for a range has declared the page; cacheable
/// memory is not declared; neither is what was mapped without ioremap() forgotten.
fn types(console: &mut Console, kernel: Kernel, dialect: &str) -> Checked {
    let page = DEVICE + kernel.page;
    let by_range = kernel.granules() > 1 && dialect == "pkvm";
    for (kind, state) in
        [("device", "3 4"), ("np", "3 3"), ("wc", "3 2"), ("io", "3 4"), ("cache", "0 0")]
    {
        let state = if by_range && kind != "cache" { "3 0" } else { state };
        console.expect(&format!("map {page:#x} {:#x} {kind}", kernel.page), "0")?;
        console.expect(&format!("page {page:#x}"), state)?;
        console.unmap(0)?;
        console.expect(&format!("page {page:#x}"), "0 0")?;
    }
    Ok(())
}

/// A range with another one inside it, undone in the order in which it was done.
fn overlapping(console: &mut Console, kernel: Kernel) -> Checked {
    let (size, middle) = (kernel.page, DEVICE + kernel.page);
    console.expect(&format!("map {DEVICE:#x} {:#x} device", 3 * size), "0")?;
    console.expect(&format!("map {middle:#x} {size:#x} wc"), "1")?;
    console.unmap(0)?;
    for page in [DEVICE, middle - GRANULE, middle + size] {
        console.expect(&format!("page {page:#x}"), "0 0")?;
    }
    for page in [middle, middle + size - GRANULE] {
        if !console.test(&format!("page {page:#x}"))?.starts_with('3') {
            return Err(anyhow!("{page:#x}, in the middle, went with the range around it"));
        }
    }
    console.unmap(1)?;
    for page in [middle, middle + size - GRANULE] {
        console.expect(&format!("page {page:#x}"), "0 0")?;
    }
    Ok(())
}

/// A range that reaches into RAM: what lies in front of it is declared, RAM is not. (EL2 would refuse RAM, and the
/// mapping would fail.)
fn beside_ram(console: &mut Console, kernel: Kernel) -> Checked {
    let (below, size) = (RAM - kernel.page, 2 * kernel.page);
    console.expect(&format!("map {below:#x} {size:#x} wc"), "0")?;
    for (page, state) in [(below, '3'), (RAM - GRANULE, '3'), (RAM, '1')] {
        let said = console.test(&format!("page {page:#x}"))?;
        if !said.starts_with(state) {
            return Err(anyhow!("{page:#x} is in state `{said}` and not {state}"));
        }
    }
    console.unmap(0)?;
    console.expect(&format!("page {:#x}", RAM - GRANULE), "0 0")
}

/// What is large and aligned is mapped by entries of a higher level, where pages are of 4 KiB, and found there when it
/// goes.
fn large(console: &mut Console, before: u64) -> Checked {
    let (start, size) = LARGE;
    console.expect(&format!("map {start:#x} {size:#x} device"), "0")?;
    let declared = console.declared()?;
    if declared != before + size / GRANULE {
        return Err(anyhow!("{declared} granules are declared, {before} were before"));
    }
    console.unmap(0)?;
    for page in [start, start + size - GRANULE] {
        console.expect(&format!("page {page:#x}"), "0 0")?;
    }
    Ok(())
}

/// A range whose last granule `vm.allow` does not have: nothing of it is declared, and the kernel says which it was.
fn refused(console: &mut Console, kernel: Kernel) -> Checked {
    let size = 4 * kernel.page;
    let last = DEVICE + size - GRANULE;
    console.run(&format!("echo map {DEVICE:#x} {size:#x} device > /debug/mmio_guard/test"), 1)?;
    console.run(&format!("dmesg | grep -q 'mmio_guard: {last:#x} cannot be declared'"), 0)?;
    for page in [DEVICE, last - GRANULE] {
        console.expect(&format!("page {page:#x}"), "0 0")?;
    }
    Ok(())
}

/// A machine of 4 KiB pages.
fn machine(gic: Gic, cpus: u32) -> Machine {
    Machine { gic, cpus, ..Machine::default() }
}

/// One whose CPUs have pages of all sizes: QEMU's models of Cortex-A53, -A57 and -A72 have none of 16 KiB.
fn machine_of(cpu: &str, gic: Gic, cpus: u32) -> Machine {
    Machine { cpu: cpu.into(), ..machine(gic, cpus) }
}

fn pkvm(fixture: &Fixture) -> Checked {
    enrolled(fixture, KIB4, "pkvm", machine(Gic::V3, 2))
}

fn pkvm_gicv2_4_vcpus(fixture: &Fixture) -> Checked {
    enrolled(fixture, KIB4, "pkvm", machine(Gic::V2, 4))
}

fn series_gicv2(fixture: &Fixture) -> Checked {
    enrolled(fixture, KIB4, "series", machine(Gic::V2, 2))
}

fn series_4_vcpus(fixture: &Fixture) -> Checked {
    enrolled(fixture, KIB4, "series", machine(Gic::V3, 4))
}

fn pages_16k_pkvm(fixture: &Fixture) -> Checked {
    enrolled(fixture, KIB16, "pkvm", machine_of("cortex-a76", Gic::V3, 2))
}

fn pages_16k_pkvm_gicv2_4_vcpus(fixture: &Fixture) -> Checked {
    enrolled(fixture, KIB16, "pkvm", machine_of("max", Gic::V2, 4))
}

fn pages_16k_series(fixture: &Fixture) -> Checked {
    enrolled(fixture, KIB16, "series", machine_of("max", Gic::V3, 2))
}

fn pages_64k_pkvm(fixture: &Fixture) -> Checked {
    enrolled(fixture, KIB64, "pkvm", machine_of("max", Gic::V3, 2))
}

fn pages_64k_series_gicv2(fixture: &Fixture) -> Checked {
    enrolled(fixture, KIB64, "series", machine_of("cortex-a76", Gic::V2, 2))
}

fn pages_64k_series_4_vcpus(fixture: &Fixture) -> Checked {
    enrolled(fixture, KIB64, "series", machine_of("cortex-a76", Gic::V3, 4))
}

/// After a reset nothing is left of the guard: the early console works before ENROLL once more.
fn reboots(fixture: &Fixture) -> Checked {
    let mut console = Console::boot(fixture, Machine::default(), "linux-enrolled", "")?;
    console.wait_for("mmio_guard: enrolled: pkvm")?;
    console.shell()?;
    console.send("reboot\n")?;
    console.wait_for("linux-enrolled: incarnation 2 begins: 0 declared, not enrolled")?;
    console.wait_for("Booting Linux on physical CPU")?;
    console.wait_for("earlycon: pl11 at MMIO 0x0000000009000000")?;
    console.wait_for("mmio_guard: enrolled: pkvm")?;
    console.shell()?;
    let run = console.power_off("poweroff\n")?;
    ensure(run.with(", 0 refused").count() == 2, "something was refused", &run)
}

/// The row of a kernel in the figures of docs/linux.md, behind its first column.
fn documented(kernel: &str) -> anyhow::Result<String> {
    let file = xtask::paths::root().join("docs/linux.md");
    let docs = std::fs::read_to_string(&file)?;
    let row = docs.lines().find_map(|line| line.strip_prefix(&format!("| {kernel} | ")));
    row.map(str::to_owned).ok_or_else(|| anyhow!("docs/linux.md has no figures of {kernel}"))
}

/// What docs/linux.md says of a boot, in both dialects.
fn figures(fixture: &Fixture) -> Checked {
    for dialect in ["pkvm", "series"] {
        let row = documented(&format!("this series, `{dialect}`"))?;
        let words = format!("vm.dialect={dialect} ioremap_guard={dialect}");
        let mut console = Console::boot(fixture, Machine::default(), "linux-enrolled", &words)?;
        console.ready()?;
        let (granules, calls) = console.listed()?;
        if !(row.starts_with(&format!("{calls}: ")) && row.contains(&format!(" | {granules} | "))) {
            return Err(anyhow!("{calls} hypercalls, {granules} granules; docs/linux.md: `{row}`"));
        }
        console.power_off("poweroff\n")?;
    }
    Ok(())
}

/// Nobody asks it to enrol: it does what mainline's driver does, and the early console is not declared.
fn without_the_option_it_is_mainline(fixture: &Fixture) -> Checked {
    let boot = Boot::called("linux-enrolled").context("no such guest")?;
    let mut module = boot.module(&KIB4.words())?;
    let words = module.bootargs.split_whitespace().filter(|word| *word != "ioremap_guard");
    module.bootargs = words.collect::<Vec<_>>().join(" ");
    let machine = Machine { modules: vec![module], ..fixture.machine() };
    let mut console = Console { session: fixture.boot(&machine)? };
    console.wait_for("smccc: KVM: hypervisor services detected")?;
    console.ready()?;
    let (declared, row) =
        (console.declared()?, documented("mainline's driver, `vm.guard=enforce`")?);
    if !row.contains(&format!(" | {declared}, ")) {
        return Err(anyhow!("{declared} granules are declared; docs/linux.md: `{row}`"));
    }
    as_mainline(console)
}

/// It asks for a guard that the host does not have: it says so, and runs as if it had not asked.
fn without_a_guard_it_is_mainline(fixture: &Fixture) -> Checked {
    let mut console = Console::boot(fixture, Machine::default(), "linux-enrolled", "vm.guard=off")?;
    console
        .wait_for("mmio_guard: the hypervisor does not offer the calls of ioremap_guard=pkvm;")?;
    console.ready()?;
    console.run("test -e /debug/mmio_guard/declared", 1)?;
    let run = console.power_off("poweroff\n")?;
    one(&run, ", 0 refused").map(drop)
}

/// A call on the way into the guard fails (the kernel is told to believe so, as this host's does not): a warning, and it
/// is mainline.
fn fails(fixture: &Fixture, call: &str, warning: &str) -> Checked {
    let words = format!("{} mmio_guard_fails={call}", KIB4.words());
    let mut console = Console::boot(fixture, Machine::default(), "linux-enrolled", &words)?;
    console.wait_for(&format!("mmio_guard: {warning}; not enrolled"))?;
    console.ready()?;
    as_mainline(console)
}

fn a_larger_granule_leaves_it_as_mainline(fixture: &Fixture) -> Checked {
    fails(fixture, "info", "granule of 8192, with pages of 4096")
}

fn a_failed_enrolment_leaves_it_as_mainline(fixture: &Fixture) -> Checked {
    fails(fixture, "enroll", "enrolment failed (-1)")
}

/// Asked for calls that the host does not have, it says so, and is mainline.
fn another_dialect_leaves_it_as_mainline(fixture: &Fixture) -> Checked {
    let words =
        format!("{} vm.guard=enforce vm.preset=0x9000000+4K ioremap_guard=series", KIB4.words());
    let mut console = Console::boot(fixture, Machine::default(), "linux-enrolled", &words)?;
    console
        .wait_for("mmio_guard: the hypervisor does not offer the calls of ioremap_guard=series")?;
    console.ready()?;
    as_mainline(console)
}

/// A boot of mainline's driver, whose command line may ask for more: what it declares stays declared.
fn as_mainline(mut console: Console) -> Checked {
    console.run("test -e /debug/mmio_guard/declared", 1)?;
    let before = console.declared()?;
    for _ in 0..2 {
        console.expect("map 0xa000000 0x1000 device", "0")?;
        console.unmap(0)?;
    }
    let after = console.declared()?;
    if after != before + 1 {
        return Err(anyhow!("{before} granules were declared before, {after} afterwards"));
    }
    console.run("devmem 0xa000000 32", 0)?;
    let run = console.power_off("poweroff\n")?;
    ensure(run.with("mmio_guard: enrolled").count() == 0, "it enrolled", &run)?;
    one(&run, ", 0 refused").map(drop)
}

/// The host refuses the early console's page: the kernel is silent from there on, and goes on. (It finds no first
/// process, and panics into a reboot.)
fn early_console_refused(fixture: &Fixture) -> Checked {
    let words = "vm.allow=0x8000000+16M rdinit=/none";
    let mut console = Console::boot(fixture, Machine::default(), "linux-enrolled", words)?;
    console.wait_for("smccc: KVM: hypervisor services detected")?;
    let before = console.session.lines().len();
    let line = console.wait_for("linux-enrolled: stopped (reset): ")?;
    let silent = console.session.lines().len() == before + 1;
    if !(silent && line.ends_with(", 0 refused")) {
        return Err(anyhow!("it was not silent, or strayed: {line}"));
    }
    console.wait_for("incarnation 2 begins: 0 declared, not enrolled")?;
    console.wait_for("earlycon: pl11 at MMIO 0x0000000009000000").map(drop)
}
