// SPDX-License-Identifier: MIT OR Apache-2.0
//! The user's own files, as `scripts/run FILE` boots them.

use anyhow::anyhow;
use xtask::guests::file::{self, Kind};
use xtask::qemu::Machine;
use xtask::{demo, paths};

use super::banks::decompiled;
use crate::fixture::{Checked, Fixture, one};

cases![kernel_with_initrd_and_words, description];

fn holds(condition: bool, why: impl FnOnce() -> String) -> Checked {
    if condition { Ok(()) } else { Err(anyhow!(why())) }
}

fn kernel_with_initrd_and_words(fixture: &Fixture) -> Checked {
    let stub = std::fs::read(&fixture.images.guest_stub)?;
    let kernel = fixture.file("my-kernel.img", &stub)?;
    let initrd = fixture.file("root.cpio", &[7; 5000])?;
    holds(file::kind(&kernel).is_ok_and(|kind| kind == Kind::Kernel), || "no kernel".into())?;
    let (module, needed) =
        file::module(&kernel, Some(&initrd), "demo earlycon=pl011,0x9000000", &[])
            .map_err(|error| anyhow!("{error:#}"))?;
    holds(needed == 130, || format!("{needed} MiB"))?;
    let machine = Machine { modules: vec![module], ..fixture.machine() };
    let dump = fixture.file("dump.dtb", &[])?;
    machine.tree(&dump).map_err(|error| anyhow!("{error:#}"))?;
    let tree = decompiled(&dump)?;
    holds(tree.contains("multiboot,ramdisk"), || tree.clone())?;
    holds(tree.contains("demo earlycon=pl011,0x9000000\""), || tree.clone())?;
    let run = fixture.run(&machine)?;
    demo::judge(&run).map_err(|error| anyhow!("{error:#}"))?;
    one(&run, "[hyp] my-kernel: stopped (power off)").map(drop)
}

fn description(fixture: &Fixture) -> Checked {
    let source = paths::root().join("examples/stub.dts");
    let all = file::description(&source, Kind::Source).map_err(|error| anyhow!("{error:#}"))?;
    holds(all.vms == 1, || format!("{} VMs", all.vms))?;
    let run = fixture.run(&Machine { initrd: Some(all.bundle.clone()), ..fixture.machine() })?;
    demo::judge(&run).map_err(|error| anyhow!("{error:#}"))?;
    one(&run, "[hyp] stub: stopped (power off)").map(drop)
}
