// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines of `crates/` that the host tests run, by cargo-llvm-cov.

use std::collections::BTreeMap;

use super::tool::{self, said, tail};
use super::{Figure, Options, Outcome, Step, table};
use crate::error::{Context, Error, Result};
use crate::paths;

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
    let text = std::fs::read_to_string(&lcov)
        .map_err(|error| Error(format!("{}: {error}", lcov.display())))?;
    let files = lines(&text);
    let mut figures = Vec::new();
    let mut short = Vec::new();
    for (folder, wanted) in WANTED {
        let mut sum = (0, 0);
        for (file, hit, found) in &files {
            if file.contains(&format!("/{folder}")) && file.contains("/src/") {
                sum = (sum.0 + hit, sum.1 + found);
            }
        }
        figures.push(Figure::percent(format!("of {} lines of {folder}", sum.1), sum.0, sum.1));
        if sum.1 == 0 || sum.0 * 100 < sum.1 * wanted {
            short.push(format!("{folder}: less than {wanted} % of its lines"));
        }
    }
    let rest = missed(&text);
    let report = paths::target().join("coverage.txt");
    std::fs::write(&report, &rest).context(|| report.display().to_string())?;
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

/// File, lines that ran, lines that could, from an LCOV trace.
fn lines(lcov: &str) -> Vec<(String, u64, u64)> {
    let mut all = Vec::new();
    let mut file = String::new();
    let (mut hit, mut found) = (0, 0);
    for line in lcov.lines() {
        if let Some(path) = line.strip_prefix("SF:") {
            path.clone_into(&mut file);
        } else if let Some(count) = line.strip_prefix("LH:") {
            hit = count.parse().unwrap_or(0);
        } else if let Some(count) = line.strip_prefix("LF:") {
            found = count.parse().unwrap_or(0);
        } else if line == "end_of_record" {
            all.push((std::mem::take(&mut file), hit, found));
            (hit, found) = (0, 0);
        }
    }
    all
}

/// For people: each file of `crates/` of which not everything ran, the worst first, with the lines that did not.
fn missed(lcov: &str) -> String {
    let mut files: Vec<(usize, String)> = Vec::new();
    for record in lcov.split("end_of_record") {
        let file = record.lines().find_map(|line| line.strip_prefix("SF:")).unwrap_or_default();
        let Some((_, file)) =
            file.split_once("/crates/").filter(|(_, file)| file.contains("/src/"))
        else {
            continue;
        };
        let mut lines: BTreeMap<u32, bool> = BTreeMap::new();
        for line in record.lines().filter_map(|line| line.strip_prefix("DA:")) {
            if let Some((line, count)) = line.split_once(',')
                && let Ok(line) = line.parse()
            {
                *lines.entry(line).or_default() |= count != "0";
            }
        }
        let missing = lines.values().filter(|ran| !**ran).count();
        if missing > 0 {
            let (hit, all) = (lines.len() - missing, lines.len());
            let rest = table::ranges(lines);
            files.push((missing, format!("crates/{file}: {hit} of {all}; not {rest}\n")));
        }
    }
    files.sort_by(|one, two| two.cmp(one));
    files.into_iter().map(|(_, line)| line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_read_file_by_file() {
        let text = "SF:/x/crates/a/src/a.rs\nDA:1,1\nLF:10\nLH:9\nend_of_record\nSF:/b.rs\nLF:4\nLH:0\nend_of_record\n";
        let want = [("/x/crates/a/src/a.rs".to_owned(), 9, 10), ("/b.rs".to_owned(), 0, 4)];
        assert_eq!(lines(text), want);
    }

    #[test]
    fn the_worst_file_is_named_first_with_its_lines() {
        let text = "SF:/x/crates/a/src/a.rs\nDA:1,1\nDA:2,0\nend_of_record\n\
            SF:/x/crates/a/tests/t.rs\nDA:1,0\nend_of_record\n\
            SF:/x/crates/b/src/b.rs\nDA:1,0\nDA:2,0\nDA:4,7\nend_of_record\n\
            SF:/x/crates/b/src/c.rs\nDA:1,3\nend_of_record\n";
        let want = "crates/b/src/b.rs: 1 of 3; not 1-2\ncrates/a/src/a.rs: 1 of 2; not 2\n";
        assert_eq!(missed(text), want);
    }
}
