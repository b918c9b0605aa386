// SPDX-License-Identifier: MIT OR Apache-2.0
//! A recording fake of table memory and TLB, with a judge of what is done to them.
//!
//! The judge (after casemate's idea) follows every descriptor that a walker can reach:
//!
//! ```text
//! valid leaf --store invalid--> written --DSB ISHST--> visible --TLBI IPAS2E1IS (base, level)--> ...
//!   ... --DSB ISH--> --TLBI VMALLE1IS--> --DSB ISH--> (again, under the erratum) --ISB--> clean
//! ```
//! and it notes a violation for: valid to another valid; valid again before clean; a barrier or an
//! invalidation that is missing, early, of another address or of a wrong level; a table published
//! before its contents; a table page touched before the VMID was invalidated; cache maintenance of
//! anything but a Normal leaf that is gone; an annotation with bit 0 or 1 set.
//!
//! A table of leaves may be broken by `TLBI IPAS2E1IS` of one of its leaves (level 3) instead of the whole VMID. The table made
//! in its place must then be the same but for the leaves that were invalidated so, and the old one's page is not free before
//! the VMID was invalidated. Below a [window](crate::Window) one table of 512 equal leaves may be in many places: what writes
//! to it is a violation.
//!
//! [`Fake::assert_quiet`] after a call asserts that there was no violation and that nothing is left
//! half-way.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod event;
mod judge;
mod progress;
mod words;

use crate::codec::{self, Entry};
use crate::host::{ENTRIES, TableMemory, Tlb};
use crate::{FrameTable, Pool, Stage2};
use arch::{Ipa, PAGE_SIZE, Pa, Range, Stage2Geometry};
pub use event::Event;
use judge::Judge;
pub use judge::Mark;

use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::vec::Vec;
pub use words::TABLES;
use words::Words;

struct Inner {
    geometry: Stage2Geometry,
    judge: Judge,
    events: Vec<Event>,
    stores: u64,
    watched: Vec<Ipa>,
    seen: Vec<Vec<Entry>>,
    first: usize,
}

/// Memory and TLB of one VM. A clone is another handle of the same.
#[derive(Clone)]
pub struct Fake {
    words: Words,
    loads: Arc<AtomicU64>,
    inner: Arc<Mutex<Inner>>,
    /// Of the other VMs with tables in this memory: what is stored through this handle is judged by them as well.
    others: Arc<[Arc<Mutex<Inner>>]>,
    /// The first page of the root.
    first: usize,
    root_pages: usize,
    pool_pages: usize,
}

/// Tables of `ipa_bits` with `pool_pages` in the pool.
pub fn stage2(ipa_bits: u8, pool_pages: usize) -> Stage2<Fake> {
    Fake::new(geometry(ipa_bits), pool_pages).stage2()
}

/// The shape for `ipa_bits` on a CPU with 48 bits of PA.
pub fn geometry(ipa_bits: u8) -> Stage2Geometry {
    Stage2Geometry::new(ipa_bits, 5).expect("a size within 32 to 48")
}

impl Fake {
    /// Zeroed root pages for `geometry`, and `pool_pages` pages full of garbage.
    pub fn new(geometry: Stage2Geometry, pool_pages: usize) -> Self {
        Self::with_errata(geometry, pool_pages, false)
    }

    /// The same; `repeat` demands every invalidation twice.
    pub fn with_errata(geometry: Stage2Geometry, pool_pages: usize, repeat: bool) -> Self {
        Self::several([(geometry, pool_pages)], repeat).remove(0)
    }

    /// Several VMs with tables in one memory, so that a page of one's pool can become a table of another: the shape of each,
    /// and the pages of its pool.
    pub fn several<const N: usize>(vms: [(Stage2Geometry, usize); N], repeat: bool) -> Vec<Self> {
        // Valid-looking garbage, so that a page used without being filled is noticed.
        const GARBAGE: u64 = 0xdead_beef_f000_0ffb;
        let mut words: Vec<AtomicU64> = Vec::new();
        let places = vms.map(|(geometry, pool_pages)| {
            let root_pages = usize::from(geometry.root_pages);
            // A root is aligned to its size.
            let first = (words.len() / ENTRIES).next_multiple_of(root_pages);
            let mut grow = |page: usize, word| {
                words.resize_with(page * ENTRIES, || AtomicU64::new(word));
            };
            grow(first, GARBAGE);
            grow(first + root_pages, 0);
            grow(first + root_pages + pool_pages, GARBAGE);
            first
        });
        let pages = words.len() / ENTRIES;
        let inners: Vec<Arc<Mutex<Inner>>> = vms
            .iter()
            .zip(places)
            .map(|((geometry, _), first)| {
                Arc::new(Mutex::new(Inner {
                    geometry: *geometry,
                    judge: Judge::new(pages, first, geometry, repeat),
                    events: Vec::new(),
                    stores: 0,
                    watched: Vec::new(),
                    seen: Vec::new(),
                    first,
                }))
            })
            .collect();
        let words = Words(words.into());
        let fake = |(number, ((geometry, pool_pages), first))| {
            let others = inners.iter().enumerate().filter(|(n, _)| *n != number);
            let geometry: Stage2Geometry = geometry;
            Self {
                words: words.clone(),
                loads: Arc::default(),
                inner: inners[number].clone(),
                others: others.map(|(_, inner)| inner.clone()).collect(),
                first,
                root_pages: usize::from(geometry.root_pages),
                pool_pages,
            }
        };
        vms.into_iter().zip(places).enumerate().map(fake).collect()
    }

    /// Where its root begins: at [`TABLES`] for the first VM of a memory.
    pub fn root(&self) -> Pa {
        Pa::new(TABLES.raw() + self.first as u64 * PAGE_SIZE)
    }

    /// Tables over a handle of this fake, with all its pool pages.
    pub fn stage2(&self) -> Stage2<Self> {
        let geometry = self.with(|inner| inner.geometry);
        Stage2::new(self.clone(), geometry, self.root(), self.pool())
    }

    /// A pool of all pages behind the root.
    pub fn pool(&self) -> Pool {
        let start = self.root().raw() + self.root_pages as u64 * PAGE_SIZE;
        let range = Range::<Pa>::new(Pa::new(start), self.pool_pages as u64 * PAGE_SIZE);
        Pool::of(self, range.expect("far from the end"))
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut lock(&self.inner))
    }

    /// What was done since the last call of this.
    pub fn take_events(&self) -> Vec<Event> {
        self.with(|inner| std::mem::take(&mut inner.events))
    }

    /// Loads since the last call of this.
    pub fn take_loads(&self) -> u64 {
        self.loads.swap(0, Relaxed)
    }

    /// From now on keeps the sum of `mark` over all descriptors that a walker can reach.
    pub fn set_mark(&self, mark: Mark) {
        self.with(|inner| {
            assert_eq!(inner.judge.live_pages(), self.root_pages, "set before any table is made");
            inner.judge.mark = Some(mark);
            inner.judge.marks = 0;
        });
    }

    /// The sum of [`Fake::set_mark`].
    pub fn marks(&self) -> u64 {
        self.with(|inner| inner.judge.marks)
    }

    /// Says that this was done to the machine, as an implementation of [`Tlb`] with a mistake would.
    pub fn inject(&self, event: Event) {
        self.with(|inner| inner.event(event));
    }

    /// Forgets the events so far, keeping their room: for those who call it after every exit.
    pub fn forget_events(&self) {
        self.with(|inner| inner.events.clear());
    }

    /// What [`Fake::assert_quiet`] would say.
    pub fn complaint(&self) -> Option<String> {
        self.with(|inner| {
            let judge = &inner.judge;
            if judge.is_quiet() {
                return None;
            }
            let mut faults = judge.violations.clone();
            faults.extend(judge.unfinished());
            Some(faults.join("\n"))
        })
    }

    /// Descriptors written since the last call of this, those of unpublished tables included.
    pub fn take_stores(&self) -> u64 {
        self.with(|inner| std::mem::take(&mut inner.stores))
    }

    /// Everything in memory, for comparing.
    pub fn snapshot(&self) -> Vec<u64> {
        (0..self.words.len()).map(|word| self.words.get(word)).collect()
    }

    /// From now on, note what a reader would find at `watched` after each store to a live table.
    pub fn watch(&self, watched: &[Ipa]) {
        self.with(|inner| {
            inner.watched = watched.to_vec();
            inner.seen.clear();
        });
    }

    /// What readers would have found since [`Fake::watch`]: one row per store.
    pub fn take_seen(&self) -> Vec<Vec<Entry>> {
        self.with(|inner| std::mem::take(&mut inner.seen))
    }

    /// Violations noted so far.
    pub fn violations(&self) -> Vec<String> {
        self.with(|inner| inner.judge.violations.clone())
    }

    /// What a walk by hardware finds at `ipa`: an independent walker, for comparing.
    pub fn translate(&self, ipa: Ipa) -> Option<(Entry, u8)> {
        self.with(|inner| self.words.translate(self.first, &inner.geometry, ipa))
    }

    /// Tables that hang on the root, those of windows left out.
    pub fn tables(&self) -> usize {
        self.with(|inner| inner.judge.live_pages()) - self.root_pages
    }

    /// No violation, and nothing left half-way.
    ///
    /// # Panics
    /// Where there is one; the events since the last [`Fake::take_events`] are in the message.
    pub fn assert_quiet(&self) {
        let (mut faults, events) =
            self.with(|inner| (inner.judge.violations.clone(), inner.events.clone()));
        faults.extend(self.with(|inner| inner.judge.unfinished()));
        if !faults.is_empty() {
            let tail = &events[events.len().saturating_sub(40)..];
            panic!("{}\nlast events: {tail:#x?}", faults.join("\n"));
        }
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Inner {
    /// `words[word]` has just changed from `old`.
    fn stored(&mut self, words: &Words, word: usize, old: u64) {
        let Some(event) = self.judge.store(words, word, old) else { return };
        self.events.push(event);
        let seen =
            self.watched.iter().filter_map(|ipa| words.translate(self.first, &self.geometry, *ipa));
        let row: Vec<Entry> = seen.map(|(entry, _)| entry).collect();
        if !row.is_empty() {
            self.seen.push(row);
        }
    }

    fn event(&mut self, event: Event) {
        self.events.push(event);
        self.judge.event(event);
    }
}

impl TableMemory for Fake {
    fn load(&self, table: Pa, index: usize) -> u64 {
        lock::atomic::chance();
        // Counted only in tests with one thread, which are those that read it.
        self.loads.store(self.loads.load(Relaxed) + 1, Relaxed);
        self.words.get(self.words.number(table, index))
    }

    fn store(&self, table: Pa, index: usize, raw: u64) {
        lock::atomic::chance();
        let word = self.words.number(table, index);
        let old = self.with(|inner| {
            inner.stores += 1;
            let old = self.words.0[word].swap(raw, Relaxed);
            inner.stored(&self.words, word, old);
            old
        });
        for other in self.others.iter() {
            lock(other).stored(&self.words, word, old);
        }
    }
}

impl Tlb for Fake {
    fn dsb_ishst(&self) {
        self.with(|inner| inner.event(Event::DsbIshst));
    }
    fn dsb_ish(&self) {
        self.with(|inner| inner.event(Event::DsbIsh));
    }
    fn isb(&self) {
        self.with(|inner| inner.event(Event::Isb));
    }
    fn tlbi_ipas2e1is(&self, ipa: Ipa, level: Option<u8>) {
        self.with(|inner| inner.event(Event::TlbiIpa { ipa, level }));
    }
    fn tlbi_vmalle1is(&self) {
        self.with(|inner| inner.event(Event::TlbiStage1));
    }
    fn tlbi_vmalls12e1is(&self) {
        self.with(|inner| inner.event(Event::TlbiAll));
    }
    fn repeat(&self) -> bool {
        self.with(|inner| inner.judge.repeat)
    }
    fn clean_invalidate_to_poc(&self, pa: Pa, bytes: u64) {
        self.with(|inner| inner.event(Event::Clean { pa, bytes }));
    }
}

/// Whether a stage-2 mapping implies ownership: every RAM and ROM leaf maps frames of `owner`, and no
/// frame is mapped twice. `Err` says which leaf breaks the promise.
pub fn check_ownership<H: TableMemory + Tlb>(
    stage2: &Stage2<H>,
    frames: &FrameTable<'_>,
    owner: u16,
) -> Result<(), String> {
    let mut mapped: BTreeMap<u64, (u64, Ipa)> = BTreeMap::new();
    let mut fault = None;
    stage2.visit(|ipa, level, entry| {
        let Entry::Leaf { pa, attr } = entry else { return };
        let size = codec::level_size(level);
        let range = Range::<Pa>::new(pa, size).expect("a leaf's output is below 2^48");
        if attr.is_memory() && !frames.owns(owner, range) {
            fault.get_or_insert(format!("{ipa:?} maps {range}, which {owner} does not own"));
        }
        let before = mapped.range(..pa.raw() + size).next_back();
        if let Some((start, (end, other))) = before
            && *end > pa.raw()
        {
            fault.get_or_insert(format!("{ipa:?} and {other:?} both map {start:#x}"));
        }
        mapped.insert(pa.raw(), (pa.raw() + size, ipa));
    });
    fault.map_or(Ok(()), Err)
}
