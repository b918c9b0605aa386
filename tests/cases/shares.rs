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
