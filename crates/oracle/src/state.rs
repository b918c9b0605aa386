// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state of a VM, and what it should be.

use crate::stop_reason;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use arch::{Ipa, Pa};
use core::fmt::Debug;
use lock::Order;
use spec::{Hint, Leaf, Tables};
use stage2::codec::{self, Descriptor};
use stage2::{Attr, Entry, Stage2, TableMemory, Tlb};
use vm::{Host, Vm};

/// Descriptors of a table.
const ENTRIES: usize = 512;

/// An entry as the specification has it. Between two exits there are no others.
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
                Attr::Shared => Leaf::Shared,
                Attr::SharedRead => Leaf::SharedRead,
            },
        },
        Entry::Locked | Entry::Unknown(_) => return None,
    })
}

/// The mark of a descriptor, as [`Tables::marks`] counts it.
pub fn mark(ipa: Ipa, level: u8, descriptor: Descriptor) -> u64 {
    match descriptor {
        Descriptor::Table(_) => Tables::mark(ipa.raw(), level, None),
        // Windows are compared with the shares of the VM behind them.
        Descriptor::Window(_) => 0,
        Descriptor::Entry(found) => match entry(found) {
            Some(found) => Tables::mark(ipa.raw(), level, Some(found)),
            // In no specification.
            None => 0x0bad_0bad_0bad_0bad,
        },
    }
}

/// The sum of the [`mark`]s of all descriptors of the tables. Empty ones cost a load.
pub fn marks<H: TableMemory + Tlb>(stage2: &Stage2<H>) -> u64 {
    let geometry = stage2.geometry();
    let entries = ENTRIES.wrapping_mul(usize::from(geometry.root_pages));
    marks_of(stage2, stage2.root(), entries, geometry.start_level, 0)
}

/// Recurses at most three times.
fn marks_of<H: TableMemory + Tlb>(
    stage2: &Stage2<H>,
    table: Pa,
    entries: usize,
    level: u8,
    base: u64,
) -> u64 {
    let mut sum = 0_u64;
    for index in 0..entries {
        let raw = stage2.host().load(table, index);
        if raw == 0 {
            continue;
        }
        let size = spec::size_of_level(level);
        let at = base.wrapping_add((index as u64).wrapping_mul(size));
        let descriptor = codec::decode(raw, level);
        sum = sum.wrapping_add(mark(Ipa::new(at), level, descriptor));
        if let Descriptor::Table(next) = descriptor {
            let below = marks_of(stage2, next, ENTRIES, level.wrapping_add(1), at);
            sum = sum.wrapping_add(below);
        }
    }
    sum
}

/// Says where two values differ.
fn same<T: PartialEq + Debug>(what: &str, real: T, spec: T) -> Result<(), String> {
    if real == spec { Ok(()) } else { Err(difference(what, &real, &spec)) }
}

#[cold]
fn difference(what: &str, real: &dyn Debug, spec: &dyn Debug) -> String {
    format!("{what}: is {real:x?}, should be {spec:x?}")
}

/// All of a VM's state but its entries and which pages it shares: that, how many.
///
/// # Errors
/// What differs.
pub fn shallow<H: Host>(vm: &Vm<H>, spec: &spec::Vm, order: &Order) -> Result<(), String> {
    same("table pages left", vm.stage2().pool_free(order) as u64, spec.tables.free())?;
    same("declared pages", vm.declared_pages(), spec.declared())?;
    same("guard active", vm.guard().active(), spec.active())?;
    same("shared pages", vm.shared_pages(), spec.shared.len() as u64)?;
    let counts = vm.counts();
    same("hypercalls", counts.hypercalls, spec.counters.hypercalls)?;
    same("MMIO exits", counts.mmio, spec.counters.mmio)?;
    same("refused", counts.refused, spec.counters.refused)?;
    if let Some(link) = vm.link() {
        let (life, info) = link.info(order);
        let should = (spec.life, spec.link.is_running(), spec.link.is_attached());
        same("life, running, served", (life, info.running, info.attached), should)?;
        same("vCPUs that wait for the server", info.outstanding, spec.link.outstanding())?;
    }
    let on = vm.lifecycle().on(order);
    if !on.iter().eq(spec.on()) {
        let should: Vec<usize> = spec.on().collect();
        return Err(format!("vCPUs that are on: is {on:?}, should be {should:?}"));
    }
    let stopping = match spec.phase {
        spec::Phase::Stopping(reason) => Some(reason),
        _ => None,
    };
    let holders = vm.lifecycle().holders(order);
    let held = [vm::Holder::User, vm::Holder::Crash, vm::Holder::Save].map(|it| holders.has(it));
    let should = [1, 2, 4].map(|holder| spec.holders.contains(&holder));
    if held != should {
        return Err(format!("held by user, crash, save: is {held:?}, should be {should:?}"));
    }
    same("stopping", vm.lifecycle().stopping().map(stop_reason), stopping)
}

/// [`shallow`], and the entries by `marks`, their sum.
///
/// # Errors
/// What differs; of entries, one.
pub fn state<H: Host>(
    vm: &Vm<H>,
    spec: &spec::Vm,
    order: &Order,
    marks: u64,
) -> Result<(), String> {
    shallow(vm, spec, order)?;
    if marks == spec.tables.marks() {
        return Ok(());
    }
    entries(vm, spec)?;
    Err("the marks differ, and no entry does".to_string())
}

/// Whether all GiB from `start` to `end` are in windows, which a visit leaves out.
fn is_window<H: Host>(vm: &Vm<H>, start: u64, end: u64) -> bool {
    let is_leaf = |at| match vm.stage2().lookup(Ipa::new(at)).map(|found| found.entry) {
        Some(Entry::Leaf { attr, .. }) => attr == Attr::Shared,
        _ => false,
    };
    end > start && (start..end).step_by(1 << 30).all(is_leaf)
}

/// Every entry by itself, those of windows left out. Both sides are gone through at once, in rising order.
///
/// # Errors
/// The first that differs.
pub fn entries<H: Host>(vm: &Vm<H>, spec: &spec::Vm) -> Result<(), String> {
    let mut fault = Ok(());
    let mut carried = spec.tables.carried().peekable();
    // First addresses and levels of the tables: each has an entry that begins where it does.
    let mut cuts: Vec<(u64, u8)> = Vec::new();
    let root = if spec.config.ipa_bits < 44 { 1 } else { 0 };
    let mut end = 0;
    vm.stage2().visit(|ipa, level, found| {
        if fault.is_err() {
            return;
        }
        let base = ipa.raw();
        for above in root..level {
            if base & spec::size_of_level(above).wrapping_sub(1) == 0 {
                cuts.push((base, above));
            }
        }
        let empty = spec::Found { base, level, entry: spec::Entry::Empty };
        let should = carried.next_if(|next| next.base <= base).unwrap_or(empty);
        let same = (entry(found), base, level) == (Some(should.entry), should.base, should.level);
        if !same || base != end && !is_window(vm, end, base) {
            let should = spec.tables.at(base);
            fault = Err(format!("{ipa:?}: is {found:x?} at level {level}, should be {should:x?}"));
        }
        end = base.wrapping_add(spec::size_of_level(level));
    });
    fault?;
    same("the end of all entries", end >= spec.config.limit(), true)?;
    if let Some(more) = carried.next() {
        return Err(format!("should be {more:x?}, is nothing"));
    }
    cuts.sort_unstable();
    if cuts.iter().copied().eq(spec.tables.cuts()) {
        return Ok(());
    }
    let should: Vec<(u64, u8)> = spec.tables.cuts().collect();
    Err(format!("tables: are {cuts:x?}, should be {should:x?}"))
}
