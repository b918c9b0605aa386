// SPDX-License-Identifier: MIT OR Apache-2.0
//! cargo-mutants: whether the tests notice when a function does something else.
//!
//! The short form takes the lines that differ from the branch's base, for five minutes at most. The long form takes
//! every mutant of the crates that decide what a guest may reach, and a sample of the rest by a seed that it prints.
//! What survives and why that is no gap is in `docs/mutants.md`.

mod changes;
mod choice;
mod folder;
mod known;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use self::folder::folder;
use super::step::{Figure, Options, Outcome, Step};
use super::tool::{self, said, tail};
use crate::paths;
use anyhow::{Context, Result, bail};
use changes::Changes;
use known::Known;

/// The step.
pub const STEP: Step = Step {
    name: "mutants",
    about: "whether tests notice wrong code: changed lines, or in the long form all that guards and a sample",
    long_only: false,
    run,
};

/// Crates of which the long form takes every mutant.
const WHOLE: [&str; 3] = ["arch", "mmio-guard", "stage2"];
/// The guard in `vm`, every mutant as well.
const GUARD: [&str; 5] = ["access.rs", "fast_path.rs", "guard.rs", "guard_calls.rs", "refusal.rs"];
/// Crates of whose other mutants the long form takes [`SAMPLE`]. `spec` and `oracle` judge, and have no say in what a
/// guest gets.
const REST: [&str; 7] = ["lock", "platform", "sched", "vgic", "virtio-mmio", "vm", "vm-console"];
/// How many of the rest.
const SAMPLE: usize = 300;
/// How many of changed lines: more do not fit into [`SHORT`].
const CHANGED: usize = 60;
/// Percent of viable mutants that are to be noticed.
const WANTED: u64 = 90;
/// When a test counts as endless: after so many seconds, or five times what the tests take without a mutant.
const PATIENCE: [&str; 2] = ["--minimum-test-timeout", "60"];
/// How long the forms may take.
const SHORT: Duration = Duration::from_mins(5);
const LONG: Duration = Duration::from_hours(16);

fn run(options: &Options) -> Result<Outcome> {
    if !tool::works(tool::cargo_at_root(&["mutants", "--version"]).env_remove("RUSTUP_TOOLCHAIN")) {
        return Ok(Outcome::NotRun(
            "there is no cargo-mutants: ./scripts/setup --assurance".into(),
        ));
    }
    let known = Known::read()?;
    let all = list(&packages(&[WHOLE.as_slice(), REST.as_slice()].concat()))?;
    let gone = known.gone(&all);
    if !gone.is_empty() {
        let why = format!("docs/mutants.md lists what is none:\n{}", gone.join("\n"));
        return Ok(Outcome::Failed(why, Vec::new()));
    }
    if options.long { everything(&all, &known) } else { changed(&known) }
}

/// The short form.
fn changed(known: &Known) -> Result<Outcome> {
    let deadline = Instant::now() + SHORT;
    let diff = match changes::find()? {
        Changes::Diff(file) => file,
        Changes::None => {
            return Ok(Outcome::Passed(vec![Figure::count("mutants of changed lines", 0)]));
        }
        Changes::NoBase => {
            return Ok(Outcome::NotRun(
                "there is no commit before this one to compare with: git fetch --deepen 1".into(),
            ));
        }
    };
    let mut words = packages(&[WHOLE.as_slice(), REST.as_slice()].concat());
    words.extend(["--in-diff".into(), diff.display().to_string()]);
    let names = list(&words)?;
    let seed = tool::seed();
    let chosen = choice::spread(&names, CHANGED, seed);
    println!(
        "assure: mutants: {} of {} of changed lines (PORTCULLIS_SEED={seed})",
        chosen.len(),
        names.len()
    );
    let mut tried = Tried::default();
    if !chosen.is_empty() {
        // That the tests pass without a mutant is what ./scripts/test shows.
        let how = ["--baseline", "skip", "--timeout", "60"].map(String::from);
        tried = attempt_chosen("changed", &chosen, &words, &how, deadline)?;
        tried.report("changed lines", known);
    }
    let figures = tried.figures("of changed lines");
    if tried.viable() == 0 && tried.interrupted {
        let why = format!("{} s did not suffice for one mutant here", SHORT.as_secs());
        return Ok(Outcome::NotRun(why));
    }
    let unknown = known.unknown(&tried.missed);
    if unknown.len() as u64 > tolerated(tried.viable()) {
        return Ok(Outcome::Failed(format!("not noticed:\n{}", unknown.join("\n")), figures));
    }
    Ok(Outcome::Passed(figures))
}

/// How many of so many mutants of changed lines may survive without a reason: a tenth, and three standard errors of a share
/// of nine tenths in a sample of that size. More would say that fewer than [`WANTED`] percent are noticed; chance does not.
fn tolerated(viable: u64) -> u64 {
    (viable + 9 * viable.isqrt()) / 10
}

/// The long form.
fn everything(all: &[String], known: &Known) -> Result<Outcome> {
    let deadline = Instant::now() + LONG;
    // For a run in pieces: `1/8` to `8/8`.
    let part = std::env::var("PORTCULLIS_MUTANTS_PART").ok();
    let part = part.as_deref().map(choice::part).transpose()?.unwrap_or_default();
    let patience = PATIENCE.map(String::from);
    let guard = GUARD.map(|file| format!("crates/vm/src/{file}"));
    let mut runs: Vec<(&str, Vec<String>)> =
        WHOLE.iter().map(|package| (*package, packages(&[package]))).collect();
    let mut words = packages(&["vm"]);
    words.extend(guard.iter().flat_map(|file| ["--file".to_owned(), file.clone()]));
    runs.push(("guard", words));
    let mut whole = Tried::default();
    for (name, words) in runs {
        let words = [words.as_slice(), patience.as_slice(), part.as_slice()].concat();
        let tried = attempt(name, &words, deadline)?;
        tried.report(name, known);
        whole.add(tried);
    }
    let seed = tool::seed();
    let rest: Vec<String> = all
        .iter()
        .filter(|name| {
            REST.iter().any(|package| name.starts_with(&format!("crates/{package}/")))
                && !guard.iter().any(|file| name.starts_with(&format!("{file}:")))
        })
        .cloned()
        .collect();
    let chosen = choice::sample(&rest, SAMPLE, seed);
    println!(
        "assure: mutants: {} of {} of the rest (PORTCULLIS_SEED={seed})",
        chosen.len(),
        rest.len()
    );
    let how = [patience.as_slice(), &part].concat();
    let sample = attempt_chosen("sample", &chosen, &packages(&REST), &how, deadline)?;
    sample.report("sample", known);
    let mut figures = whole.figures("of arch, mmio-guard, stage2, the guard");
    figures.extend(sample.figures("of the sample"));
    let unknown = known.unknown(&[whole.missed.as_slice(), &sample.missed].concat()).len();
    figures.push(Figure::count("survivors without a reason", unknown as u64));
    let mut short = Vec::new();
    for (what, tried) in [("the whole", &whole), ("the sample", &sample)] {
        if tried.interrupted {
            short.push(format!("{what}: not all were tried"));
        }
        if tried.viable() == 0 || tried.noticed() * 100 < tried.viable() * WANTED {
            short.push(format!("{what}: fewer than {WANTED} % were noticed"));
        }
    }
    if short.is_empty() {
        Ok(Outcome::Passed(figures))
    } else {
        Ok(Outcome::Failed(short.join("; "), figures))
    }
}

/// What became of mutants, by name.
#[derive(Debug, Clone, Default)]
struct Tried {
    caught: Vec<String>,
    timed_out: Vec<String>,
    missed: Vec<String>,
    interrupted: bool,
}

impl Tried {
    /// A test that no longer ends has noticed.
    fn noticed(&self) -> u64 {
        (self.caught.len() + self.timed_out.len()) as u64
    }

    /// Mutants that compile.
    fn viable(&self) -> u64 {
        self.noticed() + self.missed.len() as u64
    }

    /// Forgets all others.
    fn keep(&mut self, chosen: &BTreeSet<String>) {
        for names in [&mut self.caught, &mut self.timed_out, &mut self.missed] {
            names.retain(|name| chosen.contains(name));
        }
    }

    fn add(&mut self, other: Self) {
        self.caught.extend(other.caught);
        self.timed_out.extend(other.timed_out);
        self.missed.extend(other.missed);
        self.interrupted |= other.interrupted;
    }

    fn figures(&self, of: &str) -> Vec<Figure> {
        vec![
            Figure::count(format!("mutants {of} that compile"), self.viable()),
            Figure::percent("of them noticed by a test", self.noticed(), self.viable()),
        ]
    }

    /// For people: the counts, who survived without a reason, and who is listed and did not survive.
    fn report(&self, name: &str, known: &Known) {
        println!(
            "assure: mutants: {name}: {} that compile, {} noticed ({} by not ending)",
            self.viable(),
            self.noticed(),
            self.timed_out.len()
        );
        for name in known.unknown(&self.missed) {
            println!("assure: mutants: not noticed: {name}");
        }
        let noticed: Vec<String> = self.caught.iter().chain(&self.timed_out).cloned().collect();
        for key in known.noticed(&noticed, &self.missed) {
            println!("assure: mutants: listed in docs/mutants.md, but noticed: {key}");
        }
    }
}

fn packages(names: &[&str]) -> Vec<String> {
    names.iter().flat_map(|name| ["--package".to_owned(), (*name).to_owned()]).collect()
}

/// The names of the mutants that `words` choose.
fn list(words: &[String]) -> Result<Vec<String>> {
    let output = tool::cargo_at_root(&["mutants", "--list", "--colors", "never"])
        .args(words)
        .output()
        .context("cargo mutants --list")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let names: BTreeSet<&str> = text.lines().filter(|line| line.starts_with("crates/")).collect();
    if !output.status.success() && names.is_empty() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("cargo mutants --list\n{}", tail(&why, 20));
    }
    // In the order of the files: their crates are then built one after the other.
    Ok(text.lines().filter(|line| names.contains(line)).map(String::from).collect())
}

/// Tries those of `chosen` among the mutants that `which` choose, in the way that `how` says.
///
/// # Errors
///
/// As of [`attempt`]; or cargo-mutants would leave some of them out.
fn attempt_chosen(
    name: &str,
    chosen: &[String],
    which: &[String],
    how: &[String],
    deadline: Instant,
) -> Result<Tried> {
    let config = choice::config(chosen)?.display().to_string();
    let which = [which, &["--config".into(), config]].concat();
    let found: BTreeSet<String> = list(&which)?.into_iter().collect();
    let lost: Vec<String> = chosen.iter().filter(|name| !found.contains(*name)).cloned().collect();
    if !lost.is_empty() {
        bail!("cargo mutants does not find\n{}", lost.join("\n"));
    }
    let mut tried = attempt(name, &[which.as_slice(), how].concat(), deadline)?;
    // It also tries what deletes a field of a struct, whether it is chosen or not.
    tried.keep(&chosen.iter().cloned().collect());
    Ok(tried)
}

/// Tries the mutants that `words` choose until `deadline`.
fn attempt(name: &str, words: &[String], deadline: Instant) -> Result<Tried> {
    let out = folder()?.join(name);
    std::fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    // What an earlier run found is not what this one finds.
    let _ = std::fs::remove_dir_all(out.join("mutants.out"));
    let mut command = tool::cargo_at_root(&["mutants", "--no-shuffle", "--profile", "mutation"]);
    command.arg("--output").arg(&out).args(words);
    let seconds = deadline.saturating_duration_since(Instant::now()).as_secs().max(1);
    let mut limited = Command::new("timeout");
    limited
        .args(["--signal=INT", &seconds.to_string()])
        .arg(command.get_program())
        .args(command.get_args())
        // What does not change between mutants, and between runs, is built once.
        .env("CARGO_TARGET_DIR", folder()?.join("build"))
        // That a test fails is enough: the smallest failing input is not read.
        .env("PROPTEST_MAX_SHRINK_ITERS", "0")
        .current_dir(paths::root());
    let (_, text) = said(&mut limited)?;
    let read = |name: &str| {
        let file = out.join("mutants.out").join(name);
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().map(String::from).collect::<Vec<String>>()
    };
    let tried = Tried {
        caught: read("caught.txt"),
        timed_out: read("timeout.txt"),
        missed: read("missed.txt"),
        interrupted: text.contains("interrupted"),
    };
    let nothing = tried.viable() == 0 && read("unviable.txt").is_empty();
    if nothing && !tried.interrupted {
        bail!("cargo mutants tried none for {name}\n{}", tail(&text, 20));
    }
    Ok(tried)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_survivors_than_chance_allows_are_a_failure() {
        for (viable, most) in [(1, 1), (3, 1), (4, 2), (10, 3), (39, 9), (60, 12)] {
            assert_eq!(tolerated(viable), most, "{viable}");
        }
    }

    #[test]
    fn a_test_that_does_not_end_has_noticed() {
        let names = |names: &[&str]| names.iter().copied().map(String::from).collect();
        let mut tried = Tried { caught: names(&["a", "b"]), ..Tried::default() };
        tried.add(Tried { timed_out: names(&["c"]), missed: names(&["d"]), ..Tried::default() });
        assert_eq!((tried.viable(), tried.noticed()), (4, 3));
        tried.keep(&["b", "d", "e"].map(String::from).into());
        assert_eq!((tried.viable(), tried.noticed()), (2, 1));
    }
}
