// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask test`: everything that is checked, step by step, and one closing line that counts.
//!
//! Steps whose tests pass say one line. The output of one that fails is shown, without its passing tests. A step
//! that closes without the line in which test runners count has failed, whatever its exit status.

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::paths;
use crate::toolchain::{TARGET, Toolchain, cargo};
use anyhow::{Context, Result, anyhow};

/// What to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Only what takes under two minutes once built.
    pub quick: bool,
    /// QEMU cases whose names contain this, and nothing else.
    pub filter: Option<String>,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that passed, and checks without a count of their own.
    pub passed: u64,
    /// The same, failed.
    pub failed: u64,
    /// Tests that skipped themselves.
    pub skipped: u64,
}

/// How the verdict of a step is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judge {
    /// By the lines `test result: ..`, at least one.
    Tests,
    /// By the exit status: one check.
    Status,
}

/// Runs all, and prints the closing line `N passed, N failed, N skipped`.
///
/// # Errors
///
/// Something failed, or could not be run.
pub fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    let mut total = Tally::default();
    for (name, mut command, judge) in steps(options)? {
        let tally = step(name, &mut command, judge)?;
        total.passed += tally.passed;
        total.failed += tally.failed;
        total.skipped += tally.skipped;
    }
    println!("{:.0} s in all", started.elapsed().as_secs_f32());
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    if total.failed == 0 && total.passed > 0 {
        Ok(())
    } else {
        Err(anyhow!("{} of {} failed", total.failed, total.failed + total.passed))
    }
}

fn steps(options: &Options) -> Result<Vec<(&'static str, Command, Judge)>> {
    let cargo = |words: &[&str]| {
        let mut command = Command::new(cargo());
        command.current_dir(paths::root()).args(words);
        command
    };
    let mut qemu = cargo(&["test", "--package", "e2e", "--test", "qemu", "--"]);
    if options.quick {
        qemu.env("PORTCULLIS_QUICK", "1");
    }
    if let Some(filter) = &options.filter {
        qemu.arg(filter);
        return Ok(vec![("in QEMU", qemu, Judge::Tests)]);
    }
    let mut all = vec![
        ("on the host", cargo(&["test", "--no-fail-fast"]), Judge::Tests),
        ("the test runner", cargo(&["test", "--package", "e2e", "--lib"]), Judge::Tests),
    ];
    if !options.quick {
        all.extend(lints(&cargo)?);
    }
    all.push(("in QEMU", qemu, Judge::Tests));
    if !options.quick {
        let bench = ["run", "-q", "--package", "xtask", "--", "bench", "--check"];
        all.push(("instructions per operation", cargo(&bench), Judge::Status));
    }
    Ok(all)
}

/// Style and lints, with the tools that are installed.
fn lints(cargo: &impl Fn(&[&str]) -> Command) -> Result<Vec<(&'static str, Command, Judge)>> {
    let installed = |tool: &str| {
        cargo(&[tool, "--version"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let mut all = Vec::new();
    if installed("fmt") {
        all.push(("rustfmt", cargo(&["fmt", "--all", "--check"]), Judge::Status));
    } else {
        println!("rustfmt: not installed, not checked");
    }
    if installed("clippy") {
        let host = ["clippy", "-q", "--workspace", "--exclude", "hyp", "--exclude", "guest-stub"];
        let mut command = cargo(&host);
        command.args(["--all-targets", "--", "-D", "warnings"]);
        all.push(("clippy", command, Judge::Status));
        if Toolchain::find()? == Toolchain::Rustup {
            // One by one, as they are built: neither may get the features that the other asks of a crate.
            for (name, package) in
                [("clippy on hyp", "hyp"), ("clippy on guest-stub", "guest-stub")]
            {
                let image = ["clippy", "-q", "-p", package, "--target", TARGET];
                let mut command = cargo(&image);
                command.args(["--", "-D", "warnings"]);
                all.push((name, command, Judge::Status));
            }
        } else {
            println!("clippy on the images: it needs rustup's target, not checked");
        }
    } else {
        println!("clippy: not installed, not checked");
    }
    Ok(all)
}

/// Runs one step and says how it went.
fn step(name: &str, command: &mut Command, judge: Judge) -> Result<Tally> {
    let started = Instant::now();
    let mut tally = Tally::default();
    let mut counted = false;
    let mut kept = Vec::new();
    let progress = std::io::stdout().is_terminal();
    if progress {
        print!("{name} ...");
        let _ = std::io::stdout().flush();
    }
    let mut child = merged(command).spawn().with_context(|| format!("{name}: cannot run cargo"))?;
    let mut cases = 0_u64;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = line.with_context(|| format!("{name}: cannot read its output"))?;
            let line = String::from_utf8_lossy(&line).into_owned();
            if let Some(result) = result(&line) {
                counted = true;
                tally.passed += result.passed;
                tally.failed += result.failed;
                tally.skipped += result.skipped;
            }
            if line.starts_with("test ") && line.contains(" ... ") {
                cases += 1;
                if progress {
                    print!("\r{name} ... {cases}");
                    let _ = std::io::stdout().flush();
                }
            }
            if !(line.starts_with("test ") && line.ends_with("... ok")) {
                kept.push(line);
            }
        }
    }
    let status = child.wait().with_context(|| name.to_owned())?;
    match judge {
        Judge::Status if status.success() => tally.passed += 1,
        Judge::Status => tally.failed += 1,
        // Tests that did not compile or died are in no count; nor is a runner that forgot to count.
        Judge::Tests if !counted => tally.failed += 1,
        Judge::Tests if !status.success() && tally.failed == 0 => tally.failed += 1,
        Judge::Tests => {}
    }
    if progress {
        print!("\r\x1b[K");
    }
    if tally.failed > 0 {
        println!("{}", kept.join("\n"));
    } else {
        // What did not run is worth knowing, as is what the runner says it needs.
        for line in
            kept.iter().filter(|line| line.contains("... ignored") || line.starts_with("boards: "))
        {
            println!("  {line}");
        }
    }
    let seconds = started.elapsed().as_secs_f32();
    println!(
        "{name}: {} passed, {} failed, {} skipped ({seconds:.0} s)",
        tally.passed, tally.failed, tally.skipped
    );
    Ok(tally)
}

/// `command` with its errors in its output, in the order in which they come.
fn merged(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "exec \"$@\" 2>&1", "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    for (key, value) in command.get_envs() {
        if let Some(value) = value {
            shell.env(key, value);
        }
    }
    if let Some(folder) = command.get_current_dir() {
        shell.current_dir(folder);
    }
    shell.stdin(Stdio::null()).stdout(Stdio::piped());
    shell
}

/// The counts of `test result: ok. 1 passed; 2 failed; 3 ignored; ...`.
fn result(line: &str) -> Option<Tally> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut tally = Tally::default();
    for part in counts.split("; ") {
        if let Some((number, word)) = part.split_once(' ')
            && let Ok(number) = number.parse::<u64>()
        {
            match word {
                "passed" => tally.passed = number,
                "failed" => tally.failed = number,
                "ignored" => tally.skipped = number,
                _ => {}
            }
        }
    }
    Some(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str, judge: Judge) -> Tally {
        step("a step", Command::new("sh").args(["-c", text]), judge).unwrap()
    }

    fn tally(passed: u64, failed: u64, skipped: u64) -> Tally {
        Tally { passed, failed, skipped }
    }

    #[test]
    fn the_line_of_a_test_runner_is_read() {
        let line = "test result: FAILED. 116 passed; 4 failed; 5 ignored; 0 measured; 1301 filtered out; finished in 59.57s";
        assert_eq!(result(line), Some(tally(116, 4, 5)));
        assert_eq!(result("test results"), None);
    }

    #[test]
    fn counts_add_up() {
        let text = "echo 'test result: ok. 3 passed; 0 failed; 1 ignored'; echo 'test result: ok. 2 passed; 0 failed; 0 ignored'";
        assert_eq!(script(text, Judge::Tests), tally(5, 0, 1));
    }

    #[test]
    fn a_runner_that_forgets_to_count_has_failed() {
        assert_eq!(script("echo test a ... ok", Judge::Tests), tally(0, 1, 0));
    }

    #[test]
    fn a_runner_that_dies_after_counting_has_failed() {
        let text = "echo 'test result: ok. 3 passed; 0 failed; 0 ignored'; echo error >&2; exit 1";
        assert_eq!(script(text, Judge::Tests), tally(3, 1, 0));
    }

    #[test]
    fn a_failed_test_counts_once() {
        let text = "echo 'test result: FAILED. 3 passed; 1 failed; 0 ignored'; exit 101";
        assert_eq!(script(text, Judge::Tests), tally(3, 1, 0));
    }

    #[test]
    fn a_check_is_judged_by_its_status() {
        assert_eq!(script("true", Judge::Status), tally(1, 0, 0));
        assert_eq!(script("false", Judge::Status), tally(0, 1, 0));
    }
}
