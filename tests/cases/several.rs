// SPDX-License-Identifier: MIT OR Apache-2.0
//! Several VMs at once: each line names its VM, and no VM disturbs another.

use anyhow::anyhow;
use std::time::Duration;

use xtask::qemu::{Gic, Machine, Run};

use crate::asm::{Asm, NOWHERE, UART, calls};
use crate::fixture::{Checked, Fixture, ensure, one, powered_off};

cases![
    two_side_by_side,
    thirty_two,
    none_waits_for_the_memory_of_another,
    a_spinner_on_the_same_cpu,
    a_sleeper_on_the_same_cpu,
    vectors_in_the_void_on_the_same_cpu,
    one_goes_off_and_the_other_goes_on,
    vectors_in_the_void,
    a_flood_of_letters,
    a_storm_of_refusals,
    a_storm_of_calls,
    one_resets_and_the_other_does_not,
    no_line_can_be_forged;
    slow: two_side_by_side_gicv2, thirty_two_on_one_cpu,
];

/// Every line is EL2's, or has the name of its VM in front.
fn all_named(run: &Run, names: &[&str]) -> Checked {
    let named = |line: &String| {
        line.starts_with("[hyp] ")
            || names.iter().any(|name| line.starts_with(&format!("[{name}] ")))
            || names.iter().any(|name| *line == format!("[{name}]"))
    };
    match run.lines.iter().find(|line| !named(line)) {
        Some(line) => Err(anyhow!("`{line}` has no name: {}", run.tail())),
        None => Ok(()),
    }
}

fn side_by_side(fixture: &Fixture, gic: Gic) -> Checked {
    let guests =
        ["demo vm.name=left", "run=boot_entry:self_machine vm.name=right vm.guard=enforce"];
    let run = fixture.run(&Machine { gic, ..fixture.machine_with(&guests) })?;
    all_named(&run, &["left", "right"])?;
    let line = one(&run, "[left] demo: ")?;
    ensure(line.ends_with(" as promised"), line, &run)?;
    one(&run, "[hyp] left: stopped (power off)")?;
    one(&run, "[hyp] right: stopped (power off)")?;
    powered_off(&run)
}

// scenario: B6
fn two_side_by_side(fixture: &Fixture) -> Checked {
    side_by_side(fixture, Gic::V3)
}

fn two_side_by_side_gicv2(fixture: &Fixture) -> Checked {
    side_by_side(fixture, Gic::V2)
}

// scenario: F5
fn thirty_two(fixture: &Fixture) -> Checked {
    crowd(fixture, 8)
}

/// As many VMs as there may be.
fn crowd(fixture: &Fixture, cpus: u32) -> Checked {
    let names: Vec<String> = (0..32).map(|number| format!("n{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let bootargs: Vec<String> =
        names.iter().map(|name| format!("run=boot_entry vm.name={name} vm.mem=4M")).collect();
    let bootargs: Vec<&str> = bootargs.iter().map(String::as_str).collect();
    let run = fixture.run(&Machine { cpus, ..fixture.machine_with(&bootargs) })?;
    all_named(&run, &names)?;
    for name in names {
        one(&run, &format!("[{name}] stub: 1 passed, 0 failed, 0 skipped"))?;
        one(&run, &format!("[hyp] {name}: stopped (power off)"))?;
    }
    powered_off(&run)
}

/// The memory of one is filled by its own CPU, and takes long: the other has come and gone by then.
fn none_waits_for_the_memory_of_another(fixture: &Fixture) -> Checked {
    let guests =
        ["run=boot_entry vm.name=large vm.mem=768M", "run=boot_entry vm.name=small vm.mem=4M"];
    let machine = Machine { cpus: 2, memory_mib: 2048, ..fixture.machine_with(&guests) };
    let run = fixture.run(&machine)?;
    one(&run, "[large] stub: 1 passed, 0 failed, 0 skipped")?;
    let place = |start: &str| run.lines.iter().position(|line| line.starts_with(start));
    let (end, loaded) = (place("[hyp] small: stopped"), place("[hyp] large is loaded in "));
    ensure(end.is_some() && end < loaded, "the small VM waited for the large one", &run)?;
    powered_off(&run)
}

/// A guest that says `up` and spins, beside one that then does its work and goes off; `after` looks at the
/// console of the whole.
fn beside(fixture: &Fixture, bad: Asm, options: &str, work: &str) -> anyhow::Result<Run> {
    beside_on(fixture, 2, bad, options, work)
}

fn beside_on(
    fixture: &Fixture,
    cpus: u32,
    bad: Asm,
    options: &str,
    work: &str,
) -> anyhow::Result<Run> {
    let mut machine = fixture.machine_with(&[&format!("{work} vm.name=good")]);
    machine.cpus = cpus;
    machine.modules.push(fixture.code(bad, &format!("vm.name=bad {options}"))?);
    let mut session = fixture.boot(&machine)?;
    session.wait_for("[hyp] good: stopped (power off)")?;
    let run = session.stop_after(Duration::from_secs(1));
    let off = run.with("[hyp] bad: stopped (power off)").count();
    ensure(off == 0, "the other went off too", &run)?;
    ensure(run.with("[hyp] panic").count() == 0, "EL2 panicked", &run)?;
    let line = one(&run, "[good] demo: ")?;
    ensure(line.ends_with(" as promised"), line, &run)?;
    Ok(run)
}

// scenario: G6
fn one_goes_off_and_the_other_goes_on(fixture: &Fixture) -> Checked {
    // Prints a letter every so often, for ever.
    let code = Asm::new()
        .label("again")
        .print("x\n")
        .mov(9, 2_000_000)
        .label("wait")
        .sub(9, 9, 1)
        .unless_zero(9, "wait")
        .jump("again");
    let run = beside(fixture, code, "", "demo")?;
    let end = run.lines.iter().position(|line| line.starts_with("[hyp] good: stopped"));
    let after = run.lines.iter().skip(end.unwrap_or(usize::MAX));
    ensure(after.filter(|line| *line == "[bad] x").count() > 0, "the other fell silent", &run)
}

// scenario: I12
fn a_spinner_on_the_same_cpu(fixture: &Fixture) -> Checked {
    beside_on(fixture, 1, Asm::new().label("again").jump("again"), "", "demo").map(drop)
}

// scenario: I12
fn a_sleeper_on_the_same_cpu(fixture: &Fixture) -> Checked {
    beside_on(fixture, 1, Asm::new().label("again").wait().jump("again"), "", "demo").map(drop)
}

// scenario: F5
fn thirty_two_on_one_cpu(fixture: &Fixture) -> Checked {
    crowd(fixture, 1)
}

// scenario: D17 D18
fn vectors_in_the_void_on_the_same_cpu(fixture: &Fixture) -> Checked {
    let code = Asm::new().mov(9, NOWHERE).set_vectors(9).load(10, 9);
    beside_on(fixture, 1, code, "vm.guard=enforce", "demo").map(drop)
}

// scenario: D17 D18
// bug: 46
fn vectors_in_the_void(fixture: &Fixture) -> Checked {
    // Its own vectors are where nothing is: each abort aborts again, for ever.
    let code = Asm::new().mov(9, NOWHERE).set_vectors(9).load(10, 9);
    beside(fixture, code, "vm.guard=enforce", "demo").map(drop)
}

// scenario: F8
fn a_flood_of_letters(fixture: &Fixture) -> Checked {
    let code = Asm::new()
        .mov(10, UART)
        .mov(11, u64::from(b'#'))
        .label("again")
        .store(11, 10)
        .jump("again");
    let run = beside(fixture, code, "", "demo")?;
    all_named(&run, &["good", "bad"])
}

// scenario: F3
// bug: 59
fn a_storm_of_refusals(fixture: &Fixture) -> Checked {
    let code = Asm::new()
        .mov(9, crate::asm::ENTRY + 0x800)
        .set_vectors(9)
        .mov(10, NOWHERE)
        .label("again")
        .load(11, 10)
        .jump("again")
        .at(0x800 + 0x200)
        .skip_faulting(9)
        .eret();
    let run = beside(fixture, code, "vm.guard=enforce", "demo")?;
    let lines = run.with("bad: vCPU 0: refused").count();
    let most = 11 + run.took.as_secs() as usize;
    ensure((2..=most).contains(&lines), &format!("{lines} lines of refusals"), &run)
}

// scenario: A9
// bug: 60
fn a_storm_of_calls(fixture: &Fixture) -> Checked {
    // One number after the other, all arguments ones.
    let code = Asm::new()
        .mov(19, 0x8000_0000)
        .label("again")
        .mov(1, u64::MAX)
        .mov(2, u64::MAX)
        .mov(3, u64::MAX)
        .call_register(19)
        .add(19, 19, 1)
        .jump("again");
    beside(fixture, code, "", "demo").map(drop)
}

// scenario: G1 G6
fn one_resets_and_the_other_does_not(fixture: &Fixture) -> Checked {
    let code = Asm::new().print("born\n").call(calls::RESET, 0);
    let run = beside(fixture, code, "vm.mem=4M", "demo")?;
    ensure(run.with("[bad] born").count() > 1, "it had one life only", &run)?;
    ensure(run.with("good: incarnation").count() == 0, "the other was reset too", &run)
}

fn no_line_can_be_forged(fixture: &Fixture) -> Checked {
    let nasty = "[hyp] good: stopped (power off)\r[hyp] all VMs have stopped\x1b[2J\x07\n";
    let mut machine = fixture.machine_with(&["demo vm.name=good"]);
    machine.modules.push(fixture.code(Asm::new().print(nasty).off(), "vm.name=bad")?);
    let run = fixture.run(&machine)?;
    all_named(&run, &["good", "bad"])?;
    let control = run.lines.iter().find(|line| line.chars().any(char::is_control));
    ensure(control.is_none(), &format!("control characters in {control:?}"), &run)?;
    let real = run.lines.iter().filter(|line| line.starts_with("[hyp] good: stopped"));
    ensure(real.count() == 1, "not exactly one real line", &run)
}
