// SPDX-License-Identifier: MIT OR Apache-2.0
//! Firmware chains: who starts Portcullis, and with what in its registers. QEMU's own `-kernel` is what nearly every
//! other case uses; starts at other exception levels are in `levels`, starts with other trees, or none, in `trees`.

use std::path::{Path, PathBuf};

use xtask::demo;
use xtask::guests::Guest;
use xtask::qemu::{Blob, Gic, Machine, Session};

use super::bundles::{made, stub};
use crate::lab::{Case, Checked, Lab, group, one};

const UBOOT: &[Guest] = &[Guest::UBoot];

/// Cases that need files which may not have been made; those with `true` are left out of a quick run.
macro_rules! with {
    ($($name:ident: $slow:literal;)+) => {
        /// The cases of this file.
        pub const CASES: &[Case] = &[$(
            Case { group: group(module_path!()), name: stringify!($name), check: $name, needs: UBOOT, slow: $slow }
        ),+];
    };
}

with![
    u_boot: false;
    u_boot_gicv2: true;
    u_boot_with_an_image_that_holds_the_bundle: true;
    u_boot_moves_the_image: true;
];

/// Where QEMU puts its tree for a firmware that it starts.
const TREE: u64 = 0x4000_0000;
const IMAGE: u64 = 0x4200_0000;
const BUNDLE: u64 = 0x4a00_0000;

/// U-Boot as the machine's firmware, at EL2, with these files in memory, stopped at its prompt.
fn prompt(lab: &Lab, machine: Machine, files: &[(u64, &Path)]) -> Result<Session, String> {
    let bios = Guest::UBoot.existing().map_err(|error| error.to_string())?;
    let blobs = files.iter().map(|(address, file)| Blob {
        file: file.into(),
        address: *address,
        start: false,
    });
    let extra = vec!["-bios".into(), bios.display().to_string()];
    let machine = Machine { blobs: blobs.collect(), kernel: None, extra, ..machine };
    let mut session = lab.boot(&machine)?;
    let said = |error: xtask::error::Error| error.to_string();
    session.wait_for("Net:").map_err(said)?;
    // Any key stops what it would boot by itself.
    session.send(" ").map_err(said)?;
    session.wait_for_prompt("=> ").map_err(said)?;
    Ok(session)
}

/// `booti` with these arguments starts Portcullis, and the demonstration runs in the VM called `web`.
fn booti(mut session: Session, arguments: &str) -> Checked {
    session.send(&format!("booti {arguments}\n")).map_err(|error| error.to_string())?;
    session.wait_for("[hyp] Portcullis").map_err(|error| error.to_string())?;
    let run = session.finish();
    demo::judge(&run).map_err(|error| error.to_string())?;
    one(&run, "[hyp] web: stopped (").map(drop)
}

fn bundle(lab: &Lab, with_hyp: bool) -> Result<PathBuf, String> {
    made(lab, "demo", &stub(lab, "web", "bootargs = \"demo\";"), with_hyp)
}

/// Image, tree and bundle, each loaded by itself. U-Boot moves the bundle, enters it among the tree's reservations,
/// and moves the tree.
fn with_an_initrd(lab: &Lab, machine: Machine) -> Checked {
    let bundle = bundle(lab, false)?;
    let bytes = std::fs::metadata(&bundle).map_err(|error| error.to_string())?.len();
    let session = prompt(lab, machine, &[(IMAGE, &lab.images.hypervisor), (BUNDLE, &bundle)])?;
    booti(session, &format!("{IMAGE:x} {BUNDLE:x}:{bytes:x} {TREE:x}"))
}

// scenario: J5
fn u_boot(lab: &Lab) -> Checked {
    with_an_initrd(lab, lab.machine())
}

fn u_boot_gicv2(lab: &Lab) -> Checked {
    with_an_initrd(lab, Machine { gic: Gic::V2, ..lab.machine() })
}

fn u_boot_with_an_image_that_holds_the_bundle(lab: &Lab) -> Checked {
    let image = bundle(lab, true)?;
    booti(prompt(lab, lab.machine(), &[(IMAGE, &image)])?, &format!("{IMAGE:x} - {TREE:x}"))
}

/// An image that does not stand at a multiple of 2 MiB is moved to one, with as many bytes as its header says.
fn u_boot_moves_the_image(lab: &Lab) -> Checked {
    const ODD: u64 = IMAGE + 0x1_2340;
    let image = bundle(lab, true)?;
    booti(prompt(lab, lab.machine(), &[(ODD, &image)])?, &format!("{ODD:x} - {TREE:x}"))
}
