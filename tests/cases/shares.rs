// SPDX-License-Identifier: MIT OR Apache-2.0
//! A CPU shared by two VMs: one measures its share while the other does what it can to take more. Time is counted in
//! instructions, so that how busy the host is does not matter.

use anyhow::anyhow;
use std::time::Duration;

use xtask::qemu::{Gic, Machine, Run};

use crate::fixture::{Checked, Fixture, ensure, one};

cases![
    beside_a_spinner,
    beside_one_that_naps_before_its_slice_ends,
    beside_one_that_naps_while_it_goes_first,
    beside_one_that_resets,
    beside_a_flood_of_lines,
    beside_a_device_that_is_never_silenced,
    a_higher_priority_has_the_cpu,
    a_budget_is_kept_and_is_a_limit,
    a_window_is_for_its_vm_alone,
    a_dedicated_cpu_has_one_vm,
    the_boot_log_says_when_a_vm_runs_after_it_woke,
    beside_interrupts_for_a_vcpu_that_is_off,
    beside_interrupts_for_a_vcpu_that_is_ready,
    beside_interrupts_for_a_vcpu_that_waits,
    beside_interrupts_for_a_vcpu_that_wakes;
    slow: beside_short_naps, a_slice_is_a_weight, beside_interrupts_from_the_same_cpu,
        beside_interrupts_gicv2,
];

/// The victim's share, in parts of 1000, and its longest wait in microseconds, beside a VM with these words.
fn measure(fixture: &Fixture, cpus: u32, other: &str, mine: &str) -> anyhow::Result<(u64, u64)> {
    measure_on(fixture, &Machine { cpus, ..fixture.machine() }, other, mine)
}

/// [`measure`] on this machine.
fn measure_on(
    fixture: &Fixture,
    machine: &Machine,
    other: &str,
    mine: &str,
) -> anyhow::Result<(u64, u64)> {
    run_on(fixture, machine, other, mine).map(|(_, figures)| figures)
}

/// [`measure_on`], with all that was written.
fn run_on(
    fixture: &Fixture,
    machine: &Machine,
    other: &str,
    mine: &str,
) -> anyhow::Result<(Run, (u64, u64))> {
    let mine = format!("victim=1 vm.name=victim vm.mem=4M {mine}");
    let modules =
        vec![fixture.guest(&format!("{other} vm.name=bad vm.mem=4M")), fixture.guest(&mine)];
    let extra = vec!["-icount".into(), "shift=3,sleep=off".into()];
    let mut session = fixture.boot(&Machine { extra, modules, ..machine.clone() })?;
    session.wait_for("[victim] victim: ")?;
    session.wait_for("[hyp] victim: stopped")?;
    let run = session.stop_after(Duration::ZERO);
    ensure(run.with("FAIL ").count() == 0, "something failed", &run)?;
    ensure(run.with("[hyp] panic").count() == 0, "EL2 panicked", &run)?;
    let line = one(&run, "[victim] victim: ")?.to_owned();
    let number = |at: usize| line.split(' ').nth(at).and_then(|word| word.parse().ok());
    match (number(2), number(7)) {
        (Some(share), Some(gap)) => Ok((run, (share, gap))),
        _ => Err(anyhow!("`{line}`: no figures")),
    }
}

/// It has 48 % at least, and waits two slices at most.
fn holds(fixture: &Fixture, other: &str) -> Checked {
    holds_on(fixture, &Machine { cpus: 1, ..fixture.machine() }, other)
}

/// [`holds`] on this machine.
fn holds_on(fixture: &Fixture, machine: &Machine, other: &str) -> Checked {
    let (share, gap) = measure_on(fixture, machine, other, "")?;
    if share >= 480 && gap <= 8_000 {
        Ok(())
    } else {
        Err(anyhow!("{other}: {share} of 1000, longest gap {gap} us"))
    }
}

fn beside_a_spinner(fixture: &Fixture) -> Checked {
    let (share, gap) = measure(fixture, 1, "spin", "")?;
    if (480..=520).contains(&share) && gap <= 4_100 {
        Ok(())
    } else {
        Err(anyhow!("{share} of 1000, longest gap {gap} us"))
    }
}

fn beside_one_that_naps_before_its_slice_ends(fixture: &Fixture) -> Checked {
    holds(fixture, "attack=steal")
}

fn beside_one_that_naps_while_it_goes_first(fixture: &Fixture) -> Checked {
    holds(fixture, "attack=ahead")
}

fn beside_short_naps(fixture: &Fixture) -> Checked {
    holds(fixture, "attack=nap")
}

fn beside_one_that_resets(fixture: &Fixture) -> Checked {
    holds(fixture, "attack=reset")
}

fn beside_a_flood_of_lines(fixture: &Fixture) -> Checked {
    holds(fixture, "attack=flood")
}

fn beside_a_device_that_is_never_silenced(fixture: &Fixture) -> Checked {
    let machine = Machine { cpus: 1, ..fixture.machine() };
    let (run, (share, gap)) = run_on(fixture, &machine, "attack=device vm.dev=/pl031@9010000", "")?;
    one(&run, "[bad] device: 1000 interrupts")?;
    ensure(share >= 480 && gap <= 8_000, &format!("{share} of 1000, longest gap {gap} us"), &run)
}

fn beside_interrupts_for_a_vcpu_that_is_off(fixture: &Fixture) -> Checked {
    // It has the CPU for itself, and nothing disturbs it: the rest is what the sender takes of the time of all CPUs.
    let (share, gap) = measure(fixture, 2, "attack=off vm.cpus=2", "")?;
    if share >= 990 && gap <= 100 {
        Ok(())
    } else {
        Err(anyhow!("{share} of 1000, longest gap {gap} us"))
    }
}

// vCPU 1 sends from a CPU of its own; vCPU 0 shares the victim's.

fn beside_interrupts_for_a_vcpu_that_is_ready(fixture: &Fixture) -> Checked {
    holds_on(fixture, &fixture.machine(), "attack=ready vm.cpus=2")
}

fn beside_interrupts_for_a_vcpu_that_waits(fixture: &Fixture) -> Checked {
    holds_on(fixture, &fixture.machine(), "attack=waiting vm.cpus=2")
}

fn beside_interrupts_for_a_vcpu_that_wakes(fixture: &Fixture) -> Checked {
    // It wants little, and each SGI wakes it: the victim waits for that, and for no more.
    let (share, gap) = measure(fixture, 2, "attack=waking vm.cpus=2", "")?;
    if share >= 900 && gap <= 1_100 {
        Ok(())
    } else {
        Err(anyhow!("{share} of 1000, longest gap {gap} us"))
    }
}

fn beside_interrupts_from_the_same_cpu(fixture: &Fixture) -> Checked {
    for attack in ["ready", "waiting", "waking"] {
        holds(fixture, &format!("attack={attack} vm.cpus=2"))?;
    }
    Ok(())
}

fn beside_interrupts_gicv2(fixture: &Fixture) -> Checked {
    for attack in ["ready", "waiting", "waking"] {
        let machine = Machine { gic: Gic::V2, ..fixture.machine() };
        holds_on(fixture, &machine, &format!("attack={attack} vm.cpus=2"))?;
    }
    Ok(())
}

fn a_slice_is_a_weight(fixture: &Fixture) -> Checked {
    let (share, gap) = measure(fixture, 1, "spin vm.slice=1000", "vm.slice=3000")?;
    if (730..=770).contains(&share) && gap <= 1_100 {
        Ok(())
    } else {
        Err(anyhow!("{share} of 1000, longest gap {gap} us"))
    }
}

/// The victim's share and its longest wait are in these ranges.
fn within(figures: (u64, u64), shares: std::ops::RangeInclusive<u64>, longest: u64) -> Checked {
    let (share, gap) = figures;
    if shares.contains(&share) && gap <= longest {
        Ok(())
    } else {
        Err(anyhow!("{share} of 1000, longest gap {gap} us"))
    }
}

// One instruction takes 8 ns here, so that two switches in each millisecond are a tenth of a budget of 200 us.

fn a_higher_priority_has_the_cpu(fixture: &Fixture) -> Checked {
    for other in ["spin", "attack=nap", "attack=reset"] {
        within(measure(fixture, 1, other, "vm.priority=9")?, 990..=1000, 1_000)?;
    }
    // A lower one has what is left: nothing.
    let machine = Machine { cpus: 1, ..fixture.machine() };
    let (run, _) = run_on(fixture, &machine, "spin vm.priority=0", "vm.priority=31")?;
    one(&run, "[hyp] warning: victim has a higher priority than bad on CPU 0 and no vm.budget")
        .map(drop)
}

fn a_budget_is_kept_and_is_a_limit(fixture: &Fixture) -> Checked {
    for other in ["spin", "spin vm.priority=23", "attack=steal"] {
        within(measure(fixture, 1, other, "vm.budget=2000/10000")?, 190..=202, 8_100)?;
    }
    // A reset has sections of EL2 of half a millisecond here, which the next period repays.
    for (other, longest) in
        [("spin vm.budget=3000/10000", 3_200), ("attack=reset vm.budget=3000/10000", 4_000)]
    {
        within(measure(fixture, 1, other, "")?, 685..=710, longest)?;
    }
    Ok(())
}

fn a_window_is_for_its_vm_alone(fixture: &Fixture) -> Checked {
    for (schedule, shares, longest) in [
        ("10000/victim+4000", 390..=402, 6_100),
        ("10000/bad+3000/victim+4000", 390..=402, 6_100),
        ("10000/bad+3000", 685..=702, 3_100),
        ("10000/bad+3000/*+1000/bad+2000", 485..=502, 3_100),
    ] {
        let append = Some(format!("hyp.schedule={schedule}"));
        let machine = Machine { cpus: 1, append, ..fixture.machine() };
        within(measure_on(fixture, &machine, "spin", "")?, shares, longest)?;
    }
    // A priority counts outside windows only, and keeps no window's VM from it.
    let append = Some("hyp.schedule=10000/victim+4000".to_owned());
    let machine = Machine { cpus: 1, append, ..fixture.machine() };
    let (run, _) = run_on(fixture, &machine, "spin", "vm.priority=31")?;
    ensure(run.with("has a higher priority").count() == 0, "a warning without a reason", &run)
}

fn a_dedicated_cpu_has_one_vm(fixture: &Fixture) -> Checked {
    let machine = Machine { cpus: 2, ..fixture.machine() };
    let (run, _) =
        run_on(fixture, &machine, "spin vm.cpus=2", "vm.affinity=1 vm.dedicated vm.priority=20")?;
    let line = one(&run, "[hyp] bad: 4 MiB of RAM")?;
    ensure(line.contains("2 vCPUs on CPUs 0 0, priority 8,"), "a CPU that is taken", &run)?;
    let line = one(&run, "[hyp] victim: 4 MiB of RAM")?;
    ensure(line.contains("1 vCPU on CPU 1 alone, priority 20,"), "not its own CPU", &run)
}

/// docs/scheduling.md, "Worst wake-up": 10 us of EL2 and 1 us for a switch, and what the words of others add.
fn the_boot_log_says_when_a_vm_runs_after_it_woke(fixture: &Fixture) -> Checked {
    for (schedule, bad, victim, lines) in [
        ("", "", "", ["bad: wakes within 77 us", "victim: wakes within 77 us"]),
        ("", "vm.affinity=1", "", ["bad: wakes within 26 us", "victim: wakes within 26 us"]),
        // Two budgets of 2,000 us in a row, with a switch to each and back.
        (
            "",
            "",
            "vm.budget=2000/10000",
            ["bad: wakes within 4030 us", "victim: wakes within 26 us"],
        ),
        ("", "vm.priority=9", "", ["bad: wakes within 26 us", "victim: may wait for bad for ever"]),
        (
            "hyp.schedule=10000/victim+4000",
            "vm.priority=9",
            "",
            ["bad: wakes within 8030 us", "victim: wakes within 6026 us"],
        ),
        (
            "hyp.schedule=10000/victim+10000",
            "",
            "",
            [
                "bad: may wait for ever: budgets and windows may use all of its CPU",
                "victim: wakes within 26 us",
            ],
        ),
    ] {
        let word = |name: &str, words: &str| {
            fixture.guest(&format!("spin vm.name={name} vm.mem=4M {words}"))
        };
        let modules = vec![word("bad", bad), word("victim", victim)];
        let cpus = if bad.contains("affinity") { 2 } else { 1 };
        let append = Some(schedule.to_owned());
        let mut session = fixture.boot(&Machine { cpus, append, modules, ..fixture.machine() })?;
        session.wait_for("MiB of RAM left free")?;
        let run = session.stop_after(Duration::ZERO);
        for line in lines {
            let (name, wakes) = line.split_once(": ").unwrap_or_default();
            let start = format!("[hyp] {name}: 4 MiB of RAM");
            let found = one(&run, &start)?;
            ensure(found.contains(&format!(", {wakes}, IPA ")), &format!("not `{line}`"), &run)?;
        }
    }
    Ok(())
}
