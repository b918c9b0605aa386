// SPDX-License-Identifier: MIT OR Apache-2.0
//! VMs that serve others, as their owner's words say.

use crate::asm::{Asm, calls};
use crate::fixture::{Checked, Fixture, one, powered_off};

cases![
    the_log_says_who_serves_whom,
    a_server_that_is_no_device_vm_is_refused,
    only_a_device_vm_has_more_interrupts,
];

// Both VMs find all that was there before: the test guest takes its tree, its memory and its interrupts.
fn the_log_says_who_serves_whom(fixture: &Fixture) -> Checked {
    let guests = [
        "demo vm.name=web vm.devices=store:blk:net vm.share=pool:2M",
        "demo vm.name=store vm.role=device",
    ];
    let run = fixture.run(&fixture.machine_with(&guests))?;
    one(
        &run,
        "[hyp] web: served by store: blk net; store sees its accesses there, and of its RAM",
    )?;
    for name in ["web", "store"] {
        one(&run, &format!("[hyp] {name}: stopped (power off)"))?;
    }
    powered_off(&run)
}

// scenario: J2
fn a_server_that_is_no_device_vm_is_refused(fixture: &Fixture) -> Checked {
    let guests = ["demo vm.name=web vm.devices=store:blk", "demo vm.name=store"];
    let says = ["vm.devices=store: VM 'store'", "serves none; give it vm.role=device"];
    fixture.refused(&fixture.machine_with(&guests), &says)
}

/// A guest that says whether GICD_TYPER.ITLinesNumber is `lines`: 32 * (lines + 1) INTIDs.
fn lines(lines: u64) -> Asm {
    Asm::new()
        .mov(1, 0x0800_0004)
        .load(2, 1)
        .field(2, 2, 0, 5)
        .mov(3, lines)
        .unless_same(2, 3, "other")
        .print("as promised\n")
        .call(calls::OFF, 0)
        .label("other")
        .print("FAIL\n")
        .call(calls::OFF, 0)
}

// INTIDs 32 to 95, and 96 to 127 for the peers of a device VM.
fn only_a_device_vm_has_more_interrupts(fixture: &Fixture) -> Checked {
    let mut machine = fixture.machine_code(lines(3), "vm.name=store vm.role=device")?;
    machine.modules.push(fixture.code(lines(2), "vm.name=web vm.devices=store:blk")?);
    machine.modules.push(fixture.code(lines(2), "vm.name=other")?);
    let run = fixture.run(&machine)?;
    for name in ["store", "web", "other"] {
        one(&run, &format!("[{name}] as promised"))?;
    }
    powered_off(&run)
}
