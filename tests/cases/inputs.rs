// SPDX-License-Identifier: MIT OR Apache-2.0
//! Descriptions of VMs that cannot be: each gets one `[hyp] error:` line that names the thing, no guest runs,
//! and the machine goes off.

use anyhow::{Context, anyhow};
use xtask::qemu::{Machine, Module};

use crate::fixture::{Checked, Fixture, ensure, one};

cases![
    no_guest,
    unknown_word,
    unknown_hypervisor_word,
    debug_word,
    bad_value,
    word_twice,
    zero_memory,
    no_vcpu,
    more_vcpus_than_a_vm_has,
    more_vcpus_than_share_a_cpu,
    more_memory_than_there_is,
    more_memory_than_addresses,
    more_addresses_than_the_cpu_has,
    named_hyp,
    same_name_twice,
    too_many,
    image_larger_than_its_memory,
    image_outside_memory,
    rom_over_ram,
    big_endian_image,
    module_beyond_ram,
    module_over_the_tree,
    second_guest_bad,
];

/// One guest with these boot arguments is refused with these words.
fn words(fixture: &Fixture, bootargs: &str, words: &[&str]) -> Checked {
    fixture.refused(&fixture.machine_with(&[bootargs]), words)
}

// scenario: J2
fn no_guest(fixture: &Fixture) -> Checked {
    fixture.refused(&fixture.machine(), &["no guest", "guest-loader"])
}

// scenario: J2
fn unknown_word(fixture: &Fixture) -> Checked {
    words(fixture, "demo vm.gaurd=enforce", &["vm.gaurd", "vm.guard"])
}

// scenario: J2
fn unknown_hypervisor_word(fixture: &Fixture) -> Checked {
    let machine =
        Machine { append: Some("quiet hyp.panik".into()), ..fixture.machine_with(&["demo"]) };
    fixture.refused(&machine, &["hyp.panik", "hyp.panic"])
}

/// The log has what docs/debugging.md promises with the word, and none of it without.
fn debug_word(fixture: &Fixture) -> Checked {
    let words = "vm.name=a vm.cpus=3 vm.guard=enforce vm.dialect=series demo";
    let machine = Machine { append: Some("hyp.debug".into()), ..fixture.machine_with(&[words]) };
    let run = fixture.run(&machine)?;
    one(&run, "[hyp] debug: console /pl011@9000000 at 0x9000000+0x1000")?;
    one(&run, "[hyp] debug: RAM 0x40000000+0x40000000")?;
    one(&run, "[hyp] debug: starting CPU 0x1")?;
    ensure(run.with("[hyp] debug: free 0x").count() > 1, "no free RAM", &run)?;
    let vm = one(&run, "[hyp] a: 128 MiB of RAM in")?;
    for part in ["3 vCPUs on CPUs 0 1 0,", "entry 0x40200000;", "guard enforce, dialect series,"] {
        ensure(vm.contains(part), &format!("`{vm}` does not say `{part}`"), &run)?;
    }
    // All of it but the image and the modules, at first; 128 MiB, tables and no more are taken.
    let free = |text: &str| -> anyhow::Result<u64> {
        let line = one(&run, text)?;
        let words: Vec<_> = line.split(' ').collect();
        let number = words.iter().position(|word| *word == "MiB").and_then(|at| words.get(at - 1));
        number.and_then(|it| it.parse().ok()).ok_or_else(|| anyhow!("no figure in `{line}`"))
    };
    let (before, after) = (free("[hyp] 2 CPUs up")?, free("MiB of RAM left free")?);
    let fits = (1000..1024).contains(&before) && (128..132).contains(&(before - after));
    ensure(fits, &format!("{before} MiB and then {after} MiB are free"), &run)?;
    let run = fixture.run(&fixture.machine_with(&["demo"]))?;
    ensure(run.with("debug:").count() == 0, "debug lines without the word", &run)
}

// scenario: J2
fn bad_value(fixture: &Fixture) -> Checked {
    words(fixture, "demo vm.mem=plenty", &["vm.mem=plenty", "vm.mem takes"])
}

// scenario: J2
fn word_twice(fixture: &Fixture) -> Checked {
    words(fixture, "demo vm.cpus=1 vm.cpus=2", &["vm.cpus", "twice"])
}

// scenario: J2
fn zero_memory(fixture: &Fixture) -> Checked {
    words(fixture, "demo vm.mem=0", &["vm.mem=0"])
}

// scenario: J2
fn no_vcpu(fixture: &Fixture) -> Checked {
    words(fixture, "demo vm.cpus=0", &["vm.cpus=0"])
}

// scenario: J2 F5
fn more_vcpus_than_a_vm_has(fixture: &Fixture) -> Checked {
    words(fixture, "demo vm.cpus=9", &["vm.cpus=9", "vm.cpus takes"])
}

// scenario: J2 F5
fn more_vcpus_than_share_a_cpu(fixture: &Fixture) -> Checked {
    let machine = fixture.machine_with(&["demo vm.cpus=8 vm.mem=16M"; 5]);
    fixture
        .refused(&Machine { cpus: 1, ..machine }, &["CPU 0 has 40 vCPUs", "vm.cpus", "more CPUs"])
}

// scenario: J2
fn more_memory_than_there_is(fixture: &Fixture) -> Checked {
    words(fixture, "demo vm.name=fat vm.mem=4G", &["fat"])
}

// scenario: J2
fn more_memory_than_addresses(fixture: &Fixture) -> Checked {
    words(fixture, "demo vm.ipa=32 vm.mem=4G", &["vm.ipa", "vm.mem"])
}

// scenario: C8
fn more_addresses_than_the_cpu_has(fixture: &Fixture) -> Checked {
    let machine = fixture.machine_with(&["demo vm.ipa=44"]);
    fixture.refused(&Machine { cpu: "cortex-a53".into(), ..machine }, &["vm.ipa=44", "40 bits"])
}

// scenario: J2
fn named_hyp(fixture: &Fixture) -> Checked {
    words(fixture, "demo vm.name=hyp", &["vm.name=hyp"])
}

// scenario: J2
fn same_name_twice(fixture: &Fixture) -> Checked {
    let machine = fixture.machine_with(&["demo vm.name=twin", "demo vm.name=twin"]);
    fixture.refused(&machine, &["twin", "module@0x50000000"])
}

// scenario: F5
fn too_many(fixture: &Fixture) -> Checked {
    let machine = Machine { cpus: 8, ..fixture.machine_with(&["demo vm.mem=4M"; 33]) };
    fixture.refused(&machine, &["33 VMs", "at most 32"])
}

/// An image without Image header: it is taken as it is.
fn plain_image(fixture: &Fixture, bytes: usize, bootargs: &str) -> anyhow::Result<Machine> {
    let kernel = fixture.file("plain.bin", &vec![0xd5; bytes])?;
    let guest = Module { kernel, bootargs: bootargs.into(), ..Module::default() };
    Ok(Machine { modules: vec![guest], ..fixture.machine() })
}

// scenario: J3
// bug: 81
fn image_larger_than_its_memory(fixture: &Fixture) -> Checked {
    let machine = plain_image(fixture, 6 << 20, "vm.name=small vm.mem=4M")?;
    fixture.refused(&machine, &["small", "its image needs 0x600000 bytes", "vm.mem"])
}

// scenario: J2
fn image_outside_memory(fixture: &Fixture) -> Checked {
    words(fixture, "demo vm.load=0x20200000", &["vm.load=0x20200000"])
}

// scenario: J2
fn rom_over_ram(fixture: &Fixture) -> Checked {
    words(fixture, "demo vm.rom=0x40000000+2M", &["vm.rom", "overlaps its RAM"])
}

/// A guest whose Image header has these bytes at `at` instead of its own.
fn header(fixture: &Fixture, at: usize, bytes: &[u8]) -> anyhow::Result<Machine> {
    let mut image = std::fs::read(&fixture.images.guest_stub)?;
    let place = image.get_mut(at..at + bytes.len()).context("the stub has no header")?;
    place.copy_from_slice(bytes);
    let kernel = fixture.file("patched.bin", &image)?;
    let guest = Module { kernel, bootargs: "demo".into(), ..Module::default() };
    Ok(Machine { modules: vec![guest], ..fixture.machine() })
}

// scenario: J3
fn big_endian_image(fixture: &Fixture) -> Checked {
    fixture.refused(&header(fixture, 24, &[0x01])?, &["big-endian"])
}

// scenario: J2
fn module_beyond_ram(fixture: &Fixture) -> Checked {
    let guest = Module { address: Some(0x9000_0000), ..fixture.guest("demo") };
    let machine = Machine { modules: vec![guest], ..fixture.machine() };
    fixture.refused(&machine, &["module@0x90000000", "not inside RAM"])
}

// scenario: J4
fn module_over_the_tree(fixture: &Fixture) -> Checked {
    // QEMU puts its tree here, and drops the module's bytes without a word.
    let guest = Module { address: Some(0x4800_0000), ..fixture.guest("demo") };
    let machine = Machine { modules: vec![guest], ..fixture.machine() };
    fixture.refused(&machine, &["module@0x48000000", "overlaps the device tree"])
}

// scenario: J2
fn second_guest_bad(fixture: &Fixture) -> Checked {
    // The first one is good and must not run all the same.
    fixture.refused(&fixture.machine_with(&["demo", "demo vm.mem=1"]), &["vm.mem=1"])
}
