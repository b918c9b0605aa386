// SPDX-License-Identifier: MIT OR Apache-2.0
//! VMs that serve others, as their owner's words say.

use crate::fixture::{Checked, Fixture, one, powered_off};

cases![the_log_says_who_serves_whom, a_server_that_is_no_device_vm_is_refused];

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
