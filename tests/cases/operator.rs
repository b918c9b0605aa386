// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keys at the console that manage VMs: listed, restarted, stopped and started, paused and resumed.

use anyhow::Context;
use std::time::Duration;

use xtask::qemu::{Machine, Session};

use crate::asm::Asm;
use crate::fixture::{Checked, Fixture, ensure, one, powered_off};

cases![
    the_list_says_state_cpus_time_memory_and_refusals,
    restart_ends_a_life_and_begins_another,
    stop_and_start,
    a_paused_vms_counter_stands_still,
    a_paused_vms_timer_waits,
    a_pause_on_a_shared_cpu;
    slow: all_keys_on_a_shared_cpu,
];

fn wait(session: &mut Session, text: &str) -> anyhow::Result<String> {
    session.wait_for(text)
}

fn keys(session: &mut Session, keys: &str) -> Checked {
    session.send(&format!("\x1d{keys}"))
}

/// Says `up`, and spins.
fn spin() -> Asm {
    Asm::new().print("up\n").label("again").jump("again")
}

/// A machine with a spinner `a` and the VM `b`.
fn two(fixture: &Fixture, cpus: u32, code: Asm, words: &str) -> anyhow::Result<Session> {
    let modules = vec![
        fixture.code(spin(), "vm.name=a vm.mem=4M")?,
        fixture.code(code, &format!("vm.name=b vm.mem=16M {words}"))?,
    ];
    let mut session = fixture.boot(&Machine { cpus, modules, ..fixture.machine() })?;
    // In either order.
    wait(&mut session, "] up")?;
    wait(&mut session, "] up")?;
    std::thread::sleep(Duration::from_millis(300));
    Ok(session)
}

fn the_list_says_state_cpus_time_memory_and_refusals(fixture: &Fixture) -> Checked {
    let mut machine = fixture.machine_with(&["spin vm.name=wide vm.cpus=2 vm.mem=64M"]);
    let refused = Asm::new().mov(9, 0x4020_0800).set_vectors(9).mov(10, 0x1000_0000);
    let refused = refused.load(11, 10).load(11, 10).load(11, 10).off().at(0xa00);
    machine.modules.push(
        fixture.code(refused.skip_faulting(9).eret(), "vm.name=nosy vm.mem=4M vm.guard=enforce")?,
    );
    let mut session = fixture.boot(&machine)?;
    wait(&mut session, "[hyp] nosy: stopped (power off)")?;
    std::thread::sleep(Duration::from_millis(1500));
    keys(&mut session, "?")?;
    let line = wait(&mut session, "[hyp] 0 wide (keyboard): ")?;
    let (before, after) = line.split_once(" s of CPU time").context("no CPU time")?;
    let used = before.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok());
    let stopped = wait(&mut session, "[hyp] 1 nosy: ")?;
    let run = session.stop_after(Duration::ZERO);
    ensure(before.contains("): running, CPUs 0 1, "), &line, &run)?;
    ensure(used.is_some_and(|used| used > 0.0 && used < 300.0), &line, &run)?;
    ensure(after == ", 64 MiB, 0 refused", &line, &run)?;
    ensure(stopped.starts_with("[hyp] 1 nosy: stopped, CPU 0, 0."), &stopped, &run)?;
    ensure(stopped.ends_with(" s of CPU time, 4 MiB, 3 refused"), &stopped, &run)
}

fn restart(fixture: &Fixture, cpus: u32) -> Checked {
    let mut session = two(fixture, cpus, spin(), "")?;
    for life in 2..5 {
        keys(&mut session, "r1")?;
        wait(&mut session, "[hyp] b: stopped (restart)")?;
        wait(&mut session, &format!("[hyp] b: incarnation {life} begins"))?;
        wait(&mut session, "[b] up")?;
    }
    // Of a paused one, too; and no number that there is none of does anything.
    keys(&mut session, "p1")?;
    wait(&mut session, "[hyp] b is paused")?;
    keys(&mut session, "r7")?;
    wait(&mut session, "[hyp] 1 b: paused, CPU ")?;
    keys(&mut session, "r1")?;
    wait(&mut session, "[hyp] b: incarnation 5 begins")?;
    wait(&mut session, "[b] up")?;
    let run = session.stop_after(Duration::ZERO);
    ensure(run.with("[hyp] a: ").count() == 1, "the other one was touched", &run)
}

fn restart_ends_a_life_and_begins_another(fixture: &Fixture) -> Checked {
    restart(fixture, 2)
}

fn stop_and_start(fixture: &Fixture) -> Checked {
    let mut session = two(fixture, 2, spin(), "")?;
    for _ in 0..3 {
        keys(&mut session, "s1")?;
        wait(&mut session, "[hyp] b: stopped (by the operator)")?;
        keys(&mut session, "?")?;
        wait(&mut session, "[hyp] 1 b: stopped, CPU ")?;
        keys(&mut session, "s1")?;
        wait(&mut session, "[b] up")?;
    }
    // One that has stopped by itself begins again as well, and the machine goes off with the last one.
    keys(&mut session, "s0")?;
    wait(&mut session, "[hyp] a: stopped (by the operator)")?;
    // The keyboard has gone to the other.
    keys(&mut session, "?")?;
    wait(&mut session, "[hyp] 1 b (keyboard): running")?;
    keys(&mut session, "s0")?;
    wait(&mut session, "[a] up")?;
    keys(&mut session, "s0")?;
    wait(&mut session, "[hyp] a: stopped (by the operator)")?;
    keys(&mut session, "s1")?;
    let run = session.finish();
    one(&run, "[hyp] all VMs have stopped")?;
    powered_off(&run)
}

/// Says `late` each time that the machine's counter has moved on by a second since its last look, and `JUMP` where its own
/// counter has.
fn watch() -> Asm {
    Asm::new()
        .print("up\n")
        .frequency(1)
        .label("begin")
        .machine_count(2)
        .own_count(3)
        .label("again")
        .machine_count(4)
        .own_count(5)
        .minus(6, 4, 2)
        .minus(7, 5, 3)
        .mov(2, 0)
        .minus(8, 6, 1)
        .minus(9, 7, 1)
        .add(2, 4, 0)
        .add(3, 5, 0)
        .unless_bit_clear(8, 63, "again")
        .unless_bit_clear(9, 63, "late")
        .print("JUMP\n")
        .label("late")
        .print("late\n")
        .jump("begin")
}

fn counter(fixture: &Fixture, cpus: u32) -> Checked {
    let mut session = two(fixture, cpus, watch(), "")?;
    for _ in 0..2 {
        keys(&mut session, "p1")?;
        wait(&mut session, "[hyp] b is paused")?;
        std::thread::sleep(Duration::from_millis(2500));
        keys(&mut session, "p1")?;
        wait(&mut session, "[hyp] b goes on")?;
        wait(&mut session, "[b] late")?;
        // Its next look must come before the next pause.
        std::thread::sleep(Duration::from_millis(300));
    }
    let run = session.stop_after(Duration::from_millis(500));
    ensure(run.with("JUMP").count() == 0, "its own counter has moved on", &run)
}

fn a_paused_vms_counter_stands_still(fixture: &Fixture) -> Checked {
    counter(fixture, 2)
}

/// Pauses a VM that sleeps, and is woken by its timer ten times a second: by its own counter none is late.
fn sleeper(fixture: &Fixture, cpus: u32) -> Checked {
    let modules = vec![
        fixture.code(spin(), "vm.name=a vm.mem=4M")?,
        fixture.guest("idle=4 vm.name=b vm.mem=16M"),
    ];
    let mut session = fixture.boot(&Machine { cpus, modules, ..fixture.machine() })?;
    wait(&mut session, "[a] up")?;
    std::thread::sleep(Duration::from_millis(1000));
    for _ in 0..2 {
        keys(&mut session, "p1")?;
        wait(&mut session, "[hyp] b is paused")?;
        std::thread::sleep(Duration::from_millis(2500));
        keys(&mut session, "p1")?;
        wait(&mut session, "[hyp] b goes on")?;
        std::thread::sleep(Duration::from_millis(300));
    }
    let line = wait(&mut session, "[b] idle: 40 wakes, the latest by ")?;
    let run = session.stop_after(Duration::ZERO);
    let late: u64 = line.split(' ').nth(7).and_then(|word| word.parse().ok()).unwrap_or(u64::MAX);
    ensure(late < 1_000_000, &line, &run)?;
    ensure(run.took > Duration::from_secs(8), "it was not paused", &run)
}

fn a_paused_vms_timer_waits(fixture: &Fixture) -> Checked {
    sleeper(fixture, 2)
}

fn a_pause_on_a_shared_cpu(fixture: &Fixture) -> Checked {
    sleeper(fixture, 1)
}

fn all_keys_on_a_shared_cpu(fixture: &Fixture) -> Checked {
    restart(fixture, 1)?;
    counter(fixture, 1)
}
