// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interrupts of a node, as the GIC numbers them.
//!
//! Sources: Devicetree Specification v0.4, section 2.4; the binding arm,gic-v3: three or four cells,
//! type 0 an SPI (INTID 32 and up), type 1 a PPI (INTID 16 and up).

use crate::error::{Error, err};
use crate::fdt::cells::CellReader;
use crate::fdt::{Node, Tree};
use alloc::vec::Vec;

/// Names of GICv2 parts in trees.
pub(crate) const GICV2: [&str; 5] = [
    "arm,gic-400",
    "arm,cortex-a15-gic",
    "arm,cortex-a7-gic",
    "arm,cortex-a9-gic",
    "qcom,msm-qgic2",
];
/// Name of GICv3 and GICv4 parts in trees.
pub(crate) const GICV3: [&str; 1] = ["arm,gic-v3"];
/// Most interrupts of a node that are looked at.
const MAX_INTERRUPTS: usize = 16;

/// An interrupt as the GIC knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interrupt {
    /// Its number.
    pub intid: u32,
    /// The third cell: 1 a rising edge, 4 a high level, of SPIs.
    pub flags: u32,
}

/// The INTIDs of a node's interrupts, in its order; `None` for one that does not go to the GIC, or
/// that no GIC has.
///
/// # Errors
/// Where the property ends inside a specifier, or its controller does not exist.
pub(crate) fn intids(tree: &Tree<'_>, node: &Node<'_>) -> Result<Vec<Option<u32>>, Error> {
    let all = interrupts(tree, node)?;
    Ok(all.into_iter().map(|one| one.map(|one| one.intid)).collect())
}

/// As [`intids`], with their flags.
pub(crate) fn interrupts(
    tree: &Tree<'_>,
    node: &Node<'_>,
) -> Result<Vec<Option<Interrupt>>, Error> {
    let mut found = Vec::new();
    let (name, fixed) = if node.property("interrupts-extended").is_some() {
        ("interrupts-extended", None)
    } else {
        ("interrupts", parent(tree, node))
    };
    let Some(value) = node.property(name) else { return Ok(found) };
    let mut reader = CellReader::new(value);
    while !reader.is_empty() && found.len() < MAX_INTERRUPTS {
        let controller = if name == "interrupts" {
            fixed
        } else {
            let phandle = reader.next(1).and_then(|phandle| u32::try_from(phandle).ok());
            phandle.and_then(|phandle| tree.by_phandle(phandle))
        };
        let controller = controller.filter(|it| it.property("#interrupt-cells").is_some());
        let Some(controller) = controller else {
            return Err(err!(
                Board,
                "{}: its {name} go to no interrupt controller that exists",
                node.path()
            ));
        };
        let cells = controller.checked_word("#interrupt-cells")?.unwrap_or_default();
        let Some(specifier) = specifier(&mut reader, cells) else {
            return Err(err!(Board, "{}: its {name} end inside one of {cells} cells", node.path()));
        };
        let is_gic = is_gic(&controller) && cells >= 3;
        found.push(specifier.filter(|_| is_gic));
    }
    Ok(found)
}

/// Whether the node is a GIC of a known kind.
fn is_gic(node: &Node<'_>) -> bool {
    node.is_compatible(&GICV3) || node.is_compatible(&GICV2)
}

/// Reads one interrupt specifier: `Some(None)` where it is no GIC's.
fn specifier(reader: &mut CellReader<'_>, cells: u32) -> Option<Option<Interrupt>> {
    let mut fields = [0; 3];
    for index in 0..cells.max(1) {
        let cell = reader.next(1)?;
        if let Some(field) = fields.get_mut(index as usize) {
            *field = cell;
        }
    }
    let [kind, number, flags] = fields;
    let number = u32::try_from(number).ok()?;
    let intid = match kind {
        0 if number < 988 => Some(number.saturating_add(32)),
        1 if number < 16 => Some(number.saturating_add(16)),
        // Extended SPIs and PPIs of GICv3.1.
        2 if number < 1024 => Some(number.saturating_add(4096)),
        3 if number < 64 => Some(number.saturating_add(1056)),
        _ => None,
    };
    Some(intid.map(|intid| Interrupt { intid, flags: flags as u32 }))
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
