// SPDX-License-Identifier: MIT OR Apache-2.0
//! RAM banks and what of them is reserved.
//!
//! Sources: Devicetree Specification v0.4, section 3.4; Linux's drivers/of/fdt.c (early_init_dt_scan_memory,
//! early_init_dt_check_for_usable_mem_range), which decides what boot loaders write.

use crate::board::types::Reserved;
use crate::error::{Error, err};
use crate::fdt::cells::{self, Cells};
use crate::fdt::{Node, Tree};
use crate::ranges;
use alloc::string::String;
use alloc::vec::Vec;
use arch::{Pa, Range};

/// Most banks of RAM before they are joined, and most reservations.
const MAX_RANGES: usize = 128;

/// The part of a bank that the boot loader lets the kernel use.
const USABLE_MEMORY: &str = "linux,usable-memory";
/// Property of /chosen: the only RAM that a crash kernel may use.
const USABLE_RANGE: &str = "linux,usable-memory-range";

/// Name of the entries of the tree's own reservation block.
pub(crate) const MEMRESERVE: &str = "/memreserve/";

/// The RAM of the machine: at least one bank; sorted, joined where banks touch or overlap, none empty.
pub(crate) fn ram(tree: &Tree<'_>) -> Result<Vec<Range<Pa>>, Error> {
    let banks = banks(tree)?;
    if banks.is_empty() {
        return Err(err!(
            Board,
            "device tree: no node of device_type \"memory\" has any RAM; the firmware must fill in \
             /memory"
        ));
    }
    Ok(banks)
}

/// As [`ram`], of a tree that may have none.
///
/// A bank is a child of the root whose device_type is "memory", as Linux takes it: the name of the node does not
/// count, and a node without `reg` describes nothing. `linux,usable-memory` replaces `reg`: a boot loader that keeps a
/// part of a bank says so there. `linux,usable-memory-range` of /chosen limits all banks.
pub(crate) fn banks(tree: &Tree<'_>) -> Result<Vec<Range<Pa>>, Error> {
    let mut banks = Vec::new();
    let cells = Cells::of(&tree.root())?;
    for node in tree.root().children() {
        // QEMU's secure RAM is "disabled" for software that is not secure.
        if !matches!(node.string("device_type"), Ok(Some("memory"))) || !node.is_enabled() {
            continue;
        }
        let name = if node.property(USABLE_MEMORY).is_some() { USABLE_MEMORY } else { "reg" };
        banks.extend(ranges(&node, name, cells)?);
        if banks.len() > MAX_RANGES {
            return Err(err!(
                Board,
                "{}: more than {MAX_RANGES} banks of RAM; describe larger ones",
                node.path()
            ));
        }
    }
    let banks = ranges::joined(banks);
    let Some(chosen) = tree.find("/chosen") else { return Ok(banks) };
    let usable = ranges(&chosen, USABLE_RANGE, cells)?;
    if usable.is_empty() {
        return Ok(banks);
    }
    let unusable = ranges::without(&banks, usable);
    Ok(ranges::without(&banks, unusable))
}

/// The ranges in the property `name` of `node`, without those of size 0; none where there is no such property.
fn ranges(node: &Node<'_>, name: &str, cells: Cells) -> Result<Vec<Range<Pa>>, Error> {
    let mut found = Vec::new();
    for (address, size) in cells::raw_ranges(node, name, cells)?.unwrap_or_default() {
        if size != 0 {
            found.push(cells::physical(node, name, address, size)?);
        }
    }
    Ok(found)
}

/// The reservations of the tree: its reservation block, and the children of /reserved-memory that
/// have an address.
pub(crate) fn reserved(tree: &Tree<'_>) -> Result<Vec<Reserved>, Error> {
    let mut found = Vec::new();
    let mut add = |name: String, range: Range<Pa>| {
        if found.len() >= MAX_RANGES {
            return Err(err!(
                Board,
                "{name}: more than {MAX_RANGES} reservations of memory; join them"
            ));
        }
        if range.size() != 0 {
            found.push(Reserved { name, range });
        }
        Ok(())
    };
    for (address, size) in tree.reservations() {
        let range = cells::physical(&tree.root(), MEMRESERVE, *address, *size)?;
        add(String::from(MEMRESERVE), range)?;
    }
    if let Some(parent) = tree.find("/reserved-memory") {
        for node in parent.children() {
            // Without reg it is a wish for memory anywhere: there is nothing to keep away from.
            if !node.is_enabled() || node.property("reg").is_none() {
                continue;
            }
            for (address, size) in cells::raw_reg(&node, Cells::of(&parent)?)? {
                let range = cells::physical(&node, "reg", address, size)?;
                add(node.path(), range)?;
            }
        }
    }
    Ok(found)
}
