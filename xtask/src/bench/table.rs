// SPDX-License-Identifier: MIT OR Apache-2.0
//! Results as tables in Markdown.

use std::fmt::Write;

use super::figure::{Figure, Figures};
use super::files::Operation;

/// Other hypervisors of the table, as `bench/operations.json` calls them.
const PEERS: [&str; 5] = ["hvisor", "Bao", "Xen 4.20", "KVM nVHE", "KVM protected"];

/// From 1,000 on without a fraction, which says nothing there.
fn number(hundredths: u64) -> String {
    if hundredths >= 100_000 {
        return hundredths.saturating_add(50).div_euclid(100).to_string();
    }
    match (hundredths / 100, hundredths % 100) {
        (whole, 0) => whole.to_string(),
        (whole, rest) => format!("{whole}.{rest:02}"),
    }
}

fn figure(figure: Option<&Figure>) -> String {
    match figure {
        None => "-".into(),
        Some(Figure { median, min, max }) if min == max => number(*median),
        Some(Figure { median, min, max }) => {
            format!("{} ({}-{})", number(*median), number(*min), number(*max))
        }
    }
}

/// A table whose columns are aligned: the first to the left, the others to the right.
fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    let lines = || rows.iter().map(|row| row.iter().map(String::as_str).collect::<Vec<_>>());
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count().max(3)).collect();
    for row in lines() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[&str]| {
        let mut text = String::new();
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(text, "| {cell:<width$} |"),
                _ => write!(text, " {cell:>width$} |"),
            };
        }
        text
    };
    let rule: Vec<String> = widths
        .iter()
        .enumerate()
        .map(|(column, width)| match column {
            0 => "-".repeat(*width),
            _ => format!("{}:", "-".repeat(width.saturating_sub(1))),
        })
        .collect();
    let rule: Vec<&str> = rule.iter().map(String::as_str).collect();
    let all = [line(header), line(&rule)].into_iter().chain(lines().map(|row| line(&row)));
    all.map(|line| line + "\n").collect()
}

/// How much a figure differs from the committed one: `=`, or in percent.
fn change(found: Option<&Figure>, reference: Option<&Figure>) -> String {
    match (found, reference) {
        (None, _) => "-".into(),
        (Some(_), None) => "new".into(),
        (Some(found), Some(before)) if found.median == before.median => "=".into(),
        (Some(_), Some(Figure { median: 0, .. })) => "from 0".into(),
        (Some(found), Some(before)) => {
            let percent = (found.median as f64 / before.median as f64 - 1.0) * 100.0;
            match format!("{percent:+.1} %") {
                small if small == "+0.0 %" || small == "-0.0 %" => format!("{percent:+.3} %"),
                percent => percent,
            }
        }
    }
}

fn limit(operation: Option<&Operation>) -> String {
    match operation.map(|operation| (operation.limit, operation.goal)) {
        Some((_, Some(goal))) => format!("goal {goal}"),
        Some((Some(limit), None)) => limit.to_string(),
        _ => "-".into(),
    }
}

/// Operations with floors, ratio, limit and the change since the committed result.
pub fn operations(operations: &[Operation], figures: &Figures, reference: &Figures) -> String {
    let counted = operations.iter().filter(|operation| operation.unit.is_none());
    let rows: Vec<Vec<String>> = counted
        .map(|operation| {
            let found = figures.get(&operation.name);
            let floor = |kind: &str| {
                let name = operation.floor.as_ref()?;
                figures.get(&format!("{name}, floor {kind}"))
            };
            let median = |figure: Option<&Figure>| {
                figure.map_or_else(|| "-".into(), |figure| number(figure.median))
            };
            let ratio = match (found, floor("full")) {
                (Some(found), Some(floor)) if floor.median != 0 => {
                    format!("{:.1}", found.median as f64 / floor.median as f64)
                }
                _ => "-".into(),
            };
            vec![
                operation.name.clone(),
                median(floor("bare")),
                median(floor("full")),
                figure(found),
                ratio,
                limit(Some(operation)),
                change(found, reference.get(&operation.name)),
            ]
        })
        .collect();
    let header =
        ["operation", "bare", "full", "Portcullis (range)", "over full", "limit", "change"];
    render(&header, &rows)
}

/// The same operations on other hypervisors, where they were recorded.
pub fn peers(operations: &[Operation], figures: &Figures) -> String {
    let recorded = operations.iter().filter(|operation| !operation.peers.is_empty());
    let rows: Vec<Vec<String>> = recorded
        .map(|operation| {
            let own = figures.get(&operation.name).map_or("-".into(), |own| number(own.median));
            let peers = PEERS
                .map(|peer| operation.peers.get(peer).map_or_else(|| "-".into(), f64::to_string));
            [operation.name.clone(), own].into_iter().chain(peers).collect()
        })
        .collect();
    let header = ["operation", "Portcullis"].into_iter().chain(PEERS).collect::<Vec<_>>();
    render(&header, &rows)
}

/// What is not an operation's instructions, and every figure that no operation names.
pub fn others(operations: &[Operation], figures: &Figures, reference: &Figures) -> String {
    let mut rows = Vec::new();
    for (name, found) in figures {
        let operation = operations.iter().find(|operation| operation.name == *name);
        if operation.is_some_and(|operation| operation.unit.is_none()) || name.contains(", floor ")
        {
            continue;
        }
        let unit = operation.and_then(|operation| operation.unit.clone()).unwrap_or_default();
        let change = change(Some(found), reference.get(name));
        rows.push(vec![name.clone(), figure(Some(found)), unit, limit(operation), change]);
    }
    render(&["other figure", "value", "unit", "limit", "change"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::files;

    #[test]
    fn an_operation_stands_beside_floors_and_peers() {
        let operation = Operation {
            name: "call".into(),
            limit: Some(95.0),
            floor: Some("hvc".into()),
            peers: [("Bao".to_owned(), 190.0)].into(),
            ..Operation::default()
        };
        let figures = Figures::from([
            ("call".into(), Figure { median: 7250, min: 7200, max: 7300 }),
            ("hvc, floor full".into(), Figure::exact(50)),
            ("rest".into(), Figure::exact(3)),
        ]);
        let one = std::slice::from_ref(&operation);
        let before = Figures::from([("call".into(), Figure::exact(75))]);
        let cells = |table: &str, name: &str| -> Vec<String> {
            let line = table.lines().find(|line| line.starts_with(&format!("| {name} ")));
            line.unwrap().split('|').map(|cell| cell.trim().to_owned()).collect()
        };
        let table = operations(one, &figures, &before);
        let expected = ["", "call", "-", "50", "72.50 (72-73)", "1.4", "95", "-3.3 %", ""];
        assert_eq!(cells(&table, "call"), expected);
        let expected = ["", "call", "72.50", "-", "190", "-", "-", "-", ""];
        assert_eq!(cells(&peers(one, &figures), "call"), expected);
        let rest = others(one, &figures, &before);
        assert_eq!(cells(&rest, "rest"), ["", "rest", "3", "", "-", "new", ""]);
        assert!(!rest.contains("call"), "{rest}");
    }

    #[test]
    fn the_change_is_that_of_the_median() {
        let change = |found, before| super::change(Some(&found), Some(&before));
        assert_eq!(change(Figure::exact(5), Figure { median: 500, min: 1, max: 900 }), "=");
        assert_eq!(change(Figure::exact(106), Figure::exact(100)), "+6.0 %");
        assert_eq!(change(Figure::exact(99_999), Figure::exact(100_000)), "-0.001 %");
        assert_eq!(change(Figure::exact(1), Figure::exact(0)), "from 0");
    }

    #[test]
    fn the_committed_results_fit_120_columns() {
        let all = files::operations().unwrap();
        let figures = files::read(&files::reference_path()).unwrap();
        let mut other = figures.clone();
        for figure in other.values_mut() {
            figure.median += figure.median / 1000;
        }
        for table in [
            operations(&all, &figures, &other),
            peers(&all, &figures),
            others(&all, &figures, &other),
        ] {
            assert!(table.lines().count() > 5, "{table}");
            for line in table.lines() {
                assert!(line.chars().count() <= 120, "{}: {line}", line.chars().count());
            }
        }
    }
}
