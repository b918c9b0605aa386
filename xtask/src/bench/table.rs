// SPDX-License-Identifier: MIT OR Apache-2.0
//! Results as tables in Markdown.

use std::fmt::Write;

use super::{Figure, Figures, Operation};

/// Other hypervisors of the table, as `bench/operations.json` calls them.
const PEERS: [&str; 5] = ["hvisor", "Bao", "Xen 4.20", "KVM nVHE", "KVM protected"];

fn number(hundredths: u64) -> String {
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
            format!("{} ({} to {})", number(*median), number(*min), number(*max))
        }
    }
}

/// Operations with floors, ratio, limit and peers.
pub fn operations(operations: &[Operation], figures: &Figures) -> String {
    let mut text = String::from(
        "| operation | floor: bare | floor: full | Portcullis (min to max) | over full | limit |",
    );
    for peer in PEERS {
        let _ = write!(text, " {peer} |");
    }
    text.push_str("\n|---|---|---|---|---|---|");
    text.push_str(&"---|".repeat(PEERS.len()));
    text.push('\n');
    for operation in operations.iter().filter(|operation| operation.unit.is_none()) {
        let found = figures.get(&operation.name);
        let floor = |kind: &str| {
            let name = operation.floor.as_ref()?;
            figures.get(&format!("{name}, floor {kind}"))
        };
        let ratio = match (found, floor("full")) {
            (Some(found), Some(floor)) if floor.median != 0 => {
                format!("{:.1}", found.median as f64 / floor.median as f64)
            }
            _ => "-".into(),
        };
        let limit = match (operation.limit, operation.goal) {
            (_, Some(goal)) => format!("goal {goal}, not reached"),
            (Some(limit), None) => limit.to_string(),
            (None, None) => "-".into(),
        };
        let _ = write!(
            text,
            "| {} | {} | {} | {} | {ratio} | {limit} |",
            operation.name,
            figure(floor("bare")),
            figure(floor("full")),
            figure(found)
        );
        for peer in PEERS {
            let peer = operation.peers.get(peer).map_or_else(|| "-".into(), f64::to_string);
            let _ = write!(text, " {peer} |");
        }
        text.push('\n');
    }
    text
}

/// What is not an operation's instructions, and every figure that no operation names.
pub fn others(operations: &[Operation], figures: &Figures) -> String {
    let mut text = String::from("| other figure | value | limit |\n|---|---|---|\n");
    for (name, found) in figures {
        let operation = operations.iter().find(|operation| operation.name == *name);
        if operation.is_some_and(|operation| operation.unit.is_none()) || name.contains(", floor ")
        {
            continue;
        }
        let limit = operation.and_then(|operation| operation.limit);
        let unit = operation.and_then(|operation| operation.unit.as_deref()).unwrap_or_default();
        let limit = limit.map_or_else(|| "-".into(), |limit| limit.to_string());
        let _ = writeln!(text, "| {name} | {} {unit} | {limit} |", figure(Some(found)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let table = operations(std::slice::from_ref(&operation), &figures);
        let line = "| call | - | 50 | 72.50 (72 to 73) | 1.4 | 95 | - | 190 | - | - | - |";
        assert!(table.contains(line), "{table}");
        let rest = others(&[operation], &figures);
        assert!(rest.contains("| rest | 3  | - |") && !rest.contains("call"), "{rest}");
    }
}
