// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask run`: the main job, shown. Whether it worked is judged by lines that must be there, as
//! QEMU's exit status says nothing.

use crate::qemu::{Ended, Run};
use anyhow::{Result, anyhow, bail};

/// What the lines of a demonstration say.
///
/// # Errors
///
/// The closing lines of the guest or the hypervisor are missing, or not what they should be.
pub fn judge(run: &Run) -> Result<()> {
    let fail = |what: &str| Err(anyhow!("{what}: {}", run.tail()));
    match run.lines.iter().find_map(|line| promised(line)) {
        None => return fail("the guest did not close with `demo: N of N as promised`"),
        Some((kept, all)) if kept != all || all == 0 => {
            bail!("the guest saw {kept} of {all} things as promised");
        }
        Some(_) => {}
    }
    if !run.lines.iter().any(|line| stopped(line)) {
        return fail("the hypervisor did not say `[hyp] NAME: stopped (REASON): ...`");
    }
    if run.ended != Ended::Exited(Some(0)) {
        return fail("the machine was not powered off");
    }
    Ok(())
}

/// N and M of `demo: N of M as promised`.
fn promised(line: &str) -> Option<(u32, u32)> {
    let counts = line.strip_prefix("demo: ")?.strip_suffix(" as promised")?;
    let (kept, all) = counts.split_once(" of ")?;
    Some((kept.parse().ok()?, all.parse().ok()?))
}

/// Whether this is the line with which a VM's life ends.
fn stopped(line: &str) -> bool {
    line.starts_with("[hyp] ") && line.contains(": stopped (")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str, ended: Ended) -> Run {
        Run {
            lines: text.lines().map(str::to_owned).collect(),
            ended,
            took: std::time::Duration::ZERO,
            log: "LOG".into(),
        }
    }

    const STOPPED: &str = "[hyp] demo: stopped (power off): 3 hypercalls, 4 MMIO exits, 1 refused";
    const OFF: Ended = Ended::Exited(Some(0));

    #[test]
    fn all_lines_and_the_end() {
        let good = format!("demo: 7 of 7 as promised\n{STOPPED}");
        judge(&run(&good, OFF)).unwrap();
    }

    #[test]
    fn each_missing_part_fails_it() {
        let good = format!("demo: 7 of 7 as promised\n{STOPPED}");
        for (text, ended) in [
            (STOPPED, OFF),
            ("demo: 7 of 7 as promised", OFF),
            (&format!("demo: 6 of 7 as promised\n{STOPPED}"), OFF),
            (&format!("demo: 0 of 0 as promised\n{STOPPED}"), OFF),
            (&format!("demo: 7 of 7 as promis\n{STOPPED}"), OFF),
            (&good, Ended::Silent),
            (&good, Ended::Exited(Some(1))),
            (&good, Ended::Exited(None)),
        ] {
            assert!(judge(&run(text, ended)).is_err(), "{text} {ended:?}");
        }
    }
}
