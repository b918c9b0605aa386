// SPDX-License-Identifier: MIT OR Apache-2.0
//! RAM banks and what of them is reserved.
//!
//! Sources: Devicetree Specification v0.4, section 3.4; Linux's drivers/of/fdt.c (early_init_dt_scan_memory,
//! early_init_dt_check_for_usable_mem_range), which decides what boot loaders write.

use crate::board::description::Reserved;
use crate::error::{Error, err};
use crate::fdt::cells::{self, Cells};
use crate::fdt::{Node, Tree};
use crate::sort;
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
    let banks = joined(banks);
    let Some(chosen) = tree.find("/chosen") else { return Ok(banks) };
    let usable = ranges(&chosen, USABLE_RANGE, cells)?;
    if usable.is_empty() {
        return Ok(banks);
    }
    let unusable = without(&banks, usable);
    Ok(without(&banks, unusable))
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

/// Sorts ranges and joins those that touch or overlap.
pub(crate) fn joined(mut ranges: Vec<Range<Pa>>) -> Vec<Range<Pa>> {
    ranges.retain(|range| range.size() != 0);
    sort::by_key(&mut ranges, |range| (range.start(), range.size()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn pa(start: u64, size: u64) -> Range<Pa> {
        Range::<Pa>::new(Pa::new(start), size).unwrap()
    }

    #[test]
    fn ranges_that_touch_overlap_or_enclose_are_joined() {
        let cases = [
            (vec![pa(8, 4), pa(0, 4)], vec![pa(0, 4), pa(8, 4)]),
            (vec![pa(4, 4), pa(0, 4)], vec![pa(0, 8)]),
            (vec![pa(0, 6), pa(4, 4)], vec![pa(0, 8)]),
            (vec![pa(0, 16), pa(4, 4)], vec![pa(0, 16)]),
            (vec![pa(4, 4), pa(0, 16), pa(4, 0), pa(20, 0)], vec![pa(0, 16)]),
            (vec![pa(0, 4), pa(0, 8), pa(0, 4)], vec![pa(0, 8)]),
            (vec![], vec![]),
        ];
        for (from, to) in cases {
            assert_eq!(joined(from.clone()), to, "{from:?}");
        }
    }

    #[test]
    fn holes_are_cut_out() {
        let ram = [pa(0, 16), pa(32, 16)];
        let cases = [
            (vec![], vec![pa(0, 16), pa(32, 16)]),
            (vec![pa(0, 64)], vec![]),
            (vec![pa(4, 4)], vec![pa(0, 4), pa(8, 8), pa(32, 16)]),
            (vec![pa(8, 32)], vec![pa(0, 8), pa(40, 8)]),
            (vec![pa(0, 1), pa(15, 18)], vec![pa(1, 14), pa(33, 15)]),
            (vec![pa(16, 16)], vec![pa(0, 16), pa(32, 16)]),
            (vec![pa(4, 0)], vec![pa(0, 16), pa(32, 16)]),
        ];
        for (holes, left) in cases {
            assert_eq!(without(&ram, holes.clone()), left, "{holes:?}");
        }
    }

    fn some_ranges() -> impl Strategy<Value = Vec<Range<Pa>>> {
        prop::collection::vec((0_u64..64, 0_u64..16), 0..8)
            .prop_map(|all| all.into_iter().map(|(start, size)| pa(start, size)).collect())
    }

    proptest! {
        /// Against a bitmap: an address is in RAM, or free, exactly when it should be.
        #[test]
        fn joining_and_cutting_are_as_a_bitmap_has_it(
            banks in some_ranges(),
            holes in some_ranges(),
        ) {
            let has = |ranges: &[Range<Pa>], at| {
                ranges.iter().filter(|range| range.contains(Pa::new(at))).count()
            };
            let ram = joined(banks.clone());
            let free = without(&ram, holes.clone());
            for at in 0..96 {
                prop_assert_eq!(has(&ram, at), usize::from(has(&banks, at) > 0));
                let expected = has(&banks, at) > 0 && has(&holes, at) == 0;
                prop_assert_eq!(has(&free, at), usize::from(expected));
            }
            for pair in ram.windows(2) {
                prop_assert!(pair[0].end() < pair[1].start());
            }
        }
    }
}
