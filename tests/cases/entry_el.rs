// SPDX-License-Identifier: MIT OR Apache-2.0
//! Started where it should not be: a message, and a stop.

use std::time::Duration;

use xtask::qemu::{Blob, Machine, Start};

use crate::fixture::{Checked, Fixture, ensure, one};

cases![at_el1, at_el3];

/// The machine says `words` in its only `[hyp]` line, and nothing more.
fn refused_and_parked(fixture: &Fixture, machine: &Machine, words: &[&str]) -> Checked {
    let mut session = fixture.boot(machine)?;
    session.wait_for("[hyp] error:")?;
    let run = session.stop_after(Duration::from_secs(2));
    let line = one(&run, "[hyp]")?;
    for word in words {
        ensure(line.contains(word), &format!("`{line}` does not say `{word}`"), &run)?;
    }
    ensure(run.lines.len() == 1, "something else was said", &run)
}

// scenario: J5
// bug: 27
fn at_el1(fixture: &Fixture) -> Checked {
    let machine = Machine { start: Start::El1, ..fixture.machine_with(&["demo"]) };
    refused_and_parked(fixture, &machine, &["started at EL1", "virtualization=on"])
}

/// `x0 = 0x4000_0000` (QEMU's tree, when it loads no kernel), then to the image at 0x4020_0000.
const LOADER: [u32; 3] = [
    0xd2a8_0000, // movz x0, #0x4000, lsl #16
    0xd2a8_0401, // movz x1, #0x4020, lsl #16
    0xd61f_0020, // br   x1
];

// scenario: J5
fn at_el3(fixture: &Fixture) -> Checked {
    let code: Vec<u8> = LOADER.iter().flat_map(|word| word.to_le_bytes()).collect();
    let loader =
        Blob { file: fixture.file("loader.bin", &code)?, address: 0x4f00_0000, start: true };
    let image =
        Blob { file: fixture.images.hypervisor.clone(), address: 0x4020_0000, start: false };
    let machine = Machine {
        start: Start::El3,
        blobs: vec![loader, image],
        kernel: None,
        ..fixture.machine()
    };
    refused_and_parked(fixture, &machine, &["started at EL3", "EL2"])
}
