// SPDX-License-Identifier: MIT OR Apache-2.0
//! From what is real to what the specification speaks of, and whether both are the same.

use crate::guest::Guest;
use arch::Ipa;
use spec::{Hint, Leaf, Tables};
use stage2::codec::Descriptor;
use stage2::{Attr, Entry};
use std::sync::atomic::Ordering;

/// An entry as the specification has it. Nothing but those stands between two exits.
fn entry(entry: Entry) -> Option<spec::Entry> {
    Some(match entry {
        Entry::Empty => spec::Entry::Empty,
        Entry::Owner(id) => spec::Entry::Owner(id),
        Entry::Guard(note) => {
            spec::Entry::Declared(Hint { index: note.hint, mair: note.mair, preset: note.preset })
        }
        Entry::Leaf { pa, attr } => spec::Entry::Leaf {
            pa: pa.raw(),
            leaf: match attr {
                Attr::Ram => Leaf::Ram,
                Attr::Rom => Leaf::Rom,
                Attr::Device => Leaf::Device,
            },
        },
        Entry::Locked | Entry::Unknown(_) => return None,
    })
}

/// The mark of a descriptor, as the specification counts it.
pub fn mark(ipa: Ipa, level: u8, descriptor: Descriptor) -> u64 {
    match descriptor {
        Descriptor::Table(_) => Tables::mark(ipa.raw(), level, None),
        Descriptor::Entry(found) => match entry(found) {
            Some(found) => Tables::mark(ipa.raw(), level, Some(found)),
            // In no specification.
            None => 0x0bad_0bad_0bad_0bad,
        },
    }
}

pub fn reason(reason: vm::StopReason) -> spec::StopReason {
    match reason {
        vm::StopReason::PowerOff => spec::StopReason::PowerOff,
        vm::StopReason::Reset => spec::StopReason::Reset,
        vm::StopReason::AllOff => spec::StopReason::AllOff,
        vm::StopReason::SError | vm::StopReason::Failure => spec::StopReason::Other,
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, real: T, spec: T) -> Result<(), String> {
    if real == spec { Ok(()) } else { Err(format!("{what}: is {real:x?}, should be {spec:x?}")) }
}

/// All that there is of a VM's state, its entries by their marks.
pub fn quickly(guest: &Guest) -> Result<(), String> {
    let (vm, spec) = (&guest.vm, &guest.spec);
    if let Some(complaint) = guest.machine.fake.complaint() {
        return Err(format!("the architecture monitor: {complaint}"));
    }
    same("table pages left", vm.stage2().pool_free(&guest.order) as u64, spec.tables.free())?;
    same("declared pages", vm.declared_pages(), spec.declared())?;
    same("guard active", vm.guard().active(), spec.active())?;
    same("shared pages", vm.shared_pages(), spec.shared.len() as u64)?;
    let counts = vm.counts();
    same("hypercalls", counts.hypercalls, spec.counters.hypercalls)?;
    same("MMIO exits", counts.mmio, spec.counters.mmio)?;
    same("refused", counts.refused, spec.counters.refused)?;
    let on = vm.lifecycle().on(&guest.order);
    same("vCPUs that are on", on.iter().collect(), spec.on().collect::<Vec<_>>())?;
    let stopping = match spec.phase {
        spec::Phase::Stopping(reason) => Some(reason),
        _ => None,
    };
    same("stopping", vm.lifecycle().stopping().map(reason), stopping)?;
    if guest.machine.fake.marks() != spec.tables.marks() {
        wholly(guest)?;
        return Err("the marks differ, and no entry does".into());
    }
    Ok(())
}

/// Every entry and every shared page.
pub fn wholly(guest: &Guest) -> Result<(), String> {
    let spec = &guest.spec;
    let mut fault = Ok(());
    let mut carried = 0_usize;
    let mut entries = 0_usize;
    guest.vm.stage2().visit(|ipa, level, found| {
        entries += 1;
        let should = spec.tables.at(ipa.raw());
        let real = entry(found);
        carried += usize::from(real != Some(spec::Entry::Empty));
        if (Some(should.entry), should.level, should.base) != (real, level, ipa.raw())
            && fault.is_ok()
        {
            fault = Err(format!("{ipa:?}: is {found:x?} at level {level}, should be {should:x?}"));
        }
    });
    fault?;
    same("entries that carry something", carried, spec.tables.carried().count())?;
    let root = 1_usize << (spec.config.ipa_bits - if spec.config.ipa_bits < 44 { 30 } else { 39 });
    same("entries", entries, root + 511 * spec.tables.cuts().count())?;
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
    same("shared pages", shared, guest.spec.shared.iter().copied().collect())
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
