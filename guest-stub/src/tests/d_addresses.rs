// SPDX-License-Identifier: MIT OR Apache-2.0
//! D: addresses: accesses across two pages, misaligned, at the end of a page, with a tag.

use crate::cpu_state::everywhere;
use crate::guard::{self, hole};
use crate::machine::{canary, pstate};
use crate::mmu::View;
use crate::probe::{self, mask};
use crate::scratch::{Page, Shared};
use crate::verdict::Verdict;
use crate::{mmu, testdev, tree};

tests! {
    // bug: 32
    d12_crossing_into_undeclared: "D12", "vm.testdev=0x0b000000", "" => crossing_into_undeclared;
    d12_crossing_from_undeclared: "D12", "vm.testdev=0x0b000000", "" => crossing_from_undeclared;
    d12_crossing_declared: "D12", "vm.testdev=0x0b000000", "" => crossing_declared;
    d12_crossing_from_ram: "D12", "", "" => crossing_from_ram;
    d13_misaligned: "D13", "vm.testdev=0x0b000000", "" => misaligned;
    d14_last_bytes: "D14", "vm.testdev=0x0b000000", "" => last_bytes;
    d15_tagged_pointer: "D15", "vm.testdev=0x0b000000", "" => tagged_pointer;
}

/// The first byte is in a declared page, the last is not: neither is touched.
fn crossing_into_undeclared() -> Verdict {
    testdev::ready()?;
    let end = testdev::base() + 0x1000;
    guard::unmap(end);
    let before = testdev::counts();
    let refused = guard::counters().refused;
    let mut tried = 0;
    for (width, loads, stores) in [
        (2, probe::ldrh, probe::strh),
        (4, probe::ldr_w, probe::str_w),
        (8, probe::ldr_x, probe::str_x),
    ] {
        for back in 1..width {
            for (view, state) in [(View::Normal, pstate::EL1H), (View::UserNormal, pstate::EL0)] {
                let va = view.of(end - back);
                probe::access_at(loads, va, state).refused(va)?;
                probe::access_at(stores, va, state).refused(va)?;
                tried += 2;
            }
        }
    }
    equal!(guard::counters().refused, refused + tried, "refusals");
    equal!(testdev::counts(), before, "what reached the device");
    Ok(())
}

/// The other way round.
fn crossing_from_undeclared() -> Verdict {
    testdev::ready()?;
    let start = testdev::base();
    guard::unmap(start - 0x1000);
    let before = testdev::counts();
    let refused = guard::counters().refused;
    for (width, code) in probe::LOADS.into_iter().chain(probe::STORES) {
        if width > 1 {
            let va = View::Normal.of(start - width / 2);
            probe::access(code, va).refused(va)?;
        }
    }
    equal!(guard::counters().refused, refused + 6, "refusals");
    equal!(testdev::counts(), before, "what reached the device");
    Ok(())
}

/// Both pages are declared: still not served, but not counted as a refusal.
fn crossing_declared() -> Verdict {
    testdev::ready()?;
    let start = testdev::base();
    equal!(guard::map(start - 0x1000), guard::done(), "MAP of the page before");
    equal!(guard::map(start + 0x1000), guard::done(), "MAP of the page behind");
    let before = testdev::counts();
    let refused = guard::counters().refused;
    for place in [start - 1, start + 0xfff] {
        for (width, code) in probe::LOADS.into_iter().chain(probe::STORES) {
            if width > 1 {
                let va = View::Normal.of(place);
                probe::access(code, va).refused(va)?;
            }
        }
    }
    equal!(guard::counters().refused, refused, "refusals");
    equal!(testdev::counts(), before, "what reached the device");
    guard::unmap(start - 0x1000);
    guard::unmap(start + 0x1000);
    Ok(())
}

/// Begins in RAM and ends in an undeclared page: aborts there, and RAM is as it was.
fn crossing_from_ram() -> Verdict {
    guard::activate()?;
    static PAGE: Shared<Page> = Shared::new(Page::new(0x5a));
    let attributes = mmu::attribute::NORMAL | mmu::attribute::SHARED | mmu::attribute::XN;
    let first = mmu::window(2, PAGE.address(), attributes);
    let second = mmu::window(3, hole(71), attributes);
    for (width, code) in probe::LOADS.into_iter().chain(probe::STORES) {
        if width > 1 {
            let va = second - width / 2;
            let result = probe::access(code, va);
            equal!(result.exit.esr, 0x9600_0010, "ESR_EL1");
            equal!(result.exit.elr, result.before.pc, "ELR_EL1");
            // The CPU may report the first byte of the access or the first of the page that failed.
            check!(
                result.exit.far == va || result.exit.far == second,
                "FAR_EL1 {:#x} for {va:#x}",
                result.exit.far
            );
            result.unchanged(&[])?;
        }
    }
    let last = probe::access(probe::ldr_x, first + 4088).loaded()?;
    equal!(last, 0x5a5a_5a5a_5a5a_5a5a, "the last word of RAM");
    Ok(())
}

/// Not aligned, but within a page: the device sees it as it is, or says no by its nature.
fn misaligned() -> Verdict {
    testdev::ready()?;
    testdev::set_value(0x8899_aabb_ccdd_eeff);
    for offset in [0x801, 0x803, 0x8f7, 0xff1] {
        let va = View::Normal.of(testdev::base() + offset);
        for (width, code) in probe::LOADS {
            let value = probe::access(code, va).loaded()?;
            equal!(testdev::last(), (offset, width, false), "load");
            equal!(value, 0x8899_aabb_ccdd_eeff & mask(width), "value");
        }
        for (width, code) in probe::STORES {
            probe::access(code, va).completed(&[])?;
            equal!(testdev::last(), (offset, width, true), "store");
            equal!(testdev::stored(), canary(0) & mask(width), "value");
        }
    }
    // A PL011 sits behind a bus of aligned words.
    let va = View::Normal.of(tree::get().uart + 0x19);
    probe::access(probe::ldr_w, va).refused(va)?;
    // Mapped as Device memory, the CPU itself objects before anybody else is asked; QEMU's TCG does not
    // know that rule before its version 9.
    let result = probe::load(testdev::window() + 1);
    check!(
        result.exit.done() || result.exit.esr == 0x9600_0021,
        "ESR_EL1 {:#x} of an unaligned device access",
        result.exit.esr
    );
    Ok(())
}

/// The last bytes of a declared page, whose neighbour is not declared.
fn last_bytes() -> Verdict {
    testdev::ready()?;
    let end = testdev::base() + 0x1000;
    guard::unmap(end);
    testdev::set_value(0x1122_3344_5566_7788);
    everywhere(|state| {
        for (width, code) in probe::LOADS {
            let va = state.device(end - width);
            let value = probe::access_at(code, va, state.pstate).loaded()?;
            equal!(value, 0x1122_3344_5566_7788 & mask(width), "load of {width} bytes");
            equal!(testdev::last(), (0x1000 - width, width, false), "load");
        }
        for (width, code) in probe::STORES {
            let va = state.device(end - width);
            probe::access_at(code, va, state.pstate).completed(&[])?;
            equal!(testdev::last(), (0x1000 - width, width, true), "store");
        }
        let va = state.device(end);
        probe::access_at(probe::ldrb, va, state.pstate).refused(va)
    })
}

/// With TBI the top byte of an address is the program's: the access is decoded without it.
fn tagged_pointer() -> Verdict {
    testdev::ready()?;
    testdev::set_value(0x77);
    msr!("tcr_el1", mmu::tcr() | 1 << 37);
    plain!("isb");
    mmu::flush_all();
    let body = || -> Verdict {
        for tag in [0x01_u64, 0x7f, 0x80, 0xff] {
            for (state, base) in [
                (pstate::EL1H, testdev::window()),
                (pstate::EL0, View::UserDevice.of(testdev::window())),
            ] {
                let value = probe::access_at(probe::ldr_w, base | tag << 56, state).loaded()?;
                equal!(value, 0x77, "load with tag {tag:#x}");
                equal!(testdev::last(), (0x800, 4, false), "load with tag {tag:#x}");
            }
            let va = hole(72) | tag << 56;
            let result = probe::load(va);
            equal!(result.exit.esr, 0x9600_0010, "ESR_EL1");
            // Whether FAR_EL1 keeps the tag is the CPU's affair.
            equal!(result.exit.far & 0xff_ffff_ffff_ffff, hole(72), "FAR_EL1");
            equal!(result.exit.elr, result.before.pc, "ELR_EL1");
        }
        Ok(())
    };
    let result = body();
    msr!("tcr_el1", mmu::tcr());
    plain!("isb");
    mmu::flush_all();
    result
}
