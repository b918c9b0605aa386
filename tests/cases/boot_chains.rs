// SPDX-License-Identifier: MIT OR Apache-2.0
//! Firmware chains: who starts Portcullis, in which state and with what in its registers. QEMU's own `-kernel` is what nearly every
//! other case uses; starts at other exception levels are in `levels`, starts with other trees, or none, in `trees`.

use anyhow::{Context, anyhow};
use std::path::{Path, PathBuf};

use xtask::demo;
use xtask::guests::Guest;
use xtask::qemu::{Blob, Gic, Machine, Session};

use super::bundles::{made, stub};
use crate::fixture::{Case, Checked, Fixture, group, one};

const UBOOT: &[Guest] = &[Guest::UBoot];
const EDK2: &[Guest] = &[Guest::Edk2];

/// Cases that need files which may not have been made; those with `true` are left out of a quick run.
macro_rules! with {
    ($($name:ident: $needs:expr, $slow:literal;)+) => {
        /// The cases of this file.
        pub const CASES: &[Case] = &[$(
            Case { group: group(module_path!()), name: stringify!($name), check: $name, needs: $needs, slow: $slow }
        ),+];
    };
}

with![
    u_boot: UBOOT, false;
    u_boot_gicv2: UBOOT, true;
    u_boot_with_an_image_that_holds_the_bundle: UBOOT, true;
    u_boot_moves_the_image: UBOOT, true;
    edk2: EDK2, false;
    edk2_keeps_its_memory: EDK2, true;
    edk2_without_a_tree: EDK2, true;
    mmu_on: &[], false;
    mmu_on_with_vhe: &[], false;
    memory_behind_the_file_holds_anything: &[], false;
];

/// Where QEMU puts its tree for a firmware that it starts.
const TREE: u64 = 0x4000_0000;
const IMAGE: u64 = 0x4200_0000;
const BUNDLE: u64 = 0x4a00_0000;

/// U-Boot as the machine's firmware, at EL2, with these files in memory, stopped at its prompt.
fn prompt(fixture: &Fixture, machine: Machine, files: &[(u64, &Path)]) -> anyhow::Result<Session> {
    let bios = Guest::UBoot.existing()?;
    let blobs = files.iter().map(|(address, file)| Blob {
        file: file.into(),
        address: *address,
        start: false,
    });
    let extra = vec!["-bios".into(), bios.display().to_string()];
    let machine = Machine { blobs: blobs.collect(), kernel: None, extra, ..machine };
    let mut session = fixture.boot(&machine)?;
    session.wait_for("Net:")?;
    // Any key stops what it would boot by itself.
    session.send(" ")?;
    session.wait_for_prompt("=> ")?;
    Ok(session)
}

/// `booti` with these arguments starts Portcullis, and the demonstration runs in the VM called `web`.
fn booti(mut session: Session, arguments: &str) -> Checked {
    session.send(&format!("booti {arguments}\n"))?;
    session.wait_for("[hyp] Portcullis")?;
    let run = session.finish();
    demo::judge(&run)?;
    one(&run, "[hyp] web: stopped (").map(drop)
}

fn bundle(fixture: &Fixture, with_hyp: bool) -> anyhow::Result<PathBuf> {
    made(fixture, "demo", &stub(fixture, "web", "bootargs = \"demo\";"), with_hyp)
}

/// Image, tree and bundle, each loaded by itself. U-Boot moves the bundle, enters it among the tree's reservations,
/// and moves the tree.
fn with_an_initrd(fixture: &Fixture, machine: Machine) -> Checked {
    let bundle = bundle(fixture, false)?;
    let bytes = std::fs::metadata(&bundle)?.len();
    let session =
        prompt(fixture, machine, &[(IMAGE, &fixture.images.hypervisor), (BUNDLE, &bundle)])?;
    booti(session, &format!("{IMAGE:x} {BUNDLE:x}:{bytes:x} {TREE:x}"))
}

// scenario: J5
fn u_boot(fixture: &Fixture) -> Checked {
    with_an_initrd(fixture, fixture.machine())
}

fn u_boot_gicv2(fixture: &Fixture) -> Checked {
    with_an_initrd(fixture, Machine { gic: Gic::V2, ..fixture.machine() })
}

fn u_boot_with_an_image_that_holds_the_bundle(fixture: &Fixture) -> Checked {
    let image = bundle(fixture, true)?;
    booti(prompt(fixture, fixture.machine(), &[(IMAGE, &image)])?, &format!("{IMAGE:x} - {TREE:x}"))
}

/// An image that does not lie at a multiple of 2 MiB is moved to one, with as many bytes as its header says.
fn u_boot_moves_the_image(fixture: &Fixture) -> Checked {
    const ODD: u64 = IMAGE + 0x1_2340;
    let image = bundle(fixture, true)?;
    booti(prompt(fixture, fixture.machine(), &[(ODD, &image)])?, &format!("{ODD:x} - {TREE:x}"))
}

/// Where the tree lies: with addresses of 32 bits, which are what the fields of TCR_EL2 mean while E2H is set, nobody
/// gets there.
const HIGH_TREE: u64 = 0x1_2000_0000;

/// `spsel 0`, all interrupts unmasked, the MMU on, one to one (the table of [`one_to_one`] in TTBR0_EL2), x0 =
/// [`HIGH_TREE`], then to the image at 0x4020_0000. `tcr` is what loads TCR_EL2's value into x1.
fn careless(tcr: &[u32]) -> Vec<u32> {
    let before = [
        0xd2a9_e201, // mov x1, #0x4f100000
        0xd51c_2001, // msr ttbr0_el2, x1
        0xd29f_e001, // mov x1, #0xff00
        0xd51c_a201, // msr mair_el2, x1
    ];
    let after = [
        0xd51c_2041, // msr tcr_el2, x1
        0xd503_3fdf, // isb
        0xd283_06a1, // mov x1, #0x1835
        0xf2a6_18a1, // movk x1, #0x30c5, lsl #16
        0xd51c_1001, // msr sctlr_el2, x1
        0xd503_3fdf, // isb
        0xd500_40bf, // msr spsel, #0
        0xd503_4fff, // msr daifclr, #0xf
        0xd2c0_0020, // mov x0, #0x100000000
        0xf2a4_0000, // movk x0, #0x2000, lsl #16
        0xd2a8_0401, // mov x1, #0x40200000
        0xd61f_0020, // br x1
    ];
    [&before, tcr, &after].concat()
}

/// A level-1 table: 1 GiB of devices, 1 GiB of memory that may not be written.
fn one_to_one() -> Vec<u8> {
    let mut table = [0_u64; 512];
    table[0] = 0x401;
    table[1] = 0x4000_0785;
    table.iter().flat_map(|entry| entry.to_le_bytes()).collect()
}

/// A loader that leaves what it should not starts Portcullis all the same.
fn starts_after(fixture: &Fixture, machine: Machine, code: &[u32]) -> Checked {
    let code: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    let machine = Machine { memory_mib: 6144, ..machine };
    let tree = machine.tree(&fixture.file("dump.dtb", &[])?)?;
    let blob = |name: &str, bytes: &[u8], address, start| -> anyhow::Result<Blob> {
        Ok(Blob { file: fixture.file(name, bytes)?, address, start })
    };
    let blobs = vec![
        blob("loader.bin", &code, 0x4f00_0000, true)?,
        blob("table.bin", &one_to_one(), 0x4f10_0000, false)?,
        blob("tree.dtb", &tree, HIGH_TREE, false)?,
        Blob { file: bundle(fixture, true)?, address: 0x4020_0000, start: false },
    ];
    let run = fixture.run(&Machine { blobs, kernel: None, ..machine })?;
    demo::judge(&run)?;
    one(&run, "[hyp] web: stopped (").map(drop)
}

// scenario: J5
fn mmu_on(fixture: &Fixture) -> Checked {
    // mov x1, #0x3519; movk x1, #0x8082, lsl #16
    starts_after(fixture, fixture.machine(), &careless(&[0xd286_a321, 0xf2b0_1041]))
}

/// The EL2&0 regime has another TCR_EL2, and leaves other bits in SCTLR_EL2, CPTR_EL2 and CNTHCTL_EL2.
// scenario: J5
fn mmu_on_with_vhe(fixture: &Fixture) -> Checked {
    let machine = Machine { cpu: "max".into(), ..fixture.machine() };
    let e2h = [
        0xd2c0_0081, // mov x1, #0x400000000
        0xf2b0_0001, // movk x1, #0x8000, lsl #16
        0xd51c_1101, // msr hcr_el2, x1
        0xd503_3fdf, // isb
    ];
    // mov x1, #0x3519; movk x1, #0x80, lsl #16; movk x1, #0x2, lsl #32
    let code = careless(&[0xd286_a321, 0xf2a0_1001, 0xf2c0_0041]);
    starts_after(fixture, machine, &[&e2h[..], &code].concat())
}

/// EDK2 as the machine's firmware, at EL2, which starts `image` as an EFI application.
fn edk2_machine(fixture: &Fixture, image: PathBuf, machine: &str) -> anyhow::Result<Machine> {
    let bios = Guest::Edk2.existing()?;
    let extra = ["-bios", &bios.display().to_string(), "-machine", machine].map(String::from);
    Ok(Machine { kernel: Some(image), extra: extra.into(), ..fixture.machine() })
}

// scenario: J5
fn edk2(fixture: &Fixture) -> Checked {
    let run = fixture.run(&edk2_machine(fixture, bundle(fixture, true)?, "acpi=off")?)?;
    demo::judge(&run)?;
    one(&run, "[hyp] web: stopped (").map(drop)
}

/// Where firmware describes the machine by ACPI there is no tree. It is said on firmware's console, and firmware goes on.
// scenario: J5
fn edk2_without_a_tree(fixture: &Fixture) -> Checked {
    let mut session = fixture.boot(&edk2_machine(fixture, bundle(fixture, true)?, "acpi=on")?)?;
    session.wait_for("[hyp] error: firmware has no device tree")?;
    let run = session.stop_after(std::time::Duration::from_secs(1));
    one(&run, "[hyp]").map(drop)
}

/// What EDK2's runtime services have, here and there, is in no guest's RAM: of the same machine less is free than where
/// QEMU starts the image.
fn edk2_keeps_its_memory(fixture: &Fixture) -> Checked {
    let image = made(fixture, "greedy", &stub(fixture, "web", "mem = <(2 << 30)>;"), true)?;
    let free = |machine: &Machine| -> anyhow::Result<u32> {
        let run = fixture.run(machine)?;
        let line = one(&run, " MiB are free")?;
        let words: Vec<_> = line.split(' ').collect();
        let at = words.windows(3).position(|three| three == ["MiB", "are", "free"]);
        let number = at.and_then(|at| words.get(at.checked_sub(1)?)?.parse().ok());
        number.ok_or_else(|| anyhow!("no number in `{line}`"))
    };
    let with_edk2 = free(&edk2_machine(fixture, image.clone(), "acpi=off")?)?;
    let without = free(&Machine { kernel: Some(image), ..fixture.machine() })?;
    if with_edk2 + 4 <= without && with_edk2 > without / 2 {
        Ok(())
    } else {
        Err(anyhow!("{with_edk2} MiB are free with EDK2, {without} MiB without"))
    }
}

/// Heap and stacks are not zeroed: every word is written before it is read; .bss and the CPUs' structures
/// are. In the memory that the image takes behind its file, there is anything but zero.
fn memory_behind_the_file_holds_anything(fixture: &Fixture) -> Checked {
    let image = std::fs::read(&fixture.images.hypervisor)?;
    // image_size of its header.
    let size = image.get(16..24).and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    let bytes = size.and_then(|size| size.checked_sub(image.len() as u64));
    let bytes =
        bytes.filter(|bytes| *bytes > 0x8_0000).context("the image has no memory of its own")?;
    let file = fixture.file("anything", &vec![0xa5; bytes as usize])?;
    // Where QEMU puts an image.
    let address = 0x4020_0000 + image.len() as u64;
    let blobs = vec![Blob { file, address, start: false }];
    let guests = ["demo vm.name=web", "run=boot_entry vm.name=other vm.cpus=2"];
    let machine = Machine { blobs, cpus: 4, ..fixture.machine_with(&guests) };
    let run = fixture.run(&machine)?;
    one(&run, "[hyp] 4 CPUs up")?;
    one(&run, "[hyp] other: stopped (power off)")?;
    one(&run, "[web] demo: ").map(drop)
}
