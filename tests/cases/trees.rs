// SPDX-License-Identifier: MIT OR Apache-2.0
//! Device trees that are cut, lie, or are none. QEMU repairs or refuses such trees itself, so a small loader
//! starts the image here, with whatever it likes in x0.
//!
//! Where the tree does not lead to a console, the reason is in the symbol `boot_refusal`; where it does not
//! lead to firmware, the machine cannot go off, and parks.

use anyhow::{Context, anyhow};
use std::time::{Duration, Instant};

use xtask::elf;
use xtask::qemu::{Blob, Machine, Monitor, Session};

use crate::fixture::{Checked, Fixture, ensure, one};

cases![
    whole,
    none,
    misaligned,
    garbage,
    bad_magic,
    longer_than_it_can_be,
    cut_in_half,
    cut_at_many_places,
    without_memory,
    memory_that_wraps,
    module_over_the_image,
    modules_over_each_other,
    module_that_wraps,
    console_without_a_driver,
];

/// Where things are put.
const IMAGE: u64 = 0x4020_0000;
const TREE: u64 = 0x4e00_0000;
const LOADER: u64 = 0x4f00_0000;

/// `movz x0, #low; movk x0, #high, lsl #16; movz x1, #0x4020, lsl #16; br x1`
fn loader(x0: u64) -> Vec<u8> {
    let half = |shift: u32| ((x0 >> shift & 0xffff) as u32) << 5;
    let code = [0xd280_0000 | half(0), 0xf2a0_0000 | half(16), 0xd2a8_0401, 0xd61f_0020];
    code.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// What the usual machine with two guests has for a tree.
fn tree(fixture: &Fixture) -> anyhow::Result<Vec<u8>> {
    let machine = fixture.machine_with(&["demo vm.mem=16M", "demo vm.mem=16M"]);
    let file = fixture.file("dump.dtb", &[])?;
    machine.tree(&file)
}

/// The machine on which a loader starts the image with `x0`; `tree` is at [`TREE`].
fn machine(fixture: &Fixture, tree: &[u8], x0: u64) -> anyhow::Result<Machine> {
    let blobs = vec![
        Blob { file: fixture.file("loader.bin", &loader(x0))?, address: LOADER, start: true },
        Blob { file: fixture.images.hypervisor.clone(), address: IMAGE, start: false },
        Blob { file: fixture.file("tree.dtb", tree)?, address: TREE, start: false },
    ];
    Ok(Machine { kernel: None, blobs, ..fixture.machine() })
}

/// A machine that is started with this tree, its console, and a look at the texts that the image keeps in its memory.
struct Started {
    session: Session,
    monitor: Monitor,
    elf: Vec<u8>,
}

impl Started {
    fn new(fixture: &Fixture, tree: &[u8], x0: u64) -> anyhow::Result<Self> {
        let mut machine = machine(fixture, tree, x0)?;
        // Both guests as the tree has them, so that only the tree is in their way.
        for address in [0x5000_0000, 0x5020_0000] {
            let file = fixture.images.guest_stub.clone();
            machine.blobs.push(Blob { file, address, start: false });
        }
        let socket = Monitor::socket(&fixture.name);
        machine.extra = Monitor::arguments(&socket);
        // What it says last must still be readable.
        machine.extra.extend(["-action".into(), "shutdown=pause".into()]);
        let elf = std::fs::read(&fixture.images.hypervisor_elf)?;
        let session = fixture.boot(&machine)?;
        let monitor = Monitor::connect(&socket)?;
        Ok(Self { session, monitor, elf })
    }

    /// The text in a symbol, once there is one.
    fn text(&mut self, symbol: &str) -> anyhow::Result<String> {
        let at = elf::symbol(&self.elf, |name| name == symbol)?;
        let mut read = || -> anyhow::Result<String> {
            let words = self.monitor.words(IMAGE + at, 16)?;
            let bytes = words.iter().flat_map(|word| word.to_le_bytes());
            let bytes: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let until = Instant::now() + Duration::from_secs(60);
        while read()?.is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
        // It is written letter by letter, and said only after that.
        std::thread::sleep(Duration::from_millis(500));
        read()
    }
}

/// The image refuses this tree: in one `[hyp] error:` line with `word` in it if `said`, and always in
/// `boot_refusal`. No guest runs.
fn refused(fixture: &Fixture, tree: &[u8], x0: u64, said: bool, word: &str) -> Checked {
    let mut started = Started::new(fixture, tree, x0)?;
    let kept = started.text("boot_refusal")?;
    let run = started.session.stop_after(Duration::from_secs(1));
    ensure(kept.contains(word), &format!("boot_refusal is `{kept}`, without `{word}`"), &run)?;
    if said {
        let line = one(&run, "[hyp] error:")?;
        ensure(line.contains(word), &format!("`{line}` does not name `{word}`"), &run)?;
    }
    let others = run.lines.iter().filter(|line| !line.starts_with("[hyp]"));
    ensure(others.count() == 0, "a guest ran", &run)
}

/// Replaces every `old` in `tree` by `new`, which must be as long; there must be at least one.
fn replace(tree: &mut [u8], old: &[u8], new: &[u8]) -> Checked {
    let places: Vec<usize> = (0..tree.len().saturating_sub(old.len()))
        .filter(|at| tree.get(*at..*at + old.len()) == Some(old))
        .collect();
    for at in &places {
        if let Some(place) = tree.get_mut(*at..*at + new.len()) {
            place.copy_from_slice(new);
        }
    }
    if places.is_empty() || old.len() != new.len() {
        Err(anyhow!("nothing to replace"))
    } else {
        Ok(())
    }
}

/// Big-endian cells of an address and a size.
fn reg(address: u64, size: u64) -> Vec<u8> {
    [address.to_be_bytes(), size.to_be_bytes()].concat()
}

/// Bytes of a guest's module.
fn stub_size(fixture: &Fixture) -> anyhow::Result<u64> {
    Ok(std::fs::metadata(&fixture.images.guest_stub)?.len())
}

/// This way of starting works where nothing is wrong: what follows fails for the tree's sake.
fn whole(fixture: &Fixture) -> Checked {
    let mut machine = machine(fixture, &tree(fixture)?, TREE)?;
    for address in [0x5000_0000, 0x5020_0000] {
        let file = fixture.images.guest_stub.clone();
        machine.blobs.push(Blob { file, address, start: false });
    }
    let run = fixture.run(&machine)?;
    for name in ["vm0", "vm1"] {
        one(&run, &format!("[hyp] {name}: stopped ("))?;
    }
    Ok(())
}

// scenario: J1 J5
// bug: 27
fn none(fixture: &Fixture) -> Checked {
    refused(fixture, &[], 0, false, "no device tree in x0")
}

// scenario: J1
fn misaligned(fixture: &Fixture) -> Checked {
    let mut tree = tree(fixture)?;
    tree.insert(0, 0);
    refused(fixture, &tree, TREE + 1, false, "device tree")
}

// scenario: J1
fn garbage(fixture: &Fixture) -> Checked {
    let noise: Vec<u8> =
        (0..65_536_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    refused(fixture, &noise, TREE, false, "device tree")
}

// scenario: J1
fn bad_magic(fixture: &Fixture) -> Checked {
    let mut tree = tree(fixture)?;
    replace(&mut tree, &0xd00d_feed_u32.to_be_bytes(), &0xd00d_feee_u32.to_be_bytes())?;
    refused(fixture, &tree, TREE, false, "device tree")
}

// scenario: J1
fn longer_than_it_can_be(fixture: &Fixture) -> Checked {
    let mut tree = tree(fixture)?;
    tree.get_mut(4..8).context("no header")?.copy_from_slice(&u32::MAX.to_be_bytes());
    refused(fixture, &tree, TREE, false, "device tree")
}

/// The first `keep` bytes, zeros after them.
fn cut(tree: &[u8], keep: usize) -> Vec<u8> {
    let mut cut = tree.to_vec();
    if let Some(rest) = cut.get_mut(keep..) {
        rest.fill(0);
    }
    cut
}

// scenario: J1
fn cut_in_half(fixture: &Fixture) -> Checked {
    let mut tree = tree(fixture)?;
    // QEMU's trees have room to spare behind their contents: half of what is used.
    while tree.last() == Some(&0) {
        tree.pop();
    }
    refused(fixture, &cut(&tree, tree.len() / 2), TREE, false, "device tree")
}

// scenario: J1
// bug: 84
fn cut_at_many_places(fixture: &Fixture) -> Checked {
    let tree = tree(fixture)?;
    let used = tree.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    for part in 1..8 {
        // Not on a boundary of anything.
        let keep = used * part / 8 + part;
        refused(fixture, &cut(&tree, keep), TREE, false, "device tree")
            .with_context(|| format!("cut at {keep} of {used}"))?;
    }
    Ok(())
}

// scenario: J1
fn without_memory(fixture: &Fixture) -> Checked {
    let mut tree = tree(fixture)?;
    replace(&mut tree, &reg(0x4000_0000, 1024 << 20), &reg(0x4000_0000, 0))?;
    refused(fixture, &tree, TREE, true, "memory")
}

// scenario: J1
fn memory_that_wraps(fixture: &Fixture) -> Checked {
    let mut tree = tree(fixture)?;
    replace(&mut tree, &reg(0x4000_0000, 1024 << 20), &reg(0x4000_0000, u64::MAX))?;
    refused(fixture, &tree, TREE, true, "memory")
}

// scenario: J2 J4
fn module_over_the_image(fixture: &Fixture) -> Checked {
    let mut tree = tree(fixture)?;
    let size = stub_size(fixture)?;
    replace(&mut tree, &reg(0x5000_0000, size), &reg(IMAGE + 0x1000, size))?;
    refused(fixture, &tree, TREE, true, "overlaps Portcullis's image")
}

// scenario: J2 J4
fn modules_over_each_other(fixture: &Fixture) -> Checked {
    let mut tree = tree(fixture)?;
    let size = stub_size(fixture)?;
    replace(&mut tree, &reg(0x5000_0000, size), &reg(0x5020_0000 - size + 1, size))?;
    refused(fixture, &tree, TREE, true, "overlaps")
}

// scenario: J1
fn module_that_wraps(fixture: &Fixture) -> Checked {
    let mut tree = tree(fixture)?;
    let size = stub_size(fixture)?;
    replace(&mut tree, &reg(0x5000_0000, size), &reg(0u64.wrapping_sub(size) + 1, size))?;
    refused(fixture, &tree, TREE, true, "module@0x50000000")
}

/// Guests run all the same, and a text in memory says why there is no console.
fn console_without_a_driver(fixture: &Fixture) -> Checked {
    let mut tree = tree(fixture)?;
    replace(&mut tree, b"arm,pl011\0", b"arm,pl999\0")?;
    let mut started = Started::new(fixture, &tree, TREE)?;
    let kept = started.text("boot_console")?;
    let until = Instant::now() + Duration::from_secs(60);
    let mut off = false;
    while !off && Instant::now() < until {
        let status = started.monitor.ask("info status")?;
        off = status.contains("paused (shutdown)");
        std::thread::sleep(Duration::from_millis(100));
    }
    let run = started.session.stop_after(Duration::from_secs(1));
    ensure(kept == "none: no driver for arm,pl999", &format!("boot_console is `{kept}`"), &run)?;
    ensure(off, "the guests did not run to their end", &run)?;
    ensure(run.lines.is_empty(), "something was said on a UART of another kind", &run)
}
