// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines of `crates/` that the host tests run, by cargo-llvm-cov.

use super::lines::{Lines, missed, share};
use super::step::{Figure, Options, Outcome, Step};
use super::tool::{self, said, tail};
use crate::paths;
use anyhow::{Context, Result};

/// The step.
pub const STEP: Step =
    Step { name: "coverage", about: "lines of crates/ that host tests run", long_only: true, run };

/// Percent of lines wanted of all crates, and of the specification.
const WANTED: [(&str, u64); 2] = [("crates/", 90), ("crates/spec/", 95)];

fn run(_: &Options) -> Result<Outcome> {
    if !tool::works(&mut tool::cargo_at_root(&["llvm-cov", "--version"])) {
        return Ok(Outcome::NotRun(
            "there is no cargo-llvm-cov: ./scripts/setup --assurance".into(),
        ));
    }
    let lcov = paths::target().join("coverage.lcov");
    let mut command = tool::cargo_at_root(&["llvm-cov", "--lcov", "--output-path"]);
    command.arg(&lcov).env("PROPTEST_CASES", "32");
    let (fine, text) = said(&mut command)?;
    if !fine {
        return Ok(Outcome::Failed(format!("cargo llvm-cov\n{}", tail(&text, 30)), Vec::new()));
    }
    let text = std::fs::read_to_string(&lcov).with_context(|| lcov.display().to_string())?;
    let files = files(&text, tests_begin);
    let mut figures = Vec::new();
    let mut short = Vec::new();
    for (folder, wanted) in WANTED {
        let (hit, all) = share(&files, folder);
        figures.push(Figure::percent(format!("of {all} lines of {folder}"), hit, all));
        if all == 0 || hit * 100 < all * wanted {
            short.push(format!("{folder}: less than {wanted} % of its lines"));
        }
    }
    let rest = missed(&files);
    let report = paths::target().join("coverage.txt");
    std::fs::write(&report, &rest).with_context(|| report.display().to_string())?;
    println!("assure: coverage: what did not run (line by line in {})", report.display());
    for line in rest.lines() {
        println!("  {}", line.split_once("; not ").map_or(line, |(share, _)| share));
    }
    if short.is_empty() {
        Ok(Outcome::Passed(figures))
    } else {
        Ok(Outcome::Failed(short.join("; "), figures))
    }
}

/// The sources of `crates/` in an LCOV trace, each up to the line where its tests begin.
fn files(lcov: &str, tests_begin: impl Fn(&str) -> u32) -> Lines {
    let mut files = Lines::new();
    for record in lcov.split("end_of_record") {
        let path = record.lines().find_map(|line| line.strip_prefix("SF:")).unwrap_or_default();
        let Some((_, file)) =
            path.split_once("/crates/").filter(|(_, file)| file.contains("/src/"))
        else {
            continue;
        };
        let end = tests_begin(path);
        let lines = files.entry(format!("crates/{file}")).or_default();
        for line in record.lines().filter_map(|line| line.strip_prefix("DA:")) {
            if let Some((line, count)) = line.split_once(',')
                && let Ok(line) = line.parse()
                && line < end
            {
                *lines.entry(line).or_default() |= count != "0";
            }
        }
    }
    files
}

/// The line of a source file where its tests begin: they are its last part, and are no code to be tested.
fn tests_begin(path: &str) -> u32 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    (1..).zip(text.lines()).find(|(_, line)| *line == "mod tests {").map_or(u32::MAX, |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_file_is_named_first_with_its_lines_and_tests_do_not_count() {
        let text = "SF:/x/crates/a/src/a.rs\nDA:1,1\nDA:2,0\nDA:9,0\nend_of_record\n\
            SF:/x/crates/a/tests/t.rs\nDA:1,0\nend_of_record\n\
            SF:/x/crates/b/src/b.rs\nDA:1,0\nDA:2,0\nDA:4,7\nend_of_record\n\
            SF:/x/crates/b/src/c.rs\nDA:1,3\nend_of_record\n";
        let files = files(text, |_| 9);
        assert_eq!(files.len(), 3);
        let want = "crates/b/src/b.rs: 1 of 3; not 1-2\ncrates/a/src/a.rs: 1 of 2; not 2\n";
        assert_eq!(missed(&files), want);
    }

    #[test]
    fn tests_begin_at_their_module() {
        let this = concat!(env!("CARGO_MANIFEST_DIR"), "/src/assure/coverage.rs");
        assert!((50..u32::MAX).contains(&tests_begin(this)));
        assert_eq!(tests_begin("/no/such/file"), u32::MAX);
    }
}
