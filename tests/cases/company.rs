// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guests that work hard, keep secrets or do their worst, on their own and beside each other, above all where
//! they share a CPU. The stub's modes (guest-stub/src/modes) judge themselves; what they shall not harm is
//! judged here.

use std::time::Duration;

use xtask::qemu::{Gic, Machine};

use crate::lab::{Checked, Lab, ensure, one, powered_off};

cases![
    canaries_on_one_cpu,
    canaries_on_one_cpu_gicv2,
    canaries_on_one_cpu_with_all_features,
    canary_beside_the_worst,
    hammers_on_one_cpu,
    sleeper_beside_a_spinner,
    a_hundred_resets,
    worst_calls,
    worst_registers,
    worst_registers_with_all_features,
    worst_devices,
    worst_devices_gicv2,
    worst_walks,
    worst_on_two_vcpus,
    aborts_in_the_abort_handler,
    vectors_that_cannot_be_fetched,
];

/// Boots guests with these arguments, each of which must say its line; no line may begin with FAIL, and the
/// machine goes off.
fn all_say(lab: &Lab, machine: Machine, guests: &[(&str, &str)]) -> Checked {
    let bootargs: Vec<&str> = guests.iter().map(|(bootargs, _)| *bootargs).collect();
    let run = lab.run(&Machine { modules: lab.machine_with(&bootargs).modules, ..machine })?;
    for (_, line) in guests {
        one(&run, line)?;
    }
    let failed = run.lines.iter().find(|line| line.contains("FAIL "));
    ensure(failed.is_none(), &format!("{failed:?}"), &run)?;
    ensure(run.with("[hyp] error").count() == 0, "EL2 saw an error", &run)?;
    powered_off(&run)
}

const CANARIES: &[(&str, &str)] = &[
    ("canary=1:4 vm.name=a", "[a] canary 1: kept "),
    ("canary=2:4 vm.name=b", "[b] canary 2: kept "),
    ("canary=3:4 vm.name=c", "[c] canary 3: kept "),
];

// scenario: I8
// bug: 69 70 71
fn canaries_on_one_cpu(lab: &Lab) -> Checked {
    all_say(lab, Machine { cpus: 1, ..lab.machine() }, CANARIES)
}

// scenario: I8
fn canaries_on_one_cpu_gicv2(lab: &Lab) -> Checked {
    all_say(lab, Machine { cpus: 1, gic: Gic::V2, ..lab.machine() }, CANARIES)
}

// scenario: I8
// bug: 69 71
fn canaries_on_one_cpu_with_all_features(lab: &Lab) -> Checked {
    let cpu = "max,pauth-impdef=on".to_owned();
    all_say(lab, Machine { cpus: 1, cpu, ..lab.machine() }, CANARIES)
}

// scenario: I8 I9
// bug: 53
fn canary_beside_the_worst(lab: &Lab) -> Checked {
    let guests = [
        ("canary=7:5 vm.name=quiet", "[quiet] canary 7: kept "),
        ("worst=all:500 vm.name=loud", "[loud] worst all: 500 rounds"),
    ];
    all_say(lab, Machine { cpus: 1, ..lab.machine() }, &guests)
}

fn hammers_on_one_cpu(lab: &Lab) -> Checked {
    let guests = [
        ("hammer=2000 vm.name=a", "[a] hammer: 2000 rounds"),
        ("hammer=2000 vm.name=b vm.dialect=series", "[b] hammer: 2000 rounds"),
    ];
    all_say(lab, Machine { cpus: 1, ..lab.machine() }, &guests)
}

// scenario: I12
fn sleeper_beside_a_spinner(lab: &Lab) -> Checked {
    // Ten wakes a second by its own timer, while the other never lets go of the CPU.
    let guests = [
        ("idle=3 vm.name=lazy", "[lazy] idle: 30 wakes"),
        ("spin=4 vm.name=busy", "[busy] spin: done"),
    ];
    all_say(lab, Machine { cpus: 1, ..lab.machine() }, &guests)
}

// scenario: G1
fn a_hundred_resets(lab: &Lab) -> Checked {
    let guests = [("reboot=100 vm.testdev=0x0b000000 vm.mem=16M", "reboot: 100 lives")];
    all_say(lab, lab.machine(), &guests)
}

// scenario: A9
fn worst_calls(lab: &Lab) -> Checked {
    all_say(lab, lab.machine(), &[("worst=calls:20000", "worst calls: 20000 rounds")])
}

// scenario: I9
// bug: 69
fn worst_registers(lab: &Lab) -> Checked {
    all_say(lab, lab.machine(), &[("worst=registers:20000", "worst registers: 20000 rounds")])
}

// scenario: I9
fn worst_registers_with_all_features(lab: &Lab) -> Checked {
    let machine = Machine { cpu: "max,pauth-impdef=on".into(), ..lab.machine() };
    all_say(lab, machine, &[("worst=registers:20000 seed=2", "worst registers: 20000 rounds")])
}

// scenario: I1 C1
fn worst_devices(lab: &Lab) -> Checked {
    all_say(lab, lab.machine(), &[("worst=devices:20000", "worst devices: 20000 rounds")])
}

// scenario: I1 C1
fn worst_devices_gicv2(lab: &Lab) -> Checked {
    let machine = Machine { gic: Gic::V2, ..lab.machine() };
    all_say(lab, machine, &[("worst=devices:20000", "worst devices: 20000 rounds")])
}

// scenario: C14
// bug: 36 37
fn worst_walks(lab: &Lab) -> Checked {
    all_say(lab, lab.machine(), &[("worst=walks:5000", "worst walks: 5000 rounds")])
}

fn worst_on_two_vcpus(lab: &Lab) -> Checked {
    all_say(lab, lab.machine(), &[("worst=all:2000 seed=3 vm.cpus=2", "worst all: 2000 rounds")])
}

/// A guest that never ends, beside one that does its work on the same CPU.
fn endless(lab: &Lab, kind: &str) -> Checked {
    let bad = format!("worst={kind} vm.name=bad vm.guard=enforce vm.preset=0x09000000+0x1000");
    let machine = lab.machine_with(&["demo vm.name=good", &bad]);
    let mut session = lab.boot(&Machine { cpus: 1, ..machine })?;
    session.wait_for("[hyp] good: stopped (power off)").map_err(|error| error.to_string())?;
    let run = session.stop_after(Duration::from_secs(1));
    ensure(one(&run, "[good] demo: ")?.ends_with(" as promised"), "not as promised", &run)?;
    ensure(run.with("[hyp] panic").count() == 0, "EL2 panicked", &run)
}

// scenario: D17
fn aborts_in_the_abort_handler(lab: &Lab) -> Checked {
    endless(lab, "abort")
}

// scenario: D18
// bug: 46
fn vectors_that_cannot_be_fetched(lab: &Lab) -> Checked {
    endless(lab, "vbar")
}
