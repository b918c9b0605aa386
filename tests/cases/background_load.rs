// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guests that work hard, keep secrets or do their worst, on their own and beside each other, above all where
//! they share a CPU. The stub's modes (guest-stub/src/modes) judge themselves; what they shall not harm is
//! judged here.

use anyhow::anyhow;
use std::time::Duration;

use xtask::qemu::{Gic, Machine, Run};

use crate::fixture::{Checked, Fixture, ensure, one, powered_off};

cases![
    canaries_on_one_cpu_with_all_features,
    hammers_on_one_cpu,
    pending_while_others_run,
    pending_while_others_run_gicv2,
    sleeper_beside_a_spinner,
    a_storm_of_interrupts,
    alone_on_its_cpu,
    worst_calls,
    worst_registers,
    worst_devices,
    worst_walks,
    aborts_in_the_abort_handler,
    vectors_that_cannot_be_fetched;
    slow: canaries_on_one_cpu, tenants, canaries_on_one_cpu_gicv2, canary_beside_the_worst, a_hundred_resets, a_reset_beside_others_on_one_cpu, a_storm_of_interrupts_gicv2, smaller_after_a_restart, worst_registers_with_all_features, worst_devices_gicv2, worst_on_two_vcpus,
];

/// Boots guests with these arguments, each of which must say its line; no line may begin with FAIL, and the
/// machine goes off.
fn all_say(fixture: &Fixture, machine: Machine, guests: &[(&str, &str)]) -> Checked {
    let bootargs: Vec<&str> = guests.iter().map(|(bootargs, _)| *bootargs).collect();
    let run =
        fixture.run(&Machine { modules: fixture.machine_with(&bootargs).modules, ..machine })?;
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
fn canaries_on_one_cpu(fixture: &Fixture) -> Checked {
    all_say(fixture, Machine { cpus: 1, ..fixture.machine() }, CANARIES)
}

// scenario: I8
fn canaries_on_one_cpu_gicv2(fixture: &Fixture) -> Checked {
    all_say(fixture, Machine { cpus: 1, gic: Gic::V2, ..fixture.machine() }, CANARIES)
}

// scenario: I8
// bug: 69 71
fn canaries_on_one_cpu_with_all_features(fixture: &Fixture) -> Checked {
    let cpu = "max,pauth-impdef=on".to_owned();
    all_say(fixture, Machine { cpus: 1, cpu, ..fixture.machine() }, CANARIES)
}

// scenario: I8 I9
// bug: 53
fn canary_beside_the_worst(fixture: &Fixture) -> Checked {
    let guests = [
        ("canary=7:5 vm.name=quiet", "[quiet] canary 7: kept "),
        ("worst=all:500 vm.name=loud", "[loud] worst all: 500 rounds"),
    ];
    all_say(fixture, Machine { cpus: 1, ..fixture.machine() }, &guests)
}

const PENDING: &[(&str, &str)] = &[
    ("pending=500 vm.name=a", "[a] pending: 500 rounds"),
    ("pending=400 vm.name=b", "[b] pending: 400 rounds"),
    ("canary=3:1 vm.name=c", "[c] canary 3: kept "),
];

// An interrupt that is pending when its vCPU leaves the CPU is there when it comes back, once.
fn pending_while_others_run(fixture: &Fixture) -> Checked {
    all_say(fixture, Machine { cpus: 1, ..fixture.machine() }, PENDING)
}

fn pending_while_others_run_gicv2(fixture: &Fixture) -> Checked {
    all_say(fixture, Machine { cpus: 1, gic: Gic::V2, ..fixture.machine() }, PENDING)
}

fn hammers_on_one_cpu(fixture: &Fixture) -> Checked {
    let guests = [
        ("hammer=2000 vm.name=a", "[a] hammer: 2000 rounds"),
        ("hammer=2000 vm.name=b vm.dialect=series", "[b] hammer: 2000 rounds"),
    ];
    all_say(fixture, Machine { cpus: 1, ..fixture.machine() }, &guests)
}

// scenario: I12
fn sleeper_beside_a_spinner(fixture: &Fixture) -> Checked {
    // Ten wakes a second by its own timer, while the other never lets go of the CPU.
    let guests = ["idle=3 vm.name=lazy", "spin vm.name=busy"];
    beside_the_endless(fixture, &guests, Gic::V3, "[hyp] lazy: stopped (power off)", |run| {
        one(run, "[lazy] idle: 30 wakes").map(drop)
    })
}

/// Guests on one CPU, some of which never end, until `last` is said; then `check`.
fn beside_the_endless(
    fixture: &Fixture,
    bootargs: &[&str],
    gic: Gic,
    last: &str,
    check: impl Fn(&Run) -> Checked,
) -> Checked {
    let machine = Machine { cpus: 1, gic, ..fixture.machine_with(bootargs) };
    let mut session = fixture.boot(&machine)?;
    session.wait_for(last)?;
    let run = session.stop_after(Duration::from_secs(1));
    ensure(run.with("FAIL ").count() == 0, "something failed", &run)?;
    ensure(run.with("[hyp] panic").count() == 0, "EL2 panicked", &run)?;
    check(&run)
}

fn storm(fixture: &Fixture, gic: Gic) -> Checked {
    let guests = ["demo vm.name=good", "storm vm.name=bad vm.cpus=2"];
    beside_the_endless(fixture, &guests, gic, "[hyp] good: stopped (power off)", |run| {
        ensure(run.with("[hyp] bad: stopped").count() == 0, "the storm is over", run)?;
        let line = one(run, "[good] demo: ")?;
        ensure(line.ends_with(" as promised"), line, run)
    })
}

// scenario: E10
fn a_storm_of_interrupts(fixture: &Fixture) -> Checked {
    storm(fixture, Gic::V3)
}

// scenario: E10
fn a_storm_of_interrupts_gicv2(fixture: &Fixture) -> Checked {
    storm(fixture, Gic::V2)
}

// scenario: C2
fn tenants(fixture: &Fixture) -> Checked {
    // Together most of the machine: a page that had another owner too would be noticed.
    let guests = [
        ("tenant=1:2 vm.name=a vm.mem=256M", "[a] tenant 1: "),
        ("tenant=2:2 vm.name=b vm.mem=256M", "[b] tenant 2: "),
        ("tenant=3:2 vm.name=c vm.mem=128M", "[c] tenant 3: "),
    ];
    let bootargs = guests.map(|(bootargs, _)| bootargs);
    let run = fixture.run(&fixture.machine_with(&bootargs))?;
    for (_, begin) in guests {
        one(&run, &format!("{begin}moved in"))?;
        let kept = |line: &&str| line.starts_with(begin) && line.ends_with(" pages of its own");
        ensure(run.with(begin).filter(kept).count() == 1, begin, &run)?;
    }
    ensure(run.with("FAIL ").count() == 0, "a page was not its own", &run)?;
    powered_off(&run)
}

// scenario: G3 J6
fn smaller_after_a_restart(fixture: &Fixture) -> Checked {
    // RAM that outlives the machine, as real RAM outlives a reset: the second time the VM is smaller, and what the first
    // one left is neither in its RAM nor in its reach.
    let memory = fixture.file("memory", &[])?;
    let backend =
        format!("memory-backend-file,id=ram,size=512M,share=on,mem-path={}", memory.display());
    let extra = vec!["-object".into(), backend, "-machine".into(), "memory-backend=ram".into()];
    for (size, pages) in [("256M", 50_000), ("16M", 1)] {
        let bootargs = format!("tenant=9 vm.mem={size}");
        let machine = fixture.machine_with(&[&bootargs]);
        let run = fixture.run(&Machine { memory_mib: 512, extra: extra.clone(), ..machine })?;
        let line = one(&run, "pages of its own")?;
        let count: u64 = line.split(' ').nth(2).and_then(|word| word.parse().ok()).unwrap_or(0);
        ensure(count >= pages, line, &run)?;
        powered_off(&run)?;
    }
    let left = std::fs::read(&memory)?;
    let word = 0x7e4a_4700_0000_0009_u64.to_le_bytes();
    let found = left.chunks_exact(512).any(|place| place.starts_with(&word));
    // Else the first VM would have left nothing to find, and the second proved nothing.
    std::fs::remove_file(&memory)?;
    if found { Ok(()) } else { Err(anyhow!("the first VM left nothing in memory")) }
}

// scenario: G6
fn a_reset_beside_others_on_one_cpu(fixture: &Fixture) -> Checked {
    // Time is counted in instructions, so that how busy the host is does not matter. 512 MiB are wiped for each boot of
    // the one, in pieces; the other, which uses little, waits for one of them at most.
    let guests = [
        "idle=4 vm.name=lazy vm.mem=16M",
        "reboot=1000 vm.name=big vm.mem=512M vm.testdev=0x0b000000",
    ];
    let extra = vec!["-icount".into(), "shift=2,sleep=off".into()];
    let machine = Machine { cpus: 1, extra, ..fixture.machine_with(&guests) };
    let mut session = fixture.boot(&machine)?;
    session.wait_for("[hyp] lazy: stopped (power off)")?;
    let run = session.stop_after(Duration::ZERO);
    ensure(run.with("big: incarnation").count() >= 2, "the other had one incarnation only", &run)?;
    let line = one(&run, "[lazy] idle: 40 wakes, the latest by ")?;
    let latest: u64 = line.split(' ').nth(7).and_then(|word| word.parse().ok()).unwrap_or(u64::MAX);
    ensure(latest < 100, line, &run)
}

// scenario: I12
fn alone_on_its_cpu(fixture: &Fixture) -> Checked {
    // What QEMU logs of exceptions: a vCPU that owns its CPU waits there itself, and no tick disturbs it.
    let log = fixture.file("exceptions", &[])?;
    let extra = vec!["-d".into(), "int".into(), "-D".into(), log.display().to_string()];
    let machine = fixture.machine_with(&["idle=3"]);
    let run = fixture.run(&Machine { extra, ..machine })?;
    one(&run, "idle: 30 wakes")?;
    let text = std::fs::read_to_string(&log)?;
    let waits = text.lines().filter(|line| line.contains("with ESR 0x1/")).count();
    ensure(waits == 0, &format!("{waits} WFI came to EL2"), &run)?;
    // 30 of its timer; a tick of 4 ms would make 750. The console's and EL2's own at the beginning are few.
    let interrupts = text.lines().filter(|line| line.contains("Taking exception 5 [IRQ]")).count();
    let at_el1 = text.lines().filter(|line| line.contains("Taking exception 14 [Virtual IRQ]"));
    ensure(at_el1.count() >= 30, "QEMU logs no exceptions", &run)?;
    ensure(interrupts < 120, &format!("{interrupts} interrupts came to EL2"), &run)?;
    powered_off(&run)
}

// scenario: G1
fn a_hundred_resets(fixture: &Fixture) -> Checked {
    let guests = [("reboot=100 vm.testdev=0x0b000000 vm.mem=16M", "reboot: 100 lives")];
    all_say(fixture, fixture.machine(), &guests)
}

// scenario: A9
fn worst_calls(fixture: &Fixture) -> Checked {
    all_say(fixture, fixture.machine(), &[("worst=calls:20000", "worst calls: 20000 rounds")])
}

// scenario: I9
// bug: 69
fn worst_registers(fixture: &Fixture) -> Checked {
    all_say(
        fixture,
        fixture.machine(),
        &[("worst=registers:20000", "worst registers: 20000 rounds")],
    )
}

// scenario: I9
fn worst_registers_with_all_features(fixture: &Fixture) -> Checked {
    let machine = Machine { cpu: "max,pauth-impdef=on".into(), ..fixture.machine() };
    all_say(fixture, machine, &[("worst=registers:20000 seed=2", "worst registers: 20000 rounds")])
}

// scenario: I1 C1
fn worst_devices(fixture: &Fixture) -> Checked {
    all_say(fixture, fixture.machine(), &[("worst=devices:20000", "worst devices: 20000 rounds")])
}

// scenario: I1 C1
fn worst_devices_gicv2(fixture: &Fixture) -> Checked {
    let machine = Machine { gic: Gic::V2, ..fixture.machine() };
    all_say(fixture, machine, &[("worst=devices:20000", "worst devices: 20000 rounds")])
}

// scenario: C14
// bug: 36 37
fn worst_walks(fixture: &Fixture) -> Checked {
    all_say(fixture, fixture.machine(), &[("worst=walks:5000", "worst walks: 5000 rounds")])
}

fn worst_on_two_vcpus(fixture: &Fixture) -> Checked {
    all_say(
        fixture,
        fixture.machine(),
        &[("worst=all:2000 seed=3 vm.cpus=2", "worst all: 2000 rounds")],
    )
}

/// A guest that never ends, beside one that does its work on the same CPU.
fn endless(fixture: &Fixture, kind: &str) -> Checked {
    let bad = format!("worst={kind} vm.name=bad vm.guard=enforce vm.preset=0x09000000+0x1000");
    let machine = fixture.machine_with(&["demo vm.name=good", &bad]);
    let mut session = fixture.boot(&Machine { cpus: 1, ..machine })?;
    session.wait_for("[hyp] good: stopped (power off)")?;
    let run = session.stop_after(Duration::from_secs(1));
    ensure(one(&run, "[good] demo: ")?.ends_with(" as promised"), "not as promised", &run)?;
    ensure(run.with("[hyp] panic").count() == 0, "EL2 panicked", &run)
}

// scenario: D17
fn aborts_in_the_abort_handler(fixture: &Fixture) -> Checked {
    endless(fixture, "abort")
}

// scenario: D18
// bug: 46
fn vectors_that_cannot_be_fetched(fixture: &Fixture) -> Checked {
    endless(fixture, "vbar")
}
