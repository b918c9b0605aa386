// SPDX-License-Identifier: MIT OR Apache-2.0
//! F: what happens when something is used up.

use crate::guard::{self, State, hole};
use crate::verdict::Verdict;
use crate::{mmio, probe, time, tree};

tests! {
    // bug: 18
    f01_pool_in_a_range: "F1", "vm.pool=8", "alone" => pool_in_a_range;
    f02_pool_in_a_split: "F2", "vm.pool=8", "alone" => pool_in_a_split;
    f02_pool_of_nothing: "F2,B10", "vm.pool=2", "alone" => pool_of_nothing;
    // bug: 59
    f03_abort_storm: "F3", "", "alone" => abort_storm;
    f03_call_storm: "F3", "", "" => call_storm;
    f08_console_flood: "F8", "", "alone" => console_flood;
}

const WINDOW: u64 = 0x4_0000_0000;

/// Pages that `call` did, from `start` on, until it fails or all are done.
fn all(call: fn(u64, u64) -> [u64; 4], start: u64, pages: u64) -> (u64, [u64; 4]) {
    let mut done = 0;
    while done < pages {
        let answer = call(start + done * 4096, pages - done);
        if answer[0] != 0 || answer[1] == 0 || answer[1] > pages - done {
            return (done, answer);
        }
        done += answer[1];
    }
    (done, [0; 4])
}

/// The pool ends in the middle of a range: what is done stays done and is told, the rest is an error,
/// and both can be undone.
fn pool_in_a_range() -> Verdict {
    guard::activate()?;
    let before = guard::counters().declared;
    // One page off alignment, so that each 2 MiB needs a table at its edges.
    let start = WINDOW + 4096;
    let wanted = 40 * 512 - 2;
    let mut first = start;
    let mut ranges = 0;
    // Every other 2 MiB, all but its first and last page: a table each.
    loop {
        let (done, answer) = all(guard::range_map, first, 510);
        if done == 510 {
            ranges += 1;
            first += 0x40_0000;
            check!(ranges < 8, "{ranges} tables out of a pool of 8");
            continue;
        }
        equal!(answer, guard::refused(), "RGUARD_MAP without a table");
        equal!(done, 0, "pages of a range that has no table");
        break;
    }
    equal!(ranges + guard::tables_used() + 1, 8, "tables used in all");
    equal!(guard::counters().declared, before + ranges * 510, "declared pages");
    equal!(guard::query(first), State::Undeclared, "the first page that failed");
    // A range that begins where there is a table and runs into a place where there is none.
    let last = start + (ranges - 1) * 0x40_0000;
    let (done, answer) = all(guard::range_map, last, wanted);
    equal!(answer, guard::refused(), "RGUARD_MAP into the void");
    // 511 pages to the end of this table, and then aligned blocks of 2 MiB, which need none.
    check!(done >= 511, "{done} pages of a long range");
    let stop = last + done * 4096;
    equal!(guard::query(stop - 4096), State::Declared, "the last page done");
    equal!(guard::query(stop), State::Undeclared, "the first page not done");
    let (undone, answer) = all(guard::range_unmap, last, done);
    equal!((undone, answer), (done, [0; 4]), "RGUARD_UNMAP");
    for n in 0..ranges - 1 {
        let at = start + n * 0x40_0000;
        equal!(guard::query(at), State::Declared, "range {n}");
        equal!(all(guard::range_unmap, at, 510).0, 510, "RGUARD_UNMAP of range {n}");
    }
    equal!(guard::counters().declared, before, "declared pages in the end");
    Ok(())
}

/// Uses the tables up, one for each 2 MiB; the last one may be too few for another GiB.
fn drain() {
    for start in [WINDOW, 0x2000_0000] {
        let mut count = 0;
        while count < 256 && guard::map(start + count * 0x20_0000) == guard::done() {
            count += 1;
        }
    }
}

/// A block that cannot be split stays whole.
fn pool_in_a_split() -> Verdict {
    guard::activate()?;
    let block = 0x8_0000_0000_u64;
    equal!(guard::range_map(block, 1 << 18), [0, 1 << 18, 0, 0], "RGUARD_MAP of a GiB");
    drain();
    let before = guard::counters();
    let inside = block + 0x1234_5000;
    equal!(guard::unmap(inside), guard::refused(), "UNMAP of a page inside the GiB");
    equal!(guard::range_unmap(inside, 3), guard::refused(), "RGUARD_UNMAP of pages inside the GiB");
    equal!(guard::counters(), before, "counters");
    for page in [block, inside, inside + 4096, block + (1 << 30) - 4096] {
        equal!(guard::query(page), State::Declared, "page {page:#x}");
    }
    // The whole block needs no table.
    equal!(guard::range_unmap(block, 1 << 18), [0, 1 << 18, 0, 0], "RGUARD_UNMAP of the GiB");
    equal!(guard::query(inside), State::Undeclared, "the page");
    Ok(())
}

/// With no tables left there are whole GiB, no pages; the guest's RAM and its aborts work.
fn pool_of_nothing() -> Verdict {
    need!(guard::dialect().is_some(), "no MMIO guard");
    // Some of the stub's own devices could not be declared, so the guard must stay off: there would be
    // no output.
    drain();
    equal!(guard::map(hole(0)), guard::refused(), "MAP");
    let block = 0x8_0000_0000_u64;
    equal!(guard::range_map(block, 1 << 18), [0, 1 << 18, 0, 0], "RGUARD_MAP of a GiB");
    equal!(guard::unmap(block), guard::refused(), "UNMAP of a page of it");
    equal!(guard::query(block), State::Declared, "that page");
    probe::load(hole(0)).refused(hole(0))?;
    probe::access(probe::ldr_x, tree::get().ram.0).completed(&[0])
}

/// Aborts without end: each is served in bounded time, and the log does not hold the vCPU up.
fn abort_storm() -> Verdict {
    guard::activate()?;
    const COUNT: u64 = 20_000;
    let before = guard::counters().refused;
    let start = time::now();
    let mut worst = 0;
    for n in 0..COUNT {
        let began = time::now();
        let va = hole(90 + n % 8) + (n & 0xff) * 8;
        probe::load(va).refused(va)?;
        worst = worst.max(time::now() - began);
    }
    let took = time::microseconds(time::now() - start);
    equal!(guard::counters().refused, before + COUNT, "refusals");
    // Bounds that a loaded machine keeps as well: an abort that waited for the console would take a
    // line's time, milliseconds each.
    check!(took < 2000 * COUNT, "{COUNT} aborts took {took} us");
    let worst = time::microseconds(worst);
    check!(worst < 5_000_000, "one abort took {worst} us");
    Ok(())
}

/// Calls that fail, without end.
fn call_storm() -> Verdict {
    guard::activate()?;
    const COUNT: u64 = 50_000;
    let before = guard::counters();
    let start = time::now();
    for n in 0..COUNT {
        let answer = guard::map(hole(90) + 1 + n % 4094);
        check!(answer == guard::refused(), "MAP {n}: {answer:x?}");
    }
    let took = time::microseconds(time::now() - start);
    check!(took < 2000 * COUNT, "{COUNT} calls took {took} us");
    equal!(guard::counters(), before, "counters");
    Ok(())
}

/// Output faster than any line can carry: no store waits for ever, and the UART says when it is full.
fn console_flood() -> Verdict {
    guard::activate()?;
    let uart = tree::get().uart;
    let start = time::now();
    let mut full = 0_u64;
    for line in 0..60 {
        for n in 0..100_u64 {
            // Without looking at the flags first: what has no room may be dropped, never waited for.
            if mmio::read32(uart + 0x18) & 1 << 5 != 0 {
                full += 1;
            }
            let byte = if n == 99 { b'\n' } else { b'a' + (line % 26) };
            mmio::write8(uart, byte);
        }
    }
    let took = time::microseconds(time::now() - start);
    check!(took < 100_000_000, "6000 bytes took {took} us, {full} times full");
    // It recovers.
    check!(
        time::wait_until(20_000, || mmio::read32(uart + 0x18) & 1 << 5 == 0),
        "the UART stays full"
    );
    Ok(())
}
