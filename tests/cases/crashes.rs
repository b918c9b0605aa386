// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guests that abort again and again at one instruction: reported once, then `vm.oncrash` decides.

use anyhow::anyhow;
use std::time::{Duration, Instant};

use xtask::qemu::{Machine, Run, Session};

use crate::asm::{Asm, ENTRY, NOWHERE};
use crate::fixture::{Checked, Fixture, ensure, one, powered_off};

cases![
    a_crash_is_reported_once_and_stops_the_vm,
    a_handler_that_faults_is_a_crash,
    an_undefined_vector_is_a_crash,
    a_handler_that_tries_again_is_none,
    a_process_that_faults_for_ever_is_none,
    lives_that_crash_are_spaced_out,
    a_crash_pauses_one_vm_and_not_the_other,
    a_lone_vm_that_crashed_goes_on_by_a_key;
    slow: crashes_on_one_cpu,
];

/// Runs into a page with nothing behind it, and its vectors are at 0, where nothing is.
fn void() -> Asm {
    Asm::new().mov(7, 0x1234_5678_9abc).mov(9, NOWHERE).print("up\n").load(10, 9)
}

fn wait(session: &mut Session, text: &str) -> anyhow::Result<String> {
    session.wait_for(text)
}

/// Lines of EL2's about the VM, but for the one of the boot log.
fn about(run: &Run, name: &str) -> usize {
    let lines = run.lines.iter().filter(|line| line.starts_with("[hyp] "));
    lines
        .filter(|line| line.contains(&format!(" {name}: ")) && !line.contains("MiB of RAM"))
        .count()
}

// scenario: D18 F3
// bug: 46
fn a_crash_is_reported_once_and_stops_the_vm(fixture: &Fixture) -> Checked {
    let run = fixture.run(&fixture.machine_code(void(), "vm.name=void")?)?;
    one(&run, "aborted load of 4 bytes at IPA 0x10000000")?;
    // Ten thousand of these.
    one(&run, "void: vCPU 0: aborted fetch at IPA 0x200")?;
    let line =
        one(&run, "crash loop: more than 10240 exceptions in a row at PC 0x200 (fetch); it stops")?;
    ensure(line.starts_with("[hyp] warning: void: vCPU 0: "), line, &run)?;
    one(&run, "void: vCPU 0: VBAR_EL1 0x0 ELR_EL1 0x200 ESR_EL1 0x86000010 FAR_EL1 0x200")?;
    let registers = one(&run, "void: vCPU 0: x6 0x0 x7 0x123456789abc x8 0x0 x9 0x10000000")?;
    ensure(registers.ends_with("x10 0x0 x11 0x0"), registers, &run)?;
    let exits = one(&run, "void: vCPU 0: last exits (ESR_EL2 at PC): ")?;
    // A store to its console, the load, and the loop.
    for part in ["0x93", " at 0x40200", "at 0x200 (", " times)"] {
        ensure(exits.contains(part), &format!("`{exits}` does not say `{part}`"), &run)?;
    }
    one(&run, "[hyp] void: stopped (crash loop): ")?;
    ensure(about(&run, "void") <= 16, "more lines than once", &run)?;
    powered_off(&run)
}

// scenario: D17
fn a_handler_that_faults_is_a_crash(fixture: &Fixture) -> Checked {
    // Its handler runs, and aborts at its third instruction.
    let code = Asm::new()
        .mov(9, ENTRY + 0x800)
        .set_vectors(9)
        .mov(10, NOWHERE)
        .load(11, 10)
        .at(0x800 + 0x200)
        .add(12, 12, 1)
        .add(12, 12, 1)
        .load(11, 10)
        .eret();
    let run = fixture.run(&fixture.machine_code(code, "vm.name=deep vm.guard=enforce")?)?;
    one(
        &run,
        &format!(
            "crash loop: more than 10240 exceptions in a row at PC {:#x}",
            ENTRY + 0x800 + 0x208
        ),
    )?;
    one(&run, "[hyp] deep: stopped (crash loop): ")?;
    powered_off(&run)
}

fn an_undefined_vector_is_a_crash(fixture: &Fixture) -> Checked {
    // An instruction that EL2 makes UNDEFINED, in the handler of that exception: `smc #1` at EL0 aside, an MSR of a register
    // that guests do not have.
    let code = Asm::new().mov(9, ENTRY + 0x800).set_vectors(9).pmu().at(0x800 + 0x200).pmu().eret();
    let run = fixture.run(&fixture.machine_code(code, "vm.name=undef")?)?;
    let line = one(&run, "crash loop: ")?;
    ensure(line.contains(&format!("PC {:#x} (undefined)", ENTRY + 0x800 + 0x200)), line, &run)?;
    powered_off(&run)
}

fn a_handler_that_tries_again_is_none(fixture: &Fixture) -> Checked {
    // Each of 395,000 aborts at one instruction, more than a second of them, is stepped over; then 5,000 times the handler returns to it.
    let code = Asm::new()
        .mov(9, ENTRY + 0x800)
        .set_vectors(9)
        .mov(10, NOWHERE)
        .mov(12, 400_000)
        .mov(13, 395_000)
        .label("again")
        .load(11, 10)
        .if_zero(12, "done")
        .jump("again")
        .label("done")
        .print("through\n")
        .off()
        .at(0x800 + 0x200)
        .sub(12, 12, 1)
        .if_zero(12, "over")
        .if_zero(13, "retry")
        .sub(13, 13, 1)
        .label("over")
        .skip_faulting(9)
        .label("retry")
        .eret();
    let run = fixture.run(
        &fixture.machine_code(code, "vm.name=busy vm.guard=enforce vm.preset=0x9000000+4K")?,
    )?;
    one(&run, "through")?;
    ensure(run.with("crash loop").count() == 0, "it had not crashed", &run)?;
    one(&run, "[hyp] busy: stopped (power off)")?;
    powered_off(&run)
}

fn a_process_that_faults_for_ever_is_none(fixture: &Fixture) -> Checked {
    // 400,000 aborts, more than a second of them, at one instruction of EL0: the kernel, whose handler returns to it, still runs.
    let code = Asm::new()
        .mov(9, ENTRY + 0x800)
        .set_vectors(9)
        .mov(10, NOWHERE)
        .mov(12, 400_000)
        .to_el0(9)
        .label("again")
        .load(11, 10)
        .jump("again")
        .at(0x800 + 0x400)
        .sub(12, 12, 1)
        .if_zero(12, "done")
        .eret()
        .label("done")
        .print("through\n")
        .off();
    let run = fixture.run(&fixture.machine_code(code, "vm.name=user")?)?;
    one(&run, "through")?;
    ensure(run.with("crash loop").count() == 0, "the kernel had not crashed", &run)?;
    one(&run, "[hyp] user: stopped (power off)")?;
    powered_off(&run)
}

// scenario: G6
fn lives_that_crash_are_spaced_out(fixture: &Fixture) -> Checked {
    let machine = fixture.machine_code(void(), "vm.name=void vm.mem=4M vm.oncrash=restart")?;
    let mut session = fixture.boot(&machine)?;
    let mut before: Option<Instant> = None;
    for (life, seconds) in [(2, 1), (3, 2), (4, 4)] {
        wait(&mut session, &format!("refused; it restarts in {seconds} s"))?;
        let crashed = Instant::now();
        wait(&mut session, &format!("void: incarnation {life} begins"))?;
        let waited = crashed.elapsed();
        let most = Duration::from_secs(seconds + 5);
        if waited < Duration::from_millis(seconds * 1000 - 300) || waited > most {
            return Err(anyhow!("life {life} began {waited:?} after the crash, not {seconds} s"));
        }
        if before.is_some_and(|before| before.elapsed() > Duration::from_secs(20)) {
            return Err(anyhow!("a life took too long to crash"));
        }
        before = Some(Instant::now());
    }
    let run = session.stop_after(Duration::ZERO);
    ensure(run.with("up").count() >= 3, "it had fewer lives", &run)?;
    ensure(run.with("all VMs have stopped").count() == 0, "a VM that waits keeps it on", &run)
}

/// One crashes and is paused, the other prints what its counter says of each second.
fn paused_beside(fixture: &Fixture, cpus: u32) -> Checked {
    let other = "idle=4 vm.name=good";
    let mut machine = Machine { cpus, ..fixture.machine_with(&[other]) };
    machine.modules.push(fixture.code(void(), "vm.name=void vm.mem=4M vm.oncrash=pause")?);
    let mut session = fixture.boot(&machine)?;
    wait(&mut session, "it is paused (vm.oncrash)")?;
    session.send("\x1d?")?;
    wait(&mut session, "[hyp] 1 void: paused after a crash, CPU ")?;
    // It goes on, and crashes again: that is said, and its registers are not.
    session.send("\x1dp1")?;
    wait(&mut session, "[hyp] void goes on")?;
    wait(&mut session, "it is paused (vm.oncrash)")?;
    wait(&mut session, "[good] idle: 40 wakes")?;
    wait(&mut session, "[hyp] good: stopped (power off)")?;
    // The machine stays on: a paused VM has not stopped.
    session.send("\x1d?")?;
    wait(&mut session, "[hyp] 0 good: stopped, CPU ")?;
    session.send("\x1ds1")?;
    let run = session.finish();
    one(&run, "[hyp] void: stopped (by the operator)")?;
    one(&run, "VBAR_EL1 0x0")?;
    powered_off(&run)
}

fn a_crash_pauses_one_vm_and_not_the_other(fixture: &Fixture) -> Checked {
    paused_beside(fixture, 2)
}

fn crashes_on_one_cpu(fixture: &Fixture) -> Checked {
    paused_beside(fixture, 1)
}

fn a_lone_vm_that_crashed_goes_on_by_a_key(fixture: &Fixture) -> Checked {
    // While it runs all keys are its own, those after Ctrl-] too.
    let code = Asm::new()
        .mov(10, crate::asm::UART)
        .mov(11, crate::asm::UART + 0x18)
        .print("ready\n")
        .label("wait")
        .load(12, 11)
        .unless_bit_clear(12, 4, "wait")
        .load(12, 10)
        .sub(13, 12, 0x1d)
        .unless_zero(13, "wait")
        .print("escape\n")
        .mov(9, NOWHERE)
        .load(10, 9);
    let machine = fixture.machine_code(code, "vm.name=lone vm.oncrash=pause")?;
    let mut session = fixture.boot(&machine)?;
    wait(&mut session, "ready")?;
    session.send("\x1d")?;
    wait(&mut session, "escape")?;
    wait(&mut session, "it is paused")?;
    session.send("\x1dp0")?;
    wait(&mut session, "[hyp] lone goes on")?;
    wait(&mut session, "it is paused")?;
    session.send("\x1dr0")?;
    wait(&mut session, "ready")?;
    session.send("\x1d")?;
    wait(&mut session, "it is paused")?;
    session.send("\x1ds0")?;
    let run = session.finish();
    one(&run, "[hyp] lone: stopped (by the operator)")?;
    powered_off(&run)
}
