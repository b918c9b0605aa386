// SPDX-License-Identifier: MIT OR Apache-2.0
//! What EL2 says of its guests: counts at their end, refusals as they happen, and no more than is bearable.

use crate::asm::{Asm, ENTRY, NOWHERE, calls};
use crate::fixture::{Checked, Fixture, ensure, one, powered_off};
use anyhow::Context;

cases![
    counts_are_exact,
    a_refusal_names_everything,
    refusals_are_rationed,
    resets_are_rationed,
    input_reaches_the_guest,
    boot_log_names_the_capability,
];

// scenario: B6
fn counts_are_exact(fixture: &Fixture) -> Checked {
    // 3 + 1 calls; 4 letters printed.
    let code = Asm::new()
        .call(calls::VERSION, 0)
        .call(calls::VERSION, 0)
        .print("abc\n")
        .call(calls::VERSION, 0)
        .off();
    let run = fixture.run(&fixture.machine_code(code, "vm.name=counted")?)?;
    one(&run, "abc")?;
    one(&run, "[hyp] counted: stopped (power off): 4 hypercalls, 4 MMIO exits, 0 refused")?;
    powered_off(&run)
}

/// Enrols, then loads from [`NOWHERE`] `count` times, surviving each abort, and switches off.
fn trespasser(count: u64) -> Asm {
    Asm::new()
        .mov(9, ENTRY + 0x800)
        .set_vectors(9)
        .call(calls::ENROLL, 0)
        .mov(10, NOWHERE)
        .mov(11, count)
        .label("again")
        .load(12, 10)
        .sub(11, 11, 1)
        .unless_zero(11, "again")
        .off()
        .at(0x800 + 0x200)
        .skip_faulting(9)
        .eret()
}

// scenario: B2
/// The second line says how to declare what was touched, once.
fn a_refusal_names_everything(fixture: &Fixture) -> Checked {
    let run = fixture.run(&fixture.machine_code(trespasser(1), "vm.name=nosy")?)?;
    let line = one(&run, "refused load")?;
    // mov, msr, five for the call, mov, mov: the load's place.
    let pc = format!("PC {:#x}", ENTRY + 4 * find(&trespasser(1).bytes(), 0xb940_014c)?);
    for part in [
        "nosy",
        "vCPU 0",
        "refused load of 4 bytes",
        "IPA 0x10000000",
        "VA 0x10000000",
        &pc,
        "undeclared",
    ] {
        ensure(line.contains(part), &format!("`{line}` does not say `{part}`"), &run)?;
    }
    one(
        &run,
        "[hyp] warning: nosy: to declare this page: HVC 0xc6000007 with x1=0x10000000, or \
         vm.preset=0x10000000+0x1000",
    )?;
    one(&run, "[hyp] nosy: stopped (power off): 2 hypercalls, 1 MMIO exits, 1 refused")?;
    powered_off(&run)
}

/// Index of an instruction.
fn find(code: &[u8], word: u32) -> anyhow::Result<u64> {
    let place = code.chunks(4).position(|chunk| chunk == word.to_le_bytes());
    place.map(|index| index as u64).context("no such instruction")
}

// scenario: F3
// bug: 59
fn refusals_are_rationed(fixture: &Fixture) -> Checked {
    let run = fixture.run(&fixture.machine_code(trespasser(50_000), "vm.name=pest")?)?;
    one(&run, "[hyp] pest: stopped (power off): 2 hypercalls, 50000 MMIO exits, 50000 refused")?;
    let lines = run.with("[hyp] warning: pest: ").count();
    // Ten at once, the advice among them, then one a second; the run's time includes QEMU's start.
    let most = 11 + run.took.as_secs() as usize;
    ensure((10..=most).contains(&lines), &format!("{lines} lines of refusals"), &run)?;
    powered_off(&run)
}

// scenario: F3
// bug: 59
fn resets_are_rationed(fixture: &Fixture) -> Checked {
    // 300 lives, counted by the one word that outlives them, then off.
    let keep = 0x0b00_0048;
    let code = Asm::new()
        .mov(9, keep)
        .load(10, 9)
        .add(10, 10, 1)
        .store(10, 9)
        .sub(10, 10, 300)
        .if_zero(10, "off")
        .call(calls::RESET, 0)
        .label("off")
        .off();
    let machine = fixture.machine_code(code, "vm.name=pest vm.mem=4M vm.testdev=0x0b000000")?;
    let run = fixture.run(&machine)?;
    // Its last line is there whatever came before.
    one(&run, "[hyp] pest: stopped (power off)")?;
    let said = run.lines.iter().filter(|line| line.starts_with("[hyp] pest: "));
    let said: Vec<_> = said.filter(|line| !line.contains("MiB of RAM")).collect();
    let most = 11 + run.took.as_secs() as usize;
    let count = said.len();
    ensure((11..=most).contains(&count), &format!("{count} lines about it"), &run)?;
    // A stop and a beginning for each boot but the last, which has its stop: every one is there or counted.
    let left = |line: &&String| -> Option<usize> {
        let (_, rest) = line.rsplit_once(" (")?;
        rest.strip_suffix(" more lines left out)")?.parse().ok()
    };
    let left: usize = said.iter().filter_map(left).sum();
    ensure(count + left == 2 * 299 + 1, &format!("{count} lines and {left} left out"), &run)?;
    powered_off(&run)
}

fn input_reaches_the_guest(fixture: &Fixture) -> Checked {
    // Says it is ready, then prints what comes, until it is a full stop.
    let code = Asm::new()
        .print("ready\n")
        .mov(10, crate::asm::UART)
        .mov(11, crate::asm::UART + 0x18)
        .label("wait")
        .load(12, 11)
        // RXFE, bit 4 of the flags: 1 while nothing has come.
        .unless_bit_clear(12, 4, "wait")
        .load(12, 10)
        .store(12, 10)
        .sub(12, 12, u32::from(b'.'))
        .unless_zero(12, "wait")
        .print("\n")
        .off();
    let mut session = fixture.boot(&fixture.machine_code(code, "")?)?;
    session.wait_for("ready")?;
    session.send("typed.")?;
    let run = session.finish();
    one(&run, "typed.")?;
    powered_off(&run)
}

fn boot_log_names_the_capability(fixture: &Fixture) -> Checked {
    let guests = [
        ("vm.name=a vm.guard=off", "0x1"),
        ("vm.name=b vm.dialect=series", "0x3d"),
        ("vm.name=c vm.guard=enforce", "0xffd"),
    ];
    let mut machine = fixture.machine();
    machine.cpus = 4;
    for (bootargs, _) in guests {
        machine.modules.push(fixture.code(Asm::new().off(), bootargs)?);
    }
    let run = fixture.run(&machine)?;
    for (bootargs, features) in guests {
        let name = bootargs.get(8..9).unwrap_or_default();
        let start = format!("[hyp] {name}: 128 MiB");
        let line = one(&run, &start)?;
        ensure(line.contains(&format!("features {features};")), line, &run)?;
    }
    powered_off(&run)
}
