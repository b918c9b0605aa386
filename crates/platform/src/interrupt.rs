// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interrupts of a node, as the GIC numbers them.
//!
//! Sources: Devicetree Specification v0.4, section 2.4; the binding arm,gic-v3: three or four cells,
//! type 0 an SPI (INTID 32 and up), type 1 a PPI (INTID 16 and up).

use crate::bus::CellReader;
use crate::error::{Error, err};
use crate::fdt::{Node, Tree};
use alloc::vec::Vec;

/// Most interrupts of a node that are looked at.
const MAX_INTERRUPTS: usize = 16;

/// The INTIDs of a node whose interrupts go to a GIC, in its order.
///
/// Empty where it has none, or where they go to another controller, which is not for EL2.
pub(crate) fn intids(tree: &Tree<'_>, node: &Node<'_>) -> Result<Vec<u32>, Error> {
    let bad = || err!(Board, "{}: its interrupts are not as the GIC has them", node.path());
    let mut found = Vec::new();
    if let Some(value) = node.property("interrupts-extended") {
        let mut reader = CellReader::new(value);
        while !reader.is_empty() && found.len() < MAX_INTERRUPTS {
            let phandle = reader.next(1).ok_or_else(bad)?;
            let parent = u32::try_from(phandle).ok().and_then(|phandle| tree.by_phandle(phandle));
            let Some(cells) = parent.and_then(|parent| parent.word("#interrupt-cells")) else {
                return Err(err!(
                    Board,
                    "{}: interrupts-extended names no interrupt controller ({phandle:#x})",
                    node.path()
                ));
            };
            found.push(specifier(&mut reader, cells).ok_or_else(bad)?);
        }
        return Ok(found);
    }
    let Some(value) = node.property("interrupts") else { return Ok(found) };
    let Some(parent) = parent(tree, node) else {
        return Err(err!(
            Board,
            "{}: it has interrupts, but no interrupt-parent that exists",
            node.path()
        ));
    };
    let Some(cells) = parent.word("#interrupt-cells").filter(|cells| (3..=4).contains(cells))
    else {
        return Ok(found);
    };
    let mut reader = CellReader::new(value);
    while !reader.is_empty() && found.len() < MAX_INTERRUPTS {
        found.push(specifier(&mut reader, cells).ok_or_else(bad)?);
    }
    Ok(found)
}

/// One interrupt specifier of three or more cells.
fn specifier(reader: &mut CellReader<'_>, cells: u32) -> Option<u32> {
    if !(3..=4).contains(&cells) {
        return None;
    }
    let kind = reader.next(1)?;
    let number = u32::try_from(reader.next(1)?).ok()?;
    for _ in 2..cells {
        reader.next(1)?;
    }
    match kind {
        0 if number < 988 => Some(number.saturating_add(32)),
        1 if number < 16 => Some(number.saturating_add(16)),
        // Extended SPIs and PPIs of GICv3.1.
        2 if number < 1024 => Some(number.saturating_add(4096)),
        3 if number < 64 => Some(number.saturating_add(1056)),
        _ => None,
    }
}

/// The interrupt controller of a node: its own or the nearest `interrupt-parent` above, else the
/// nearest controller that contains it.
fn parent<'t>(tree: &'t Tree<'t>, node: &Node<'t>) -> Option<Node<'t>> {
    let mut current = Some(*node);
    while let Some(here) = current {
        if let Some(phandle) = here.word("interrupt-parent") {
            return tree.by_phandle(phandle);
        }
        current = here.parent();
        if let Some(above) = current.filter(|above| above.property("#interrupt-cells").is_some()) {
            return Some(above);
        }
    }
    None
}
