// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guests that others wrote, driven at their consoles: Debian's stock kernel, a kernel that is a client of the
//! guard, and U-Boot. docs/guests.md says what they are; `scripts/guests` makes them.

use anyhow::anyhow;
use xtask::guests::Guest;
use xtask::guests::boot::{Boot, judge, memory_mib};
use xtask::qemu::{Gic, Machine};

use crate::console::Console;
use crate::fixture::{Checked, Fixture, ensure, one};

const LINUX: &[Guest] = &[Guest::Linux, Guest::Initramfs];
const GUARDED: &[Guest] = &[Guest::LinuxGuarded, Guest::Initramfs];
const ALL: &[Guest] = &[Guest::Linux, Guest::LinuxGuarded, Guest::Initramfs];
const UBOOT: &[Guest] = &[Guest::UBoot];
const EDK2: &[Guest] = &[Guest::Edk2];
const EDK2_UNSTABLE: &[Guest] = &[Guest::Edk2Unstable];

cases_with![
    linux: LINUX, true;
    linux_gicv2: LINUX, true;
    linux_1_vcpu: LINUX, true;
    linux_4_vcpus: LINUX, true;
    linux_4_vcpus_gicv2: LINUX, true;
    linux_4_vcpus_share_a_cpu: LINUX, true;
    linux_4_vcpus_share_2_cpus_gicv2: LINUX, true;
    linux_a76: LINUX, true;
    linux_max: LINUX, true;
    linux_reboots: LINUX, true;
    linux_is_no_client: LINUX, true;
    guarded_linux: GUARDED, false;
    guarded_linux_gicv2: GUARDED, true;
    guarded_linux_4_vcpus: GUARDED, true;
    guarded_linux_strays: GUARDED, true;
    guarded_linux_strays_gicv2: GUARDED, true;
    guarded_linux_reboots: GUARDED, true;
    earlycon_with_preset: GUARDED, true;
    earlycon_without_preset: GUARDED, true;
    three_at_once: ALL, true;
    linux_from_a_bundle: LINUX, true;
    u_boot: UBOOT, false;
    u_boot_gicv2: UBOOT, true;
    edk2: EDK2, true;
    edk2_gicv2: EDK2, true;
    edk2_unguarded: EDK2, true;
    edk2_unstable: EDK2_UNSTABLE, true;
];

fn gicv2() -> Machine {
    Machine { gic: Gic::V2, ..Machine::default() }
}

/// Boots a Linux to its shell, uses CPUs, timers and input, and powers it off. Nothing may be refused.
fn to_the_shell(fixture: &Fixture, machine: Machine, name: &str, cpus: u32) -> Checked {
    let words = format!("vm.cpus={cpus} quiet");
    let mut console = Console::boot(fixture, machine, name, &words)?;
    let up = console.shell()?;
    let online = if cpus == 1 { "(0)".into() } else { format!("(0-{})", cpus - 1) };
    if !up.contains(&format!("{cpus} CPUs {online}")) {
        return Err(anyhow!("not all {cpus} CPUs came up: {up}"));
    }
    // The counter, the timer's interrupt, and the wake-up of an idle CPU.
    console.run("a=$(cut -d. -f1 /proc/uptime); sleep 2", 0)?;
    console.run("b=$(cut -d. -f1 /proc/uptime); [ $((b-a)) -ge 2 ]", 0)?;
    // Typed in one go, many times what the UART's FIFO holds.
    console.run(&format!("x={}; [ ${{#x}} = 300 ]", "y".repeat(300)), 0)?;
    let run = console.power_off("poweroff\n")?;
    one(&run, ", 0 refused").map(drop)
}

fn linux(fixture: &Fixture) -> Checked {
    to_the_shell(fixture, Machine::default(), "linux", 2)
}

fn linux_gicv2(fixture: &Fixture) -> Checked {
    to_the_shell(fixture, gicv2(), "linux", 2)
}

fn linux_1_vcpu(fixture: &Fixture) -> Checked {
    to_the_shell(fixture, Machine::default(), "linux", 1)
}

fn linux_4_vcpus(fixture: &Fixture) -> Checked {
    to_the_shell(fixture, Machine { cpus: 4, ..Machine::default() }, "linux", 4)
}

fn linux_4_vcpus_gicv2(fixture: &Fixture) -> Checked {
    to_the_shell(fixture, Machine { cpus: 4, ..gicv2() }, "linux", 4)
}

fn linux_4_vcpus_share_a_cpu(fixture: &Fixture) -> Checked {
    to_the_shell(fixture, Machine { cpus: 1, ..Machine::default() }, "linux", 4)
}

fn linux_4_vcpus_share_2_cpus_gicv2(fixture: &Fixture) -> Checked {
    to_the_shell(fixture, gicv2(), "linux", 4)
}

fn linux_a76(fixture: &Fixture) -> Checked {
    to_the_shell(fixture, Machine { cpu: "cortex-a76".into(), ..Machine::default() }, "linux", 2)
}

fn linux_max(fixture: &Fixture) -> Checked {
    // Without the slow pointer authentication of the architecture, which QEMU computes bit by bit.
    let cpu = "max,pauth-impdef=on".into();
    to_the_shell(fixture, Machine { cpu, ..Machine::default() }, "linux", 2)
}

/// `reboot` in one boot gives another one, as new as the first.
fn reboots(fixture: &Fixture, name: &str) -> Checked {
    let mut console = Console::boot(fixture, Machine::default(), name, "quiet")?;
    for life in 2..=4 {
        console.shell()?;
        console.run("touch /tmp/x && [ $(ls /tmp) = x ]", 0)?;
        console.send("reboot\n")?;
        console.wait_for(&format!("incarnation {life} begins: 0 declared"))?;
    }
    console.shell()?;
    console.run("[ -z \"$(ls /tmp)\" ]", 0)?;
    let run = console.power_off("poweroff\n")?;
    ensure(run.with(": stopped (reset): ").count() == 3, "not three resets", &run)
}

fn linux_reboots(fixture: &Fixture) -> Checked {
    reboots(fixture, "linux")
}

fn guarded_linux_reboots(fixture: &Fixture) -> Checked {
    reboots(fixture, "linux-guarded")
}

fn linux_is_no_client(fixture: &Fixture) -> Checked {
    // A stock kernel declares nothing: under `enforce` the GIC is its first refusal, and it says so itself.
    let words = "vm.guard=enforce vm.preset=0x9000000+4K earlycon panic=0";
    let mut console = Console::boot(fixture, Machine::default(), "linux", words)?;
    let line = console.wait_for("refused load")?;
    if !(line.contains("IPA 0x8") && line.contains("intc@8000000")) {
        return Err(anyhow!("the refusal does not name the GIC: {line}"));
    }
    console.wait_for("synchronous external abort: 0000000096000010")?;
    console.wait_for("Kernel panic").map(drop)
}

fn guarded_linux(fixture: &Fixture) -> Checked {
    to_the_shell(fixture, Machine::default(), "linux-guarded", 2)
}

fn guarded_linux_gicv2(fixture: &Fixture) -> Checked {
    to_the_shell(fixture, gicv2(), "linux-guarded", 2)
}

fn guarded_linux_4_vcpus(fixture: &Fixture) -> Checked {
    to_the_shell(fixture, Machine { cpus: 4, ..Machine::default() }, "linux-guarded", 4)
}

/// A process reaches for what its kernel has not declared: it dies of SIGBUS, the kernel and the VM do not.
fn strays(fixture: &Fixture, machine: Machine) -> Checked {
    let mut console = Console::boot(fixture, machine, "linux-guarded", "quiet")?;
    console.shell()?;
    // The UART's page is declared: its first identification register.
    let id = console.run("devmem 0x9000fe0 32", 0)?.unwrap_or_default();
    if !id.contains("0x00000011") {
        return Err(anyhow!("the UART's page says `{id}`"));
    }
    // 128 + SIGBUS.
    console.run("devmem 0xa000000 32", 135)?;
    console.run("devmem 0x10000000 8 1", 135)?;
    console.run("[ $((6*7)) = 42 ]", 0)?;
    let run = console.power_off("poweroff\n")?;
    let refused = "[hyp] warning: linux-guarded: vCPU ";
    let lines: Vec<_> = run.with(refused).collect();
    let [load, store] = lines.as_slice() else {
        return Err(anyhow!("{} refusals and not two: {}", lines.len(), run.tail()));
    };
    for (line, words) in [
        (load, "refused load of 4 bytes at IPA 0xa000000 "),
        (store, "refused store of 1 bytes at IPA 0x10000000 "),
    ] {
        if !line.contains(words) {
            return Err(anyhow!("`{line}` lacks {words:?}"));
        }
    }
    one(
        &run,
        "to declare this page: HVC 0xc6000007 with x1=0xa000000, or vm.preset=0xa000000+0x1000",
    )?;
    one(&run, "with x1=0x10000000, or vm.preset=0x10000000+0x1000")?;
    one(&run, ", 2 refused").map(drop)
}

fn guarded_linux_strays(fixture: &Fixture) -> Checked {
    strays(fixture, Machine::default())
}

fn guarded_linux_strays_gicv2(fixture: &Fixture) -> Checked {
    strays(fixture, gicv2())
}

const EARLYCON: &str = "earlycon";

fn earlycon_with_preset(fixture: &Fixture) -> Checked {
    let words = format!("{EARLYCON} vm.preset=0x9000000+4K");
    let mut console = Console::boot(fixture, Machine::default(), "linux-guarded", &words)?;
    console.wait_for("earlycon: pl11 at MMIO 0x0000000009000000")?;
    // In front of what the later console can show.
    console.wait_for("smccc: KVM: hypervisor services detected")?;
    console.shell()?;
    let run = console.power_off("poweroff\n")?;
    one(&run, ", 0 refused").map(drop)
}

fn earlycon_without_preset(fixture: &Fixture) -> Checked {
    // The abort is reported through earlycon, which aborts: the kernel never says anything. EL2 does, at a bounded
    // rate, and goes on.
    let mut console = Console::boot(fixture, Machine::default(), "linux-guarded", EARLYCON)?;
    let line = console.wait_for("refused load of 4 bytes at IPA 0x9000018")?;
    let advice = console.wait_for("to declare pl011@9000000")?;
    if !(line.contains("pl011@9000000") && advice.contains("vm.preset=0x9000000+0x1000")) {
        return Err(anyhow!("`{line}` and `{advice}` do not say what to do"));
    }
    let run = console.session.stop_after(std::time::Duration::from_secs(3));
    let (lines, panics) = (run.with("refused load").count(), run.with("[hyp] panic").count());
    ensure(panics == 0, "EL2 panicked", &run)?;
    // Aborts of the same instruction are told once.
    ensure((1..200).contains(&lines), "refusals are not told at a bounded rate", &run)
}

/// Two Linux and the test guest, five vCPUs on two CPUs, one keyboard.
/// examples/linux.dts, as anybody would make and start it.
fn linux_from_a_bundle(fixture: &Fixture) -> Checked {
    let source = xtask::paths::root().join("examples/linux.dts");
    let initrd = fixture.file("linux.img", &[])?;
    xtask::bundle::make(&source, &initrd, None)?;
    let machine = Machine { initrd: Some(initrd), ..fixture.machine() };
    let mut console = Console { session: fixture.boot(&machine)? };
    let up = console.shell()?;
    if !up.contains("2 CPUs (0-1)") {
        return Err(anyhow!("not both CPUs came up: {up}"));
    }
    let run = console.power_off("poweroff\n")?;
    one(&run, "[hyp] linux: stopped (power off)").map(drop)
}

fn three_at_once(fixture: &Fixture) -> Checked {
    let mut machine = fixture.machine();
    let boots: Vec<Boot> =
        ["linux", "linux-guarded"].into_iter().filter_map(Boot::called).collect();
    for boot in &boots {
        machine.modules.push(boot.module("quiet")?);
    }
    machine.modules.push(fixture.guest("demo vm.name=stub"));
    machine.memory_mib = memory_mib(&boots);
    let mut console = Console { session: fixture.boot(&machine)? };
    // They come up in any order.
    for line in ["[linux] guest: shell", "[linux-guarded] guest: shell", "[stub] demo: "] {
        let said =
            |console: &Console| console.session.lines().iter().any(|said| said.contains(line));
        while !said(&console) {
            if console.session.next_line().is_none() {
                return console.wait_for(line).map(drop);
            }
        }
    }
    // What is typed goes to the first until another one is chosen; each prompt is seen before its line ends.
    let prompt = |console: &mut Console, prompt: &str| console.session.wait_for_prompt(prompt);
    prompt(&mut console, "[linux] guest# ")?;
    console.send("uname -r\n")?;
    console.wait_for("[linux] 6.")?;
    console.send("\x1d1")?;
    console.wait_for("[hyp] the keyboard goes to linux-guarded")?;
    prompt(&mut console, "[linux-guarded] guest# ")?;
    console.send("uname -r\n")?;
    console.wait_for("-guarded")?;
    prompt(&mut console, "[linux-guarded] guest# ")?;
    // One goes: the others stay, and the next of them has the keyboard.
    console.send("poweroff\n")?;
    console.wait_for("[hyp] linux-guarded: stopped (power off)")?;
    console.wait_for("[hyp] the keyboard goes to linux")?;
    console.send("echo still $((6*7))\n")?;
    console.wait_for("[linux] still 42")?;
    console.send("poweroff\n")?;
    let run = console.session.finish();
    judge(&run, 3, false)?;
    one(&run, "[hyp] stub: stopped (power off)").map(drop)
}

/// To U-Boot's prompt, a declared page, an undeclared one, and what U-Boot does then.
fn u_boot_on(fixture: &Fixture, machine: Machine) -> Checked {
    let mut console = Console::boot(fixture, machine, "u-boot", "")?;
    console.wait_for("U-Boot 20")?;
    // Its environment is read from the rom, which holds none.
    console.wait_for("bad CRC, using default environment")?;
    console.wait_for("Net:")?;
    // Any key stops what it would boot by itself.
    console.send(" ")?;
    console.u_boot("md.l 0x9000fe0 4")?;
    console.wait_for("09000fe0: 00000011 00000010 00000014 00000000")?;
    console.u_boot("md.l 0xa000000 1")?;
    let line = console.wait_for("[hyp] warning: u-boot: vCPU 0: refused load")?;
    if !line.contains("IPA 0xa000000 ") {
        return Err(anyhow!("another page was refused: {line}"));
    }
    console.wait_for("\"Synchronous Abort\" handler, esr 0x96000010")?;
    // It resets itself, and comes back with its preset page declared.
    console.wait_for("u-boot: incarnation 2 begins: 1 declared, enforced")?;
    console.wait_for("Net:")?;
    console.send(" ")?;
    console.u_boot("md.l 0x9000fe0 4")?;
    console.wait_for("09000fe0: 00000011 00000010 00000014 00000000")?;
    console.session.wait_for_prompt("=> ")?;
    let run = console.power_off("poweroff\n")?;
    one(&run, "u-boot: stopped (reset): ").map(drop)
}

fn u_boot(fixture: &Fixture) -> Checked {
    u_boot_on(fixture, Machine { cpus: 1, ..Machine::default() })
}

fn u_boot_gicv2(fixture: &Fixture) -> Checked {
    u_boot_on(fixture, Machine { cpus: 1, gic: Gic::V2, ..Machine::default() })
}

/// Up to the UEFI shell. Newer firmware does not start it by itself: it is the second choice of the boot menu.
fn uefi_shell(console: &mut Console, name: &str) -> Checked {
    if name == "edk2-unstable" {
        console.wait_for("Press any key to enter the Boot Manager Menu")?;
        console.send("\r")?;
        for (chosen, key) in [("EFI Firmware Setup", "\x1b[B"), ("EFI Internal Shell", "\r")] {
            // The menu paints what is chosen last.
            let painted = format!("{chosen}\x1b[0m\x1b[37m\x1b[40m");
            console.session.wait_for_prompt(&painted).map_err(|error| anyhow!("{error:#}"))?;
            console.send(key)?;
        }
    }
    console.wait_for("UEFI Interactive Shell").map(drop)
}

/// To the UEFI shell; the clock; a variable that is written to flash and is there after a reset; off.
fn edk2_on(fixture: &Fixture, machine: Machine, name: &str, words: &str) -> Checked {
    const VARIABLE: &str = "setvar probe -guid 12345678-1234-1234-1234-123456789abc";
    let mut console = Console::boot(fixture, machine, name, words)?;
    uefi_shell(&mut console, name)?;
    console.uefi("date")?;
    console.wait_for("/20")?;
    console.uefi(VARIABLE)?;
    console.wait_for("Unable to get")?;
    console.uefi(&format!("{VARIABLE} -bs -nv =cafe"))?;
    console.uefi(VARIABLE)?;
    console.wait_for("- probe - 0002 Bytes")?;
    console.wait_for("CA FE")?;
    console.uefi("reset")?;
    console.wait_for(&format!("{name}: incarnation 2 begins: "))?;
    uefi_shell(&mut console, name)?;
    console.uefi(VARIABLE)?;
    console.wait_for("- probe - 0002 Bytes")?;
    console.wait_for("CA FE")?;
    console.session.wait_for_prompt("\x1b[40m")?;
    let run = console.power_off("reset -s\r")?;
    one(&run, &format!("{name}: stopped (reset): "))?;
    ensure(run.with(", 0 refused").count() == 2, "something was refused", &run)
}

fn edk2(fixture: &Fixture) -> Checked {
    edk2_on(fixture, Machine { cpus: 1, ..Machine::default() }, "edk2", "")
}

fn edk2_gicv2(fixture: &Fixture) -> Checked {
    edk2_on(fixture, Machine { cpus: 1, ..gicv2() }, "edk2", "")
}

fn edk2_unguarded(fixture: &Fixture) -> Checked {
    edk2_on(fixture, Machine { cpus: 1, ..Machine::default() }, "edk2", "vm.guard=off")
}

fn edk2_unstable(fixture: &Fixture) -> Checked {
    edk2_on(fixture, Machine { cpus: 1, ..Machine::default() }, "edk2-unstable", "")
}
