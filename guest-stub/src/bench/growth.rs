// SPDX-License-Identifier: MIT OR Apache-2.0
//! What grows, and what must not.

use mmio_guard::Call;

use super::clock::{LENGTH, LOOP, batches};
use super::operations::{VOID, call_pages, load};
use super::results::{Figure, note};
use super::vectors;
use crate::tree::Gic;
use crate::{guard, tree};

const PAGE: u64 = 4096;
const GIB: u64 = 1 << 30;
/// Where pages are declared one by one: 1 GiB.
const DENSE: u64 = VOID + 64 * GIB;
/// How many are.
const STEPS: [u64; 6] = [1, 16, 256, 4096, 65_536, 262_144];

/// Declares the pages of [`DENSE`] from number `from` to number `to`, each with its own entry of a table.
fn declare(from: u64, to: u64) -> bool {
    let mut page = from;
    while page < to {
        // One alone, so that the table is there; a whole 2 MiB would need none.
        if guard::map(DENSE + page * PAGE) != guard::done() {
            return false;
        }
        let end = (page | 511).min(to - 1) + 1;
        if end > page + 1
            && guard::range_map(DENSE + (page + 1) * PAGE, end - page - 1)[1] != end - page - 1
        {
            return false;
        }
        page = end;
    }
    true
}

/// A MAP, an UNMAP, an access and a refusal.
fn measure(what: core::fmt::Arguments<'_>) {
    let Gic::V3(distributor, ..) = tree::get().gic else { return };
    let (map, unmap) = (guard::id(Call::Map), guard::id(Call::Unmap));
    guard::map(VOID + 511 * PAGE);
    let figure = batches(LENGTH, LOOP + 1, |_| {
        let took = call_pages(LENGTH, [map, VOID, 0]).0;
        call_pages(LENGTH, [unmap, VOID, 0]);
        took
    });
    note(format_args!("MAP{what}"), figure);
    note(
        format_args!("access{what}"),
        batches(LENGTH, LOOP, |_| load(LENGTH, [distributor + 4, 0, 0]).0),
    );
    let refused = vectors::with(|| {
        let at = VOID + GIB + 8;
        load(LENGTH, [at, 0, 0]);
        batches(LENGTH, LOOP + vectors::SKIP, |_| load(LENGTH, [at, 0, 0]).0)
    });
    note(format_args!("refusal{what}"), refused);
}

/// With more and more pages.
pub fn pages() {
    let mut declared = 0;
    for step in STEPS {
        if !declare(declared, step) {
            say!("FAIL bench: {step} pages cannot be declared");
            return;
        }
        declared = step;
        measure(format_args!(" with {step} pages"));
    }
}

/// With other VMs around.
pub fn beside_others() {
    measure(format_args!(""));
}

/// Declares pages one by one until the pool is empty; then ranges that need no table.
pub fn dense() {
    let mut page = 0;
    while page < STEPS[5] && declare(page, page + 512) {
        page += 512;
    }
    note(format_args!("pages declared"), Figure::exact(guard::counters().declared));
    let whole = guard::range_map(VOID + 128 * GIB, GIB / PAGE)[1];
    note(format_args!("pages of 1 GiB declared without a table"), Figure::exact(whole));
}
