// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is real against what is specified, on the host: cheap after every exit, whole now and then.

use crate::guest::Guest;
use spec::{Hint, Leaf};
use std::sync::atomic::Ordering;

/// All that there is of a VM's state, its entries by the marks that the fake has added up.
pub fn quickly(guest: &Guest) -> Result<(), String> {
    let fake = &guest.machine.fake;
    if let Some(complaint) = fake.complaint() {
        return Err(format!("the architecture monitor: {complaint}"));
    }
    oracle::state(&guest.vm, &guest.spec, &guest.order, fake.marks())
}

/// Every entry and every shared page.
pub fn wholly(guest: &Guest) -> Result<(), String> {
    oracle::entries(&guest.vm, &guest.spec)?;
    let (walked, noted) = (oracle::marks(guest.vm.stage2()), guest.machine.fake.marks());
    if walked != noted {
        return Err(format!("the fake added up {noted:#x}, a walk {walked:#x}"));
    }
    shares(guest)
}

/// Every shared page.
pub fn shares(guest: &Guest) -> Result<(), String> {
    let mut shared = Vec::new();
    for (index, word) in guest.shares.iter().enumerate() {
        let mut bits = word.load(Ordering::Relaxed);
        while bits != 0 {
            let page = index as u64 * 64 + u64::from(bits.trailing_zeros());
            shared.push(guest.spec.config.ram.start + page * 4096);
            bits &= bits - 1;
        }
    }
    if !shared.iter().eq(&guest.spec.shared) {
        return Err(format!("shared are {shared:x?}, should be {:x?}", guest.spec.shared));
    }
    Ok(())
}

/// Ways to spoil the specification's state, or an outcome of it, so that the oracle must complain.
pub const SABOTAGES: u32 = 9;

/// Spoils the state.
pub fn sabotage(kind: u32, spec: &mut spec::Vm) {
    match kind {
        // UNMAP leaves the annotation, MAP makes none.
        0 => {
            let declared =
                spec.tables.carried().find(|found| matches!(found.entry, spec::Entry::Declared(_)));
            if let Some(found) = declared {
                let _ = spec.tables.undeclare(found.base, found.end());
            }
        }
        1 => spec.tables.set_free(spec.tables.free() + 1),
        2 => spec.enrolled = !spec.enrolled,
        3 => {
            let first = spec.config.ram.start;
            if !spec.shared.remove(&first) {
                spec.shared.insert(first);
            }
        }
        4 => spec.counters.refused += 1,
        5 => spec.vcpus[0] = spec::Power::Off,
        // A hint: which nothing but the entry itself shows.
        6 => {
            let declared = spec.tables.carried().find(
                |found| matches!(found.entry, spec::Entry::Declared(hint) if hint.mair != 0x77),
            );
            if let Some(found) = declared {
                let hint = Hint { index: 1, mair: 0x77, preset: false };
                let _ = spec.tables.declare(found.base, found.end(), hint);
            }
        }
        // A mapping.
        7 => {
            let at = spec.config.ram.end + 0x20_0000;
            let _ = spec.tables.map(at, 0x1_0000, 0x1000, Leaf::Ram);
        }
        _ => spec.counters.hypercalls += 1,
    }
}
