// SPDX-License-Identifier: MIT OR Apache-2.0
//! C: the guest-physical space as a whole, fetches and walks that leave RAM.

use crate::guard::{self, State, hole};
use crate::machine::{Machine, pstate};
use crate::mmu::{self, Table, View, attribute};
use crate::probe::{self, Abort};
use crate::verdict::{Verdict, Why};
use crate::{features, testdev, tree};

tests! {
    // bug: 26
    c01_scan: "C1", "", "" => scan_sparse;
    c01_scan_32_bits: "C1,C8", "vm.ipa=32", "" => scan_sparse;
    // bug: 26
    c01_scan_every_2m: "C1", "", "alone slow" => scan_dense;
    c08_ram_at_every_size_36: "C8,C7", "vm.ipa=36", "" => ipa_size;
    // bug: 3 4
    c08_ram_at_every_size_42: "C8,C7", "vm.ipa=42", "" => ipa_size;
    c08_ram_at_every_size_44: "C8,C7", "vm.ipa=44", "" => ipa_size;
    c08_ram_at_every_size_48: "C8,C7", "vm.ipa=48", "" => ipa_size;
    // bug: 47
    c13_fetch: "C13", "", "" => fetch;
    // bug: 47
    c13_fetch_from_device: "C13", "vm.testdev=0x0b000000", "" => fetch_device;
    // bug: 36 37
    c14_walk_in_undeclared: "C14", "", "" => walk_undeclared;
    // bug: 36 37
    c14_walk_in_declared: "C14", "vm.testdev=0x0b000000", "" => walk_declared;
    c14_walk_beyond: "C14", "", "" => walk_beyond;
    c14_walk_in_gicv: "C14", "", "" => walk_in_gicv;
    c14_walk_in_a_mapped_device: "C14", "vm.dev=/pl031@9010000", "" => walk_in_clock;
    c15_normal_alias: "C15", "vm.testdev=0x0b000000", "" => normal_alias;
    // bug: 36
    c16_address_translation: "C16", "", "" => address_translation;
    // bug: 72
    c17_ram_is_zeroed: "C3", "", "alone" => ram_is_zeroed;
}

/// What is at `ipa` answers as the query call says it does.
fn look(ipa: u64) -> Verdict {
    let va = if ipa < 1 << 39 { View::Normal.of(ipa) } else { ipa };
    match guard::query(ipa) {
        State::Ram => probe::load(va).completed(&[0]),
        State::Undeclared => probe::load(va).refused(va),
        // Of the stub's own devices.
        State::Declared | State::Direct => Ok(()),
        other => Err(crate::verdict::failed(format_args!("query of {ipa:#x}: {other:x?}"))),
    }
}

/// RAM is where the tree says, and nowhere else.
fn ram_only(ipa: u64) -> Verdict {
    let (base, size) = tree::get().ram;
    let ram = (base..base + size).contains(&ipa);
    check!(ram == (guard::query(ipa) == State::Ram), "{ipa:#x}: RAM is {ram} by the tree");
    look(ipa)
}

fn scan_sparse() -> Verdict {
    guard::activate()?;
    let bits = guard::ipa_bits().min(40);
    for block in 0..2048 {
        ram_only(block << 21)?;
    }
    for block in 4..1 << (bits - 30) {
        ram_only(block << 30 | (block & 0x1ff) << 21)?;
    }
    let (base, size) = tree::get().ram;
    for edge in [base, base + size] {
        for page in [edge - 8192, edge - 4096, edge, edge + 4096] {
            ram_only(page)?;
        }
    }
    Ok(())
}

fn scan_dense() -> Verdict {
    guard::activate()?;
    let bits = guard::ipa_bits().min(40);
    for block in 0..1_u64 << (bits - 21) {
        ram_only(block << 21)?;
    }
    Ok(())
}

/// At every size of the IPA space: RAM works, and the last page of each possible root table behaves.
fn ipa_size() -> Verdict {
    guard::activate()?;
    let bits = guard::ipa_bits();
    equal!(bits, features::pa_bits(), "IPA size against ID_AA64MMFR0_EL1.PARange");
    for shift in 30..bits {
        for ipa in [1_u64 << shift, (1 << shift) - 4096, ((1 << bits) - 4096) ^ 1 << shift] {
            let (base, size) = tree::get().ram;
            if (base..base + size).contains(&ipa) {
                continue;
            }
            let va = mmu::window(0, ipa, attribute::DEVICE);
            if guard::query(ipa) == State::Undeclared {
                probe::load(va).refused(va)?;
                equal!(guard::map(ipa), guard::done(), "MAP of {ipa:#x}");
                equal!(guard::query(ipa), State::Declared, "{ipa:#x}");
                equal!(guard::unmap(ipa), guard::done(), "UNMAP of {ipa:#x}");
                equal!(guard::query(ipa), State::Undeclared, "{ipa:#x}");
            }
        }
    }
    let (base, size) = tree::get().ram;
    for ipa in [base, base + size - 4096] {
        probe::load(ipa).completed(&[0])?;
    }
    Ok(())
}

/// Branches to `ipa` at EL1 and EL0, with and without translation.
fn fetch_from(ipa: u64) -> Verdict {
    snippet!(nothing, "nop");
    for (state, va) in [
        (pstate::EL1H, View::Executable.of(ipa)),
        (pstate::EL1T, View::Executable.of(ipa)),
        (pstate::EL0, View::UserExecutable.of(ipa)),
    ] {
        let mut machine = Machine::new(nothing).at(state);
        machine.pc = va;
        probe::run(machine).aborted(Abort::Fetch, va, 0)?;
    }
    mmu::disable();
    let results = [pstate::EL1H, pstate::EL0].map(|state| {
        let mut machine = Machine::new(nothing).at(state);
        machine.pc = ipa;
        probe::run(machine).aborted(Abort::Fetch, ipa, 0)
    });
    mmu::enable();
    let [first, second] = results;
    first.and(second)
}

fn fetch() -> Verdict {
    guard::activate()?;
    fetch_from(hole(60))?;
    equal!(guard::map(hole(60)), guard::done(), "MAP");
    fetch_from(hole(60))?;
    guard::unmap(hole(60));
    let (base, size) = tree::get().ram;
    fetch_from(base - 4)?;
    fetch_from(base + size)
}

/// A device does not see a fetch.
fn fetch_device() -> Verdict {
    testdev::ready()?;
    fetch_from(tree::get().uart)?;
    let before = testdev::counts();
    fetch_from(testdev::window())?;
    equal!(testdev::counts(), before, "what reached the device");
    equal!(guard::unmap(testdev::base()), guard::done(), "UNMAP");
    let result = fetch_from(testdev::window());
    equal!(guard::map(testdev::base()), guard::done(), "MAP");
    result
}

static WALK: [Table; 3] = [const { Table::new() }; 3];

/// Where the upper half of the address space begins.
const HIGH: u64 = 0xffff_0000_0000_0000;

/// Runs `body` with a translation of the upper half whose table of `level` is at `table`.
fn with_walk(level: usize, table: u64, body: impl Fn() -> Verdict) -> Verdict {
    let mut root = table;
    for above in WALK.iter().take(level).rev() {
        above.set(0, root | attribute::TABLE);
        root = above.address();
    }
    // EPD1 clear: the upper half is walked, with attributes as the lower one.
    let tcr = mmu::tcr() & !(1 << 23);
    msr!("ttbr1_el1", root);
    msr!("tcr_el1", tcr);
    plain!("isb");
    mmu::flush_all();
    let result = body();
    msr!("tcr_el1", mmu::tcr());
    msr!("ttbr1_el1", 0);
    plain!("isb");
    mmu::flush_all();
    result
}

/// Loads, stores and fetches whose walk finds its table of each level at `table`.
fn walk_into(table: u64) -> Verdict {
    snippet!(nothing, "nop");
    let va = HIGH + 0x10;
    for level in 0..4_u64 {
        with_walk(level as usize, table, || {
            for state in [pstate::EL1H, pstate::EL0] {
                for code in [probe::ldr_w, probe::str_x] {
                    probe::access_at(code, va, state).aborted(Abort::DataWalk(level), va, 0)?;
                }
                let mut machine = Machine::new(nothing).at(state);
                machine.pc = va;
                probe::run(machine).aborted(Abort::FetchWalk(level), va, 0)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// The tables of a walk in a page that is a device's, and mapped: hardware must not read registers as tables
/// (HCR_EL2.PTW).
fn walk_in_mapped(page: u64) -> Verdict {
    guard::activate()?;
    equal!(guard::map(page), guard::done(), "MAP");
    probe::load(page + 0xfe0).completed(&[0])?;
    walk_into(page)
}

/// GICV is the one device page that every VM reaches without a trap, under GICv2.
fn walk_in_gicv() -> Verdict {
    let tree::Gic::V2(_, gicc) = tree::get().gic else { return Err(Why::Skipped("no GICv2")) };
    walk_in_mapped(gicc)
}

fn walk_in_clock() -> Verdict {
    walk_in_mapped(0x0901_0000)
}

fn walk_undeclared() -> Verdict {
    guard::activate()?;
    walk_into(hole(61))
}

/// Declared or not: no device serves a walk.
fn walk_declared() -> Verdict {
    testdev::ready()?;
    equal!(guard::map(hole(62)), guard::done(), "MAP");
    walk_into(hole(62))?;
    guard::unmap(hole(62));
    let before = testdev::counts();
    walk_into(testdev::base())?;
    equal!(testdev::counts(), before, "what reached the device");
    walk_into(tree::get().uart)
}

/// A table beyond the IPA space: the CPU's own address size fault, or the abort of a walk.
fn walk_beyond() -> Verdict {
    guard::activate()?;
    let beyond = 1_u64 << guard::ipa_bits().min(47);
    let va = HIGH + 0x20;
    for level in 0..4_u64 {
        with_walk(level as usize, beyond, || {
            let result = probe::load(va);
            let size_fault = 0x9600_0000 + level.saturating_sub(u64::from(level > 0));
            let class = result.exit.esr & !0x3f;
            equal!(class, 0x9600_0000, "ESR_EL1 but for its status");
            let status = result.exit.esr & 0x3f;
            check!(
                status < 4 || status == 0x14 + level,
                "status {status:#x} at level {level} ({size_fault:#x} would do)"
            );
            equal!(result.exit.far, va, "FAR_EL1");
            equal!(result.exit.elr, result.before.pc, "ELR_EL1");
            result.unchanged(&[])
        })?;
    }
    Ok(())
}

snippet!(
    prefetches,
    "prfm pldl1keep, [x1]",
    "prfm pstl1keep, [x1, #64]",
    "prfm plil1keep, [x1]",
    "dc cvac, x1",
    "dc civac, x1",
    "ic ivau, x1",
    "dsb sy",
    "isb",
    "mov x0, #7",
);

/// The device mapped as ordinary memory: it sees what the program does, and nothing else.
fn normal_alias() -> Verdict {
    testdev::ready()?;
    let alias = View::Normal.of(testdev::window());
    testdev::set_value(77);
    let before = testdev::counts();
    probe::access(prefetches, alias).completed(&[0])?;
    equal!(testdev::counts(), before, "what reached the device without an access");
    probe::access(probe::str_x, alias + 8).completed(&[])?;
    equal!(probe::access(probe::ldr_x, alias + 8).loaded()?, 77, "x0");
    let after = testdev::counts();
    equal!((after.loads, after.stores), (before.loads + 1, before.stores + 1), "accesses");
    // Nor does an undeclared page abort without an access.
    let alias = View::Normal.of(hole(63));
    probe::access(prefetches, alias).completed(&[0])
}

snippet!(at_s1e1r, "at s1e1r, x1", "isb", "mrs x0, par_el1");
snippet!(at_s1e1w, "at s1e1w, x1", "isb", "mrs x0, par_el1");
snippet!(at_s1e0r, "at s1e0r, x1", "isb", "mrs x0, par_el1");

/// AT on an undeclared page translates as ever; with its walk in a hole it aborts or says so.
fn address_translation() -> Verdict {
    guard::activate()?;
    for code in [at_s1e1r, at_s1e1w] {
        let par = probe::access(code, hole(64)).loaded()?;
        equal!(par & 1, 0, "PAR_EL1.F of an undeclared page");
        equal!(par & 0xffff_ffff_f000, hole(64), "PAR_EL1.PA of an undeclared page");
    }
    for level in 0..4_u64 {
        with_walk(level as usize, hole(64), || {
            for code in [at_s1e1r, at_s1e1w, at_s1e0r] {
                let result = probe::access(code, HIGH);
                if result.exit.done() {
                    continue;
                }
                let status = result.exit.esr & 0x3f;
                equal!(result.exit.esr >> 26, 0x25, "exception class");
                check!(status == 0x10 || status == 0x14 + level, "status {status:#x}");
                equal!(result.exit.elr, result.before.pc, "ELR_EL1");
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// All RAM that the stub has not used itself is zero at boot.
fn ram_is_zeroed() -> Verdict {
    let (base, size) = tree::get().ram;
    let own = crate::image_layout::footprint();
    let tree = tree::get().address..tree::get().address + tree::get().size;
    need!(guard::dialect().is_some(), "no hypervisor");
    let mut at = base;
    while at < base + size {
        if own.contains(&at) {
            at = (own.end + 4095) & !4095;
        } else if tree.contains(&at) {
            at = (tree.end + 4095) & !4095;
        } else {
            // SAFETY: RAM of the VM outside of everything that Rust knows of.
            let value = unsafe { (at as *const u64).read_volatile() };
            check!(value == 0, "{value:#x} at {at:#x}");
            at += 8;
        }
    }
    Ok(())
}
