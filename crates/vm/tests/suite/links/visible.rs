// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a device VM sees of a peer is what `mmio_guard::abi::visible` names (promise P3), and docs/abi.md prints that table.

use super::*;
use mmio_guard::abi::visible::{ELSEWHERE, PAGE, SLOT, Shows, part};

/// The table of docs/abi.md is that of the crate, row by row.
#[test]
fn the_documentation_prints_the_table() {
    let row = |place: &str, start: u64, bytes: u64, text: &str| {
        format!("| {place} | `{start:#05x}` | {bytes} | {text} |")
    };
    let page = PAGE.iter().map(|part| row("control page", part.start, part.bytes, part.text));
    let slot = SLOT.iter().map(|part| row("slot", part.start, part.bytes, part.text));
    let elsewhere = ELSEWHERE.iter().map(|(place, text)| format!("| {place} | | | {text} |"));
    let rows: Vec<String> = page.chain(slot).chain(elsewhere).collect();
    let text = include_str!("../../../../../docs/abi.md");
    let section = text.lines().skip_while(|line| *line != "### What a device VM sees of a peer");
    let section = section.skip(1).take_while(|line| !line.starts_with('#'));
    let table: Vec<&str> = section.filter(|line| line.starts_with('|')).skip(2).collect();
    assert_eq!(table, rows);
}

/// Whatever was served, a byte that no row names is 0.
#[test]
fn the_control_page_has_nothing_besides() {
    let mut pair = attached(&Wish::default());
    let nothing_besides = |pair: &Pair| {
        for offset in 0..4096 {
            let shown = match part(&PAGE, offset) {
                Some(part) if part.shows == Shows::Slots => {
                    part_of_slot((offset - control::SLOTS) % control::SLOT_SIZE)
                }
                part => part.is_some(),
            };
            assert!(shown || pair.page(offset, 1) == 0, "a byte at {offset:#x}");
        }
    };
    nothing_besides(&pair);
    let number = pair.begin(0, FORWARD, Width::B4);
    nothing_besides(&pair);
    assert_eq!(pair.complete(0, number, 7, 0)[0], 0);
    let _ = pair.end(0, 0);
    nothing_besides(&pair);
    pair.detach();
    nothing_besides(&pair);
}

fn part_of_slot(offset: u64) -> bool {
    part(&SLOT, offset).is_some()
}
