// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fuzz targets of `fuzz/`, each for a while or until it has tried enough.
//!
//! They are built by the compiler that builds everything else, with the flags of coverage that libFuzzer wants:
//! `cargo fuzz` does the same and works too, where it is installed. No sanitizer: what is fuzzed has no `unsafe`.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use super::step::{Figure, Options, Outcome, Step};
use super::tool::{self, number, said, tail};
use crate::{paths, toolchain};
use anyhow::{Context, Result, bail};

/// The step.
pub const STEP: Step = Step {
    name: "fuzz",
    about: "parsers, decoders, exits and interrupt controllers under random input",
    long_only: false,
    run,
};

/// A target, and what one thing is that it tries.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name in `fuzz/fuzz_targets/`.
    pub name: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// How many are wanted in a long run.
    pub wanted: u64,
    /// Longest input, in bytes.
    longest: u32,
    /// Its bytes are what is tried, so that operands of comparisons tell which bytes to try next. Elsewhere bytes only
    /// choose numbers, or seeds hold all the words there are, and watching comparisons would take most of the time.
    parses: bool,
}

const fn parser(name: &'static str, unit: &'static str, wanted: u64, longest: u32) -> Target {
    Target { name, unit, wanted, longest, parses: true }
}

const fn stream(name: &'static str, unit: &'static str, wanted: u64, longest: u32) -> Target {
    Target { name, unit, wanted, longest, parses: false }
}

/// All targets.
pub const TARGETS: [Target; 10] = [
    parser("esr", "syndromes decoded as another decoder does", 100_000_000, 1536),
    stream("exits", "exits checked against the specification", 100_000_000, 8192),
    stream("links", "exits of a device VM and its client checked", 10_000_000, 8192),
    stream("gic", "steps of an interrupt controller beside the ideal one", 10_000_000, 4096),
    stream("virtio_mmio", "steps of a transport beside a naive model", 10_000_000, 2048),
    stream("device_ring", "requests and rings of a hostile driver", 10_000_000, 2048),
    parser("tree", "device trees parsed", 10_000_000, 16384),
    parser("bundle", "bundles parsed", 10_000_000, 8192),
    parser("image", "Image headers parsed", 10_000_000, 512),
    stream("guest_tree", "boot arguments, and the device trees made of them", 10_000_000, 512),
];

/// What -Cpasses=sancov-module is to count: edges, and their addresses.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Ccodegen-units=1 --cfg fuzzing";
/// And operands of comparisons.
const COMPARISONS: &str = "-Cllvm-args=-sanitizer-coverage-trace-compares";

fn run(options: &Options) -> Result<Outcome> {
    if !tool::works(Command::new("c++").arg("--version")) {
        return Ok(Outcome::NotRun("libFuzzer needs a C++ compiler: apt-get install g++".into()));
    }
    build(&TARGETS)?;
    let seconds = number("PORTCULLIS_FUZZ_SECONDS", if options.long { 600 } else { 60 });
    let jobs = number("PORTCULLIS_JOBS", 2).max(1);
    let queue: Mutex<VecDeque<Target>> = Mutex::new(TARGETS.into());
    let results = Mutex::new(Vec::new());
    let next = || queue.lock().ok().and_then(|mut queue| queue.pop_front());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(target) = next() {
                    let result = fuzz(&target, seconds);
                    if let Ok(mut results) = results.lock() {
                        results.push((target, result));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_default();
    let place = |name| TARGETS.iter().position(|target| target.name == name);
    results.sort_by_key(|(target, _)| place(target.name));
    let mut figures = Vec::new();
    let mut failures = Vec::new();
    for (target, result) in &results {
        match result {
            Ok(tried) => {
                figures.push(Figure::count(format!("{}: {}", target.name, target.unit), *tried))
            }
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    if results.len() < TARGETS.len() {
        failures.push("not every target ran".into());
    }
    if failures.is_empty() {
        Ok(Outcome::Passed(figures))
    } else {
        Ok(Outcome::Failed(failures.join("\n"), figures))
    }
}

/// Runs one target again and again until it has tried what is wanted of it, saying how far it is.
///
/// # Errors
///
/// There is no such target, or it found something.
pub fn until_enough(name: &str, wanted: Option<u64>) -> Result<()> {
    let target = TARGETS
        .iter()
        .find(|target| target.name == name)
        .with_context(|| format!("there is no fuzz target `{name}`"))?;
    build(&[*target])?;
    let wanted = wanted.unwrap_or(target.wanted);
    let mut tried = 0;
    while tried < wanted {
        tried += fuzz(target, number("PORTCULLIS_FUZZ_SECONDS", 120))?;
        println!(
            "{name}: {} of {} {}",
            super::step::grouped(tried),
            super::step::grouped(wanted),
            target.unit
        );
    }
    Ok(())
}

fn manifest() -> PathBuf {
    paths::root().join("fuzz/Cargo.toml")
}

/// Where a target is built: flags differ.
fn folder(target: &Target) -> PathBuf {
    paths::target().join("fuzz").join(if target.parses { "parsers" } else { "streams" })
}

fn build(targets: &[Target]) -> Result<()> {
    let host = toolchain::host()?;
    for parses in [true, false] {
        let group: Vec<&Target> = targets.iter().filter(|target| target.parses == parses).collect();
        let Some(first) = group.first() else { continue };
        let flags = if parses { format!("{COVERAGE} {COMPARISONS}") } else { COVERAGE.into() };
        let mut command =
            tool::cargo_at_root(&["build", "--release", "--locked", "--target", &host]);
        for target in &group {
            command.args(["--bin", target.name]);
        }
        command
            .arg("--manifest-path")
            .arg(manifest())
            .env("CARGO_TARGET_DIR", folder(first))
            .env("RUSTFLAGS", flags);
        let (built, text) = said(&mut command)?;
        if !built {
            bail!("the fuzz targets do not build\n{}", tail(&text, 30));
        }
    }
    Ok(())
}

/// Runs a target for so long. How many it tried.
fn fuzz(target: &Target, seconds: u64) -> Result<u64> {
    let name = target.name;
    let kept = paths::target().join("fuzz");
    let corpus = kept.join("corpus").join(name);
    let found = kept.join("found").join(name);
    for folder in [&corpus, &found] {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let seeds = match name {
        "tree" => paths::root().join("crates/platform/tests/fixtures"),
        _ => paths::root().join("fuzz/seeds").join(name),
    };
    let binary = folder(target).join(toolchain::host()?).join("release").join(name);
    // libFuzzer takes 0 as "by chance".
    let seed = (tool::seed() as u32).max(1);
    let mut command = Command::new(&binary);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-seed={seed}"))
        .arg(format!("-max_len={}", target.longest))
        .args(["-timeout=60", "-rss_limit_mb=2048", "-print_final_stats=1", "-len_control=0"])
        .arg(format!("-artifact_prefix={}/", found.display()))
        .arg(&corpus);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    let (passed, text) = said(&mut command)?;
    if !passed {
        bail!("{name} found something with seed {seed}\n{}", finding(&text, &binary));
    }
    tried(&text).with_context(|| format!("{name} tried nothing\n{}", tail(&text, 10)))
}

/// Why a target stopped, and the input that repeats it: the machine that found it may be gone when this is read.
fn finding(text: &str, binary: &Path) -> String {
    let mut why = panics(text);
    if why.is_empty() {
        // No panic: a time-out, too much memory, or a target that does not start.
        why = tail(text, 30);
    }
    let Some(file) = text.lines().find_map(|line| line.split_once("Test unit written to ")) else {
        return why;
    };
    let file = Path::new(file.1.trim());
    why.push_str(&format!("\nrepeat it by: {} {}", binary.display(), file.display()));
    match std::fs::read(file) {
        Ok(bytes) => why.push_str(&format!(
            "\nor elsewhere with the file made by: echo {} | xxd -r -p > FILE",
            bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        )),
        Err(error) => why.push_str(&format!("\nits bytes cannot be read: {error}")),
    }
    why
}

/// The place and the message of each panic, without its backtrace.
fn panics(text: &str) -> String {
    let mut lines = Vec::new();
    let mut message = false;
    for line in text.lines() {
        if line.starts_with("thread '") && line.contains(" panicked at ") {
            message = true;
        } else if line.starts_with("stack backtrace:") || line.starts_with("note: ") {
            message = false;
        }
        if message && !line.trim().is_empty() {
            lines.push(line);
        }
    }
    lines.join("\n")
}

/// What the last line `tried N` says.
fn tried(text: &str) -> Option<u64> {
    let line = text.lines().rev().find_map(|line| line.strip_prefix("tried "))?;
    line.trim().parse().ok().filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_in_the_list_and_has_a_file() {
        let folder = paths::root().join("fuzz/fuzz_targets");
        let files = std::fs::read_dir(folder).unwrap().flatten().count();
        assert_eq!(files, TARGETS.len());
        for target in TARGETS {
            let file = format!("fuzz/fuzz_targets/{}.rs", target.name);
            assert!(paths::root().join(&file).is_file(), "{file}");
        }
    }

    #[test]
    fn the_seeds_of_guest_trees_hold_every_word() {
        let seeds: String = std::fs::read_dir(paths::root().join("fuzz/seeds/guest_tree"))
            .unwrap()
            .map(|seed| std::fs::read_to_string(seed.unwrap().path()).unwrap() + "\n")
            .collect();
        for word in platform::OPTIONS {
            let found = seeds.split_whitespace().any(|seed| {
                seed.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
            });
            assert!(found, "{word}");
        }
    }

    const PANIC: &str = "#131072\tpulse cov: 1616 exec/s: 3559 rss: 34Mb

thread '<unnamed>' (10296) panicked at src/machine.rs:408:13:
assertion `left == right` failed: vCPU 0: given None of [(34, 0)]
  left: None
 right: Some(0)
stack backtrace:
   0: __rustc::rust_begin_unwind
note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.
==10296== ERROR: libFuzzer: deadly signal
";

    #[test]
    fn a_finding_is_its_panic_and_the_bytes_that_repeat_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [0, 0xa5, 0xff]).unwrap();
        let place = file.path().display();
        let text = format!("{PANIC}artifact_prefix='x'; Test unit written to {place}\n");
        let binary = Path::new("release/gic");
        assert_eq!(
            finding(&text, binary),
            format!(
                "thread '<unnamed>' (10296) panicked at src/machine.rs:408:13:\n\
                 assertion `left == right` failed: vCPU 0: given None of [(34, 0)]\n\
                 \x20 left: None\n right: Some(0)\n\
                 repeat it by: release/gic {place}\n\
                 or elsewhere with the file made by: echo 00a5ff | xxd -r -p > FILE"
            )
        );
        let slow = "ALARM: working on the last Unit for 60 seconds\n";
        assert_eq!(finding(slow, binary), slow.trim_end());
    }

    #[test]
    fn the_last_count_is_the_one_that_counts() {
        assert_eq!(
            tried("tried 65536\n#1 NEW\ntried 131072\nstat::number_of_executed_units: 7\n"),
            Some(131_072)
        );
        assert_eq!(tried("stat::number_of_executed_units: 7\n"), None);
        assert_eq!(tried(""), None);
    }
}
