// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tables of a VM, and the walk.

use crate::Stage2Geometry;
use crate::clearing::Clearing;
use crate::codec::{self, Descriptor, Entry, level_shift};
use crate::host::{ENTRIES, TableMemory, Tlb};
use crate::pool::Pool;
use arch::{Ipa, Pa};
use lock::atomic::{AtomicU64, Ordering};
use lock::{Lock, Order, Rank};

/// What a walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The entry that ends the walk.
    pub entry: Entry,
    /// Its level, 0..=3: it covers 512 GiB, 1 GiB, 2 MiB or 4 KiB.
    pub level: u8,
}

/// As much of what a walk found as an access to a device needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// [`Entry::Empty`].
    Empty,
    /// [`Entry::Guard`].
    Guard,
    /// Any other entry, a window, or an address beyond the IPA space.
    Other,
}

/// What only the writer that holds the lock touches.
pub(crate) struct Writer {
    pub(crate) pool: Pool,
    /// Set by `release`: a dying VM gets no new mappings.
    pub(crate) released: bool,
    /// A reset that has not ended.
    pub(crate) clearing: Option<Clearing>,
}

/// Where a walk ended.
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) table: Pa,
    pub(crate) index: usize,
    pub(crate) level: u8,
    pub(crate) raw: u64,
}

/// Stage 2 of one VM.
///
/// Readers ([`Stage2::lookup`], [`Stage2::visit`]) take no lock. Writers take one of
/// [`Rank::Stage2`], which protects the table pool too.
pub struct Stage2<H> {
    pub(crate) host: H,
    root: Pa,
    limit: u64,
    starts_at_0: bool,
    geometry: Stage2Geometry,
    declared: AtomicU64,
    pub(crate) writer: Lock<Writer>,
}

impl<H: TableMemory + Tlb> Stage2<H> {
    /// Tables with nothing in them. `root` is the first of `geometry.root_pages` contiguous zeroed
    /// pages, aligned to their total size; `pool` has the pages for further tables.
    pub fn new(host: H, geometry: Stage2Geometry, root: Pa, pool: Pool) -> Self {
        Self {
            host,
            root,
            limit: geometry.ipa_limit(),
            starts_at_0: geometry.start_level == 0,
            geometry,
            declared: AtomicU64::new(0),
            writer: Lock::new(Rank::Stage2, Writer { pool, released: false, clearing: None }),
        }
    }

    /// Physical address of the root, for VTTBR_EL2.
    pub const fn root(&self) -> Pa {
        self.root
    }

    /// Shape of the tree.
    pub const fn geometry(&self) -> &Stage2Geometry {
        &self.geometry
    }

    /// What gives access to memory and TLBs.
    pub const fn host(&self) -> &H {
        &self.host
    }

    /// The entry at `ipa`; `None` at or beyond the end of the IPA space.
    ///
    /// Takes no lock: one acquire load per level. See docs/stage2.md for why that is enough.
    #[inline(always)]
    pub fn lookup(&self, ipa: Ipa) -> Option<Found> {
        if ipa.raw() >= self.limit {
            return None;
        }
        let slot = self.walk(ipa.raw());
        let (mut raw, mut level) = (slot.raw, slot.level);
        if codec::is_window(raw, level) {
            (raw, level) = self.look_through(ipa.raw(), raw);
        }
        Some(Found { entry: codec::entry(raw, level), level })
    }

    /// A [`Stage2::lookup`] that tells only these cases apart.
    #[inline(always)]
    pub fn probe(&self, ipa: Ipa) -> Probe {
        if ipa.raw() >= self.limit {
            return Probe::Other;
        }
        let raw = self.walk(ipa.raw()).raw;
        if codec::is_guard(raw) {
            Probe::Guard
        } else if raw == codec::EMPTY {
            Probe::Empty
        } else {
            Probe::Other
        }
    }

    /// Walks to the descriptor of `address`, which is within the IPA space. Ends above a window.
    ///
    /// Unrolled, with shifts that the compiler knows: this runs on every trapped access.
    #[inline(always)]
    pub(crate) fn walk(&self, address: u64) -> Slot {
        let mut table = self.root;
        // In the root all bits above the shift index: concatenated pages are one large table.
        let mut index = (address >> level_shift(1)) as usize;
        if self.starts_at_0 {
            index = (address >> level_shift(0)) as usize;
            let raw = self.host.load(table, index);
            if !codec::is_table(raw, 0) {
                return Slot { table, index, level: 0, raw };
            }
            table = codec::table_address(raw);
            index = (address >> level_shift(1)) as usize & (ENTRIES - 1);
        }
        let raw = self.host.load(table, index);
        if !codec::is_table(raw, 1) {
            return Slot { table, index, level: 1, raw };
        }
        table = codec::table_address(raw);
        index = (address >> level_shift(2)) as usize & (ENTRIES - 1);
        let raw = self.host.load(table, index);
        if !codec::is_table(raw, 2) {
            return Slot { table, index, level: 2, raw };
        }
        table = codec::table_address(raw);
        index = (address >> level_shift(3)) as usize & (ENTRIES - 1);
        let raw = self.host.load(table, index);
        Slot { table, index, level: 3, raw }
    }

    /// [`Stage2::walk`], not inlined.
    #[inline(never)]
    pub(crate) fn slot(&self, address: u64) -> Slot {
        self.walk(address)
    }

    /// Descriptors of the root.
    pub(crate) fn root_entries(&self) -> usize {
        ENTRIES.wrapping_mul(usize::from(self.geometry.root_pages))
    }

    /// Descriptors of a table of `level`.
    #[inline]
    pub(crate) fn entries(&self, level: u8) -> usize {
        if level == self.geometry.start_level { self.root_entries() } else { ENTRIES }
    }

    /// First address beyond the IPA space.
    #[inline(always)]
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Pages (4 KiB) that carry an annotation of the guard.
    #[inline]
    pub fn declared_pages(&self) -> u64 {
        self.declared.load(Ordering::Relaxed)
    }

    /// Only the writer calls this, so that a load and a store will do.
    #[inline]
    pub(crate) fn set_declared(&self, pages: u64) {
        self.declared.store(pages, Ordering::Relaxed);
    }

    /// Table pages left in the pool.
    pub fn pool_free(&self, order: &Order) -> usize {
        self.writer.lock(order).pool.free()
    }

    /// Adds `page` to the pool; it must be page-aligned, not in use, and known to no TLB.
    pub fn refill(&self, order: &Order, page: Pa) {
        self.writer.lock(order).pool.put(&self.host, page);
    }

    /// Takes a free page out of the pool: after [`Stage2::release`], all of them but the root.
    pub fn take_spare(&self, order: &Order) -> Option<Pa> {
        self.writer.lock(order).pool.take(&self.host)
    }

    /// Puts a table of 512 copies of the invalid descriptor `slot.raw` in its place. Invalid to
    /// table needs no TLB maintenance: no TLB holds anything of an invalid descriptor.
    ///
    /// `false`, and nothing changed, where the pool is empty.
    #[inline(never)]
    pub(crate) fn split_invalid(&self, writer: &mut Writer, slot: &Slot) -> bool {
        let Some(table) = writer.pool.take(&self.host) else { return false };
        self.host.fill(table, slot.raw);
        self.host.dsb_ishst();
        self.host.store(slot.table, slot.index, codec::table(table));
        true
    }

    /// What the descriptor `index` of `table`, a table of `level`, means.
    #[inline]
    pub(crate) fn descriptor(&self, table: Pa, index: usize, level: u8) -> Descriptor {
        codec::decode(self.host.load(table, index), level)
    }
}
