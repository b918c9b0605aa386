// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is wrong with a set of figures, one line each.

use super::figure::Figures;
use super::files::Operation;

/// Most that a figure may grow over the committed one.
const GROWTH_OVER_REFERENCE: f64 = 1.02;
/// Most that a cost may vary with the number of pages, VMs or vCPUs.
const SPREAD: f64 = 1.10;

fn instructions(hundredths: u64) -> f64 {
    hundredths as f64 / 100.0
}

/// Operations beyond their limit, and those that were not measured.
pub fn limits(operations: &[Operation], figures: &Figures) -> Vec<String> {
    let mut wrong = Vec::new();
    for operation in operations {
        match (figures.get(&operation.name), operation.limit) {
            (None, _) => wrong.push(format!("{}: not measured", operation.name)),
            (Some(figure), Some(limit)) if instructions(figure.median) > limit => {
                let median = instructions(figure.median);
                wrong.push(format!("{}: {median}, the limit is {limit}", operation.name));
            }
            (Some(_), _) => {}
        }
    }
    wrong
}

/// The clock counts what it should.
pub fn clock(figures: &Figures) -> Vec<String> {
    let mut wrong = Vec::new();
    for suffix in ["", ", floor bare", ", floor full"] {
        for length in [0, 100, 1000] {
            let name = format!("loop of {length} nops{suffix}");
            let median = figures.get(&name).map(|figure| figure.median);
            if median != Some(length * 100) {
                wrong.push(format!("{name}: {median:?} hundredths of an instruction"));
            }
        }
    }
    wrong
}

/// Costs that are to stay the same whatever the number behind ` with ` or ` by `.
pub fn growth(figures: &Figures) -> Vec<String> {
    let mut wrong = Vec::new();
    for (group, count) in
        [("MAP with", 12), ("access with", 12), ("refusal with", 12), ("access by", 4)]
    {
        let medians: Vec<u64> = figures
            .iter()
            .filter(|(name, _)| name.starts_with(group))
            .map(|(_, figure)| figure.median)
            .collect();
        let (Some(least), Some(most)) = (medians.iter().min(), medians.iter().max()) else {
            wrong.push(format!("{group} ..: not measured"));
            continue;
        };
        if medians.len() != count {
            wrong.push(format!("{group} ..: {} figures instead of {count}", medians.len()));
        }
        if instructions(*most) > instructions(*least) * SPREAD {
            let (least, most) = (instructions(*least), instructions(*most));
            wrong.push(format!("{group} ..: from {least} to {most}, which is not flat"));
        }
    }
    wrong
}

/// Figures that are higher than the committed ones allow, or missing.
pub fn regressions(reference: &Figures, figures: &Figures) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, old) in reference {
        match figures.get(name) {
            None => wrong.push(format!("{name}: not measured; the committed results have it")),
            Some(new) if new.median as f64 > old.median as f64 * GROWTH_OVER_REFERENCE => {
                let (old, new) = (instructions(old.median), instructions(new.median));
                wrong.push(format!("{name}: {new}, more than 2 % above the committed {old}"));
            }
            Some(_) => {}
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Figure;

    fn figures(all: &[(&str, u64)]) -> Figures {
        all.iter().map(|(name, value)| ((*name).to_owned(), Figure::exact(*value))).collect()
    }

    fn limit(name: &str, limit: f64) -> Operation {
        Operation { name: name.to_owned(), limit: Some(limit), ..Operation::default() }
    }

    #[test]
    fn a_limit_is_kept_exceeded_or_not_measured() {
        let operations = [limit("a", 100.0), limit("b", 99.0), limit("c", 1.0)];
        let wrong = limits(&operations, &figures(&[("a", 100), ("b", 100)]));
        assert_eq!(wrong, ["b: 100, the limit is 99", "c: not measured"]);
    }

    #[test]
    fn two_per_cent_are_allowed_and_no_more() {
        let reference = figures(&[("a", 100), ("b", 100), ("c", 100)]);
        let wrong = regressions(&reference, &figures(&[("a", 102), ("b", 103)]));
        assert_eq!(wrong.len(), 2);
        assert!(wrong[0].starts_with("b: 103, more than 2 %"));
        assert!(wrong[1].starts_with("c: not measured"));
    }

    #[test]
    fn what_grows_is_seen() {
        let mut all = figures(&[]);
        for group in ["MAP with", "access with", "refusal with"] {
            for n in 0..12 {
                all.insert(format!("{group} {n} pages"), Figure::exact(100));
            }
        }
        for n in [1, 2, 4, 8] {
            all.insert(format!("access by {n} vCPUs"), Figure::exact(100));
        }
        assert!(growth(&all).is_empty());
        all.insert("MAP with 3 pages".into(), Figure::exact(111));
        assert!(growth(&all)[0].contains("not flat"));
        all.remove("MAP with 3 pages");
        assert!(growth(&all)[0].contains("11 figures instead of 12"));
    }

    #[test]
    fn a_clock_that_is_off_is_seen() {
        assert_eq!(clock(&figures(&[("loop of 0 nops", 1)])).len(), 9);
    }
}
