// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask test`: everything that is checked, step by step, and one closing line that counts.
//!
//! Steps whose tests pass say one line. The output of one that fails is shown, without its passing tests. A step
//! that closes without the line in which test runners count has failed, whatever its exit status.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::build::IMAGES;
use crate::paths;
use crate::progress::{self, Progress};
use crate::toolchain::{TARGET, Toolchain, cargo};
use anyhow::{Result, anyhow, bail};

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
    match &options.filter {
        Some(filter) if total == Tally::default() => {
            bail!("no QEMU case matches `{filter}`{}", suggestion(&near(filter, &names()?)))
        }
        _ => {}
    }
    if total.failed == 0 && total.passed > 0 {
        Ok(())
    } else {
        Err(anyhow!("{} of {} failed", total.failed, total.failed + total.passed))
    }
}

/// The names of all QEMU cases.
fn names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut command = cargo_test(&["--package", "e2e", "--test", "qemu", "--", "--list"]);
    progress::run(&mut command, &mut Progress::start("listing the cases"), |_, line| {
        names.extend(line.strip_suffix(": test").map(str::to_owned));
    })?;
    Ok(names)
}

/// At most five names that are like `filter`, the nearest first.
fn near(filter: &str, names: &[String]) -> Vec<String> {
    let mut near: Vec<(f64, &str)> = Vec::new();
    for name in names {
        // The same test on another machine is the same to the person who asks.
        let short = name.rsplit("::").next().unwrap_or(name);
        if near.iter().any(|(_, other)| *other == short) {
            continue;
        }
        let likeness = strsim::jaro_winkler(filter, short).max(strsim::jaro_winkler(filter, name));
        let words = filter.split(['_', ':']).filter(|word| word.len() > 3);
        let shared = words.filter(|word| name.contains(word)).count();
        near.push((likeness + shared as f64 / 4.0, short));
    }
    near.retain(|(likeness, _)| *likeness > 0.8);
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.into_iter().take(5).map(|(_, name)| name.to_owned()).collect()
}

fn suggestion(near: &[String]) -> String {
    match near {
        [] => "; `cargo test -p e2e -- --list` lists them".into(),
        names => format!("; similar names: {}", names.join(", ")),
    }
}

/// Manifest of the fuzz targets.
const FUZZ: &str = "fuzz/Cargo.toml";

fn cargo_test(words: &[&str]) -> Command {
    let mut command = Command::new(cargo());
    command.current_dir(paths::root()).arg("test").args(words);
    command
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
    // A workspace of its own, whose lock file no other step reads: a dependency changed here changes it too.
    let fuzz = ["tree", "-q", "--locked", "--depth", "0", "--manifest-path", FUZZ];
    all.push(("fuzz/Cargo.lock", cargo(&fuzz), Judge::Status));
    let layout = ["run", "-q", "--package", "xtask", "--", "layout"];
    all.push(("layout", cargo(&layout), Judge::Status));
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
        let mut command = cargo(&["clippy", "-q", "--workspace"]);
        for package in IMAGES {
            command.args(["--exclude", package]);
        }
        command.args(["--all-targets", "--", "-D", "warnings"]);
        all.push(("clippy", command, Judge::Status));
        if Toolchain::find()? == Toolchain::Rustup {
            // One by one, as they are built: none may get the features that another asks of a crate.
            let names = ["clippy on hyp", "clippy on guest-stub", "clippy on hello-guest"];
            for (name, package) in names.into_iter().zip(IMAGES) {
                let image = ["clippy", "-q", "-p", package, "--target", TARGET];
                let mut command = cargo(&image);
                command.args(["--", "-D", "warnings"]);
                all.push((name, command, Judge::Status));
            }
            let doc = ["run", "-q", "--package", "xtask", "--", "doc"];
            all.push(("documentation", cargo(&doc), Judge::Status));
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
    let (mut counted, mut cases, mut total) = (false, 0, 0);
    let mut kept = Vec::new();
    let mut progress = Progress::start(name);
    let status = progress::run(command, &mut progress, |progress, line| {
        if let Some(result) = result(line) {
            counted = true;
            tally.passed += result.passed;
            tally.failed += result.failed;
            tally.skipped += result.skipped;
        }
        if let Some(tests) = line.strip_prefix("running ").and_then(|rest| rest.split(' ').next()) {
            total += tests.parse().unwrap_or(0);
        }
        if let Some((case, verdict)) = case(line) {
            cases += 1;
            if verdict.starts_with("FAILED") {
                progress.suspend(|| println!("FAILED {case}"));
            }
            progress.set(cases, total, case);
        } else {
            progress.set(cases, total, line);
        }
        if !(line.starts_with("test ") && line.ends_with("... ok")) {
            kept.push(line.to_owned());
        }
    })?;
    drop(progress);
    match judge {
        Judge::Status if status.success() => tally.passed += 1,
        Judge::Status => tally.failed += 1,
        // Tests that did not compile or died are in no count; nor is a runner that forgot to count.
        Judge::Tests if !counted => tally.failed += 1,
        Judge::Tests if !status.success() && tally.failed == 0 => tally.failed += 1,
        Judge::Tests => {}
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

/// Name and verdict of `test NAME ... VERDICT`.
fn case(line: &str) -> Option<(&str, &str)> {
    let (name, verdict) = line.strip_prefix("test ")?.split_once(" ... ")?;
    Some((name.trim_end(), verdict))
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
    fn a_case_has_a_name_and_a_verdict() {
        assert_eq!(case("test a::b   ... FAILED"), Some(("a::b", "FAILED")));
        assert_eq!(case("test result: ok. 1 passed"), None);
    }

    #[test]
    fn a_filter_that_matches_nothing_finds_what_was_meant() {
        let names =
            ["gicv3::first_path", "gicv2::first_path", "cases::powers_off"].map(String::from);
        assert_eq!(near("frist_path", &names), ["first_path"]);
        assert_eq!(near("path_of_first", &names), ["first_path"]);
        assert!(near("zzz", &names).is_empty());
        assert!(suggestion(&near("powers_of", &names)).ends_with("similar names: powers_off"));
    }

    #[test]
    fn a_check_is_judged_by_its_status() {
        assert_eq!(script("true", Judge::Status), tally(1, 0, 0));
        assert_eq!(script("false", Judge::Status), tally(0, 1, 0));
    }
}
