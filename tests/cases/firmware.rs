// SPDX-License-Identifier: MIT OR Apache-2.0
//! Below real firmware at EL3: Debian's TF-A for the Raspberry Pi 4, on QEMU's model of that board, where it is what the
//! board's boot loader calls the stub.

use anyhow::{Context, anyhow};
use std::fs;

use xtask::boards::model::{Loaded, RASPI4B_PL011};
use xtask::guests::Guest;
use xtask::qemu::{Blob, Machine};

use crate::fixture::{Checked, Fixture, one, powered_off};

const TF_A: &[Guest] = &[Guest::TfARpi4];

cases_with![
    tf_a_says_which_workarounds_are_not_required: TF_A, true;
];

/// Where the boot loader puts the kernel and the tree.
const KERNEL: u32 = 0x0020_0000;
const TREE: u32 = 0x0800_0000;
const GUEST: u64 = 0x1000_0000;
/// RAM below the board's video memory.
const RAM: u32 = 0x3b40_0000;
/// In the stub, a word that the boot loader clears, then one of no use, the tree's address and the kernel's.
const STUB_WORDS: usize = 0xf0;

/// TF-A with what the boot loader writes into it.
fn stub(fixture: &Fixture) -> anyhow::Result<Blob> {
    let file = Guest::TfARpi4.existing()?;
    let mut bytes = fs::read(file)?;
    let words = bytes.get_mut(STUB_WORDS..STUB_WORDS + 16).context("TF-A is too short")?;
    if words[..4] != 0x5afe_570b_u32.to_le_bytes() {
        return Err(anyhow!("TF-A has no stub's magic number"));
    }
    words[..4].fill(0);
    words[8..12].copy_from_slice(&TREE.to_le_bytes());
    words[12..].copy_from_slice(&KERNEL.to_le_bytes());
    Ok(Blob { file: fixture.file("stub.bin", &bytes)?, address: 0, start: false })
}

// Its build for this board mitigates CVE-2018-3639 for good, and says so by -2 (DEN0028 7.5.6). All four CPUs are asked.
fn tf_a_says_which_workarounds_are_not_required(fixture: &Fixture) -> Checked {
    let guest = &fixture.images.guest_stub;
    let size = fs::metadata(guest)?.len();
    let bootargs = Some("workarounds vm.name=web".to_owned());
    let tree = RASPI4B_PL011.tree_with(&[Loaded { address: GUEST, size, bootargs }], Some(RAM))?;
    let blob = |file: &std::path::Path, address| Blob { file: file.into(), address, start: false };
    let blobs = vec![
        stub(fixture)?,
        blob(&fixture.images.hypervisor, KERNEL.into()),
        blob(&tree, TREE.into()),
        blob(guest, GUEST),
    ];
    let board = Some(&RASPI4B_PL011);
    let machine =
        Machine { board, cpus: 4, memory_mib: 2048, kernel: None, blobs, ..fixture.machine() };
    let run = fixture.run(&machine)?;
    one(&run, "BL31: v")?;
    one(&run, "[hyp] 4 CPUs up")?;
    let line = one(&run, "[web] workarounds: ").or_else(|_| one(&run, "workarounds: "))?;
    if !line.ends_with("workarounds: 0 -2 0") {
        return Err(anyhow!("firmware said 0, -2 and 0; the guest was told {line}"));
    }
    powered_off(&run)
}
