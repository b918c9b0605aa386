// SPDX-License-Identifier: MIT OR Apache-2.0
//! VMs from a bundle: as the initrd, and behind the image. What is wrong with one is found on the host; here are those
//! that EL2 must find in memory.

use anyhow::{Context, anyhow};
use std::fs;
use std::path::PathBuf;

use xtask::qemu::{Blob, Machine};
use xtask::{bundle, demo, paths};

use super::banks::decompiled;
use crate::fixture::{Checked, Fixture, ensure, one};

cases![
    initrd,
    three_vms,
    appended,
    appended_to_an_image_that_was_moved,
    initrd_above_4_gib,
    bundle_and_module,
    bundle_twice,
    initrd_that_is_no_bundle,
    initrd_that_is_cut,
    bad_property,
    examples,
];

/// A bundle of these nodes, as `scripts/bundle` makes it; with Portcullis in front of it if `with_hyp`.
pub fn made(fixture: &Fixture, name: &str, nodes: &str, with_hyp: bool) -> anyhow::Result<PathBuf> {
    let source = format!("/dts-v1/; / {{ compatible = \"portcullis,bundle\"; {nodes} }};");
    let source = fixture.file(&format!("{name}.dts"), source.as_bytes())?;
    let output = source.with_extension("img");
    let image = with_hyp.then_some(fixture.images.hypervisor.as_path());
    bundle::make(&source, &output, image)?;
    Ok(output)
}

/// A node for the test guest.
pub fn stub(fixture: &Fixture, name: &str, properties: &str) -> String {
    format!(
        "{name} {{ kernel = /incbin/(\"{}\"); {properties} }};",
        fixture.images.guest_stub.display()
    )
}

fn demo_bundle(fixture: &Fixture, with_hyp: bool) -> anyhow::Result<PathBuf> {
    made(
        fixture,
        if with_hyp { "image" } else { "demo" },
        &stub(fixture, "web", "bootargs = \"demo\";"),
        with_hyp,
    )
}

/// The demonstration runs to its end in a VM called `web`, on a machine with nothing but this.
fn shows_the_demo(fixture: &Fixture, machine: &Machine) -> Checked {
    let run = fixture.run(machine)?;
    demo::judge(&run)?;
    one(&run, "[hyp] web: stopped (").map(drop)
}

// scenario: J2
fn initrd(fixture: &Fixture) -> Checked {
    shows_the_demo(
        fixture,
        &Machine { initrd: Some(demo_bundle(fixture, false)?), ..fixture.machine() },
    )
}

fn three_vms(fixture: &Fixture) -> Checked {
    let nodes = [
        stub(fixture, "a", "bootargs = \"demo\"; mem = <(16 << 20)>; guard = \"enrol\";"),
        stub(fixture, "b", "bootargs = \"demo\"; mem = <(16 << 20)>; pool = <64>;"),
        stub(
            fixture,
            "c",
            "bootargs = \"demo\"; mem = <(16 << 20)>; preset = <0 0x9000000 0 0x1000>;",
        ),
    ];
    let initrd = Some(made(fixture, "three", &nodes.concat(), false)?);
    let run = fixture.run(&Machine { initrd, ..fixture.machine() })?;
    for name in ["a", "b", "c"] {
        one(&run, &format!("[hyp] {name}: stopped ("))?;
    }
    // What only one of them was given, it has: another's pool, and c its UART from the first instruction on.
    ensure(one(&run, "[hyp] b: 16 MiB")?.contains("64 more free"), "b has another pool", &run)?;
    let uart = |name: &str| {
        run.with(&format!("[hyp] warning: {name}: ")).any(|line| line.contains("IPA 0x9000018 "))
    };
    ensure(uart("a") && uart("b") && !uart("c"), "the UART is not declared for c alone", &run)
}

fn appended(fixture: &Fixture) -> Checked {
    shows_the_demo(
        fixture,
        &Machine { kernel: Some(demo_bundle(fixture, true)?), ..fixture.machine() },
    )
}

/// Neither at 2 MiB nor at the place that anybody would choose; what is behind the image has come with it.
fn appended_to_an_image_that_was_moved(fixture: &Fixture) -> Checked {
    const TREE: u64 = 0x4e00_0000;
    let tree = fixture.machine().tree(&fixture.file("dump.dtb", &[])?)?;
    // movz x0, #0x4e00, lsl #16; movz x1, #0x5234, lsl #16; movk x1, #0x5000; br x1
    let code = [0xd2a9_c000_u32, 0xd2aa_4681, 0xf28a_0001, 0xd61f_0020];
    let code: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    let blobs = vec![
        Blob { file: fixture.file("loader.bin", &code)?, address: 0x4f00_0000, start: true },
        Blob { file: demo_bundle(fixture, true)?, address: 0x5234_5000, start: false },
        Blob { file: fixture.file("tree.dtb", &tree)?, address: TREE, start: false },
    ];
    shows_the_demo(fixture, &Machine { blobs, kernel: None, ..fixture.machine() })
}

/// On a machine whose RAM goes beyond 4 GiB, with a tree that says that the initrd lies there.
fn initrd_above_4_gib(fixture: &Fixture) -> Checked {
    const HIGH: u64 = 0x1_2000_0000;
    let file = demo_bundle(fixture, false)?;
    let bytes = fs::metadata(&file)?.len();
    let machine = Machine { memory_mib: 6144, ..fixture.machine() };
    let low = Machine { initrd: Some(file.clone()), ..machine.clone() };
    let dump = fixture.file("dump.dtb", &[])?;
    low.tree(&dump)?;
    let text = decompiled(&dump)?;
    let mut high = String::new();
    for line in text.lines() {
        high += &match line.trim_start().split_once(" = ") {
            Some((name @ "linux,initrd-start", _)) => format!("{name} = /bits/ 64 <{HIGH:#x}>;"),
            Some((name @ "linux,initrd-end", _)) => {
                format!("{name} = /bits/ 64 <{:#x}>;", HIGH + bytes)
            }
            _ => line.to_owned(),
        };
        high.push('\n');
    }
    let source = fixture.file("high.dts", high.as_bytes())?;
    let tree = bundle::compile(&source)?;
    let blobs = vec![Blob { file, address: HIGH, start: false }];
    let dtb = Some(fixture.file("high.dtb", &tree)?);
    shows_the_demo(fixture, &Machine { blobs, dtb, ..machine })
}

// scenario: J2
fn bundle_and_module(fixture: &Fixture) -> Checked {
    let initrd = Some(demo_bundle(fixture, false)?);
    let machine = Machine { initrd, ..fixture.machine_with(&["demo"]) };
    fixture.refused(&machine, &["described twice", "/chosen/module@0x50000000", "the initrd"])
}

// scenario: J2
fn bundle_twice(fixture: &Fixture) -> Checked {
    let initrd = Some(demo_bundle(fixture, false)?);
    let kernel = Some(demo_bundle(fixture, true)?);
    let machine = Machine { initrd, kernel, ..fixture.machine() };
    fixture.refused(&machine, &["described twice", "behind the image", "the initrd"])
}

// scenario: J2
fn initrd_that_is_no_bundle(fixture: &Fixture) -> Checked {
    let initrd = Some(fixture.images.guest_stub.clone());
    fixture.refused(&Machine { initrd, ..fixture.machine() }, &["the initrd at 0x", "no bundle"])
}

// scenario: J1
fn initrd_that_is_cut(fixture: &Fixture) -> Checked {
    let mut bytes = fs::read(demo_bundle(fixture, false)?)?;
    bytes.truncate(bytes.len() / 2);
    let initrd = Some(fixture.file("cut.img", &bytes)?);
    fixture.refused(&Machine { initrd, ..fixture.machine() }, &["the initrd at 0x", "truncated"])
}

/// What `scripts/bundle` would refuse; its tree is changed behind its back.
// scenario: J2
fn bad_property(fixture: &Fixture) -> Checked {
    let file = made(fixture, "bad", &stub(fixture, "web", "guard = \"enforce\";"), false)?;
    let mut bytes = fs::read(file)?;
    let at = bytes.windows(8).position(|word| word == b"enforce\0").context("no guard")?;
    bytes.get_mut(at..at + 7).context("no guard")?.copy_from_slice(b"enf0rce");
    let initrd = Some(fixture.file("changed.img", &bytes)?);
    fixture
        .refused(&Machine { initrd, ..fixture.machine() }, &["bundle:/web", "'guard'", "enforce"])
}

/// Each example compiles and holds what it says. Guests that were not made are stood in for.
fn examples(fixture: &Fixture) -> Checked {
    let stand_in = fixture.file("stand-in", &[0; 4096])?;
    for (name, vms) in [
        ("stub", &[("stub", 128, 1)][..]),
        ("linux", &[("linux", 512, 2)]),
        ("three", &[("stub", 64, 1), ("linux-guarded", 256, 2), ("u-boot", 128, 1)]),
    ] {
        let folder = paths::root().join("examples");
        let file = folder.join(name).with_extension("dts");
        let mut text = fs::read_to_string(&file)?;
        for quoted in text.clone().split("/incbin/(\"").skip(1) {
            let path = quoted.split('"').next().unwrap_or_default();
            let whole = folder.join(path);
            let there = if whole.is_file() { &whole } else { &stand_in };
            text = text.replace(&format!("\"{path}\""), &format!("\"{}\"", there.display()));
        }
        let source = fixture.file(&format!("{name}.dts"), text.as_bytes())?;
        let output = source.with_extension("img");
        let made = bundle::make(&source, &output, None)?;
        let made: Vec<_> =
            made.iter().map(|vm| (vm.name.as_str(), vm.ram_size() >> 20, vm.vcpus())).collect();
        if made != vms {
            return Err(anyhow!("{name}.dts holds {made:?}"));
        }
    }
    Ok(())
}
