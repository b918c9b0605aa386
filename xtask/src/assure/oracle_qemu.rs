// SPDX-License-Identifier: MIT OR Apache-2.0
//! The image with the oracle in it, in QEMU: the live tables against the specification after every exit, while guests
//! ask their guard by chance and one resets itself, and while the test guest runs its suites.

use std::fs;
use std::time::{Duration, Instant, SystemTime};

use super::step::{Figure, Options, Outcome, Step};
use super::tool::{cargo_at_root, number_between, said, seed};
use crate::build::{self, Artifacts};
use crate::paths;
use crate::qemu::{Ended, Gic, Limits, Machine, Module, Run, Session};
use anyhow::{Context, Result, anyhow, bail};

/// The step.
pub const STEP: Step = Step {
    name: "oracle-qemu",
    about: "every exit of guests in QEMU against the specification, the live tables with it",
    long_only: false,
    run,
};

/// Name of the image.
const HYPERVISOR: &str = "portcullis-oracle";
/// Seconds that the guests ask.
const SHORT: u64 = 30;
const LONG: u64 = 3600;
/// Exits an hour, at least, of the long form.
const AN_HOUR: u64 = 2_000_000;
/// Which of the test guest's suites run under the oracle, and of a device VM and those that it serves.
const SHORT_SUITES: [&str; 3] = ["gicv3::b0", "gicv3::dev_flash", "devices::"];
const LONG_SUITES: [&str; 3] = ["gicv3::", "gicv2::", "devices::"];

fn run(options: &Options) -> Result<Outcome> {
    build::build(&build::Options { features: Some("oracle".into()), ..Default::default() })?;
    let seed = seed();
    println!("assure: oracle-qemu: PORTCULLIS_SEED={seed} repeats it");
    let started = Instant::now();
    let checked = by_chance(options.long, seed)?;
    let hourly = checked * 3600 / started.elapsed().as_secs().max(1);
    let mut figures = vec![
        Figure::count("exits of guests by chance checked", checked),
        Figure::count("the same an hour", hourly),
    ];
    if options.long && hourly < AN_HOUR {
        bail!("{hourly} exits an hour, fewer than {AN_HOUR}");
    }
    let filters: &[&str] = if options.long { &LONG_SUITES } else { &SHORT_SUITES };
    let exits = filters.iter().map(|filter| suites(filter)).sum::<Result<u64>>()?;
    figures.push(Figure::count("exits of the test guest's suites checked", exits));
    figures.push(Figure { what: "seed".into(), value: seed.to_string() });
    Ok(Outcome::Passed(figures))
}

/// Two machines side by side, with either interrupt controller; returns how many exits were checked.
fn by_chance(long: bool, seed: u64) -> Result<u64> {
    let seconds = if long { LONG } else { SHORT };
    let seed = seed % 1_000_000_007;
    let guided = |words: &str, more: u64| {
        format!("guided={seconds} seed={} vm.mem=16M vm.pool=12 {words}", seed + more)
    };
    let machines = [
        (
            Gic::V3,
            vec![
                guided("vm.name=a vm.cpus=2 vm.flash=0x4000000+256K", 0),
                guided("vm.name=b vm.dialect=series vm.guard=enforce", 1),
                "reboot=20 vm.name=c vm.testdev=0x0b000000 vm.mem=16M".into(),
            ],
        ),
        (
            Gic::V2,
            vec![
                guided("vm.name=a vm.cpus=2 vm.guard=enforce vm.flash=0x4000000+256K", 2),
                guided("vm.name=b vm.allow=0x8000000+0x38000000 vm.rom=0x2000000+0x2000", 3),
                guided("vm.name=c vm.guard=off", 4),
            ],
        ),
    ];
    let boot = |(gic, guests): &(Gic, Vec<String>)| -> Result<u64> {
        let images = Artifacts::named(HYPERVISOR);
        let machine = Machine {
            gic: *gic,
            kernel: Some(images.hypervisor),
            modules: guests
                .iter()
                .map(|bootargs| Module {
                    kernel: images.guest_stub.clone(),
                    bootargs: bootargs.clone(),
                    ..Module::default()
                })
                .collect(),
            ..Machine::default()
        };
        // A loaded machine is slow, and guests by chance say nothing meanwhile.
        let limits = Limits {
            total: Duration::from_secs(seconds * 4 + 300),
            silence: Duration::from_secs(seconds * 3 + 200),
        };
        let name = format!("oracle-{gic:?}").to_lowercase();
        judge(&Session::start(&machine, &name, limits, false)?.finish(), guests)
    };
    std::thread::scope(|scope| {
        let running: Vec<_> =
            machines.iter().map(|machine| scope.spawn(|| boot(machine))).collect();
        let died = || anyhow!("a thread died");
        running.into_iter().map(|thread| thread.join().map_err(|_| died())?).sum()
    })
}

/// How many exits were checked, if all of `guests` came to their end.
fn judge(run: &Run, guests: &[String]) -> Result<u64> {
    if let Some(line) = run.with("oracle:").find(|line| line.contains("should be")) {
        bail!("{line}; the console is in {}", run.log.display());
    }
    let ended = |wanted: &str| run.with(wanted).filter(|line| line.contains(" rounds")).count();
    let guided = guests.iter().filter(|bootargs| bootargs.starts_with("guided")).count();
    let lives = guests.len() == guided || run.with("reboot: ").any(|line| line.contains(" lives"));
    if run.ended != Ended::Exited(Some(0)) || ended("guided: ") != guided || !lives {
        bail!("the guests did not come to their end: {}", run.tail());
    }
    checked(&run.lines)
}

/// What EL2 says when all VMs have stopped.
fn checked(lines: &[String]) -> Result<u64> {
    lines
        .iter()
        .find_map(|line| number_between(line, "oracle: ", " exits checked, no difference"))
        .context("EL2 does not say how many exits it checked")
}

/// The suites, as `scripts/test` runs them: returns how many exits of their boots were checked. Tests that are too slow
/// under the oracle fail there; what counts here is that no exit differs.
fn suites(filter: &str) -> Result<u64> {
    let began = SystemTime::now();
    let words = ["test", "-q", "--package", "e2e", "--test", "qemu", "--", filter];
    let mut command = cargo_at_root(&words);
    said(command.env("PORTCULLIS_HYPERVISOR", HYPERVISOR))?;
    let (machine, _) = filter.split_once("::").unwrap_or((filter, ""));
    let folder = paths::target().join("qemu-logs").join(machine);
    let mut exits = 0;
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())?.flatten() {
        if !entry.metadata().and_then(|data| data.modified()).is_ok_and(|at| at >= began) {
            continue;
        }
        let bytes = fs::read(entry.path()).with_context(|| entry.path().display().to_string())?;
        for line in String::from_utf8_lossy(&bytes).lines() {
            if line.contains("[hyp] panic") {
                bail!("{}: {line}", entry.path().display());
            }
            exits += number_between(line, "oracle: ", " exits checked").unwrap_or(0);
        }
    }
    if exits == 0 {
        bail!("the suites {filter} ran without the oracle");
    }
    Ok(exits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(lines: &[&str]) -> Run {
        Run {
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            ended: Ended::Exited(Some(0)),
            took: Duration::ZERO,
            log: "log".into(),
        }
    }

    #[test]
    fn a_difference_is_shown_and_an_end_is_wanted() {
        let guests = ["guided=1".to_owned(), "guided=1".to_owned()];
        let counted = "[hyp] oracle: 7 exits checked, no difference";
        let all = ["[a] guided: 5 rounds", "[b] guided: 6 rounds", counted];
        assert_eq!(judge(&console(&all), &guests).unwrap(), 7);
        assert!(
            judge(&console(&all[1..]), &guests).unwrap_err().to_string().contains("did not come")
        );
        assert!(judge(&console(&all[..2]), &guests).unwrap_err().to_string().contains("how many"));
        let differs = "[hyp] panic on CPU 0: oracle: a: exit 9: is Resume, should be Retry";
        let found = judge(&console(&[all[0], all[1], differs, counted]), &guests).unwrap_err();
        assert!(found.to_string().contains("exit 9"));
        let lives = ["guided=1".to_owned(), "reboot=2".to_owned()];
        assert!(judge(&console(&[all[0], counted]), &lives).is_err());
        assert_eq!(judge(&console(&[all[0], "[c] reboot: 2 lives", counted]), &lives).unwrap(), 7);
    }
}
