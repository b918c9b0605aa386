// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the boot loader says in /chosen: arguments, seeds, initrd and modules.
//!
//! Sources: Devicetree Specification v0.4, section 3.6; Linux's Documentation/arch/arm64/booting and
//! the chosen schema (kaslr-seed, rng-seed, linux,initrd-*); Xen's docs/misc/arm/device-tree/booting
//! (multiboot,module).

use crate::board::types::{Module, ModuleKind};
use crate::error::{Error, err};
use crate::fdt::cells::{self, Cells};
use crate::fdt::{self, Node, Tree};
use crate::seed::Seeds;
use crate::sort;
use alloc::string::String;
use alloc::vec::Vec;
use arch::{Pa, Range};

/// As much of a seed is taken.
const MAX_SEED_BYTES: usize = 512;
/// Most modules.
const MAX_MODULES: usize = 64;

/// A name for the machine.
pub(crate) fn model(tree: &Tree<'_>) -> String {
    let model = tree.root().first("model");
    if model.is_empty() { tree.root().first("compatible") } else { model }
}

/// /chosen's own bootargs.
pub(crate) fn bootargs(tree: &Tree<'_>) -> Result<String, Error> {
    let Some(chosen) = tree.find("/chosen") else { return Ok(String::new()) };
    Ok(String::from(chosen.string("bootargs")?.unwrap_or_default()))
}

/// The initial ramdisk, where both of its ends are given and it is not empty.
pub(crate) fn initrd(tree: &Tree<'_>) -> Result<Option<Range<Pa>>, Error> {
    let Some(chosen) = tree.find("/chosen") else { return Ok(None) };
    let (start, end) = (chosen.number("linux,initrd-start")?, chosen.number("linux,initrd-end")?);
    let (start, end) = match (start, end) {
        (None, None) => return Ok(None),
        (Some(start), Some(end)) => (start, end),
        _ => {
            return Err(err!(Board, "/chosen: one of linux,initrd-start and -end is missing"));
        }
    };
    let Some(size) = end.checked_sub(start) else {
        return Err(err!(Board, "/chosen: initrd ends at {end:#x}, before its start {start:#x}"));
    };
    let range = cells::physical(&chosen, "initrd", start, size)?;
    Ok((size != 0).then_some(range))
}

/// Seeds of the firmware; what is missing or empty is none.
pub(crate) fn seeds(tree: &Tree<'_>) -> Seeds {
    let Some(chosen) = tree.find("/chosen") else { return Seeds::default() };
    let bytes = |name| {
        let value = chosen.property(name).unwrap_or_default();
        value.get(..MAX_SEED_BYTES).unwrap_or(value)
    };
    Seeds::new(bytes("rng-seed"), bytes("kaslr-seed"))
}

/// The modules, sorted by address.
pub(crate) fn modules(tree: &Tree<'_>) -> Result<Vec<Module>, Error> {
    let mut found = Vec::new();
    let Some(chosen) = tree.find("/chosen") else { return Ok(found) };
    for node in chosen.children() {
        if !node.is_compatible(&["multiboot,module"]) || !node.is_enabled() {
            continue;
        }
        if found.len() >= MAX_MODULES {
            return Err(err!(Module, "{}: more than {MAX_MODULES} modules", node.path()));
        }
        found.push(module(&chosen, &node)?);
    }
    sort::by_key(&mut found, |module: &Module| (module.range.start(), module.range.size()));
    Ok(found)
}

fn module(chosen: &Node<'_>, node: &Node<'_>) -> Result<Module, Error> {
    // QEMU writes two cells each and says so nowhere.
    let says = chosen.property("#address-cells").or(chosen.property("#size-cells")).is_some();
    let cells = if says { Cells::of(chosen)? } else { Cells::TWO_AND_TWO };
    let regs = cells::raw_reg(node, cells)?;
    let [(address, size)] = regs.as_slice() else {
        return Err(err!(
            Module,
            "{}: its reg has {} entries instead of one",
            node.path(),
            regs.len()
        ));
    };
    let range = cells::physical(node, "reg", *address, *size)?;
    if range.size() == 0 {
        return Err(err!(Module, "{}: it is empty; give a file that is not", node.path()));
    }
    let kind = if node.is_compatible(&["multiboot,kernel"]) {
        ModuleKind::Kernel
    } else if node.is_compatible(&["multiboot,ramdisk"]) {
        ModuleKind::Ramdisk
    } else {
        // Its first is known to be there, or not.
        let own = node.strings("compatible").find(|name| *name != "multiboot,module");
        ModuleKind::Other(fdt::short(own.unwrap_or_default()))
    };
    Ok(Module {
        name: node.path(),
        kind,
        range,
        bootargs: String::from(node.string("bootargs")?.unwrap_or_default()),
    })
}
