// SPDX-License-Identifier: MIT OR Apache-2.0
//! Windows: what a device VM reaches of the RAM of a VM that it serves.
//!
//! A window has a place in the device VM's address space for each granule of the other VM's RAM. A shared granule is the
//! memory itself. Any other granule is the *scratch* page of that window, so that an access to it is no fault: no copy
//! routine of a stock kernel survives a synchronous external abort.
//!
//! ```text
//! level 1   a descriptor per GiB, with the bit that says: not of this VM's pool
//! level 2   a page per GiB, given when the window is made
//! level 3   one `blank` table of 512 scratch leaves for all that is not shared,
//!           a table of its own for each 2 MiB with a shared granule: from the pool of the VM that shares
//! ```
//! Every change is made under the lock of the device VM's tables, with break-before-make and `locked` in between: an access
//! that meets it is tried again.

use crate::codec::{self, Attr, EMPTY, level_size};
use crate::host::{TableMemory, Tlb};
use crate::invalidate::{Batch, Stale};
use crate::map::MapError;
use crate::pool::Pool;
use crate::tables::Stage2;
use arch::{Ipa, PAGE_SHIFT, PAGE_SIZE, Pa};
use lock::Order;

const GIB: u64 = level_size(1);
const ENTRY_MASK: u64 = 511;

/// A window, and the pages that it is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    base: Ipa,
    size: u64,
    scratch: Pa,
    blank: Pa,
    level2: Pa,
}

/// A change of a window needs a table, and the caller gave none. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeedsTable;

/// What a change of a window did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windowed {
    /// It is made, and no CPU uses what was there before.
    Done,
    /// The caller's state did not allow it: nothing has changed.
    Refused,
}

impl Window {
    /// Pages that the window of `size` bytes of RAM needs at once: scratch, the blank table, a table per GiB.
    pub const fn pages(size: u64) -> u64 {
        size.div_ceil(GIB).saturating_add(2)
    }

    /// A window on `size` bytes at `base`, a multiple of 1 GiB. `pages` is the first of [`Window::pages`] contiguous zeroed
    /// pages. `None` where the addresses do not fit.
    pub fn new(base: Ipa, size: u64, pages: Pa) -> Option<Self> {
        let aligned =
            base.raw() & GIB.wrapping_sub(1) == 0 && size & PAGE_SIZE.wrapping_sub(1) == 0;
        base.checked_add(size)?;
        let blank = pages.checked_add(PAGE_SIZE)?;
        let level2 = blank.checked_add(PAGE_SIZE)?;
        level2.checked_add(size)?;
        (aligned && size != 0 && pages.page_offset() == 0).then_some(Self {
            base,
            size,
            scratch: pages,
            blank,
            level2,
        })
    }

    /// Where it begins in the device VM's address space.
    pub const fn base(&self) -> Ipa {
        self.base
    }

    /// Its bytes: the size of the other VM's RAM.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The page that is behind everything that is not shared.
    pub const fn scratch(&self) -> Pa {
        self.scratch
    }

    /// The address of `offset` in the window.
    fn ipa(&self, offset: u64) -> u64 {
        self.base.raw().wrapping_add(offset)
    }

    /// The level-2 table of `offset`, and the index in it.
    fn level2(&self, offset: u64) -> (Pa, usize) {
        let page = offset >> 30;
        let table = self.level2.raw().wrapping_add(page.wrapping_shl(PAGE_SHIFT));
        (Pa::new(table), (offset >> 21 & ENTRY_MASK) as usize)
    }

    /// The level-2 entries of the RAM: table and index.
    fn entries(&self) -> impl Iterator<Item = (Pa, usize, u64)> + use<> {
        let this = *self;
        (0..self.size.div_ceil(level_size(2))).map(move |n| {
            let offset = n.wrapping_mul(level_size(2));
            let (table, index) = this.level2(offset);
            (table, index, offset)
        })
    }

    fn scratch_leaf(&self) -> u64 {
        codec::leaf(self.scratch, Attr::Shared, 3)
    }
}

impl<H: TableMemory + Tlb> Stage2<H> {
    /// Puts `window` into this VM's address space, with nothing shared. Before the VM's first instruction.
    ///
    /// # Errors
    /// [`MapError::Occupied`] where something is in its place, [`MapError::Range`] beyond the address space. Nothing has changed
    /// then.
    pub fn add_window(&self, order: &Order, window: &Window) -> Result<(), MapError> {
        let _writer = self.writer.lock(order);
        let gibs = window.size.div_ceil(GIB);
        let places = || (0..gibs).map(|n| (n, window.ipa(n.wrapping_mul(GIB))));
        for (_, at) in places() {
            if at.saturating_add(GIB) > self.limit() {
                return Err(MapError::Range);
            }
            let slot = self.slot(at);
            if slot.level != 1 || slot.raw != EMPTY {
                return Err(MapError::Occupied(Ipa::new(at)));
            }
        }
        self.host.fill(window.blank, window.scratch_leaf());
        for (n, _) in places() {
            // What is beyond the RAM is scratch as well: no entry of a window is ever invalid but during a change.
            let (table, _) = window.level2(n.wrapping_mul(GIB));
            self.host.fill(table, codec::table(window.blank));
        }
        self.host.dsb_ishst();
        for (n, at) in places() {
            let slot = self.slot(at);
            let (table, _) = window.level2(n.wrapping_mul(GIB));
            self.host.store(slot.table, slot.index, codec::window_table(table));
        }
        self.host.dsb_ishst();
        Ok(())
    }

    /// Puts the granule at `pa` in its place in the window, `offset` bytes from its start. `claim` decides under the lock
    /// whether that may be. `spare` is a page for a table, taken if one is needed.
    ///
    /// # Errors
    /// [`NeedsTable`] where `spare` is `None` and a table is needed; `claim` was not called then.
    pub fn window_share(
        &self,
        order: &Order,
        window: &Window,
        (offset, pa): (u64, Pa),
        spare: &mut Option<Pa>,
        claim: impl FnOnce() -> bool,
    ) -> Result<Windowed, NeedsTable> {
        let _writer = self.writer.lock(order);
        if offset >= window.size {
            return Ok(Windowed::Refused);
        }
        let (level2, index) = window.level2(offset);
        let old = self.host.load(level2, index);
        let blank = codec::table(window.blank);
        if old == blank && spare.is_none() {
            return Err(NeedsTable);
        }
        // A block shows all RAM: there is nothing to share one by one.
        if !codec::is_table(old, 2) || !claim() {
            return Ok(Windowed::Refused);
        }
        let entry = (offset >> PAGE_SHIFT & ENTRY_MASK) as usize;
        let leaf = codec::leaf(pa, Attr::Shared, 3);
        match spare.take_if(|_| old == blank) {
            Some(table) => {
                self.host.fill(table, window.scratch_leaf());
                self.host.store(table, entry, leaf);
                self.replace(window, offset, (level2, index), codec::table(table));
            }
            None => {
                let table = codec::table_address(old);
                self.replace(window, offset, (table, entry), leaf);
            }
        }
        self.host.dsb_ishst();
        Ok(Windowed::Done)
    }

    /// Puts the scratch page in the place of a shared granule. On return no CPU reaches the granule through the window, and
    /// accesses made before are complete. `release` decides under the lock whether that may be.
    pub fn window_unshare(
        &self,
        order: &Order,
        window: &Window,
        offset: u64,
        release: impl FnOnce() -> bool,
    ) -> Windowed {
        let _writer = self.writer.lock(order);
        if offset >= window.size {
            return Windowed::Refused;
        }
        let (level2, index) = window.level2(offset);
        let old = self.host.load(level2, index);
        if !codec::is_table(old, 2) || !release() {
            return Windowed::Refused;
        }
        if old != codec::table(window.blank) {
            let entry = (offset >> PAGE_SHIFT & ENTRY_MASK) as usize;
            let table = codec::table_address(old);
            self.replace(window, offset, (table, entry), window.scratch_leaf());
            self.host.dsb_ishst();
        }
        Windowed::Done
    }

    /// Break-before-make of the leaf of `offset`, or of the table above it whose other leaves stay what they are: those that
    /// a TLB holds are right, so only that of `offset` is invalidated, and with it what is held of the way to it.
    fn replace(&self, window: &Window, offset: u64, (table, index): (Pa, usize), new: u64) {
        self.host.store(table, index, codec::locked());
        let mut batch = Batch::new();
        let page = window.ipa(offset) & !PAGE_SIZE.wrapping_sub(1);
        // The memory keeps its owner, and both map it write-back: there is nothing to clean.
        batch.push(Stale { ipa: page, level: 3, pa: Pa::new(0), clean: false });
        self.complete(&mut batch);
        self.host.store(table, index, new);
    }

    /// Shows all of the other VM's RAM: `pieces` are its offset, physical address and size, each a multiple of 2 MiB. Nothing
    /// is shared one by one.
    pub fn window_show_all(
        &self,
        order: &Order,
        window: &Window,
        pieces: &(impl Iterator<Item = (u64, Pa, u64)> + Clone),
    ) {
        let _writer = self.writer.lock(order);
        let blank = codec::table(window.blank);
        let blocks = || {
            pieces.clone().flat_map(|(offset, pa, size)| {
                (0..size >> 21).filter_map(move |n| {
                    let step = n.wrapping_mul(level_size(2));
                    let at = offset.wrapping_add(step);
                    let (table, index) = window.level2(at);
                    let whole = at.saturating_add(level_size(2)) <= window.size;
                    whole.then_some((table, index, Pa::new(pa.raw().wrapping_add(step))))
                })
            })
        };
        for (table, index, _) in blocks() {
            if self.host.load(table, index) == blank {
                self.host.store(table, index, codec::locked());
            }
        }
        // TLBs may hold any of the scratch leaves that were there.
        self.invalidate_all();
        for (table, index, pa) in blocks() {
            if self.host.load(table, index) == codec::locked() {
                self.host.store(table, index, codec::leaf(pa, Attr::Shared, 2));
            }
        }
        self.host.dsb_ishst();
    }

    /// Takes everything shared out of the window. Returns the tables that held it, which no TLB knows any more.
    #[must_use]
    pub fn window_clear(&self, order: &Order, window: &Window) -> Pool {
        let _writer = self.writer.lock(order);
        let blank = codec::table(window.blank);
        let mut freed = Pool::new();
        let mut changed = false;
        for (table, index, _) in window.entries() {
            let raw = self.host.load(table, index);
            if raw != blank {
                let gone = if codec::is_table(raw, 2) {
                    codec::detached(codec::table_address(raw))
                } else {
                    codec::locked()
                };
                self.host.store(table, index, gone);
                changed = true;
            }
        }
        if !changed {
            return freed;
        }
        self.invalidate_all();
        for (table, index, _) in window.entries() {
            let raw = self.host.load(table, index);
            if raw != blank {
                self.host.store(table, index, blank);
                if let Some(page) = codec::detached_table(raw) {
                    freed.put(&self.host, page);
                }
            }
        }
        self.host.dsb_ishst();
        freed
    }

    /// Calls `f` for every granule of the window that is not scratch: its offset and its physical address. Takes no lock.
    pub fn visit_window(&self, window: &Window, mut f: impl FnMut(u64, Pa)) {
        for (table, index, offset) in window.entries() {
            let raw = self.host.load(table, index);
            if raw == codec::table(window.blank) {
                continue;
            }
            let page = |n: u64| offset.wrapping_add(n.wrapping_mul(PAGE_SIZE));
            if codec::is_table(raw, 2) {
                for entry in 0..=ENTRY_MASK {
                    let leaf = self.host.load(codec::table_address(raw), entry as usize);
                    if leaf != window.scratch_leaf() {
                        f(page(entry), codec::table_address(leaf));
                    }
                }
            } else {
                for entry in 0..=ENTRY_MASK {
                    let base = codec::table_address(raw).raw();
                    f(page(entry), Pa::new(base.wrapping_add(entry.wrapping_mul(PAGE_SIZE))));
                }
            }
        }
    }

    /// Gives the tables in `freed` to this VM's pool.
    pub fn refill_all(&self, order: &Order, freed: &mut Pool) {
        let writer = &mut *self.writer.lock(order);
        while let Some(page) = freed.take(&self.host) {
            writer.pool.put(&self.host, page);
        }
    }
}
