// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernel images as their makers build them, one demand at a time: headers, ELF files, a BSS behind the file, a tree at
//! the start of RAM, an EL3, virtio transports to look for. And files that hold no kernel.

use anyhow::anyhow;
use std::fs;
use std::path::PathBuf;

use xtask::qemu::{Machine, Module, Run};
use xtask::{bundle, demo};

use super::bundles::made;
use crate::asm::{Asm, UART};
use crate::fixture::{Checked, Fixture, ensure, one, powered_off};

cases![
    containers_are_refused,
    a_page_of_text_is_refused,
    an_elf_file_runs,
    elf_bss_is_zero_in_each_life,
    elf_with_a_virtual_entry,
    elf_in_a_rom,
    elf_that_lies_is_refused,
    image_for_the_first_2_mib,
    image_with_any_offset,
    image_size_that_is_an_address,
    image_without_a_size,
    tree_out_of_a_bss,
    tree_where_its_owner_wants_it,
    tree_at_the_start_of_ram,
    an_el3_is_above,
    virtio_transports_without_a_device,
    virtio_transports_are_no_way_around_the_guard,
    bundle_unpacks,
];

/// The first four bytes of a device tree, as a little-endian load has them.
const TREE_MAGIC: u64 = 0xedfe_0dd0;
/// Bytes of an arm64 Image header.
const HEADER: usize = 64;

/// The usual machine with one guest, whose kernel has these bytes.
fn machine(fixture: &Fixture, name: &str, bytes: &[u8], bootargs: &str) -> anyhow::Result<Machine> {
    let kernel = fixture.file(name, bytes)?;
    let guest = Module { kernel, bootargs: bootargs.into(), ..Module::default() };
    Ok(Machine { modules: vec![guest], ..fixture.machine() })
}

/// Prints `ok` and stops; reached only where all that was asked for holds.
fn ok(code: Asm) -> Vec<u8> {
    code.print("all is as it should be\n").off().label("no").print("it is not\n").off().bytes()
}

/// Goes to `no` unless the image lies so that this instruction is at `address`.
fn stands_at(code: Asm, address: u64) -> Asm {
    code.here(1).mov(2, address).unless_same(1, 2, "no")
}

/// Runs a guest of [`ok`].
fn says_ok(fixture: &Fixture, name: &str, bytes: &[u8], bootargs: &str) -> anyhow::Result<Run> {
    let run = fixture.run(&machine(fixture, name, bytes, bootargs)?)?;
    one(&run, "all is as it should be")?;
    ensure(run.with("it is not").count() == 0, "it is not", &run)?;
    powered_off(&run)?;
    Ok(run)
}

/// `code` behind an arm64 Image header.
fn image(text_offset: u64, image_size: u64, flags: u64, code: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    // b +64
    bytes[..4].copy_from_slice(&0x1400_0010_u32.to_le_bytes());
    for (at, value) in [(8, text_offset), (16, image_size), (24, flags)] {
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    bytes[56..60].copy_from_slice(b"ARM\x64");
    bytes.extend(code);
    bytes
}

/// An ELF file: its entry, and of each segment its virtual and physical address, its bytes, and its size in memory.
fn elf(entry: u64, segments: &[(u64, u64, &[u8], u64)]) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0\x01\0\0\0".to_vec();
    for word in [entry, 64, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(0_u32.to_le_bytes());
    for half in [64, 56, segments.len() as u16, 64, 0, 0] {
        bytes.extend(half.to_le_bytes());
    }
    let mut offset = 0x1000;
    for (vaddr, paddr, content, memory) in segments {
        bytes.extend([1_u32, 7].iter().flat_map(|word| word.to_le_bytes()));
        for word in [offset, *vaddr, *paddr, content.len() as u64, *memory, 0x1000] {
            bytes.extend(word.to_le_bytes());
        }
        offset += (content.len() as u64).next_multiple_of(0x1000);
    }
    for (_, _, content, _) in segments {
        bytes.resize(bytes.len().next_multiple_of(0x1000), 0);
        bytes.extend(*content);
    }
    bytes
}

/// What lies at the start of what people pass as a kernel, and what it is called.
// scenario: J3
fn containers_are_refused(fixture: &Fixture) -> Checked {
    let at = |offset: usize, magic: &[u8]| {
        let mut bytes = vec![0; 8192];
        bytes[offset..offset + magic.len()].copy_from_slice(magic);
        bytes
    };
    let mut pe = at(0, b"MZ");
    pe[0x3c] = 0x40;
    pe[0x40..0x46].copy_from_slice(b"PE\0\0\x64\x86");
    for (name, bytes, words) in [
        ("gzip", at(0, b"\x1f\x8b\x08"), ["gzip", "scripts/bundle"]),
        ("zboot", at(4, b"zimg"), ["EFI zboot", "scripts/bundle"]),
        ("uImage", at(0, b"\x27\x05\x19\x56"), ["uImage", "take the kernel out"]),
        ("fit", at(0, b"\xd0\x0d\xfe\xed"), ["FIT", "take the kernel out"]),
        ("pe", pe, ["PE file", "arm64 Image"]),
    ] {
        let machine = machine(fixture, name, &bytes, "vm.name=k")?;
        let [kind, advice] = words;
        fixture
            .refused(&machine, &["VM 'k'", "its kernel is", kind, advice])
            .map_err(|why| anyhow!("{name}: {why}"))?;
    }
    Ok(())
}

// scenario: J3
fn a_page_of_text_is_refused(fixture: &Fixture) -> Checked {
    let machine = machine(fixture, "text", &b"404 Not Found\n".repeat(100), "")?;
    fixture.refused(&machine, &["a text file", "arm64 Image"])
}

/// The test guest's own ELF file, with debug information and all.
fn an_elf_file_runs(fixture: &Fixture) -> Checked {
    let kernel = fixture.images.guest_stub.with_extension("elf");
    let guest = Module { kernel, bootargs: "demo".into(), ..Module::default() };
    let run = fixture.run(&Machine { modules: vec![guest], ..fixture.machine() })?;
    demo::judge(&run)?;
    one(&run, "entry 0x40200000").map(drop)
}

fn elf_bss_is_zero_in_each_life(fixture: &Fixture) -> Checked {
    const BSS: u64 = 0x4100_0000;
    const TEST: u64 = 0x0b00_0000;
    // A word of the test device outlives resets: it counts lives.
    let code = Asm::new()
        .mov(1, BSS + 0xf_fffc)
        .load(2, 1)
        .unless_zero(2, "no")
        .mov(3, 0x5a5a)
        .store(3, 1)
        .mov(4, TEST + 0x48)
        .load(5, 4)
        .unless_zero(5, "second")
        .store(3, 4)
        .call(crate::asm::calls::RESET, 0)
        .label("second");
    let code = ok(code);
    let at = 0x4020_0000;
    let file = elf(at, &[(at, at, &code, 0x1000), (BSS, BSS, &[], 0x10_0000)]);
    let run = says_ok(fixture, "bss.elf", &file, "vm.testdev=0xb000000")?;
    one(&run, "incarnation 2 begins").map(drop)
}

/// As Little Kernel is linked: to run at a virtual address, which it is entered at.
fn elf_with_a_virtual_entry(fixture: &Fixture) -> Checked {
    const VIRTUAL: u64 = 0xffff_0000_0010_0000;
    let code = ok(stands_at(Asm::new(), 0x4010_0000));
    // Its tree is where it looks for it: at the start of RAM.
    let file = elf(VIRTUAL, &[(VIRTUAL, 0x4010_0000, &code, 0x10_0000)]);
    let run = says_ok(fixture, "virtual.elf", &file, "")?;
    one(&run, "entry 0x40100000").map(drop)
}

fn elf_in_a_rom(fixture: &Fixture) -> Checked {
    const DATA: u64 = 0x4030_0000;
    let code = stands_at(Asm::new(), 0x2000).mov(1, DATA).load(2, 1).mov(3, 0x0123_4567);
    let code = ok(code.unless_same(2, 3, "no").store(1, 1));
    let file = elf(
        0x2000,
        &[
            (0x2000, 0x2000, &code, code.len() as u64),
            (DATA, DATA, &0x0123_4567_u32.to_le_bytes(), 0x1000),
        ],
    );
    says_ok(fixture, "rom.elf", &file, "vm.rom=0x0+64K").map(drop)
}

// scenario: J3
fn elf_that_lies_is_refused(fixture: &Fixture) -> Checked {
    let code = ok(Asm::new());
    let good = elf(0x4020_0000, &[(0x4020_0000, 0x4020_0000, &code, 0x1000)]);
    let cut = machine(fixture, "cut.elf", &good[..0x1004], "vm.name=k")?;
    fixture.refused(&cut, &["VM 'k'", "ELF file is truncated", "0x40200000"])?;
    let device = elf(UART, &[(UART, UART, &code, 0x1000)]);
    let device = machine(fixture, "device.elf", &device, "vm.name=k")?;
    fixture.refused(&device, &["VM 'k'", "a segment at 0x9000000", "neither in its RAM"])?;
    let mut other = good;
    other[18] = 62;
    fixture.refused(&machine(fixture, "x86.elf", &other, "")?, &["not for arm64"])
}

fn image_for_the_first_2_mib(fixture: &Fixture) -> Checked {
    let code = ok(stands_at(Asm::new(), 0x4008_0040));
    let run = says_ok(fixture, "fixed.img", &image(0x8_0000, 0x2000, 2, &code), "")?;
    one(&run, "entry 0x40080000").map(drop)?;
    // One that may lie anywhere does not have to be there.
    let code = ok(stands_at(Asm::new(), 0x4028_0040));
    says_ok(fixture, "free.img", &image(0x8_0000, 0x2000, 0xa, &code), "").map(drop)
}

fn image_with_any_offset(fixture: &Fixture) -> Checked {
    let bytes = |at| image(0xf_ffc0, 0x2000, 0xa, &ok(stands_at(Asm::new(), at)));
    says_ok(fixture, "ram.img", &bytes(0x4010_0000), "vm.load=ram")?;
    says_ok(fixture, "load.img", &bytes(0x4010_0000), "vm.load=0x400fffc0")?;
    says_ok(fixture, "odd.img", &bytes(0x4030_0000), "").map(drop)
}

/// Zephyr writes an address there.
fn image_size_that_is_an_address(fixture: &Fixture) -> Checked {
    let bytes = image(0, 0x4005_b856, 2, &ok(stands_at(Asm::new(), 0x4000_0040)));
    let run = says_ok(fixture, "size.img", &bytes, "vm.load=0x40000000")?;
    one(&run, "[hyp] warning: VM 'vm0'")?;
    one(&run, "image_size 0x4005b856").map(drop)
}

fn image_without_a_size(fixture: &Fixture) -> Checked {
    let bytes = image(0, 0, 2, &ok(stands_at(Asm::new(), 0x4008_0040)));
    let run = says_ok(fixture, "size.img", &bytes, "")?;
    one(&run, "[hyp] warning: VM 'vm0'")?;
    one(&run, "image_size 0x0").map(drop)
}

/// A flat binary clears its BSS, of which nothing tells EL2: the tree must be elsewhere.
fn tree_out_of_a_bss(fixture: &Fixture) -> Checked {
    let code = Asm::new()
        .mov(1, 0x4000_1000)
        .mov(2, 0x4010_0000)
        .mov(3, 0)
        .label("clear")
        .store(3, 1)
        .add(1, 1, 4)
        .unless_same(1, 2, "clear")
        .load(4, 0)
        .mov(5, TREE_MAGIC)
        .unless_same(4, 5, "no");
    says_ok(fixture, "flat.bin", &ok(code), "vm.load=0x40000000").map(drop)
}

fn tree_where_its_owner_wants_it(fixture: &Fixture) -> Checked {
    const TREE: u64 = 0x4700_0000;
    let code = Asm::new()
        .mov(1, TREE)
        .unless_same(0, 1, "no")
        .load(2, 0)
        .mov(3, TREE_MAGIC)
        .unless_same(2, 3, "no");
    says_ok(fixture, "dtb.bin", &ok(code), "vm.dtb=0x47000000")?;
    let machine = machine(fixture, "bad.bin", &ok(Asm::new()), "vm.dtb=0x40200000")?;
    fixture.refused(&machine, &["vm.dtb=0x40200000", "its image is there"])
}

/// A guest that ignores x0 and looks there, as U-Boot does.
fn tree_at_the_start_of_ram(fixture: &Fixture) -> Checked {
    let code = Asm::new().mov(1, 0x4000_0000).load(2, 1).mov(3, TREE_MAGIC).unless_same(2, 3, "no");
    let code = ok(code);
    let at = 0x4001_0000;
    says_ok(fixture, "low.elf", &elf(at, &[(at, at, &code, 0x100_0000)]), "")?;
    says_ok(fixture, "low.bin", &code, "").map(drop)
}

/// A guest that finds no EL3 writes CNTFRQ_EL0, which is UNDEFINED at EL1: Zephyr's start.
fn an_el3_is_above(fixture: &Fixture) -> Checked {
    let code = Asm::new()
        .read_pfr0(1)
        .field(1, 1, 12, 4)
        .unless_zero(1, "el3")
        .set_frequency(1)
        .label("el3");
    let run = says_ok(fixture, "zephyr.bin", &ok(code), "")?;
    ensure(run.with("aborted fetch").count() == 0, "it has died", &run)
}

/// All 32 transports, as Little Kernel and kvm-unit-tests look for them without a device tree.
fn transports() -> Vec<u8> {
    let code = Asm::new()
        .mov(1, 0x0a00_0000)
        .mov(2, 0x0a00_4000)
        .label("next")
        .load(3, 1)
        .mov(4, 0x7472_6976)
        .unless_same(3, 4, "no")
        .add(5, 1, 4)
        .load(3, 5)
        .mov(4, 2)
        .unless_same(3, 4, "no")
        .add(5, 1, 8)
        .load(3, 5)
        .unless_zero(3, "no")
        .add(5, 1, 0x70)
        .store(3, 5)
        .add(1, 1, 0x200)
        .unless_same(1, 2, "next");
    ok(code)
}

fn virtio_transports_without_a_device(fixture: &Fixture) -> Checked {
    says_ok(fixture, "slots.bin", &transports(), "vm.guard=off").map(drop)
}

fn virtio_transports_are_no_way_around_the_guard(fixture: &Fixture) -> Checked {
    let machine =
        machine(fixture, "slots.bin", &transports(), "vm.guard=enforce vm.preset=0x9000000+4K")?;
    let mut session = fixture.boot(&machine)?;
    session.wait_for("refused load")?;
    let run = session.stop_after(std::time::Duration::from_millis(500));
    ensure(run.with("IPA 0xa000000 ").count() >= 1, "another page was refused", &run)?;
    ensure(run.with("all is as").count() == 0, "it was let through", &run)
}

/// A kernel in gzip, in an EFI zboot image, and one in ELF, each a VM of a bundle.
fn bundle_unpacks(fixture: &Fixture) -> Checked {
    let stub = fs::read(&fixture.images.guest_stub)?;
    let gzip = xtask::image::gzip(&stub);
    // Linux' header of such an image: where the payload is, its size, and how it is packed.
    let mut zboot = vec![0; 0x1000];
    zboot[..8].copy_from_slice(b"MZ\0\0zimg");
    zboot[8..12].copy_from_slice(&0x1000_u32.to_le_bytes());
    zboot[12..16].copy_from_slice(&(gzip.len() as u32).to_le_bytes());
    zboot[24..29].copy_from_slice(b"gzip\0");
    zboot.extend(&gzip);
    let node = |name: &str, file: PathBuf| {
        format!(
            "{name} {{ kernel = /incbin/(\"{}\"); bootargs = \"demo\"; mem = <(16 << 20)>; }};",
            file.display()
        )
    };
    let nodes = [
        node("gz", fixture.file("Image.gz", &gzip)?),
        node("zboot", fixture.file("vmlinuz", &zboot)?),
        node("elf", fixture.images.guest_stub.with_extension("elf")),
    ];
    let initrd = Some(made(fixture, "packed", &nodes.concat(), false)?);
    let run = fixture.run(&Machine { initrd, ..fixture.machine() })?;
    for name in ["gz", "zboot", "elf"] {
        one(&run, &format!("[hyp] {name}: stopped (power off)"))?;
    }
    // What it cannot unpack it refuses, and leaves no file.
    let uimage = fixture.file("uImage", b"\x27\x05\x19\x56\0\0\0\0")?;
    let source =
        format!("/dts-v1/; / {{ compatible = \"portcullis,bundle\"; {} }};", node("u", uimage));
    let source = fixture.file("refused.dts", source.as_bytes())?;
    match bundle::make(&source, &source.with_extension("img"), None) {
        Ok(_) => Err(anyhow!("a uImage is taken")),
        Err(error) if format!("{error:#}").contains("bundle:/u): its kernel is a uImage") => Ok(()),
        Err(error) => Err(anyhow!("{error:#} does not name it")),
    }
}
