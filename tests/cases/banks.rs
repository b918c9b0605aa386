// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trees as boards have them: RAM in banks with a hole between, reservations of both kinds, no PSCI. Started by a loader,
//! since QEMU repairs the tree that it passes itself.

use anyhow::{Context, anyhow};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use xtask::bundle;
use xtask::qemu::{Blob, Machine, Monitor};

use super::bundles::{made, stub};
use crate::fixture::{Checked, Fixture, ensure, one};

cases![
    holes_and_reservations_are_left_alone,
    without_psci,
    console_is_serial0_without_stdout_path,
    console_word,
];

const TREE: u64 = 0x4e00_0000;
const IMAGE: u64 = 0x4020_0000;
const LOADER: u64 = 0x4f00_0000;

/// The source of a tree.
pub fn decompiled(tree: &Path) -> anyhow::Result<String> {
    let output = Command::new("dtc").args(["-q", "-I", "dtb", "-O", "dts"]).arg(tree).output();
    let output = output.context("cannot run dtc")?;
    Ok(String::from_utf8(output.stdout)?)
}

/// QEMU's tree of the usual machine with each line of `changes`' first words replaced; each must be there.
fn changed(fixture: &Fixture, changes: &[(&str, &str)]) -> anyhow::Result<Vec<u8>> {
    let dump = fixture.file("dump.dtb", &[])?;
    fixture.machine().tree(&dump)?;
    let mut text = decompiled(&dump)?;
    for (old, new) in changes {
        if !text.contains(old) {
            return Err(anyhow!("QEMU's tree has no `{old}`"));
        }
        text = text.replacen(old, new, 1);
    }
    let source = fixture.file("changed.dts", text.as_bytes())?;
    bundle::compile(&source)
}

/// The machine on which a loader starts Portcullis with a bundle of `nodes` behind it, on `tree`.
fn machine(fixture: &Fixture, tree: &[u8], nodes: &str) -> anyhow::Result<Machine> {
    // movz x0, #0x4e00, lsl #16; movz x1, #0x4020, lsl #16; br x1
    let code = [0xd2a9_c000_u32, 0xd2a8_0401, 0xd61f_0020];
    let code: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    let blobs = vec![
        Blob { file: fixture.file("loader.bin", &code)?, address: LOADER, start: true },
        Blob { file: made(fixture, "image", nodes, true)?, address: IMAGE, start: false },
        Blob { file: fixture.file("tree.dtb", tree)?, address: TREE, start: false },
    ];
    Ok(Machine { kernel: None, blobs, ..fixture.machine() })
}

/// Guests get all RAM that there is but for a few pieces; what is no RAM of ours keeps its pattern.
fn holes_and_reservations_are_left_alone(fixture: &Fixture) -> Checked {
    const PATTERN: u64 = 0xa5a5_a5a5_a5a5_a5a5;
    const LENGTH: u64 = 0x1_0000;
    let tree = changed(
        fixture,
        &[
            ("/dts-v1/;", "/dts-v1/;\n/memreserve/ 0x54100000 0x100000;"),
            (
                "reg = <0x00 0x40000000 0x00 0x40000000>;",
                "reg = <0 0x40000000 0 0x18000000>, <0 0x60000000 0 0x10000000>;",
            ),
            (
                "chosen {",
                "reserved-memory { #address-cells = <2>; #size-cells = <2>; ranges; \
                 fw@64000000 { reg = <0 0x64000000 0 0x200000>; no-map; }; };\nchosen {",
            ),
        ],
    )?;
    // 640 MiB, without what lies in them: Portcullis, the tree, a reservation of either kind; each costs a piece or two.
    let guest = stub(fixture, "web", "bootargs = \"demo\"; mem = <(624 << 20)>;");
    let mut machine = machine(fixture, &tree, &guest)?;
    let places = [
        0x5410_0000,
        0x5420_0000 - LENGTH,
        0x5800_0000,
        0x6000_0000 - LENGTH,
        0x6400_0000,
        0x6420_0000 - LENGTH,
        0x7000_0000,
        0x8000_0000 - LENGTH,
    ];
    let pattern = fixture.file("pattern", &[0xa5; LENGTH as usize])?;
    for address in places {
        machine.blobs.push(Blob { file: pattern.clone(), address, start: false });
    }
    let socket = Monitor::socket(&fixture.name);
    machine.extra = Monitor::arguments(&socket);
    // Its memory must still be there when it is off.
    machine.extra.extend(["-action".into(), "shutdown=pause".into()]);
    let mut session = fixture.boot(&machine)?;
    session.wait_for("[hyp] web: stopped (power off)")?;
    let mut monitor = Monitor::connect(&socket)?;
    let mut damaged = Vec::new();
    for start in places {
        for address in (start..start + LENGTH).step_by(0x1000) {
            let words = monitor.words(address, 8)?;
            if words.iter().any(|word| *word != PATTERN) {
                damaged.push(format!("{address:#x}"));
            }
        }
    }
    let run = session.stop_after(Duration::from_secs(1));
    ensure(run.with("demo: ").any(|line| line.ends_with("as promised")), "no demo", &run)?;
    ensure(damaged.is_empty(), &format!("written: {}", damaged.join(" ")), &run)
}

/// One CPU runs, nothing turns the machine off, and it is said.
fn without_psci(fixture: &Fixture) -> Checked {
    let tree = changed(
        fixture,
        &[(r#"compatible = "arm,psci-1.0\0arm,psci-0.2\0arm,psci";"#, "status = \"disabled\";")],
    )?;
    let guest = stub(fixture, "web", "bootargs = \"demo\"; cpus = <2>;");
    let mut session = fixture.boot(&machine(fixture, &tree, &guest)?)?;
    session.wait_for("[hyp] web: stopped (power off)")?;
    let run = session.stop_after(Duration::from_secs(2));
    one(&run, "no firmware here turns the machine off")?;
    one(&run, "[hyp] 1 CPU up")?;
    one(&run, "CPU 0x1 cannot be started")?;
    ensure(run.lines.iter().any(|line| demo_closed(line)), "no demo", &run)
}

/// The line by which QEMU's tree names its console.
const STDOUT: &str = "stdout-path = \"/pl011@9000000\";";
const ALIAS: (&str, &str) =
    ("/dts-v1/;", "/dts-v1/;\n/ { aliases { serial0 = \"/pl011@9000000\"; }; };");

fn runs_the_demo(fixture: &Fixture, changes: &[(&str, &str)]) -> Checked {
    let guest = stub(fixture, "web", "bootargs = \"demo\";");
    let run = fixture.run(&machine(fixture, &changed(fixture, changes)?, &guest)?)?;
    ensure(run.lines.iter().any(|line| demo_closed(line)), "no demo", &run)
}

fn console_is_serial0_without_stdout_path(fixture: &Fixture) -> Checked {
    runs_the_demo(fixture, &[(STDOUT, ""), ALIAS])
}

/// The word comes before stdout-path, and a wrong one is refused on the console of the tree.
fn console_word(fixture: &Fixture) -> Checked {
    let word = "stdout-path = \"/pl031@9010000\"; bootargs = \"hyp.console=serial0:115200n8\";";
    runs_the_demo(fixture, &[(STDOUT, word), ALIAS])?;
    let word = format!("{STDOUT} bootargs = \"hyp.console=/pl031@9010000\";");
    let tree = changed(fixture, &[(STDOUT, &word)])?;
    let guest = stub(fixture, "web", "bootargs = \"demo\";");
    let run = fixture.boot(&machine(fixture, &tree, &guest)?)?.stop_after(Duration::from_secs(2));
    one(&run, "[hyp] error: hyp.console=/pl031@9010000: no UART that Portcullis drives").map(drop)
}

fn demo_closed(line: &str) -> bool {
    line.starts_with("demo: ") && line.ends_with("as promised")
}
