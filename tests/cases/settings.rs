// SPDX-License-Identifier: MIT OR Apache-2.0
//! Settings of EL2 that decide what a vCPU leaves behind in its CPU and what a guest reaches. Each case fails where its
//! setting is taken out of the image. Those that QEMU does not show are in crates/arch (`trap_controls`, `switched`).

use std::collections::BTreeMap;

use xtask::qemu::{Machine, Run};

use crate::asm::{Asm, calls};
use crate::fixture::{Checked, Fixture, ensure, one, powered_off};

cases![
    nothing_in_registers_survives_or_is_shared,
    debug_events_end_with_their_vcpu,
    an_smc_of_a_guest_turns_no_machine_off,
];

/// The machine with every feature that QEMU has, the newer QEMU's where it has been fetched: it has claim tags.
fn all_features(fixture: &Fixture, guests: &[&str]) -> Machine {
    let cpu = "max,pauth-impdef=on".to_owned();
    Machine { cpus: 1, cpu, newer: true, ..fixture.machine_with(guests) }
}

/// The registers of a listing: those lines that are whole.
fn listing<'a>(run: &'a Run, title: &str) -> BTreeMap<&'a str, &'a str> {
    let lines = run.lines.iter().filter_map(|line| line.strip_prefix(title)?.rsplit_once(") "));
    lines.filter(|(_, value)| value.len() > 2).collect()
}

// What one boot of a VM writes to registers is not in the next, nor in another VM on the same CPU. Debug claim tags are
// among them.
// scenario: G2 I8
fn nothing_in_registers_survives_or_is_shared(fixture: &Fixture) -> Checked {
    let guests = [
        "inventory vm.name=a vm.testdev=0x0b000000",
        "inventory=200 vm.name=b vm.testdev=0x0b000000",
    ];
    let mut session = fixture.boot(&all_features(fixture, &guests))?;
    // The first VM is off, and the second has looked all along: any key ends it.
    session.wait_for("the keyboard goes to b")?;
    session.send("x")?;
    let run = session.finish();
    let [first, filled, second, other] =
        ["[a] first (", "[a] filled (", "[a] second (", "[b] other ("]
            .map(|title| listing(&run, title));
    ensure(first.len() > 100, "the first list is short", &run)?;
    let changed = filled.iter().filter(|(name, value)| first.get(*name) != Some(*value)).count();
    ensure(changed > 30, &format!("only {changed} registers were filled"), &run)?;
    for (list, name) in [(&second, "the next life"), (&other, "another VM")] {
        for (register, value) in list {
            let before = first.get(register);
            ensure(
                before == Some(value),
                &format!("({register}) is {value} in {name}, {before:?} in the first"),
                &run,
            )?;
        }
        ensure(list.len() == first.len(), &format!("not all are in {name}"), &run)?;
    }
    one(&run, "[b] other looked")?;
    ensure(run.with("FAIL").count() == 0, "a register changed", &run)?;
    powered_off(&run)
}

// MDSCR_EL1 is zero while a vCPU runs that has not asked for debug events.
// scenario: I8 I13
fn debug_events_end_with_their_vcpu(fixture: &Fixture) -> Checked {
    let guests = ["step=4 vm.name=a", "stepped=3 vm.name=b"];
    let run = fixture.run(&Machine { cpus: 1, ..fixture.machine_with(&guests) })?;
    one(&run, "[a] step: done")?;
    one(&run, "[b] stepped: ")?;
    ensure(run.with("FAIL").count() == 0, "a debug event came", &run)?;
    powered_off(&run)
}

// HCR_EL2.TSC: SYSTEM_OFF by SMC stops the VM, not the machine.
// scenario: A14
fn an_smc_of_a_guest_turns_no_machine_off(fixture: &Fixture) -> Checked {
    let off = Asm::new().secure_call(calls::OFF, 0).print("back\n");
    let mut machine = fixture.machine_with(&["idle=2 vm.name=other"]);
    machine.modules.push(fixture.code(off, "vm.name=off")?);
    let mut session = fixture.boot(&machine)?;
    session.wait_for("[hyp] off: stopped (power off)")?;
    session.wait_for("[other] idle: ")?;
    let run = session.finish();
    ensure(run.with("back").count() == 0, "SYSTEM_OFF returned", &run)?;
    one(&run, "[hyp] other: stopped (power off)")?;
    powered_off(&run)
}
