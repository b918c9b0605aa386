// SPDX-License-Identifier: MIT OR Apache-2.0
//! The interrupt controller.
//!
//! Sources: the bindings arm,gic.yaml and arm,gic-v3.yaml; IHI 0048 (GICv2), IHI 0069 (GICv3).

use crate::board::interrupt::{self, GICV2, GICV3};
use crate::board::types::Gic;
use crate::error::{Error, err};
use crate::fdt::cells;
use crate::fdt::{Node, Tree};
use arch::{PAGE_SIZE, Pa, Range};

/// Two 64 KiB frames: a GICv3 redistributor.
const REDISTRIBUTOR: u64 = 0x2_0000;
/// Most redistributor regions.
const MAX_REGIONS: u32 = 64;

/// Whether it is a GIC that can serve an EL2: a GICv3, or a GICv2 with GICH and GICV.
pub(crate) fn serves_el2(node: &Node<'_>) -> bool {
    let frames = || cells::reg(node).map_or(0, |regs| regs.len());
    node.is_compatible(&GICV3) || node.is_compatible(&GICV2) && frames() >= 4
}

/// The first enabled GIC of the tree.
pub(crate) fn gic(tree: &Tree<'_>) -> Result<Gic, Error> {
    if let Some(node) = tree.compatible(&GICV3).next() {
        return v3(tree, &node);
    }
    if let Some(node) = tree.compatible(&GICV2).next() {
        return v2(tree, &node);
    }
    Err(err!(
        Board,
        "device tree: no interrupt controller that is enabled and known (GICv2: {}; GICv3: {})",
        GICV2.join(", "),
        GICV3.join(", ")
    ))
}

/// The range, where it is at least `least` bytes at a multiple of `align`.
fn frame(
    node: &Node<'_>,
    what: &str,
    range: Option<&Range<Pa>>,
    least: u64,
    align: u64,
) -> Result<Range<Pa>, Error> {
    let Some(range) = range.copied() else {
        return Err(err!(Board, "{}: its reg has no {what}", node.path()));
    };
    if range.size() < least || !range.start().is_aligned(align) {
        return Err(err!(
            Board,
            "{}: {what} {range} must have at least {least:#x} bytes at a multiple of {align:#x}",
            node.path()
        ));
    }
    Ok(range)
}

fn v2(tree: &Tree<'_>, node: &Node<'_>) -> Result<Gic, Error> {
    let regs = cells::reg(node)?;
    if regs.len() < 4 {
        return Err(err!(
            Board,
            "{}: a GICv2 without GICH and GICV cannot serve guests; on QEMU say virtualization=on",
            node.path()
        ));
    }
    Ok(Gic::V2 {
        gicd: frame(node, "GICD", regs.first(), PAGE_SIZE, PAGE_SIZE)?,
        gicc: cpu_interface(node, "GICC", regs.get(1))?,
        gich: frame(node, "GICH", regs.get(2), 0x200, 4)?,
        gicv: cpu_interface(node, "GICV", regs.get(3))?,
        maintenance: interrupt::intids(tree, node)?.first().copied().flatten(),
    })
}

/// Where the two pages of a CPU interface lie beside one another: DIR is in the second.
///
/// Systems for pages of 64 KiB repeat each page through 64 KiB: then the last of the first and the first of the second are
/// neighbours (arm,gic.yaml says it by a reg of 128 KiB).
fn cpu_interface(
    node: &Node<'_>,
    what: &str,
    range: Option<&Range<Pa>>,
) -> Result<Range<Pa>, Error> {
    let whole = frame(node, what, range, PAGE_SIZE.saturating_mul(2), PAGE_SIZE)?;
    if whole.size() != 0x2_0000 {
        return Ok(whole);
    }
    // Inside `whole`.
    let start = Pa::new(whole.start().raw().saturating_add(0xf000));
    Ok(Range::<Pa>::new(start, 0x2000).unwrap_or(whole))
}

fn v3(tree: &Tree<'_>, node: &Node<'_>) -> Result<Gic, Error> {
    let regs = cells::reg(node)?;
    let regions = node.checked_word("#redistributor-regions")?.unwrap_or(1);
    if !(1..=MAX_REGIONS).contains(&regions) {
        return Err(err!(
            Board,
            "{}: #redistributor-regions is {regions}; 1 to {MAX_REGIONS} are possible",
            node.path()
        ));
    }
    let stride = node.number("redistributor-stride")?.filter(|stride| *stride != 0);
    if stride.is_some_and(|stride| stride < REDISTRIBUTOR || stride % 0x1_0000 != 0) {
        return Err(err!(
            Board,
            "{}: redistributor-stride {:#x} is no multiple of 0x10000 from 0x20000 up",
            node.path(),
            stride.unwrap_or_default()
        ));
    }
    let mut redistributors = alloc::vec::Vec::new();
    for index in 1..=regions {
        let range = regs.get(index as usize);
        redistributors.push(frame(node, "GICR", range, REDISTRIBUTOR, 0x1_0000)?);
    }
    Ok(Gic::V3 {
        gicd: frame(node, "GICD", regs.first(), 0x1_0000, 0x1_0000)?,
        redistributors,
        stride,
        maintenance: interrupt::intids(tree, node)?.first().copied().flatten(),
    })
}
