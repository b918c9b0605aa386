// SPDX-License-Identifier: MIT OR Apache-2.0
//! The console that stdout-path names.
//!
//! Sources: Devicetree Specification v0.4, sections 3.3 and 3.6; the bindings arm,pl011.yaml,
//! arm,sbsa-uart, 8250.yaml and snps-dw-apb-uart.yaml.

use crate::board::{Uart, UartKind};
use crate::bus;
use crate::error::{Error, err};
use crate::fdt::{self, Node, Tree};
use crate::interrupt;
use alloc::string::String;

const PL011: [&str; 2] = ["arm,pl011", "arm,sbsa-uart"];
const NS16550: [&str; 7] = [
    "ns16550a",
    "ns16550",
    "ns16750",
    "ns16850",
    "ns8250",
    "snps,dw-apb-uart",
    "nvidia,tegra20-uart",
];

/// The console; `None` where the tree names none, or one that has no address (a framebuffer).
pub(crate) fn console(tree: &Tree<'_>) -> Result<Option<Uart>, Error> {
    let Some(chosen) = tree.find("/chosen") else { return Ok(None) };
    let named = chosen.string("stdout-path")?;
    let Some(stdout) = named.or(chosen.string("linux,stdout-path")?) else {
        return Ok(None);
    };
    let (place, options) = stdout.split_once(':').unwrap_or((stdout, ""));
    let Some(node) = resolve(tree, place)? else {
        return Err(err!(
            Board,
            "/chosen: stdout-path '{stdout}' names no node; correct it or /aliases"
        ));
    };
    if node.property("reg").is_none() {
        return Ok(None);
    }
    let Some(registers) = bus::reg(&node)?.first().copied() else { return Ok(None) };
    if registers.size() == 0 {
        return Err(err!(Board, "{}: its reg is empty", node.path()));
    }
    Ok(Some(Uart {
        kind: kind(&node)?,
        registers,
        // A console is used without its interrupt too: a wrong one is none.
        intid: interrupt::intids(tree, &node).ok().and_then(|all| all.first().copied().flatten()),
        path: node.path(),
        options: fdt::short(options),
        clock: node.word("clock-frequency"),
    }))
}

/// A node by its path, or by its alias with or without a rest of a path.
fn resolve<'t>(tree: &'t Tree<'t>, place: &str) -> Result<Option<Node<'t>>, Error> {
    if place.starts_with('/') {
        return Ok(tree.find(place));
    }
    let (alias, rest) = match place.find('/') {
        Some(slash) => place.split_at_checked(slash).unwrap_or((place, "")),
        None => (place, ""),
    };
    let Some(aliases) = tree.find("/aliases") else { return Ok(None) };
    let Some(path) = aliases.string(alias)? else { return Ok(None) };
    // An alias is a path: one that is an alias again leads nowhere, not round in circles.
    let mut whole = String::from(path);
    whole.push_str(rest);
    Ok(tree.find(&whole))
}

fn kind(node: &Node<'_>) -> Result<UartKind, Error> {
    if node.is_compatible(&PL011) {
        return Ok(UartKind::Pl011);
    }
    if !node.is_compatible(&NS16550) {
        return Ok(UartKind::Unknown(node.first("compatible")));
    }
    let shift = node.checked_word("reg-shift")?.unwrap_or(0);
    let width = node.checked_word("reg-io-width")?.unwrap_or(1);
    let reg_shift = u8::try_from(shift).ok().filter(|shift| *shift <= 4);
    let io_width = u8::try_from(width).ok().filter(|width| matches!(width, 1 | 2 | 4));
    match (reg_shift, io_width) {
        (Some(reg_shift), Some(io_width)) => Ok(UartKind::Ns16550 { reg_shift, io_width }),
        _ => Err(err!(
            Board,
            "{}: reg-shift {shift} or reg-io-width {width} is not possible (0 to 4; 1, 2 or 4)",
            node.path()
        )),
    }
}
