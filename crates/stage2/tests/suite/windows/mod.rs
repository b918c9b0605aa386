// SPDX-License-Identifier: MIT OR Apache-2.0
//! Windows on the RAM of another VM: a device VM's tables and those of a VM that it serves, in one memory.

mod add;
mod faults;
mod model;
mod reset;
mod share;

use crate::common::*;
use arch::{Ipa, PAGE_SIZE, Pa};
use stage2::{NeedsTable, Pool, Window, Windowed, codec};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Where the window is in the device VM's address space.
const BASE: u64 = 0x10_0000_0000;
/// Where the machine has the served VM's RAM.
const PEER: u64 = 0x9_0000_0000;
const POOL: usize = 6;

/// The fake, of which one barrier or invalidation may be missing, or be of another address or level.
#[derive(Clone)]
struct Host {
    fake: Fake,
    fault: Fault,
    count: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The barrier or invalidation of this number is left out.
    Missing(usize),
    /// Invalidations are of the page after, or of 2 MiB after.
    Address(u64),
    /// They are of this level.
    Level(u8),
}

impl Host {
    fn unless_missing(&self, f: impl FnOnce(&Fake)) {
        if self.fault != Fault::Missing(self.count.fetch_add(1, Relaxed)) {
            f(&self.fake);
        }
    }
}

impl TableMemory for Host {
    fn load(&self, table: Pa, index: usize) -> u64 {
        self.fake.load(table, index)
    }
    fn store(&self, table: Pa, index: usize, raw: u64) {
        self.fake.store(table, index, raw);
    }
}

impl Tlb for Host {
    fn dsb_ishst(&self) {
        self.unless_missing(|fake| fake.dsb_ishst());
    }
    fn dsb_ish(&self) {
        self.unless_missing(|fake| fake.dsb_ish());
    }
    fn isb(&self) {
        self.unless_missing(|fake| fake.isb());
    }
    fn tlbi_ipas2e1is(&self, ipa: Ipa, level: Option<u8>) {
        let (mut ipa, mut level) = (ipa, level);
        match self.fault {
            Fault::Address(more) => ipa = Ipa::new(ipa.raw() + more),
            Fault::Level(other) => level = Some(other),
            _ => {}
        }
        self.unless_missing(|fake| fake.tlbi_ipas2e1is(ipa, level));
    }
    fn tlbi_vmalle1is(&self) {
        self.unless_missing(|fake| fake.tlbi_vmalle1is());
    }
    fn tlbi_vmalls12e1is(&self) {
        self.unless_missing(|fake| fake.tlbi_vmalls12e1is());
    }
    fn repeat(&self) -> bool {
        self.fake.repeat()
    }
    fn clean_invalidate_to_poc(&self, pa: Pa, bytes: u64) {
        self.fake.clean_invalidate_to_poc(pa, bytes);
    }
}

/// A device VM, a VM that it serves, and the window between them.
struct Served {
    fakes: Vec<Fake>,
    server: Stage2<Host>,
    client: Stage2<Fake>,
    window: Window,
    order: Order,
}

fn with_fault(bits: u8, size: u64, repeat: bool, fault: Fault) -> Served {
    let pages = Window::pages(size);
    let own = pages as usize + POOL;
    let fakes = Fake::several([(fake::geometry(bits), 8), (fake::geometry(40), own)], repeat);
    // The window's pages are the first of the client's.
    let first = fakes[1].root().raw() + 2 * PAGE_SIZE;
    let window = Window::new(Ipa::new(BASE), size, Pa::new(first)).unwrap();
    let rest = frames(first + pages * PAGE_SIZE, POOL as u64 * PAGE_SIZE);
    let pool = Pool::of(&fakes[1], rest);
    let client = Stage2::new(fakes[1].clone(), fake::geometry(40), fakes[1].root(), pool);
    let host = Host { fake: fakes[0].clone(), fault, count: Arc::default() };
    let server = Stage2::new(host, fake::geometry(bits), fakes[0].root(), fakes[0].pool());
    Served { fakes, server, client, window, order: Order::new() }
}

/// The same with the window in place.
fn served(size: u64) -> Served {
    let served = with_fault(40, size, false, Fault::None);
    served.server.add_window(&served.order, &served.window).unwrap();
    served.quiet();
    served.fakes[0].take_events();
    served
}

impl Served {
    /// As MEM_SHARE does it, with tables from the client's pool.
    fn share(&self, offset: u64) -> Option<Windowed> {
        let (mut spare, granule) = (None, (offset, Pa::new(PEER + offset)));
        let mut share =
            || self.server.window_share(&self.order, &self.window, granule, &mut spare, || true);
        match share() {
            Ok(done) => Some(done),
            Err(NeedsTable) => {
                spare = Some(self.client.take_spare(&self.order)?);
                let done = self.server.window_share(
                    &self.order,
                    &self.window,
                    granule,
                    &mut spare,
                    || true,
                );
                assert_eq!(spare, None, "it was needed");
                Some(done.unwrap())
            }
        }
    }

    fn unshare(&self, offset: u64) -> Windowed {
        self.server.window_unshare(&self.order, &self.window, offset, || true)
    }

    fn clear(&self) -> usize {
        let mut freed = self.server.window_clear(&self.order, &self.window);
        let tables = freed.free();
        self.client.refill_all(&self.order, &mut freed);
        assert_eq!(freed.free(), 0);
        tables
    }

    fn free(&self) -> usize {
        self.client.pool_free(&self.order)
    }

    fn quiet(&self) {
        self.fakes.iter().for_each(Fake::assert_quiet);
    }

    fn complaint(&self) -> Option<String> {
        self.fakes.iter().find_map(Fake::complaint)
    }

    /// What the device VM reaches at `offset`, found by two walkers.
    fn at(&self, offset: u64) -> Option<Pa> {
        let ipa = Ipa::new(BASE + offset);
        let found = self.server.lookup(ipa).map(|found| (found.entry, found.level));
        assert_eq!(self.fakes[0].translate(ipa), found);
        match found {
            Some((Entry::Leaf { pa, attr: Attr::Shared }, level)) => {
                let inside = offset & codec::level_size(level).wrapping_sub(1);
                Some(Pa::new(pa.raw() + inside))
            }
            other => panic!("{offset:#x}: {other:x?}"),
        }
    }

    fn is_scratch(&self, offset: u64) -> bool {
        self.at(offset) == Some(self.window.scratch())
    }

    fn is_shared(&self, offset: u64) -> bool {
        self.at(offset) == Some(Pa::new(PEER + offset))
    }

    fn visible(&self) -> Vec<(u64, Pa)> {
        let mut all = Vec::new();
        self.server.visit_window(&self.window, |offset, pa| all.push((offset, pa)));
        all
    }

    /// No invalid entry is in the window, its last GiB as a whole included. Each granule is scratch but what `shared` has: all
    /// of the 2 MiB with something shared are looked at, and of the others, which have one table, some.
    fn resolves(&self, shared: &BTreeMap<u64, Pa>) {
        for chunk in (0..self.window.size().next_multiple_of(GIB)).step_by(MIB2 as usize) {
            let whole = chunk == 0 || shared.range(chunk..chunk + MIB2).next().is_some();
            for page in (0..512).step_by(if whole { 1 } else { 73 }) {
                let offset = chunk + page * KIB4;
                let right = shared.get(&offset).copied().unwrap_or(self.window.scratch());
                assert_eq!(self.at(offset), Some(right), "{offset:#x}");
            }
        }
    }

    fn bytes(&self) -> Vec<u64> {
        self.fakes[0].snapshot()
    }
}
