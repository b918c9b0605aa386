// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table at the end.

use std::fmt::Write;
use std::time::Duration;

use super::step::Outcome;

/// A line per figure, then the closing line `assure: N passed, N failed, N not run`.
pub fn render(rows: &[(&str, Outcome, Duration)]) -> String {
    let mut out = String::from("\n");
    let mut counts = [0; 3];
    for (name, outcome, took) in rows {
        let (word, figures, slot) = match outcome {
            Outcome::Passed(figures) => ("passed", figures.as_slice(), 0),
            Outcome::Failed(_, figures) => ("FAILED", figures.as_slice(), 1),
            Outcome::NotRun(_) => ("not run", [].as_slice(), 2),
        };
        if let Some(count) = counts.get_mut(slot) {
            *count += 1;
        }
        let _ = writeln!(out, "{name:<12} {word:<8} {:>6} s", took.as_secs());
        for figure in figures {
            let _ = writeln!(out, "{:<12} {:>17}  {}", "", figure.value, figure.what);
        }
        if let Outcome::NotRun(why) = outcome {
            let _ = writeln!(out, "{:<12} {why}", "");
        }
    }
    let [passed, failed, not_run] = counts;
    let _ = writeln!(out, "assure: {passed} passed, {failed} failed, {not_run} not run");
    out
}

#[cfg(test)]
mod tests {
    use super::super::step::Figure;
    use super::*;

    #[test]
    fn what_did_not_run_is_not_counted_as_passed() {
        let rows = [
            ("a", Outcome::Passed(vec![Figure::count("things", 1500)]), Duration::from_secs(3)),
            ("b", Outcome::Failed("x".into(), Vec::new()), Duration::ZERO),
            ("c", Outcome::NotRun("no tool".into()), Duration::ZERO),
        ];
        let text = render(&rows);
        assert!(text.ends_with("assure: 1 passed, 1 failed, 1 not run\n"), "{text}");
        assert!(text.contains("1,500  things") && text.contains("no tool"), "{text}");
    }
}
