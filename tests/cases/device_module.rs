// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel module of a device VM in Debian's stock kernels: its own tests (linux/device/test/), with the test guest as a
//! client that has every answer compared, one that loads, rings and resets itself without end, and one that only rings.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use xtask::guests::initramfs::Archive;
use xtask::guests::{Guest, module};
use xtask::qemu::{Machine, Module};

use crate::asm::{Asm, ENTRY, calls};
use crate::fixture::{Checked, Fixture, ensure, one};

cases_with![
    linux: &[Guest::Linux, Guest::Initramfs, Guest::DeviceModule], true;
    linux_6_12: &[Guest::Linux612, Guest::Initramfs, Guest::DeviceModule612], true;
];

/// What the client does: steps of guest-stub's `modes/client`.
const STEPS: &str = "values:stores:refused:pairs:removed:error:foreign:twice:bye";

/// A guest that loads from its first forwarded page and stores to its third, 300 times, and resets itself. An abort is no
/// reason to stop.
fn victim() -> Asm {
    Asm::new()
        .mov(9, ENTRY + 0x800)
        .set_vectors(9)
        .mov(10, 300)
        .mov(11, 0x0c00_0000)
        .mov(12, 0x0c00_2000)
        .label("again")
        .load(4, 11)
        .store(4, 12)
        .sub(10, 10, 1)
        .unless_zero(10, "again")
        .call(calls::RESET, 0)
        .at(0xa00)
        .skip_faulting(3)
        .eret()
}

/// A guest that stores to its third forwarded page and does nothing else.
fn flooder() -> Asm {
    Asm::new().mov(12, 0x0c00_2000).label("again").store(4, 12).jump("again")
}

/// The root of the device VM: that of all kernels, with `module`, the test program, and the script that is run in it.
fn root(fixture: &Fixture, module: Guest) -> anyhow::Result<PathBuf> {
    let read = |file: PathBuf| fs::read(&file).with_context(|| file.display().to_string());
    let mut archive = Archive::default();
    archive.folder("lib")?;
    archive.file("lib/portcullis-device.ko", 0o644, &read(module.existing()?)?)?;
    archive.file("bin/portcullis-test", 0o755, &read(module::test_program()?)?)?;
    archive.file("bin/test-module", 0o755, &read(module::DEVICE.sources().join("test/run"))?)?;
    archive.file("etc/inittab", 0o644, b"::sysinit:/bin/test-module\n")?;
    let mut bytes = read(Guest::Initramfs.existing()?)?;
    bytes.extend(xtask::guests::gzip(&archive.finish()?)?);
    fixture.file("root.cpio.gz", &bytes)
}

fn test(fixture: &Fixture, kernel: Guest, module: Guest) -> Checked {
    let server = Module {
        kernel: kernel.existing()?,
        bootargs: "vm.name=server vm.role=device vm.mem=256M vm.cpus=2 console=ttyAMA0 quiet panic=-1 oops=panic \
                   panic_on_warn=1"
            .into(),
        ramdisk: Some(root(fixture, module)?),
        address: None,
    };
    let served = "vm.forward=server:0xc000000+0x4000 vm.devices=server:blk vm.mem=16M";
    let client = format!("client={STEPS} vm.name=client vm.guard=enforce {served}");
    let victim = fixture.code(victim(), &format!("vm.name=victim vm.guard=off {served}"))?;
    let flooder = fixture.code(flooder(), &format!("vm.name=flooder vm.guard=off {served}"))?;
    let modules = vec![server, fixture.guest(&client), victim, flooder];
    let mut session = fixture.boot(&Machine { modules, ..fixture.machine() })?;
    // Two of its clients never end.
    session.wait_for("[hyp] server: stopped")?;
    let run = session.stop_after(std::time::Duration::ZERO);
    if let Some(line) = run.lines.iter().find(|line| line.contains("FAIL")) {
        return Err(anyhow!("{line}: {}", run.tail()));
    }
    one(&run, "[server] module: ok")?;
    let count = STEPS.split(':').count() + 1;
    one(&run, &format!("[client] client: {count} ok, 0 failed"))?;
    ensure(run.with("[hyp] panic").count() == 0, "EL2 panicked", &run)?;
    ensure(run.with("[hyp] error").count() == 0, "an error of EL2", &run)
}

fn linux(fixture: &Fixture) -> Checked {
    test(fixture, Guest::Linux, Guest::DeviceModule)
}

fn linux_6_12(fixture: &Fixture) -> Checked {
    test(fixture, Guest::Linux612, Guest::DeviceModule612)
}
