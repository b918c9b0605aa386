// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the steps need of the machine, and running it.

use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::paths;
use crate::toolchain::cargo;
use anyhow::{Context, Result};

/// The cargo that runs this tool, at the repository's root.
pub fn cargo_at_root(words: &[&str]) -> Command {
    let mut command = Command::new(cargo());
    command.current_dir(paths::root()).args(words);
    command
}

/// Whether `command` can be run and succeeds, without a word of it.
pub fn works(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// What `command` says on both its outputs, and whether it succeeded.
pub fn said(command: &mut Command) -> Result<(bool, String)> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), text))
}

/// The last lines of `text`.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    let rest = all.len().saturating_sub(lines);
    all.get(rest..).unwrap_or_default().join("\n")
}

/// The seed of what a step does by chance: `PORTCULLIS_SEED`, which repeats a run, or one by chance.
pub fn seed() -> u64 {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
    number("PORTCULLIS_SEED", clock)
}

/// The number behind `before` and in front of `after` in a line.
pub fn number_between(line: &str, before: &str, after: &str) -> Option<u64> {
    line.split_once(before)?.1.split_once(after)?.0.trim().parse().ok()
}

/// A number in the environment, such as a bound of time.
pub fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_lines() {
        let line = "[hyp] oracle: 5705 exits checked, no difference";
        assert_eq!(number_between(line, "oracle: ", " exits checked"), Some(5705));
        assert_eq!(number_between(line, "oracle: ", " traps"), None);
    }
}
