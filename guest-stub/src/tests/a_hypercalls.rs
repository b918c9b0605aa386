// SPDX-License-Identifier: MIT OR Apache-2.0
//! A: arguments of hypercalls. Every call answers what docs/abi.md says, to the last register, and one
//! that fails changes nothing.

use mmio_guard::{Call, abi};

use crate::guard::{self, State, UNKNOWN, hole};
use crate::hvc::{hvc, smc};
use crate::machine::{self, Machine, canary, pstate};
use crate::verdict::Verdict;
use crate::{features, image_layout, probe, psci, time, tree};

tests! {
    a00_services: "A9", "", "" => services;
    a00_services_series: "A9", "vm.dialect=series", "" => services;
    a01_map_unaligned: "A1", "", "" => map_unaligned;
    a01_map_unaligned_series: "A1", "vm.dialect=series", "" => map_unaligned;
    a02_map_beyond_ipa: "A2", "", "" => map_beyond;
    a02_map_beyond_ipa_series: "A2", "vm.dialect=series", "" => map_beyond;
    a02_map_beyond_ipa_32: "A2", "vm.ipa=32", "" => map_beyond;
    a02_map_beyond_ipa_36: "A2", "vm.ipa=36", "" => map_beyond;
    a03_range_of_nothing: "A3", "", "" => range_of_nothing;
    a04_range_wraps: "A4", "", "" => range_wraps;
    a05_range_huge: "A5", "", "" => range_huge;
    a06_range_into_ram: "A6", "", "" => range_into_ram;
    a07_range_beyond_bound: "A7", "", "" => range_beyond_bound;
    a07_range_blocks: "A7", "", "" => range_blocks;
    a08_garbage_arguments: "A8", "", "" => garbage_arguments;
    a08_garbage_arguments_series: "A8", "vm.dialect=series", "" => garbage_arguments_series;
    a08_range_series: "A8", "vm.dialect=series", "" => range_series;
    a09_unknown_functions: "A9", "", "" => unknown_functions;
    a09_unknown_functions_series: "A9", "vm.dialect=series", "" => unknown_functions;
    a09_unknown_owners: "A9", "", "" => unknown_owners;
    a09_zero_is_no_call: "A9", "", "" => zero_is_no_call;
    a09_zero_is_no_call_off: "A9", "vm.guard=off", "" => zero_is_no_call;
    a09_zero_is_no_call_allow: "A9", "vm.allow=0x09000000+0x1000:0x08000000+0x1000000:0x10000000+0x2000", "" => zero_is_no_call;
    a09_zero_is_no_call_series: "A9", "vm.dialect=series", "" => zero_is_no_call;
    a10_dirty_upper_halves: "A10", "", "" => dirty_upper_halves;
    a10_hvc32_forms: "A10", "", "" => hvc32_forms;
    a11_sve_hint: "A11", "", "" => sve_hint;
    a12_hvc_immediate: "A12", "", "" => hvc_immediate;
    a13_hvc_from_el0: "A13", "", "" => hvc_from_el0;
    a14_smc: "A14", "", "" => smc_answered;
    // bug: 65
    a14_smc_unknown: "A14", "", "" => smc_unknown;
    // bug: 65
    a15_registers_kept: "A15", "", "" => registers_kept;
    a15_registers_kept_series: "A15", "vm.dialect=series", "" => registers_kept;
    // bug: 71
    a15_fp_kept: "A15,I8", "", "" => fp_kept;
    a16_info: "A16", "", "" => info;
    a16_info_series: "A16", "vm.dialect=series", "" => info_series;
    a17_map_ram: "A17", "", "" => map_ram;
    a17_map_ram_series: "A17", "vm.dialect=series", "" => map_ram;
    a17_range_ram: "A17", "", "" => range_ram;
    a18_map_devices: "A18", "", "" => map_devices;
    a18_map_devices_series: "A18", "vm.dialect=series", "" => map_devices;
    a19_map_twice: "A19", "", "" => map_twice;
    a19_map_twice_series: "A19", "vm.dialect=series", "" => map_twice;
    a20_unmap_never_mapped: "A20", "", "" => unmap_never_mapped;
    a20_unmap_never_mapped_series: "A20", "vm.dialect=series", "" => unmap_never_mapped;
    a20_unmap_unaligned: "A20", "", "" => unmap_unaligned;
    a20_unmap_unaligned_series: "A20", "vm.dialect=series", "" => unmap_unaligned;
    a20_range_unmap: "A20", "", "" => range_unmap;
    a21_share_and_guard: "A21,C12", "", "" => share_and_guard;
    a21_share_ranges: "A21,C12", "", "" => share_ranges;
    a21_relinquish: "A21", "", "" => relinquish;
    a22_calls_from_aarch32: "A22,A13", "", "" => calls_from_aarch32;
    a23_policy_off: "A9,A16", "vm.guard=off", "" => policy_off;
    a23_policy_off_series: "A9,A16", "vm.guard=off vm.dialect=series", "" => policy_off;
    a24_attribute_hint: "A8", "", "" => attribute_hint;
    a25_allow_list: "A2,A18", "vm.allow=0x09000000+0x1000:0x08000000+0x1000000:0x10000000+0x2000", "" => allow_list;
    a26_query_and_counters: "A9", "", "" => query_and_counters;
}

/// UID and features, in the form that clients compare.
fn services() -> Verdict {
    need!(guard::dialect().is_some(), "no MMIO guard");
    let uid = hvc(0x8600_ff01, [!0; 3]);
    equal!(uid, [0xb66f_b428, 0xe911_c52e, 0x564b_caa9, 0x743a_004d], "CALL_UID");
    let map = if guard::series() { 0x3d } else { 0xffd };
    equal!(hvc(0x8600_0000, [!0; 3]), [map, 0, 0, 0], "FEATURES");
    equal!(hvc(0x8000_0000, [0; 3])[0], 0x1_0001, "SMCCC_VERSION");
    Ok(())
}

fn map_unaligned() -> Verdict {
    guard::activate()?;
    for offset in [1, 8, 0x800, 4095] {
        equal!(guard::map(hole(0) + offset), guard::refused(), "MAP at +{offset}");
        equal!(guard::query(hole(0)), State::Undeclared, "page after MAP at +{offset}");
        probe::load(hole(0)).refused(hole(0))?;
    }
    if !guard::series() {
        equal!(guard::range_map(hole(0) + 8, 2), guard::refused(), "RGUARD_MAP");
        equal!(guard::range_unmap(hole(0) + 8, 2), guard::refused(), "RGUARD_UNMAP");
        equal!(guard::query(hole(0)), State::Undeclared, "page after RGUARD_MAP");
    }
    Ok(())
}

/// The last page of the IPA space is one like any other; the next and all others beyond are refused.
fn map_beyond() -> Verdict {
    guard::activate()?;
    let end = 1_u64 << guard::ipa_bits();
    equal!(end, 1 << features::pa_bits(), "IPA size against ID_AA64MMFR0_EL1.PARange");
    equal!(guard::map(end - 4096), guard::done(), "MAP of the last page");
    equal!(guard::unmap(end - 4096), guard::done(), "UNMAP of the last page");
    let before = guard::counters();
    for ipa in [end, end + 4096, end << 1, end << 4, 1 << 52, 1 << 63, u64::MAX - 4095] {
        equal!(guard::map(ipa), guard::refused(), "MAP of {ipa:#x}");
        equal!(guard::query(ipa), State::Beyond, "query of {ipa:#x}");
        // An address must not be cut: what it would alias must stay as it is.
        equal!(guard::query(ipa & (end - 1)), State::Undeclared, "query of its alias");
        let answer = guard::unmap(ipa);
        check!(
            answer == guard::refused() || !guard::series() && answer == guard::done(),
            "UNMAP of {ipa:#x}: {answer:x?}"
        );
    }
    equal!(guard::counters().declared, before.declared, "declared pages");
    Ok(())
}

fn range_of_nothing() -> Verdict {
    guard::activate()?;
    equal!(guard::range_map(hole(1), 0), guard::refused(), "RGUARD_MAP of 0 granules");
    equal!(guard::range_unmap(hole(1), 0), guard::refused(), "RGUARD_UNMAP of 0 granules");
    equal!(guard::query(hole(1)), State::Undeclared, "the page");
    Ok(())
}

/// Arithmetic is judged whole, before anything changes.
fn range_wraps() -> Verdict {
    guard::activate()?;
    let end = 1_u64 << guard::ipa_bits();
    let last = end - 4096;
    let before = guard::counters();
    let cases = [
        (last, 2),
        (last, 3),
        (hole(2), (u64::MAX >> 12) + 1),
        (hole(2), (end - hole(2)) / 4096 + 1),
        // ipa + granules * 4096 wraps to a small number, exactly to 0, or the product alone wraps.
        (hole(2), (u64::MAX - hole(2)) / 4096 + 2),
        (hole(2), (1 << 52) - hole(2) / 4096),
        (hole(2), (1 << 52) + 1),
        (hole(2), 1 << 63),
        (u64::MAX - 4095, 1),
        (u64::MAX - 4095, 2),
        (end, 1),
    ];
    for (ipa, granules) in cases {
        let what = |call| (call, ipa, granules);
        equal!(guard::range_map(ipa, granules), guard::refused(), "{:x?}", what("RGUARD_MAP"));
        equal!(guard::range_unmap(ipa, granules), guard::refused(), "{:x?}", what("RGUARD_UNMAP"));
    }
    equal!(guard::query(hole(2)), State::Undeclared, "first page");
    equal!(guard::query(last), State::Undeclared, "last page");
    equal!(guard::counters().declared, before.declared, "declared pages");
    equal!(guard::range_map(last, 1), [0, 1, 0, 0], "the last page alone");
    equal!(guard::range_unmap(last, 1), [0, 1, 0, 0], "the last page alone, back");
    Ok(())
}

/// No argument keeps the hypervisor busy.
fn range_huge() -> Verdict {
    guard::activate()?;
    for granules in [1 << 52, u64::MAX, 1 << 51, u64::MAX >> 12] {
        let start = time::now();
        equal!(guard::range_map(hole(3), granules), guard::refused(), "{granules:#x} granules");
        let took = time::now() - start;
        check!(took < time::ticks(5000), "{granules:#x} granules: {} us", time::microseconds(took));
    }
    equal!(guard::query(hole(3)), State::Undeclared, "the page");
    Ok(())
}

/// A range that runs into RAM is done up to there; RAM stays RAM.
fn range_into_ram() -> Verdict {
    guard::activate()?;
    let (base, size) = tree::get().ram;
    for (pages, asked) in [(1, 2), (2, 16)] {
        let start = base - pages * 4096;
        equal!(guard::range_map(start, asked), [0, pages, 0, 0], "RGUARD_MAP up to RAM");
        equal!(guard::query(start), State::Declared, "first page");
        equal!(guard::query(base - 4096), State::Declared, "page before RAM");
        equal!(guard::query(base), State::Ram, "first page of RAM");
        equal!(guard::range_map(base, asked), guard::refused(), "RGUARD_MAP from RAM on");
        equal!(guard::range_unmap(start, pages), [0, pages, 0, 0], "RGUARD_UNMAP");
        equal!(guard::query(start), State::Undeclared, "first page afterwards");
    }
    let last = base + size - 4096;
    equal!(guard::range_map(last, 2), guard::refused(), "RGUARD_MAP from the last page of RAM on");
    equal!(guard::query(last + 4096), State::Undeclared, "page behind RAM");
    Ok(())
}

/// A long range of pages comes in parts of at most 512 descriptors, and the parts add up.
fn range_beyond_bound() -> Verdict {
    guard::activate()?;
    const PAGES: u64 = 1300;
    // Not aligned to anything, so that no block can stand for many pages.
    let start = 0x2000_1000;
    let before = guard::counters().declared;
    for (call, state, total) in [
        (guard::range_map as fn(u64, u64) -> [u64; 4], State::Declared, before + PAGES),
        (guard::range_unmap, State::Undeclared, before),
    ] {
        let (mut done, mut calls) = (0, 0);
        while done < PAGES {
            let [x0, x1, x2, x3] = call(start + done * 4096, PAGES - done);
            equal!([x0, x2, x3], [0, 0, 0], "after {done} pages");
            // A part may hold an aligned block that counts as one descriptor.
            check!(x1 >= 1 && x1 <= PAGES - done && x1 <= 512 + 511, "{x1} pages in one call");
            done += x1;
            calls += 1;
        }
        check!(calls >= 2, "{PAGES} pages in {calls} call");
        for page in [0, 1, 510, 511, 512, 513, 1022, 1023, PAGES - 1] {
            equal!(guard::query(start + page * 4096), state, "page {page}");
        }
        equal!(guard::query(start - 4096), State::Undeclared, "page before");
        equal!(guard::query(start + PAGES * 4096), State::Undeclared, "page behind");
        equal!(guard::counters().declared, total, "declared pages");
    }
    Ok(())
}

/// Aligned 2 MiB and 1 GiB count as one descriptor, and are split exactly by an undeclaration.
fn range_blocks() -> Verdict {
    guard::activate()?;
    need!(guard::ipa_bits() >= 36, "needs an IPA space of 36 bits");
    let before = guard::counters().declared;
    let start = 0x8_0000_0000;
    let pages = 3 << 18;
    equal!(guard::range_map(start, pages), [0, pages, 0, 0], "RGUARD_MAP of 3 GiB");
    equal!(guard::counters().declared, before + pages, "declared pages");
    let inside = start + (1 << 30) + 0x1234_5000;
    equal!(guard::unmap(inside), guard::done(), "UNMAP of a page in the middle");
    equal!(guard::query(inside), State::Undeclared, "that page");
    for neighbour in [inside - 4096, inside + 4096, start, start + (3 << 30) - 4096] {
        equal!(guard::query(neighbour), State::Declared, "page {neighbour:#x}");
    }
    equal!(guard::counters().declared, before + pages - 1, "declared pages");
    probe::load(inside).refused(inside)?;
    let mut done = 0;
    while done < pages {
        let [x0, x1, ..] = guard::range_unmap(start + done * 4096, pages - done);
        check!(x0 == 0 && x1 >= 1 && x1 <= pages - done, "RGUARD_UNMAP: {x0:#x}, {x1}");
        done += x1;
    }
    equal!(guard::counters().declared, before, "declared pages in the end");
    Ok(())
}

/// MAP ignores x2 and x3 (old clients leave garbage there); the ranges are strict.
fn garbage_arguments() -> Verdict {
    guard::activate()?;
    let map = u64::from(abi::pkvm::MAP);
    equal!(hvc(map, [hole(4), !0, 0xdead_beef]), guard::done(), "MAP with garbage");
    equal!(guard::query(hole(4)), State::Declared, "the page");
    let unmap = u64::from(abi::pkvm::UNMAP);
    equal!(hvc(unmap, [hole(4), !0, 0xdead_beef]), guard::done(), "UNMAP with garbage");
    equal!(hvc(u64::from(abi::pkvm::ENROLL), [!0; 3]), [0; 4], "ENROLL with garbage");
    for x3 in [1, 1 << 31, 1 << 63, u64::MAX] {
        for id in [abi::pkvm::RANGE_MAP, abi::pkvm::RANGE_UNMAP] {
            equal!(hvc(id.into(), [hole(4), 1, x3]), guard::refused(), "{id:#x} with x3 = {x3:#x}");
        }
    }
    equal!(guard::query(hole(4)), State::Undeclared, "the page");
    Ok(())
}

fn garbage_arguments_series() -> Verdict {
    guard::activate()?;
    equal!(hvc(u64::from(abi::series::INFO), [!0; 3])[0], 4096, "INFO with garbage");
    equal!(hvc(u64::from(abi::series::ENROLL), [!0; 3]), [0; 4], "ENROLL with garbage");
    // What Linux passes: the whole protection word of a device mapping in x2.
    let map = hvc(u64::from(abi::series::MAP), [hole(4), 0x0068_0000_0000_0713, !0]);
    equal!(map, guard::done(), "MAP with a descriptor in x2");
    equal!(guard::query(hole(4)), State::Declared, "the page");
    let unmap = hvc(u64::from(abi::series::UNMAP), [hole(4), !0, !0]);
    equal!(unmap, guard::done(), "UNMAP with garbage");
    Ok(())
}

/// The series has no range calls, nor any other function of pkvm's table.
fn range_series() -> Verdict {
    guard::activate()?;
    for function in 6..=11 {
        equal!(hvc(0xc600_0000 + function, [hole(5), 1, 0]), UNKNOWN, "function {function}");
    }
    equal!(guard::query(hole(5)), State::Undeclared, "the page");
    Ok(())
}

/// All 2^16 functions of the vendor's range, both conventions: those that are not documented do not
/// exist.
fn unknown_functions() -> Verdict {
    guard::activate()?;
    let known64 = |function| {
        let last = if guard::series() { 5 } else { 11 };
        (2..=last).contains(&function) || (0xf000..=0xf002).contains(&function)
    };
    for function in 0..=0xffff_u64 {
        if !known64(function) {
            let answer = hvc(0xc600_0000 | function, [hole(6), 1, 0]);
            check!(answer == UNKNOWN, "HVC64 function {function:#x}: {answer:x?}");
        }
        if function != 0 && function != 0xff01 {
            let answer = hvc(0x8600_0000 | function, [hole(6), 1, 0]);
            check!(answer == UNKNOWN, "HVC32 function {function:#x}: {answer:x?}");
        }
    }
    equal!(guard::query(hole(6)), State::Undeclared, "the page");
    probe::load(hole(6)).refused(hole(6))
}

/// Slow calls, other owners, reserved bits: nothing of it exists.
fn unknown_owners() -> Verdict {
    guard::activate()?;
    for bits in [0_u64, 1 << 30] {
        for owner in (1..64).filter(|owner| *owner != 4 && *owner != 6 && *owner != 5) {
            for function in [0, 2, 7, 0xff00, 0xff01, 0xff03] {
                let id = 1 << 31 | bits | owner << 24 | function;
                let answer = hvc(id, [hole(6), 1, 0]);
                check!(answer == UNKNOWN, "{id:#x}: {answer:x?}");
            }
        }
        // Not fast: bit 31 clear.
        for function in [2, 7, 0xff01] {
            let id = bits | 6 << 24 | function;
            let answer = hvc(id, [hole(6), 1, 0]);
            check!(answer == UNKNOWN, "{id:#x}: {answer:x?}");
        }
    }
    // Bits 23:17 are reserved.
    for bit in 17..24 {
        let answer = hvc(guard::id(Call::Map) | 1 << bit, [hole(6), 0, 0]);
        check!(answer == UNKNOWN, "bit {bit}: {answer:x?}");
    }
    for id in [0, 0xffff_ffff, 0x7fff_ffff, 0x8000_0000 | 0x1234] {
        let answer = hvc(id, [hole(6), 1, 0]);
        check!(answer == UNKNOWN, "{id:#x}: {answer:x?}");
    }
    equal!(guard::query(hole(6)), State::Undeclared, "the page");
    Ok(())
}

/// An id of 0, with arguments that would suit MAP or UNMAP: no placeholder of the hypervisor's is an id.
fn zero_is_no_call() -> Verdict {
    need!(tree::get().psci_hvc, "no hypervisor");
    let before = guard::counters();
    for id in [0, 1 << 32, 0x8000_0000 << 32] {
        for page in [hole(30), tree::get().uart, hole(30) + 1] {
            for x2 in [0, 1] {
                equal!(hvc(id, [page, x2, 0]), UNKNOWN, "HVC with {id:#x}");
                equal!(smc(id, [page, x2, 0]), UNKNOWN, "SMC with {id:#x}");
            }
        }
    }
    equal!(guard::counters(), before, "counters");
    equal!(guard::query(hole(30)), State::Undeclared, "the page");
    Ok(())
}

/// W0 alone is the id; an HVC32 call has 32-bit arguments.
fn dirty_upper_halves() -> Verdict {
    guard::activate()?;
    let dirt = 0xdead_beef << 32;
    let uid = hvc(dirt | 0x8600_ff01, [dirt; 3]);
    equal!(uid, [0xb66f_b428, 0xe911_c52e, 0x564b_caa9, 0x743a_004d], "CALL_UID");
    equal!(hvc(dirt | guard::id(Call::Map), [hole(7), 0, 0]), guard::done(), "MAP");
    equal!(guard::query(hole(7)), State::Declared, "the page");
    equal!(hvc(dirt | guard::id(Call::Unmap), [hole(7), 0, 0]), guard::done(), "UNMAP");
    equal!(hvc(dirt | psci::id::VERSION, [dirt; 3])[0] as u32, 0x1_0001, "PSCI_VERSION");
    // PSCI_FEATURES(CPU_OFF) with a dirty argument.
    let answer = psci::call(psci::id::FEATURES, [dirt | psci::id::CPU_OFF, 0, 0]);
    equal!(answer, 0, "PSCI_FEATURES");
    Ok(())
}

/// The 32-bit form of a 64-bit function is another function, which does not exist.
fn hvc32_forms() -> Verdict {
    guard::activate()?;
    for function in (2..=11).chain(0xf000..=0xf002) {
        equal!(hvc(0x8600_0000 | function, [hole(8), 1, 0]), UNKNOWN, "HVC32 {function:#x}");
    }
    for id in [0xc600_0000, 0xc600_ff01] {
        equal!(hvc(id, [0; 3]), UNKNOWN, "HVC64 form {id:#x}");
    }
    equal!(guard::query(hole(8)), State::Undeclared, "the page");
    Ok(())
}

/// Bit 16 is the SVE hint of SMCCC 1.3; this is 1.1.
fn sve_hint() -> Verdict {
    guard::activate()?;
    for id in [0x8600_ff01, 0x8600_0000, guard::id(Call::Info), guard::id(Call::Map)] {
        equal!(hvc(id | 1 << 16, [hole(9), 0, 0]), UNKNOWN, "{id:#x} with the hint");
    }
    equal!(guard::query(hole(9)), State::Undeclared, "the page");
    Ok(())
}

snippet!(hvc_1, "hvc #1");
snippet!(hvc_4660, "hvc #0x1234");
snippet!(hvc_last, "hvc #0xffff");

fn hvc_immediate() -> Verdict {
    guard::activate()?;
    for code in [hvc_1, hvc_4660, hvc_last] {
        for id in [guard::id(Call::Map), 0x8600_ff01, psci::id::VERSION, psci::id::SYSTEM_OFF] {
            let machine = Machine::new(code).with(0, id).with(1, hole(10)).with(2, 0).with(3, 0);
            let result = probe::run(machine);
            result.completed(&[0, 1, 2, 3])?;
            equal!(result.after.x[..4], UNKNOWN[..], "{id:#x}");
        }
    }
    equal!(guard::query(hole(10)), State::Undeclared, "the page");
    Ok(())
}

snippet!(hvc_0, "hvc #0");
snippet!(smc_0, "smc #0");

/// HVC and SMC are undefined at EL0, and EL1 gets to know that.
fn hvc_from_el0() -> Verdict {
    for code in [hvc_0, smc_0, hvc_1] {
        let result = probe::run(
            Machine::new(code).with(0, guard::id(Call::Map)).with(1, hole(11)).at(pstate::EL0),
        );
        equal!(result.exit.esr, 0x0200_0000, "ESR_EL1");
        equal!(result.exit.elr, result.before.pc, "ELR_EL1");
        equal!(result.exit.vector, 0x400, "vector");
        equal!(result.exit.spsr, pstate::EL0, "SPSR_EL1");
        result.unchanged(&[])?;
    }
    Ok(())
}

/// An SMC is answered as an HVC is, or not at all; and it comes back behind itself.
fn smc_answered() -> Verdict {
    need!(guard::dialect().is_some(), "no hypervisor");
    for (id, answer) in [(psci::id::VERSION, 0x1_0001), (psci::id::SMCCC_VERSION, 0x1_0001)] {
        let result = probe::run(Machine::new(smc_0).with(0, id));
        result.completed(&[0, 1, 2, 3])?;
        let x0 = result.after.x[0];
        check!(x0 == answer || x0 == abi::NOT_SUPPORTED, "{id:#x}: {x0:#x}");
    }
    // The hypervisor's own call: firmware, which HCR_EL2.TSC keeps away, would not know it.
    equal!(smc(0x8600_ff01, [0; 3]), hvc(0x8600_ff01, [0; 3]), "the UID");
    Ok(())
}

/// What firmware might know, a guest cannot reach.
fn smc_unknown() -> Verdict {
    need!(guard::dialect().is_some(), "no hypervisor");
    for owner in [1, 2, 3, 48, 50, 63] {
        for bits in [0x8000_0000, 0xc000_0000, 0, 0x4000_0000] {
            for function in [0, 1, 0xff00, 0xff01, 0xff03] {
                let id = bits | owner << 24 | function;
                let answer = smc(id, [0; 3]);
                check!(answer == UNKNOWN, "SMC {id:#x}: {answer:x?}");
            }
        }
    }
    Ok(())
}

/// x4 to x30 and SP survive every call (SMCCC 1.1 says x4 to x17), and flags do as well.
fn registers_kept() -> Verdict {
    guard::activate()?;
    let page = hole(12);
    let calls: [(u64, [u64; 3]); 26] = [
        (0x8600_ff01, [0; 3]),
        (0x8600_0000, [0; 3]),
        (guard::id(Call::Info), [0; 3]),
        (guard::id(Call::Enroll), [0; 3]),
        (guard::id(Call::Map), [page, 0, 0]),
        (guard::id(Call::Map), [page + 1, 0, 0]),
        (guard::id(Call::Map), [tree::get().ram.0, 0, 0]),
        (guard::id(Call::Map), [u64::MAX, 0, 0]),
        (guard::id(Call::Unmap), [page, 0, 0]),
        (guard::id(Call::Unmap), [page, 0, 0]),
        (0xc600_000a, [page, 2, 0]),
        (0xc600_000b, [page, 2, 0]),
        (0xc600_000a, [page, 0, 0]),
        (0xc600_f000, [0; 3]),
        (0xc600_f001, [page, 0, 0]),
        (0xc600_f002, [0; 3]),
        (0xc600_f003, [0; 3]),
        (0xc600_1234, [0; 3]),
        (psci::id::VERSION, [0; 3]),
        (psci::id::FEATURES, [psci::id::CPU_ON, 0, 0]),
        (psci::id::AFFINITY_INFO, [0, 0, 0]),
        (psci::id::CPU_ON, [0xffff, 0, 0]),
        (psci::id::MIGRATE_INFO_TYPE, [0; 3]),
        (psci::id::SMCCC_VERSION, [0; 3]),
        (psci::id::ARCH_FEATURES, [0x8000_8000, 0, 0]),
        (0x8400_0050, [0; 3]),
    ];
    for (id, [x1, x2, x3]) in calls {
        let machine = Machine::new(hvc_0).with(0, id).with(1, x1).with(2, x2).with(3, x3);
        let result = probe::run(machine.at(pstate::EL1H | 0x5000_0000));
        result.completed(&[0, 1, 2, 3])?;
        equal!(result.exit.spsr, pstate::EL1H | 0x5000_0000, "PSTATE after {id:#x}");
        for n in 1..4 {
            // Where a call defines nothing more than x0, x1 to x3 are zero: never what was there, and
            // nothing of the hypervisor's either.
            let x = result.after.x[n];
            check!(x != canary(n), "x{n} after {id:#x} is what it was");
        }
    }
    Ok(())
}

snippet!(
    fp_around_calls,
    "ldp q0, q31, [x20]",
    "ldp q15, q16, [x20, #32]",
    "mov x9, #0x03000000", // FPCR: DN, FZ
    "msr fpcr, x9",
    "mov x10, #0x9f",
    "msr fpsr, x10",
    "mov x0, x19",
    "hvc #0",
    "ldr w11, [x21]",
    "stp q0, q31, [x22]",
    "stp q15, q16, [x22, #32]",
    "mrs x9, fpcr",
    "mrs x10, fpsr",
    "msr fpcr, xzr",
    "msr fpsr, xzr",
);

/// FP registers survive calls and emulated accesses.
fn fp_kept() -> Verdict {
    guard::activate()?;
    #[repr(align(16))]
    struct Block([u64; 8]);
    let input = Block(core::array::from_fn(|n| canary(n) ^ 0x1111));
    let output = Block([0; 8]);
    let result = probe::run(
        Machine::new(fp_around_calls)
            .with(19, guard::id(Call::Map))
            .with(1, hole(13))
            .with(20, &raw const input as u64)
            .with(21, tree::get().uart + 0x18)
            .with(22, &raw const output as u64),
    );
    result.completed(&[0, 1, 2, 3, 9, 10, 11])?;
    // SAFETY: the snippet has written it.
    let output = unsafe { core::ptr::read_volatile(&raw const output) };
    equal!(output.0, input.0, "vector registers");
    equal!(result.after.x[9], 0x0300_0000, "FPCR");
    equal!(result.after.x[10], 0x9f, "FPSR");
    guard::unmap(hole(13));
    Ok(())
}

fn info() -> Verdict {
    need!(guard::dialect().is_some(), "no MMIO guard");
    let ids = [u64::from(abi::pkvm::MEMINFO), u64::from(abi::pkvm::INFO)];
    for id in ids {
        equal!(hvc(id, [0; 3]), [4096, 1, 0, 0], "{id:#x}");
    }
    guard::activate()?;
    for id in ids {
        equal!(hvc(id, [0; 3]), [4096, 1, 0, 0], "{id:#x} after ENROLL");
        for args in [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1 << 63]] {
            equal!(hvc(id, args), guard::refused(), "{id:#x} with {args:x?}");
        }
    }
    Ok(())
}

fn info_series() -> Verdict {
    need!(guard::dialect().is_some(), "no MMIO guard");
    let id = u64::from(abi::series::INFO);
    equal!(hvc(id, [0; 3]), [4096, 0, 0, 0], "INFO");
    guard::activate()?;
    for args in [[0; 3], [1, 0, 0], [!0, !0, !0]] {
        equal!(hvc(id, args), [4096, 0, 0, 0], "INFO after ENROLL with {args:x?}");
    }
    Ok(())
}

/// RAM cannot be declared, and stays what it is.
fn map_ram() -> Verdict {
    guard::activate()?;
    let (base, size) = tree::get().ram;
    let own = image_layout::footprint();
    static WORD: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(7);
    WORD.store(0x1234_5678_9abc_def0, core::sync::atomic::Ordering::Relaxed);
    let word = &raw const WORD as u64;
    let before = guard::counters();
    let middle = (base + size / 2) & !0xfff;
    for ipa in [base, own.start, word & !0xfff, own.end, middle, base + size - 4096] {
        equal!(guard::map(ipa), guard::refused(), "MAP of RAM at {ipa:#x}");
        equal!(guard::query(ipa), State::Ram, "RAM at {ipa:#x}");
        let answer = guard::unmap(ipa);
        let expected = if guard::series() { guard::refused() } else { guard::done() };
        equal!(answer, expected, "UNMAP of RAM at {ipa:#x}");
        equal!(guard::query(ipa), State::Ram, "RAM at {ipa:#x} after UNMAP");
        probe::access(probe::ldr_x, ipa).completed(&[0])?;
    }
    equal!(WORD.load(core::sync::atomic::Ordering::Relaxed), 0x1234_5678_9abc_def0, "the word");
    equal!(guard::counters().declared, before.declared, "declared pages");
    Ok(())
}

/// A range that would declare RAM stops before it; one that undeclares leaves RAM alone.
fn range_ram() -> Verdict {
    guard::activate()?;
    let (base, size) = tree::get().ram;
    let before = guard::counters();
    equal!(guard::range_map(base, size / 4096), guard::refused(), "RGUARD_MAP of all RAM");
    equal!(guard::range_map(base, 1), guard::refused(), "RGUARD_MAP of a page of RAM");
    let [x0, x1, ..] = guard::range_unmap(base, 512);
    check!(x0 == 0 || x0 == abi::INVALID_PARAMETER, "RGUARD_UNMAP of RAM: {x0:#x}, {x1:#x}");
    for ipa in [base, base + 0x20_0000, base + size - 4096] {
        equal!(guard::query(ipa), State::Ram, "RAM at {ipa:#x}");
        probe::access(probe::ldr_x, ipa).completed(&[0])?;
    }
    equal!(guard::counters().declared, before.declared, "declared pages");
    Ok(())
}

/// The devices that the hypervisor itself emulates are declared like any other, and work then.
fn map_devices() -> Verdict {
    guard::activate()?;
    let uart = tree::get().uart;
    equal!(guard::map(uart), guard::done(), "MAP of the UART");
    let id = probe::load(uart + 0xfe0).loaded()?;
    equal!(id as u32, 0x11, "PL011 PeriphID0");
    let (distributor, register) = match tree::get().gic {
        tree::Gic::V2(distributor, _) => (distributor, 0xfe8),
        tree::Gic::V3(distributor, ..) => (distributor, 0xffe8),
        tree::Gic::None => return Ok(()),
    };
    equal!(guard::map(distributor & !0xfff), guard::done(), "MAP of the distributor");
    equal!(guard::map((distributor + register) & !0xfff), guard::done(), "MAP of its ID page");
    let pidr2 = probe::load(distributor + register).loaded()?;
    let version = if matches!(tree::get().gic, tree::Gic::V2(..)) { 2 } else { 3 };
    equal!(pidr2 >> 4 & 0xf, version, "ArchRev in GICD_PIDR2");
    Ok(())
}

fn map_twice() -> Verdict {
    guard::activate()?;
    equal!(guard::map(hole(14)), guard::done(), "first MAP");
    let before = guard::counters();
    for _ in 0..3 {
        equal!(guard::map(hole(14)), guard::done(), "MAP again");
    }
    equal!(guard::counters(), before, "counters");
    // There is no count of how often: one UNMAP takes it away.
    equal!(guard::unmap(hole(14)), guard::done(), "UNMAP");
    equal!(guard::query(hole(14)), State::Undeclared, "the page");
    probe::load(hole(14)).refused(hole(14))
}

fn unmap_never_mapped() -> Verdict {
    guard::activate()?;
    let before = guard::counters();
    for ipa in [hole(15), 0, 0x3fff_f000, 0x3000_0000] {
        let expected = if guard::series() { guard::refused() } else { guard::done() };
        equal!(guard::unmap(ipa), expected, "UNMAP of {ipa:#x}");
    }
    equal!(guard::counters(), before, "counters");
    probe::load(hole(15)).refused(hole(15))
}

fn unmap_unaligned() -> Verdict {
    guard::activate()?;
    equal!(guard::map(hole(16)), guard::done(), "MAP");
    if guard::series() {
        equal!(guard::unmap(hole(16) + 4095), guard::done(), "UNMAP inside the page");
        equal!(guard::query(hole(16)), State::Undeclared, "the page");
        equal!(guard::unmap(hole(16) + 1), guard::refused(), "UNMAP again");
    } else {
        for offset in [1, 8, 2048, 4095] {
            equal!(guard::unmap(hole(16) + offset), guard::refused(), "UNMAP at +{offset}");
            equal!(guard::query(hole(16)), State::Declared, "the page");
        }
        equal!(guard::unmap(hole(16)), guard::done(), "UNMAP");
    }
    Ok(())
}

/// RGUARD_UNMAP takes what is declared and leaves the rest.
fn range_unmap() -> Verdict {
    guard::activate()?;
    let before = guard::counters().declared;
    for page in [20, 22, 23] {
        equal!(guard::map(hole(page)), guard::done(), "MAP of page {page}");
    }
    equal!(guard::range_unmap(hole(19), 4), [0, 4, 0, 0], "RGUARD_UNMAP of four pages");
    equal!(guard::query(hole(20)), State::Undeclared, "page 20");
    equal!(guard::query(hole(22)), State::Undeclared, "page 22");
    equal!(guard::query(hole(23)), State::Declared, "page 23");
    equal!(guard::unmap(hole(23)), guard::done(), "UNMAP");
    equal!(guard::counters().declared, before, "declared pages");
    Ok(())
}

fn share(ipa: u64, granules: u64, x3: u64) -> [u64; 4] {
    hvc(u64::from(abi::pkvm::MEM_SHARE), [ipa, granules, x3])
}

fn unshare(ipa: u64, granules: u64, x3: u64) -> [u64; 4] {
    hvc(u64::from(abi::pkvm::MEM_UNSHARE), [ipa, granules, x3])
}

/// A page of RAM, for the tests of sharing.
#[repr(align(4096))]
struct Pages(core::cell::UnsafeCell<[u64; 4 * 512]>);
// SAFETY: one vCPU uses it at a time.
unsafe impl Sync for Pages {}
static PAGES: Pages = Pages(core::cell::UnsafeCell::new([0; 4 * 512]));

/// A page is RAM, shared or not, or declared: never two of these.
fn share_and_guard() -> Verdict {
    guard::activate()?;
    let page = PAGES.0.get() as u64;
    let refused = guard::refused();
    equal!(share(page, 0, 0), [0, 1, 0, 0], "MEM_SHARE");
    equal!(share(page, 0, 0), refused, "MEM_SHARE again");
    equal!(guard::map(page), refused, "MAP of a shared page");
    let relinquish = u64::from(abi::pkvm::RELINQUISH);
    equal!(hvc(relinquish, [page, 0, 0]), refused, "RELINQUISH of a shared page");
    equal!(unshare(page, 0, 0), [0, 1, 0, 0], "MEM_UNSHARE");
    equal!(unshare(page, 0, 0), refused, "MEM_UNSHARE again");

    equal!(guard::map(hole(24)), guard::done(), "MAP");
    equal!(share(hole(24), 0, 0), refused, "MEM_SHARE of a declared page");
    equal!(share(hole(25), 0, 0), refused, "MEM_SHARE of a hole");
    equal!(unshare(hole(24), 0, 0), refused, "MEM_UNSHARE of a declared page");
    equal!(guard::query(hole(24)), State::Declared, "the declared page");
    equal!(guard::unmap(hole(24)), guard::done(), "UNMAP");
    let (base, size) = tree::get().ram;
    for ipa in [page + 1, page + 4095, base + size, base - 4096, 1 << 63, u64::MAX - 4095] {
        equal!(share(ipa, 0, 0), refused, "MEM_SHARE of {ipa:#x}");
        equal!(unshare(ipa, 0, 0), refused, "MEM_UNSHARE of {ipa:#x}");
    }
    equal!(share(page, 0, 1), refused, "MEM_SHARE with x3");
    equal!(unshare(page, 0, 1 << 63), refused, "MEM_UNSHARE with x3");
    Ok(())
}

/// Shares of ranges: x2 granules, 0 meaning 1, and how many were done.
fn share_ranges() -> Verdict {
    guard::activate()?;
    let page = PAGES.0.get() as u64;
    equal!(share(page, 4, 0), [0, 4, 0, 0], "MEM_SHARE of four pages");
    equal!(unshare(page + 4096, 1, 0), [0, 1, 0, 0], "MEM_UNSHARE of the second");
    equal!(share(page, 1, 0), guard::refused(), "MEM_SHARE of the first again");
    equal!(unshare(page + 8192, 2, 0), [0, 2, 0, 0], "MEM_UNSHARE of the last two");
    equal!(unshare(page, 0, 0), [0, 1, 0, 0], "MEM_UNSHARE of the first");
    let (base, size) = tree::get().ram;
    for granules in [1 << 52, u64::MAX, 1 << 63, (1 << 51) + 1] {
        equal!(share(base, granules, 0), guard::refused(), "MEM_SHARE of {granules:#x} granules");
        equal!(unshare(base, granules, 0), guard::refused(), "MEM_UNSHARE of as many");
    }
    equal!(share(base, 1, 0), [0, 1, 0, 0], "the first page is not shared by that");
    equal!(unshare(base, 1, 0), [0, 1, 0, 0], "MEM_UNSHARE");
    // A range that runs out of RAM is done up to there.
    let last = base + size - 4096;
    equal!(share(last, 3, 0), [0, 1, 0, 0], "MEM_SHARE over the end of RAM");
    equal!(unshare(last, 3, 0), [0, 1, 0, 0], "MEM_UNSHARE over the end of RAM");
    Ok(())
}

/// A page that is given up is wiped and stays; nothing else is touched.
fn relinquish() -> Verdict {
    guard::activate()?;
    let id = u64::from(abi::pkvm::RELINQUISH);
    let pages = PAGES.0.get().cast::<u64>();
    for word in 0..4 * 512 {
        // SAFETY: within the pages, which only this vCPU uses.
        unsafe { pages.add(word).write_volatile(canary(word)) };
    }
    let page = pages as u64 + 4096;
    equal!(hvc(id, [page + 8, 0, 0]), guard::refused(), "RELINQUISH unaligned");
    equal!(hvc(id, [page, 0, 0]), [0; 4], "RELINQUISH");
    for word in 0..4 * 512 {
        // SAFETY: as above.
        let value = unsafe { pages.add(word).read_volatile() };
        let expected = if (512..1024).contains(&word) { 0 } else { canary(word) };
        check!(value == expected, "word {word}: {value:#x}, expected {expected:#x}");
    }
    equal!(hvc(id, [hole(26), 0, 0]), [0; 4], "RELINQUISH of no RAM");
    equal!(guard::query(hole(26)), State::Undeclared, "that page");
    equal!(guard::query(page), State::Ram, "the page");
    Ok(())
}

/// A32 and T32 code at EL0: HVC and SMC are undefined there, and the return address is theirs.
fn calls_from_aarch32() -> Verdict {
    need!(features::aarch32_el0(), "no AArch32 at EL0");
    static WORDS: [u32; 4] = [
        0xe140_0070, // hvc #0
        0xe160_0070, // smc #0
        0x8000_f7e0, // T32: hvc #0
        0x8000_f7f0, // T32: smc #0
    ];
    for (n, state) in [pstate::A32, pstate::A32, pstate::T32, pstate::T32].into_iter().enumerate() {
        let address = &raw const WORDS as u64 + 4 * n as u64;
        let mut machine = Machine::new(hvc_0).with(0, guard::id(Call::Map)).with(1, hole(27));
        machine.pc = address;
        let mut machine = machine.at(state);
        let pc = machine.pc;
        let exit = machine::run(&mut machine);
        equal!(exit.esr >> 26, 0, "exception class of instruction {n}");
        equal!(exit.elr, pc, "ELR_EL1 of instruction {n}");
        equal!(exit.vector, 0x600, "vector of instruction {n}");
    }
    Ok(())
}

/// Without a guard there is no service but the UID and its map.
fn policy_off() -> Verdict {
    need!(tree::get().psci_hvc, "no hypervisor");
    let uid = hvc(0x8600_ff01, [0; 3]);
    equal!(uid, [0xb66f_b428, 0xe911_c52e, 0x564b_caa9, 0x743a_004d], "CALL_UID");
    equal!(hvc(0x8600_0000, [0; 3]), [1, 0, 0, 0], "FEATURES");
    for function in 2..=11 {
        equal!(hvc(0xc600_0000 + function, [0; 3]), UNKNOWN, "function {function}");
        equal!(hvc(0xc600_0000 + function, [hole(0), 1, 0]), UNKNOWN, "function {function}");
    }
    // Devices are reached without a word, holes abort.
    check!(probe::load(tree::get().uart + 0x18).exit.done(), "the UART");
    probe::load(hole(0)).refused(hole(0))?;
    let counters = guard::counters();
    equal!((counters.refused, counters.declared), (0, 0), "counters");
    Ok(())
}

/// x2 of MAP is remembered as a hint: AttrIndx in bits 4:2, and that byte of MAIR_EL1.
fn attribute_hint() -> Verdict {
    guard::activate()?;
    let mair = mrs!("mair_el1");
    for index in 0..8 {
        let x2 = 0x0060_0000_0000_0703 & !0x1c | index << 2;
        equal!(hvc(guard::id(Call::Map), [hole(28), x2, 0]), guard::done(), "MAP");
        let [x0, x1, hint, _] = hvc(u64::from(abi::own::QUERY_PAGE), [hole(28), 0, 0]);
        equal!([x0, x1], [0, 3], "query");
        equal!(hint >> 2 & 7, index, "AttrIndx");
        equal!(hint >> 8 & 0xff, mair >> (8 * index) & 0xff, "MAIR byte {index}");
        equal!(guard::unmap(hole(28)), guard::done(), "UNMAP");
    }
    Ok(())
}

/// `vm.allow`: what the owner of the VM does not allow cannot be declared.
fn allow_list() -> Verdict {
    guard::activate()?;
    equal!(guard::map(hole(0)), guard::done(), "MAP of the first allowed page");
    equal!(guard::map(hole(1)), guard::done(), "MAP of the last allowed page");
    for page in [2, 3, 100] {
        equal!(guard::map(hole(page)), guard::refused(), "MAP of page {page}");
        equal!(guard::query(hole(page)), State::Undeclared, "page {page}");
        probe::load(hole(page)).refused(hole(page))?;
    }
    equal!(guard::map(guard::HOLE - 4096), guard::refused(), "MAP of the page before");
    guard::unmap(hole(0));
    guard::unmap(hole(1));
    equal!(guard::range_map(hole(0), 4), [0, 2, 0, 0], "RGUARD_MAP beyond the list");
    equal!(guard::query(hole(2)), State::Undeclared, "page 2");
    equal!(guard::range_map(hole(2), 4), guard::refused(), "RGUARD_MAP outside of the list");
    Ok(())
}

/// Portcullis' own calls.
fn query_and_counters() -> Verdict {
    guard::activate()?;
    equal!(hvc(0xc600_f000, [0; 3]), [0x1_0000, 7, 0, 0], "VERSION");
    equal!(hvc(0xc600_f003, [0; 3]), UNKNOWN, "the next number");
    equal!(guard::query(tree::get().ram.0), State::Ram, "RAM");
    equal!(guard::query(hole(29)), State::Undeclared, "a hole");
    let before = guard::counters();
    equal!(guard::map(hole(29)), guard::done(), "MAP");
    equal!(guard::query(hole(29)), State::Declared, "the page");
    equal!(guard::query(hole(29) + 4095), State::Declared, "its last byte");
    equal!(guard::counters().declared, before.declared + 1, "declared pages");
    equal!(guard::unmap(hole(29)), guard::done(), "UNMAP");
    probe::load(hole(29)).refused(hole(29))?;
    equal!(guard::counters().declared, before.declared, "declared pages");
    equal!(guard::counters().refused, before.refused + 1, "refused accesses");
    let [_, _, _, first] = hvc(u64::from(abi::own::COUNTERS), [0; 3]);
    let [_, _, _, second] = hvc(u64::from(abi::own::COUNTERS), [0; 3]);
    equal!(second, first + 1, "hypercalls");
    Ok(())
}
