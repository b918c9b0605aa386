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

use crate::codec::{self, Attr, Descriptor, EMPTY, Entry, level_size};
use crate::host::{TableMemory, Tlb};
use crate::map::{MapError, PA_LIMIT};
use crate::pool::Pool;
use crate::tables::{Stage2, Writer};
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
    /// pages. `None` where the size is no number of pages, or the addresses do not fit.
    pub fn new(base: Ipa, size: u64, pages: Pa) -> Option<Self> {
        let whole = size != 0 && size & PAGE_SIZE.wrapping_sub(1) == 0;
        if !whole || !base.is_aligned(GIB) || pages.page_offset() != 0 {
            return None;
        }
        base.checked_add(size.checked_next_multiple_of(GIB)?)?;
        let end = pages.checked_add(Self::pages(size).checked_mul(PAGE_SIZE)?)?;
        let page = |n: u64| Pa::new(pages.raw().wrapping_add(n.wrapping_shl(PAGE_SHIFT)));
        (end.raw() <= PA_LIMIT).then_some(Self {
            base,
            size,
            scratch: pages,
            blank: page(1),
            level2: page(2),
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

    /// The level-2 entries of `gib` of the RAM: table, index, offset.
    fn entries(&self, gib: u64) -> impl Iterator<Item = (Pa, usize, u64)> + use<> {
        let this = *self;
        let first = gib.wrapping_mul(GIB);
        let entries = this.size.saturating_sub(first).min(GIB).div_ceil(level_size(2));
        (0..entries).map(move |n| {
            let offset = first.wrapping_add(n.wrapping_mul(level_size(2)));
            let (table, index) = this.level2(offset);
            (table, index, offset)
        })
    }

    /// The numbers of its GiB, the last of which may be a part.
    fn gibs(&self) -> core::ops::Range<u64> {
        0..self.size.div_ceil(GIB)
    }

    fn scratch_leaf(&self) -> u64 {
        codec::leaf(self.scratch, Attr::Shared, 3)
    }
}

impl<H: TableMemory + Tlb> Stage2<H> {
    /// Puts `window` into this VM's address space, with nothing shared. Before the VM's first instruction. A root of level 0
    /// may need tables of level 1: they come from this VM's pool.
    ///
    /// # Errors
    /// [`MapError::Occupied`] where something is in its place, [`MapError::Range`] beyond the address space,
    /// [`MapError::PoolEmpty`] or [`MapError::Released`]. Nothing has changed then.
    pub fn add_window(&self, order: &Order, window: &Window) -> Result<(), MapError> {
        let writer = &mut *self.writer.lock(order);
        if writer.released {
            return Err(MapError::Released);
        }
        let places = || window.gibs().map(|n| (n, window.ipa(n.wrapping_mul(GIB))));
        let (mut tables, mut above) = (0_usize, None);
        for (_, at) in places() {
            if at.saturating_add(GIB) > self.limit() {
                return Err(MapError::Range);
            }
            let slot = self.slot(at);
            if slot.level > 1 || slot.raw != EMPTY {
                return Err(MapError::Occupied(Ipa::new(at)));
            }
            if slot.level == 0 && above != Some(slot.index) {
                above = Some(slot.index);
                tables = tables.saturating_add(1);
            }
        }
        if tables > writer.pool.free() {
            return Err(MapError::PoolEmpty);
        }
        self.host.fill(window.blank, window.scratch_leaf());
        for (n, _) in places() {
            // What is beyond the RAM is scratch as well: no entry of a window is ever invalid but during a change.
            let (table, _) = window.level2(n.wrapping_mul(GIB));
            self.host.fill(table, codec::table(window.blank));
        }
        self.host.dsb_ishst();
        for (n, at) in places() {
            let mut slot = self.slot(at);
            if slot.level == 0 {
                if !self.split_invalid(writer, &slot) {
                    debug_assert!(false, "the pool had been counted");
                    return Err(MapError::PoolEmpty);
                }
                slot = self.slot(at);
            }
            let (table, _) = window.level2(n.wrapping_mul(GIB));
            self.host.store(slot.table, slot.index, codec::window_table(table));
        }
        self.host.dsb_ishst();
        Ok(())
    }

    /// The descriptor at `address`, and its level, where a walk has ended above the window whose level-2 table `raw` points to.
    ///
    /// A table of a window may go back to the VM behind it while a reader is on its way, and be something else by then. So
    /// what is no leaf is no verdict: the guest tries again.
    #[cold]
    #[inline(never)]
    pub(crate) fn look_through(&self, address: u64, raw: u64) -> (u64, u8) {
        let level2 = codec::table_address(raw);
        let index = |level| (address >> codec::level_shift(level) & ENTRY_MASK) as usize;
        let (mut raw, mut level) = (self.host.load(level2, index(2)), 2);
        if codec::is_table(raw, level) {
            level = 3;
            raw = self.host.load(codec::table_address(raw), index(level));
        }
        match codec::entry(raw, level) {
            Entry::Leaf { .. } => (raw, level),
            _ => (codec::locked(), level),
        }
    }

    /// Puts the granule at `pa` in its place in the window, `offset` bytes from its start. `claim` decides under the lock
    /// whether that may be; it is refused beyond the RAM, where all RAM is shown, and after [`Stage2::release`]. `spare` is a page
    /// for a table, taken if one is needed.
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
        let writer = &*self.writer.lock(order);
        if offset >= window.size || writer.released {
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
                self.replace(writer, window, offset, (level2, index), codec::table(table));
            }
            None => {
                let table = codec::table_address(old);
                self.replace(writer, window, offset, (table, entry), leaf);
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
        let writer = &*self.writer.lock(order);
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
            self.replace(writer, window, offset, (table, entry), window.scratch_leaf());
            self.host.dsb_ishst();
        }
        Windowed::Done
    }

    /// Break-before-make of the leaf of `offset`, or of the table above it whose other leaves stay what they are: those that
    /// a TLB holds are right, so only that of `offset` is invalidated, and with it what is held of the way to it.
    fn replace(
        &self,
        writer: &Writer,
        window: &Window,
        offset: u64,
        (table, index): (Pa, usize),
        new: u64,
    ) {
        // Released tables have no way to the window, and no TLB knows it.
        if !writer.released {
            self.host.store(table, index, codec::locked());
            // The memory keeps its owner, and both map it write-back: there is nothing to clean.
            self.complete_page(Ipa::new(window.ipa(offset) & !PAGE_SIZE.wrapping_sub(1)));
        }
        self.host.store(table, index, new);
    }

    /// Shows all of the other VM's RAM: `pieces` are its offset, physical address and size. Refused, with nothing changed, where
    /// a piece is not whole 2 MiB at a multiple of 2 MiB within the RAM, and after [`Stage2::release`]. Nothing is shared one by
    /// one.
    pub fn window_show_all(
        &self,
        order: &Order,
        window: &Window,
        pieces: &(impl Iterator<Item = (u64, Pa, u64)> + Clone),
    ) -> Windowed {
        let writer = &*self.writer.lock(order);
        let fits = |(offset, pa, size): (u64, Pa, u64)| {
            (offset | pa.raw() | size) & level_size(2).wrapping_sub(1) == 0
                && offset.checked_add(size).is_some_and(|end| end <= window.size)
                && pa.checked_add(size).is_some_and(|end| end.raw() <= PA_LIMIT)
        };
        if writer.released || !pieces.clone().all(fits) {
            return Windowed::Refused;
        }
        let blocks = || {
            pieces.clone().flat_map(|(offset, pa, size)| {
                (0..size >> codec::level_shift(2)).map(move |n| {
                    let step = n.wrapping_mul(level_size(2));
                    let (table, index) = window.level2(offset.wrapping_add(step));
                    (table, index, Pa::new(pa.raw().wrapping_add(step)))
                })
            })
        };
        let blank = codec::table(window.blank);
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
        Windowed::Done
    }

    /// Takes everything shared out of the window. Returns the tables that held it, which no TLB knows any more.
    ///
    /// The lock is held for one GiB at a time: 512 entries are looked at twice. So the caller sees to it that nothing is shared
    /// meanwhile.
    #[must_use]
    pub fn window_clear(&self, order: &Order, window: &Window) -> Pool {
        let mut freed = Pool::new();
        for gib in window.gibs() {
            let _writer = self.writer.lock(order);
            self.clear_gib(window, gib, &mut freed);
        }
        freed
    }

    fn clear_gib(&self, window: &Window, gib: u64, freed: &mut Pool) {
        let blank = codec::table(window.blank);
        let mut changed = false;
        for (table, index, _) in window.entries(gib) {
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
            return;
        }
        self.invalidate_all();
        for (table, index, _) in window.entries(gib) {
            let raw = self.host.load(table, index);
            if raw != blank {
                self.host.store(table, index, blank);
                if let Some(page) = codec::detached_table(raw) {
                    freed.put(&self.host, page);
                }
            }
        }
        self.host.dsb_ishst();
    }

    /// Calls `f` for every granule of the window that is not scratch: its offset and its physical address. Takes no lock; what
    /// is being changed meanwhile is left out.
    pub fn visit_window(&self, window: &Window, mut f: impl FnMut(u64, Pa)) {
        let scratch = Entry::Leaf { pa: window.scratch, attr: Attr::Shared };
        for (table, index, offset) in window.gibs().flat_map(|gib| window.entries(gib)) {
            let pages = |n: u64| n.wrapping_mul(PAGE_SIZE);
            match self.descriptor(table, index, 2) {
                Descriptor::Table(table) if table == window.blank => {}
                Descriptor::Table(table) => {
                    for n in 0..=ENTRY_MASK {
                        let entry = codec::entry(self.host.load(table, n as usize), 3);
                        if let Entry::Leaf { pa, .. } = entry
                            && entry != scratch
                        {
                            f(offset.wrapping_add(pages(n)), pa);
                        }
                    }
                }
                Descriptor::Entry(Entry::Leaf { pa, .. }) => {
                    for n in 0..=ENTRY_MASK {
                        let pa = Pa::new(pa.raw().wrapping_add(pages(n)));
                        f(offset.wrapping_add(pages(n)), pa);
                    }
                }
                _ => {}
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
