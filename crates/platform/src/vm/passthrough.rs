// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices of the machine that a VM has for itself (`vm.dev`).
//!
//! Nothing is between such a device and memory, so only those are given away that are known not to master the
//! bus: a short list of `compatible`s, and no node that speaks of DMA. docs/vm-words.md has the rules.

use crate::board::interrupt;
use crate::board::{Board, Gic};
use crate::error::{Error, err};
use crate::fdt::cells::{self, CellReader};
use crate::fdt::{Node, Tree};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use arch::guest_map::{PASSED_INTID, PASSED_INTIDS};
use arch::{Ipa, PAGE_SIZE, Pa, Range};

/// Most regions of registers of a VM: the eight that a VM can reach without a trap, less GICV.
pub const MAX_PASSED: usize = 7;
/// Most bytes of one region: 64 pages.
const MAX_BYTES: u64 = 64 * PAGE_SIZE;

/// Devices that cannot master the bus.
const HARMLESS: [&str; 9] = [
    "arm,pl011",
    "arm,sbsa-uart",
    "arm,pl031",
    "arm,pl061",
    "arm,sp804",
    "ns16550",
    "ns16550a",
    "ns8250",
    "snps,dw-apb-uart",
];
/// Properties of nodes whose devices access memory, directly or through another device.
const DMA: [&str; 5] = ["dmas", "iommus", "dma-ranges", "dma-coherent", "memory-region"];
/// What a guest's node takes over unchanged: nothing that names another node.
const KEPT: [&str; 12] = [
    "compatible",
    "clock-names",
    "clock-frequency",
    "arm,primecell-periphid",
    "reg-shift",
    "reg-io-width",
    "fifo-size",
    "current-speed",
    "gpio-controller",
    "#gpio-cells",
    "interrupt-controller",
    "#interrupt-cells",
];

/// An interrupt of a device: the machine's, and what the guest knows it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassedInterrupt {
    /// SPI of the machine.
    pub physical: u32,
    /// INTID at the guest's controller.
    pub intid: u32,
    /// Third cell of its specifier: 1 a rising edge, 4 a high level.
    pub flags: u32,
}

/// A device of the machine that one VM has for itself, at the addresses where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Path of its node in the machine's tree.
    pub node: String,
    /// Its registers.
    pub registers: Vec<Range<Pa>>,
    /// Its interrupts.
    pub interrupts: Vec<PassedInterrupt>,
    /// Frequencies of its clocks in Hz, in their order.
    pub clocks: Vec<u32>,
    /// Properties that the guest's node has too.
    pub properties: Vec<(String, Vec<u8>)>,
}

impl Passed {
    /// Name of its node in the guest's tree, where it lies at the root: at its physical address.
    pub(crate) fn name(&self) -> String {
        let name = self.node.rsplit('/').next().unwrap_or_default();
        let base = name.split('@').next().unwrap_or_default();
        let at = self.registers.first().map_or(0, |range| range.start().raw());
        format!("{base}@{at:x}")
    }

    /// The pages that hold its registers.
    pub fn pages(&self) -> impl Iterator<Item = Range<Pa>> + '_ {
        self.registers.iter().filter_map(pages)
    }

    /// The same, as the guest sees them.
    pub fn ipas(&self) -> impl Iterator<Item = Range<Ipa>> + '_ {
        self.pages()
            .filter_map(|pages| Range::<Ipa>::new(Ipa::new(pages.start().raw()), pages.size()))
    }
}

/// The whole pages of a range.
fn pages(range: &Range<Pa>) -> Option<Range<Pa>> {
    let start = range.start().page();
    let end = range.end().raw().checked_next_multiple_of(PAGE_SIZE)?;
    Range::<Pa>::new(start, end.checked_sub(start.raw())?)
}

/// The device at `path`, if it can be given to a VM.
pub(crate) fn passed(board: &Board, tree: &Tree<'_>, path: &str) -> Result<Passed, Error> {
    let node = tree.find(path).filter(Node::is_enabled).ok_or_else(|| {
        err!(Vm, "vm.dev={path}: the machine's tree has no such node that is enabled")
    })?;
    let bad = |why: core::fmt::Arguments<'_>| err!(Vm, "vm.dev={path}: {why}; leave it out");
    let registers = cells::reg(&node).map_err(|error| bad(format_args!("{error}")))?;
    let interrupts = interrupt::interrupts(tree, &node).map_err(|e| bad(format_args!("{e}")))?;
    let own: Vec<Range<Pa>> = registers.iter().filter_map(pages).collect();
    let ours = |range: &Range<Pa>| own.iter().any(|own| own.overlaps(range));
    if own_frames(board).iter().any(ours)
        || board.uart.as_ref().is_some_and(|uart| {
            ours(&uart.registers)
                || interrupts.iter().flatten().any(|one| Some(one.intid) == uart.intid)
        })
    {
        return Err(bad(format_args!("Portcullis itself uses it")));
    }
    if let Some(name) = DMA.iter().find(|name| node.property(name).is_some()) {
        return Err(bad(format_args!("it has {name}: it may reach memory by itself")));
    }
    if !node.is_compatible(&HARMLESS) {
        return Err(bad(format_args!(
            "'{}' may master the bus, for all that is known; given away are {}",
            node.first("compatible"),
            HARMLESS.join(" ")
        )));
    }
    if own.is_empty()
        || registers.iter().any(|range| range.size() == 0)
        || own.iter().any(|range| range.size() > MAX_BYTES)
    {
        return Err(bad(format_args!("its registers have no bytes, or more than 64 pages")));
    }
    // The owner of a page has everything in it.
    for other in tree.nodes().filter(|other| other.path() != node.path()) {
        let theirs = if other.property("reg").is_some() { cells::reg(&other) } else { continue };
        if theirs.iter().flatten().filter_map(pages).any(|range| ours(&range)) {
            return Err(bad(format_args!("{} has registers in the same page", other.path())));
        }
    }
    let interrupts = interrupts
        .into_iter()
        .map(|one| match one {
            Some(one) if (32..1020).contains(&one.intid) => {
                Ok(PassedInterrupt { physical: one.intid, intid: 0, flags: one.flags & 0xf })
            }
            _ => Err(bad(format_args!("an interrupt of it is no shared one of the GIC"))),
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let clocks = clocks(tree, &node)
        .ok_or_else(|| bad(format_args!("a clock of it has no fixed frequency in the tree")))?;
    let properties = node
        .properties()
        .filter(|(name, _)| KEPT.contains(name))
        .map(|(name, value)| (String::from(name), Vec::from(value)))
        .collect();
    Ok(Passed { node: node.path(), registers, interrupts, clocks, properties })
}

/// Registers of the interrupt controller.
fn own_frames(board: &Board) -> Vec<Range<Pa>> {
    match &board.gic {
        Gic::V2 { gicd, gicc, gich, gicv, .. } => Vec::from([*gicd, *gicc, *gich, *gicv]),
        Gic::V3 { gicd, redistributors, .. } => {
            redistributors.iter().copied().chain([*gicd]).collect()
        }
    }
}

/// Frequencies of a node's clocks; `None` where the tree does not say one.
fn clocks(tree: &Tree<'_>, node: &Node<'_>) -> Option<Vec<u32>> {
    let mut reader = CellReader::new(node.property("clocks").unwrap_or_default());
    let mut found = Vec::new();
    while !reader.is_empty() {
        let clock = tree.by_phandle(u32::try_from(reader.next(1)?).ok()?)?;
        for _ in 0..clock.word("#clock-cells")?.min(16) {
            reader.next(1)?;
        }
        let fixed = clock.word("clock-frequency").filter(|_| clock.is_compatible(&["fixed-clock"]));
        found.push(fixed.or(node.word("clock-frequency"))?);
    }
    Some(found)
}

/// Gives the interrupts of a VM's devices their numbers at its controller.
pub(crate) fn number(devices: &mut [Passed]) -> Result<(), Error> {
    let interrupts = devices.iter_mut().flat_map(|device| &mut device.interrupts);
    for (interrupt, intid) in interrupts.zip(PASSED_INTID..) {
        if intid >= PASSED_INTID.saturating_add(PASSED_INTIDS) {
            return Err(err!(
                Vm,
                "its vm.dev have more than {PASSED_INTIDS} interrupts; leave one out"
            ));
        }
        interrupt.intid = intid;
    }
    Ok(())
}

/// Whether two VMs ask for the same: pages or interrupts.
pub(crate) fn clash(one: &Passed, other: &Passed) -> bool {
    one.pages().any(|pages| other.pages().any(|others| others.overlaps(&pages)))
        || one.interrupts.iter().any(|a| other.interrupts.iter().any(|b| a.physical == b.physical))
}
