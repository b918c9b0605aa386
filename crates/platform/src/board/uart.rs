// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which UART is the console.
//!
//! Sources: Devicetree Specification v0.4, sections 3.3 and 3.6; the bindings of each UART.

use crate::board::chosen;
use crate::board::interrupt;
use crate::board::types::{Uart, UartKind};
use crate::board::uart_driver::{DRIVERS, NS16550, ns16550};
use crate::error::{Error, err};
use crate::fdt::cells;
use crate::fdt::{self, Node, Tree};
use alloc::string::String;

/// The alias of the first UART: the console where the tree names none.
pub(crate) const SERIAL0: &str = "serial0";

/// The word of the hypervisor's command line that chooses the console.
pub(crate) const CONSOLE_WORD: &str = "hyp.console=";

/// The console: the UART that `hyp.console=` names, else the one of [`by_tree`].
///
/// # Errors
/// The word is given twice, or names no UART that Portcullis drives; the registers of a UART that is named are
/// impossible.
pub(crate) fn console(tree: &Tree<'_>) -> Result<Option<Uart>, Error> {
    let bootargs = chosen::bootargs(tree)?;
    let mut words =
        bootargs.split_ascii_whitespace().filter_map(|it| it.strip_prefix(CONSOLE_WORD));
    let Some(place) = words.next() else { return by_tree(tree) };
    if words.next().is_some() {
        return Err(err!(Option, "'{CONSOLE_WORD}' is given twice; keep one"));
    }
    match uart(tree, place)? {
        Some(uart) if matches!(uart.kind, UartKind::Driven { .. }) => Ok(Some(uart)),
        _ => Err(err!(
            Option,
            "{CONSOLE_WORD}{place}: no UART that Portcullis drives; give the path of its node, or \
             an alias"
        )),
    }
}

/// The console that the tree chooses: the UART that stdout-path names, else the alias serial0. `None` where neither
/// leads to a node with registers.
pub(crate) fn by_tree(tree: &Tree<'_>) -> Result<Option<Uart>, Error> {
    if let Some(chosen) = tree.find("/chosen") {
        let named = chosen.string("stdout-path")?;
        if let Some(stdout) = named.or(chosen.string("linux,stdout-path")?)
            && let Some(uart) = uart(tree, stdout)?
        {
            return Ok(Some(uart));
        }
    }
    // The tree does not say that this UART is a console, so a wrong description of it refuses no board, and a UART
    // that is off stays untouched: its clock may be off too.
    let Ok(Some(node)) = resolve(tree, SERIAL0) else { return Ok(None) };
    Ok(if node.is_enabled() { described(tree, &node, "").unwrap_or_default() } else { None })
}

/// The UART at `place`: a path or an alias, with or without options behind a colon. `None` where that leads to no node
/// with registers, as in vendors' trees that mean a display.
fn uart(tree: &Tree<'_>, place: &str) -> Result<Option<Uart>, Error> {
    let (place, options) = place.split_once(':').unwrap_or((place, ""));
    match resolve(tree, place)? {
        Some(node) => described(tree, &node, options),
        None => Ok(None),
    }
}

/// The UART that `node` describes; `None` without registers.
fn described(tree: &Tree<'_>, node: &Node<'_>, options: &str) -> Result<Option<Uart>, Error> {
    if node.property("reg").is_none() {
        return Ok(None);
    }
    let Some(registers) = cells::reg(node)?.first().copied() else { return Ok(None) };
    if registers.size() == 0 {
        return Err(err!(Board, "{}: its reg is empty", node.path()));
    }
    Ok(Some(Uart {
        kind: kind(node)?,
        registers,
        // A console is used without its interrupt too: a wrong one is none.
        intid: interrupt::intids(tree, node).ok().and_then(|all| all.first().copied().flatten()),
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
    for (names, name, driver) in &DRIVERS {
        if node.is_compatible(names) {
            return Ok(UartKind::Driven { name, driver: *driver });
        }
    }
    if !node.is_compatible(&NS16550) {
        return Ok(UartKind::Unknown(node.first("compatible")));
    }
    let shift = node.checked_word("reg-shift")?.unwrap_or(0);
    let width = node.checked_word("reg-io-width")?.unwrap_or(1);
    match (shift, width) {
        (0..=4, 1 | 2 | 4) => {
            let driver = ns16550(shift as u8, width as u8);
            Ok(UartKind::Driven { name: "16550", driver })
        }
        _ => Err(err!(
            Board,
            "{}: reg-shift {shift} or reg-io-width {width} is not possible (0 to 4; 1, 2 or 4)",
            node.path()
        )),
    }
}
