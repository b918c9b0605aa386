// SPDX-License-Identifier: MIT OR Apache-2.0
//! RAM banks and what of them is reserved.

use crate::board::Reserved;
use crate::bus::{self, Cells};
use crate::error::{Error, err};
use crate::fdt::Tree;
use alloc::string::String;
use alloc::vec::Vec;
use arch::{Pa, Range};

/// Most banks of RAM before they are joined, and most reservations.
const MAX_RANGES: usize = 256;

/// The RAM of the machine: sorted, joined where banks touch or overlap, none empty.
pub(crate) fn ram(tree: &Tree<'_>) -> Result<Vec<Range<Pa>>, Error> {
    let mut banks = Vec::new();
    let cells = Cells::of(&tree.root())?;
    for node in tree.root().children() {
        let is_memory = match node.string("device_type") {
            Ok(Some(kind)) => kind == "memory",
            Ok(None) => node.base_name() == "memory",
            Err(error) => return Err(error),
        };
        // QEMU's secure RAM is "disabled" for who is not secure.
        if !is_memory || !node.is_enabled() {
            continue;
        }
        for (address, size) in bus::raw_reg(&node, cells)? {
            let bank = bus::physical(&node, "reg", address, size)?;
            if bank.size() == 0 {
                continue;
            }
            if banks.len() >= MAX_RANGES {
                return Err(err!(
                    Board,
                    "{}: more than {MAX_RANGES} banks of RAM; describe larger ones",
                    node.path()
                ));
            }
            banks.push(bank);
        }
    }
    if banks.is_empty() {
        return Err(err!(
            Board,
            "device tree: no node of device_type \"memory\" has any RAM; the firmware must fill in \
             /memory"
        ));
    }
    Ok(joined(banks))
}

/// Sorts ranges and joins those that touch or overlap.
pub(crate) fn joined(mut ranges: Vec<Range<Pa>>) -> Vec<Range<Pa>> {
    ranges.retain(|range| range.size() != 0);
    ranges.sort_unstable_by_key(|range| (range.start(), range.size()));
    let mut out: Vec<Range<Pa>> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if range.start() <= last.end() => {
                let end = last.end().max(range.end()).raw();
                let size = end.saturating_sub(last.start().raw());
                *last = Range::<Pa>::new(last.start(), size).unwrap_or(*last);
            }
            _ => out.push(range),
        }
    }
    out
}

/// What is left of sorted, joined `ranges` without `holes`.
pub(crate) fn without(ranges: &[Range<Pa>], holes: Vec<Range<Pa>>) -> Vec<Range<Pa>> {
    let holes = joined(holes);
    let mut out = Vec::new();
    for range in ranges {
        let mut start = range.start().raw();
        let end = range.end().raw();
        for hole in holes.iter().filter(|hole| hole.overlaps(range)) {
            let free = hole.start().raw().saturating_sub(start);
            if free > 0 {
                out.extend(Range::<Pa>::new(Pa::new(start), free));
            }
            start = start.max(hole.end().raw());
        }
        if start < end {
            out.extend(Range::<Pa>::new(Pa::new(start), end.saturating_sub(start)));
        }
    }
    out
}

/// The reservations of the tree: its reservation block, and the children of /reserved-memory that
/// have an address.
pub(crate) fn reserved(tree: &Tree<'_>) -> Result<Vec<Reserved>, Error> {
    let mut found = Vec::new();
    for (address, size) in tree.reservations() {
        let range = bus::physical(&tree.root(), "/memreserve/", *address, *size)?;
        found.push(Reserved { name: String::from("/memreserve/"), range });
    }
    if let Some(parent) = tree.find("/reserved-memory") {
        for node in parent.children() {
            // Without reg it is a wish for memory anywhere: there is nothing to keep away from.
            if !node.is_enabled() || node.property("reg").is_none() {
                continue;
            }
            for (address, size) in bus::raw_reg(&node, Cells::of(&parent)?)? {
                let range = bus::physical(&node, "reg", address, size)?;
                found.push(Reserved { name: node.path(), range });
            }
        }
    }
    found.retain(|reserved| reserved.range.size() != 0);
    if found.len() > MAX_RANGES {
        return Err(err!(
            Board,
            "device tree: more than {MAX_RANGES} reservations of memory; join them"
        ));
    }
    Ok(found)
}
