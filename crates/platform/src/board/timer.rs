// SPDX-License-Identifier: MIT OR Apache-2.0
//! The generic timer's interrupts.
//!
//! Source: the binding arm,arch_timer.yaml: secure physical, physical, virtual, hypervisor.

use crate::board::interrupt;
use crate::board::types::Timer;
use crate::error::{Error, err};
use crate::fdt::Tree;
use alloc::vec::Vec;

/// Names of the generic timer in trees; some arm64 boards call it by its older one.
const COMPATIBLE: [&str; 2] = ["arm,armv8-timer", "arm,armv7-timer"];
/// Most names that are looked at.
const MAX_NAMES: usize = 8;

/// The timer node.
pub(crate) fn timer(tree: &Tree<'_>) -> Result<Timer, Error> {
    let Some(node) = tree.compatible(&COMPATIBLE).next() else {
        return Err(err!(Board, "device tree: no arm,armv8-timer; name the generic timer's PPIs"));
    };
    let intids = interrupt::intids(tree, &node)?;
    let names: Vec<&str> = node.strings("interrupt-names").take(MAX_NAMES).collect();
    let find = |name: &str, place: usize| {
        let place = if names.is_empty() {
            Some(place)
        } else {
            names.iter().position(|candidate| *candidate == name)
        };
        place.and_then(|place| intids.get(place)).copied().flatten()
    };
    let need = |name: &str, place: usize| {
        find(name, place)
            .filter(|intid| (16..32).contains(intid))
            .ok_or_else(|| err!(Board, "{}: the PPI of timer '{name}' is missing", node.path()))
    };
    Ok(Timer {
        secure_physical: find("sec-phys", 0),
        physical: need("phys", 1)?,
        virt: need("virt", 2)?,
        hypervisor: need("hyp-phys", 3)?,
        frequency: node.checked_word("clock-frequency")?,
    })
}
