// SPDX-License-Identifier: MIT OR Apache-2.0
//! `./scripts/run realtime`: a VM that sleeps and wakes shares its CPU with a busy Linux, and must never be later than EL2 says at
//! boot.
//!
//! # Key types
//!
//! - [`machine`]: the VMs, `rt` and `linux`.
//! - `Wakes`: what `rt` says of its last 1000 wake-ups.
//!
//! # Invariants
//!
//! - Judged runs count time in instructions (`-icount`), so that how busy the host is does not matter.
//! - The bound is what EL2 computed from the owner's words, read from the boot log.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::build::Artifacts;
use crate::guests::Guest;
use crate::guests::boot;
use crate::qemu::{Limits, Machine, Module, Session};
use crate::show::dialogue::Dialogue;
use crate::show::report::Report;

/// The VM that measures.
const RT: &str = "rt";
/// The VM that has the rest of the CPU.
const LINUX: &str = "linux";
/// All VMs. The first has the keyboard.
pub const VMS: [&str; 2] = [LINUX, RT];

/// What has to be fetched for it.
pub const FILES: [Guest; 2] = [Guest::Linux, Guest::Initramfs];

/// RAM of the VMs in MiB.
const LINUX_MIB: u64 = 256;
const RT_MIB: u64 = 4;

/// Thousands of wake-ups that are looked at while Linux does one thing.
const ROUNDS: usize = 2;

/// What Linux does meanwhile: a name, and the command that begins it.
const LOADS: [(&str, &str); 4] = [
    ("computes", "while :; do :; done &"),
    ("begins and ends programs", "while :; do /bin/true; done &"),
    (
        "fills and frees memory",
        "while :; do dd if=/dev/zero of=/tmp/x bs=1M count=64; done 2>/dev/null &",
    ),
    ("writes to its console", "while :; do echo a line that nobody asked for; done &"),
];

/// The machine: one CPU, `rt` above `linux`.
///
/// # Errors
///
/// A guest's file was not made.
pub fn machine(images: &Artifacts) -> Result<Machine> {
    let linux = Module {
        kernel: Guest::Linux.existing()?,
        ramdisk: Some(Guest::Initramfs.existing()?),
        bootargs: format!(
            "vm.name={LINUX} vm.mem={LINUX_MIB}M vm.cpus=1 console=ttyAMA0 quiet panic=-1 hostname={LINUX}"
        ),
        address: None,
    };
    let rt = Module {
        kernel: images.guest_stub.clone(),
        bootargs: format!("vm.name={RT} vm.mem={RT_MIB}M vm.priority=24 vm.budget=200/1000 wakes"),
        ..Module::default()
    };
    Ok(Machine {
        cpus: 1,
        memory_mib: boot::machine_mib(LINUX_MIB + RT_MIB),
        kernel: Some(images.hypervisor.clone()),
        modules: vec![linux, rt],
        ..Machine::default()
    })
}

/// A thousand wake-ups, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wakes {
    median: u64,
    most: u64,
}

impl Wakes {
    /// What a line of `rt` says.
    fn read(line: &str) -> Option<Self> {
        let (_, said) = line.split_once("wakes: 1000, ")?;
        let (_, said) = said.split_once(" ns at the least, ")?;
        let (median, said) = said.split_once(" median, ")?;
        let most = said.trim_end().strip_suffix(" at the most")?;
        Some(Self { median: median.parse().ok()?, most: most.parse().ok()? })
    }
}

/// Microseconds behind `before` in a line.
fn microseconds(line: &str, before: &str) -> Option<u64> {
    line.split_once(before)?.1.split_once(" us")?.0.parse().ok()
}

/// The priority in a VM's line of the boot log.
fn priority(line: &str) -> Option<u8> {
    line.split_once(", priority ")?.1.split_once(',')?.0.parse().ok()
}

/// The latest and the middle one of all that `lines` say, and how many thousands those are.
fn all(lines: &[String]) -> (usize, Wakes) {
    let wakes: Vec<Wakes> = lines.iter().filter_map(|line| Wakes::read(line)).collect();
    let of = |value: fn(&Wakes) -> u64| wakes.iter().map(value).max().unwrap_or(0);
    (wakes.len(), Wakes { median: of(|wakes| wakes.median), most: of(|wakes| wakes.most) })
}

/// Boots the VMs as `name`, and says each check with `say` as it comes.
///
/// # Errors
///
/// A VM did not get so far that it could be asked.
pub fn judge<'s>(
    images: &Artifacts,
    name: &str,
    say: &'s mut dyn FnMut(&str),
) -> Result<Report<'s>> {
    let mut machine = machine(images)?;
    let counted = ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"];
    machine.extra.extend(counted.map(str::to_owned));
    let limits = Limits { total: Duration::from_secs(400), silence: Duration::from_secs(150) };
    let session = Session::start(&machine, name, limits, false)?;
    let mut report = Report::new("realtime", say);
    checks(Dialogue::new(session, &VMS), &mut report)?;
    Ok(report)
}

fn checks(mut dialogue: Dialogue, report: &mut Report<'_>) -> Result<()> {
    let boot = dialogue.said(&format!("[hyp] {RT}: "))?;
    let bound = microseconds(&boot, "wakes within ").context("EL2 computes no bound for rt")?;
    let own = priority(&boot).context("the boot log has no priority of rt")?;
    report.check(
        "EL2 computes when rt runs at the latest after it woke",
        "boot log",
        &format!("{bound} us"),
        bound <= 30,
    );
    let boot = dialogue.said(&format!("[hyp] {LINUX}: "))?;
    let theirs = priority(&boot).context("the boot log has no priority of linux")?;
    report.check(
        "linux has the same CPU, and a lower priority",
        "boot log, priorities",
        &format!("linux {theirs}, rt {own}"),
        boot.contains("on CPU 0,") && theirs < own,
    );
    dialogue.said(&format!("[{LINUX}] guest: shell"))?;
    within(dialogue.lines(), "while linux boots", bound, 1, report);
    let kernel = dialogue.ask(LINUX, "cat /proc/version")?.text();
    let stock = kernel.contains("-cloud-arm64") && kernel.contains("debian");
    report.check("linux is Debian's stock kernel", "linux, /proc/version", &kernel, stock);
    let mut medians = Vec::new();
    for (what, command) in LOADS {
        let before = dialogue.lines().len();
        dialogue.ask(LINUX, &format!("{command} echo $! >/tmp/load"))?;
        let wakes = rounds(&mut dialogue, before)?;
        dialogue.ask(LINUX, "kill $(cat /tmp/load)")?;
        medians.push(within(&wakes, &format!("while linux {what}"), bound, ROUNDS, report));
    }
    let before = dialogue.lines().len();
    dialogue.send(LINUX, "reboot\n")?;
    dialogue.said_after(before, &format!("[hyp] {LINUX}: incarnation 2 begins"))?;
    dialogue.forget_keyboard();
    dialogue.said_after(before, &format!("[{LINUX}] guest: shell"))?;
    let lines = behind_first(dialogue.lines().get(before..).unwrap_or_default());
    within(&lines, "while linux reboots", bound, 1, report);
    let median = medians.iter().max().copied().unwrap_or(u64::MAX);
    report.check(
        "half of the wake-ups come within a quarter of the bound",
        "rt, largest median beside the loads",
        &format!("{median} ns"),
        median > 0 && median <= bound * 250,
    );
    dialogue.send(LINUX, "poweroff\n")?;
    let end = dialogue.said(&format!("[hyp] {LINUX}: stopped (power off)"))?;
    report.check(
        "linux ends by itself, and was refused nothing",
        "EL2",
        &end,
        end.ends_with(", 0 refused"),
    );
    Ok(())
}

/// The lines behind the first `before`, once `rt` has said there how late it was [`ROUNDS`] times more than once: in the first
/// thousand the command was still being typed.
fn rounds(dialogue: &mut Dialogue, before: usize) -> Result<Vec<String>> {
    let mut next = before;
    for _ in 0..=ROUNDS {
        dialogue.said_after(next, "wakes: 1000, ")?;
        let lines = dialogue.lines().iter().skip(next);
        next += lines.take_while(|line| !line.contains("wakes: 1000, ")).count() + 1;
    }
    Ok(behind_first(dialogue.lines().get(before..next).unwrap_or_default()))
}

/// The lines behind the first one in which `rt` says how late it was.
fn behind_first(lines: &[String]) -> Vec<String> {
    lines.iter().skip_while(|line| Wakes::read(line).is_none()).skip(1).cloned().collect()
}

/// Checks that all wake-ups in `lines`, at least `thousands` of them, are within `bound` us. Returns the largest median.
fn within(
    lines: &[String],
    when: &str,
    bound: u64,
    thousands: usize,
    report: &mut Report<'_>,
) -> u64 {
    let (count, wakes) = all(lines);
    report.check(
        &format!("rt is never later than that {when}"),
        "rt, latest wake-up",
        &format!("{} ns of {count} thousand", wakes.most),
        count >= thousands && wakes.most > 0 && wakes.most <= bound * 1000,
    );
    wakes.median
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "[rt] wakes: 1000, 912 ns at the least, 1040 median, 8800 at the most";

    #[test]
    fn a_line_of_rt_has_its_figures() {
        assert_eq!(Wakes::read(LINE), Some(Wakes { median: 1040, most: 8800 }));
        assert_eq!(Wakes::read("[rt] wakes: 1000, 912 ns at the least"), None);
        assert_eq!(microseconds("rt: 4 MiB, wakes within 16 us, IPA", "wakes within "), Some(16));
        assert_eq!(priority("rt: 1 vCPU on CPU 0, priority 24, wakes"), Some(24));
        assert_eq!(microseconds("rt: 4 MiB, may wait for ever", "wakes within "), None);
    }

    #[test]
    fn the_latest_of_all_lines_counts_and_none_is_no_promise_kept() {
        let later = LINE.replace("8800", "17000");
        let lines = [LINE.to_owned(), "[linux] x".to_owned(), later];
        assert_eq!(all(&lines), (2, Wakes { median: 1040, most: 17000 }));
        assert_eq!(behind_first(&lines), lines[1..]);
        assert_eq!(behind_first(&lines[1..2]), Vec::<String>::new());
        let mut said = Vec::new();
        let mut say = |line: &str| said.push(line.to_owned());
        let mut report = Report::new("realtime", &mut say);
        within(&lines, "x", 17, 2, &mut report);
        assert!(report.all_kept());
        within(&lines, "x", 16, 2, &mut report);
        within(&[], "x", 16, 1, &mut report);
        assert_eq!(report.closing(), "realtime: 1 of 3 as promised");
    }
}
