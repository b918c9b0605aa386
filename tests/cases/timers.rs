// SPDX-License-Identifier: MIT OR Apache-2.0
//! Timers: the guest's group of tests without a hypervisor, and in VMs that share a CPU.

use anyhow::anyhow;
use std::process::Command;

use xtask::qemu::{self, Gic, Machine, Start};

use crate::fixture::{Checked, Fixture, ensure, powered_off};

cases![
    natively_gicv3,
    natively_gicv2,
    two_on_one_cpu,
    two_on_one_cpu_gicv2,
    parked_on_one_cpu,
    an_old_qemu_is_known,
];

/// What is asked of each timer, `i06_timer_v_` and `i06_timer_p_`.
const DEMANDS: [&str; 11] = [
    "not_before",
    "pending",
    "masked",
    "off_again",
    "withdrawn",
    "interrupt",
    "active",
    "stays",
    "ended_first",
    "wakes",
    "value",
];

/// The word that runs them all.
fn group() -> String {
    let names = |timer| DEMANDS.map(|demand| format!("i06_timer_{timer}_{demand}")).join(":");
    format!("run={}:{}", names('v'), names('p'))
}

/// All tests pass without a hypervisor: what they ask is what the architecture promises.
fn natively(fixture: &Fixture, gic: Gic) -> Checked {
    let machine = Machine {
        kernel: Some(fixture.images.guest_stub.clone()),
        append: Some(group()),
        start: Start::El1,
        gic,
        ..Machine::default()
    };
    let run = fixture.run(&machine)?;
    ensure(run.with("stub: 22 passed, 0 failed, 0 skipped").count() == 1, "not all passed", &run)?;
    powered_off(&run)
}

// scenario: I6 I7
fn natively_gicv3(fixture: &Fixture) -> Checked {
    natively(fixture, Gic::V3)
}

// scenario: I6 I7
fn natively_gicv2(fixture: &Fixture) -> Checked {
    natively(fixture, Gic::V2)
}

/// Two VMs on one CPU run these tests, and each passes them all.
fn shared(fixture: &Fixture, gic: Gic, tests: &str, passed: usize) -> Checked {
    let machine = Machine { cpus: 1, gic, ..fixture.machine_with(&[tests, tests]) };
    let run = fixture.run(&machine)?;
    let line = format!("stub: {passed} passed, 0 failed, 0 skipped");
    ensure(run.with(&line).count() == 2, "not all passed in both", &run)?;
    powered_off(&run)
}

// scenario: I6 I7
fn two_on_one_cpu(fixture: &Fixture) -> Checked {
    shared(fixture, Gic::V3, &group(), 22)
}

// scenario: I6 I7
fn two_on_one_cpu_gicv2(fixture: &Fixture) -> Checked {
    shared(fixture, Gic::V2, &group(), 22)
}

/// EL2 keeps the deadlines of both: compare values whose sum with CNTVOFF_EL2 does not fit.
// scenario: I6
fn parked_on_one_cpu(fixture: &Fixture) -> Checked {
    shared(fixture, Gic::V3, "run=i06_timer_parked", 1)
}

/// Whether VMs' counters begin at 0 is as this QEMU's version has it.
// scenario: I6
fn an_old_qemu_is_known(fixture: &Fixture) -> Checked {
    let program = qemu::program()?;
    let output = Command::new(program).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split("version ").nth(1).unwrap_or_default();
    let mut numbers = version.split(['.', ' ']).map_while(|number| number.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        return Err(anyhow!("which version is `{text}`?"));
    };
    let run = fixture
        .run(&fixture.machine_with(&["run=g02_counter_begins_anew vm.testdev=0x0b000000"]))?;
    let old = run.with("[hyp] this QEMU is older than 8.2").count();
    ensure(old == usize::from((major, minor) < (8, 2)), "it is taken for another version", &run)?;
    ensure(run.with("stub: 1 passed").count() == 1, "counters do not begin anew", &run)
}
