// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the pages of docs/boards/ say to do, on QEMU's model of the board: the vendor's tree and a bundle as the initrd.

use std::time::Duration;

use xtask::boards::model;
use xtask::qemu::Machine;

use super::bundles::{made, stub};
use crate::fixture::{Checked, Fixture, ensure, one};

cases_with![
    raspberry_pi_4: &[], true;
];

// scenario: J1
fn raspberry_pi_4(fixture: &Fixture) -> Checked {
    let words = "bootargs = \"demo\"; cpus = <2>; mem = <(64 << 20)>;";
    let nodes = [stub(fixture, "one", words), stub(fixture, "two", words)].concat();
    let machine = Machine {
        board: Some(&model::RASPI4B),
        cpus: 4,
        memory_mib: 2048,
        initrd: Some(made(fixture, "vms", &nodes, false)?),
        append: Some("console=tty1 hyp.debug hyp.console=serial1:115200n8".into()),
        ..fixture.machine()
    };
    let mut session = fixture.boot(&machine)?;
    session.wait_for("parked: no firmware here turns the machine off")?;
    let run = session.stop_after(Duration::from_secs(1));
    one(&run, "[hyp] Portcullis 0.1.0 at EL2: Raspberry Pi 4 Model B")?;
    one(&run, "[hyp] debug: console /soc/serial@7e215040 at 0xfe215040+0x40")?;
    one(&run, "[hyp] 4 CPUs up")?;
    // Two VMs on four CPUs: none shares one.
    one(&run, "[hyp] one: 64 MiB of RAM")?;
    ensure(
        one(&run, "[hyp] two: 64 MiB of RAM")?.contains("2 vCPUs on CPUs 2 3,"),
        "shared",
        &run,
    )?;
    let demos = run.lines.iter().filter(|line| line.ends_with("14 of 14 as promised")).count();
    ensure(demos == 2, "not two demonstrations", &run)
}
