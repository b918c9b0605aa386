// SPDX-License-Identifier: MIT OR Apache-2.0
//! A: ranges, RGUARD_MAP and RGUARD_UNMAP, to the last register.

use mmio_guard::abi;

use crate::guard::{self, State, UNKNOWN, hole};
use crate::hvc::hvc;
use crate::verdict::Verdict;
use crate::{probe, time, tree};

tests! {
    a03_range_of_nothing: "A3", "", "" => range_of_nothing;
    a04_range_wraps: "A4", "", "" => range_wraps;
    a05_range_huge: "A5", "", "" => range_huge;
    a06_range_into_ram: "A6", "", "" => range_into_ram;
    a07_range_beyond_bound: "A7", "", "" => range_beyond_bound;
    a07_range_blocks: "A7", "", "" => range_blocks;
    a08_range_series: "A8", "vm.dialect=series", "" => range_series;
    a17_range_ram: "A17", "", "" => range_ram;
    a20_range_unmap: "A20", "", "" => range_unmap;
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

/// The series has no range calls, nor any other function of pkvm's table.
fn range_series() -> Verdict {
    guard::activate()?;
    for function in 6..=11 {
        equal!(hvc(0xc600_0000 + function, [hole(5), 1, 0]), UNKNOWN, "function {function}");
    }
    equal!(guard::query(hole(5)), State::Undeclared, "the page");
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
