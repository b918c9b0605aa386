// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stage 2 without tables: entries that do not overlap, and what cutting one costs. docs/stage2.md.

use crate::{BUDGET, PAGE};
use alloc::collections::{BTreeMap, BTreeSet};

/// What an entry carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Nothing.
    Empty,
    /// Memory at this IPA was given away.
    Owner(u16),
    /// The guest declared it.
    Declared(Hint),
    /// It is mapped.
    Leaf {
        /// Physical address of its first byte.
        pa: u64,
        /// What of.
        leaf: Leaf,
    },
}

impl Entry {
    /// Whether it survives a reset: memory does.
    const fn is_kept(self) -> bool {
        matches!(
            self,
            Self::Leaf { leaf: Leaf::Ram | Leaf::Rom | Leaf::Shared | Leaf::SharedRead, .. }
        )
    }
}

/// What is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    /// RAM: all is permitted.
    Ram,
    /// Read-only memory.
    Rom,
    /// A device, reached without a trap.
    Device,
    /// Memory of another VM or of EL2, never executed.
    Shared,
    /// The same, read-only.
    SharedRead,
}

/// What a declaration said about the memory type: kept, never judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// AttrIndx, bits 4:2 of MAP's x2.
    pub index: u8,
    /// The byte of MAIR_EL1 that it selected.
    pub mair: u8,
    /// Declared by the VM's owner.
    pub preset: bool,
}

/// An entry and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its first address.
    pub base: u64,
    /// Its level: 3 is a page, 2 covers 2 MiB, 1 covers 1 GiB, 0 covers 512 GiB.
    pub level: u8,
    /// What it carries.
    pub entry: Entry,
}

impl Found {
    /// First address behind it.
    pub const fn end(&self) -> u64 {
        self.base + size_of_level(self.level)
    }
}

/// Bytes that an entry of `level` covers.
pub const fn size_of_level(level: u8) -> u64 {
    PAGE << (9 * (3 - level as u32))
}

/// Why a page could not be done. Nothing changed for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// There is an entry that may not be replaced.
    Occupied,
    /// An entry would have to be cut, and no table page is left.
    NoTable,
}

/// The entries of a VM.
///
/// Every address of the IPA space lies in one entry. At first there are only those of the root, all empty.
/// Cutting one makes 512 of the next level of it, each with what the whole carried, and takes one table page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    ipa_bits: u32,
    /// First addresses and levels of the entries that were cut.
    cut: BTreeSet<(u64, u8)>,
    /// The entries that carry something, with their levels, by their first addresses.
    carried: BTreeMap<u64, (u8, Entry)>,
    /// Table pages left.
    free: u64,
    /// Pages that carry a declaration.
    declared: u64,
    /// Sum over all entries and cuts of their [`mark`]s.
    marks: u64,
}

impl Tables {
    /// Nothing but empty entries, and `free` table pages.
    pub const fn new(ipa_bits: u32, free: u64) -> Self {
        Self {
            ipa_bits,
            cut: BTreeSet::new(),
            carried: BTreeMap::new(),
            free,
            declared: 0,
            marks: 0,
        }
    }

    /// Level of the root's entries: up to 43 bits of IPA fit a root of 16 pages at level 1.
    const fn root_level(&self) -> u8 {
        if self.ipa_bits < 44 { 1 } else { 0 }
    }

    /// Table pages left.
    pub const fn free(&self) -> u64 {
        self.free
    }

    /// Makes it so many: an oracle takes table pages away to see calls fail for want of one.
    pub const fn set_free(&mut self, pages: u64) {
        self.free = pages;
    }

    /// Pages that carry a declaration.
    pub const fn declared(&self) -> u64 {
        self.declared
    }

    /// Entries that carry something, in rising order.
    pub fn carried(&self) -> impl Iterator<Item = Found> {
        self.carried.iter().map(|(&base, &(level, entry))| Found { base, level, entry })
    }

    /// First addresses and levels of the entries that were cut, in rising order.
    pub fn cuts(&self) -> impl Iterator<Item = (u64, u8)> {
        self.cut.iter().copied()
    }

    /// A number that two states share only by the rarest chance if they are not the same: for oracles, which
    /// cannot look at every entry after every exit.
    pub const fn marks(&self) -> u64 {
        self.marks
    }

    /// The entry in which `ipa` lies.
    pub fn at(&self, ipa: u64) -> Found {
        if let Some((&base, &(level, entry))) = self.carried.range(..=ipa).next_back() {
            let found = Found { base, level, entry };
            if ipa < found.end() {
                return found;
            }
        }
        let mut level = self.root_level();
        let base = |level| ipa & !(size_of_level(level) - 1);
        while self.cut.contains(&(base(level), level)) {
            level += 1;
        }
        Found { base: base(level), level, entry: Entry::Empty }
    }

    /// Makes the entry at `base` carry `entry`.
    fn put(&mut self, base: u64, level: u8, entry: Entry) {
        let old = match entry {
            Entry::Empty => self.carried.remove(&base),
            _ => self.carried.insert(base, (level, entry)),
        };
        let old = old.map(|(_, entry)| entry);
        let pages = size_of_level(level) / PAGE;
        for (entry, was) in [(old.unwrap_or(Entry::Empty), true), (entry, false)] {
            let counts = if matches!(entry, Entry::Declared(_)) { pages } else { 0 };
            let mark = mark(base, level, Some(entry));
            if was {
                self.declared -= counts;
                self.marks = self.marks.wrapping_sub(mark);
            } else {
                self.declared += counts;
                self.marks = self.marks.wrapping_add(mark);
            }
        }
    }

    /// Cuts an entry into 512 of the next level.
    fn cut(&mut self, whole: Found) {
        self.put(whole.base, whole.level, Entry::Empty);
        self.cut.insert((whole.base, whole.level));
        self.marks = self.marks.wrapping_add(mark(whole.base, whole.level, None));
        self.free -= 1;
        if whole.entry == Entry::Empty {
            return;
        }
        let size = size_of_level(whole.level + 1);
        for offset in (0..512).map(|n| n * size) {
            let part = match whole.entry {
                Entry::Leaf { pa, leaf } => Entry::Leaf { pa: pa + offset, leaf },
                same => same,
            };
            self.put(whole.base + offset, whole.level + 1, part);
        }
    }

    /// Cuts until an entry begins at `at` and ends by `end`: all that this takes, or nothing.
    fn cut_down(&mut self, at: u64, end: u64) -> Result<(), Full> {
        let fits =
            |level| at.is_multiple_of(size_of_level(level)) && at + size_of_level(level) <= end;
        let from = self.at(at).level;
        // A page always fits.
        let to = (from..=3).find(|level| fits(*level)).unwrap_or(3);
        if u64::from(to - from) > self.free {
            return Err(Full::NoTable);
        }
        for _ in from..to {
            self.cut(self.at(at));
        }
        Ok(())
    }

    /// Goes through `start..end` entry by entry. `becomes` says what an entry is to carry (the same as
    /// before: it is left alone), or that the walk ends before it. An entry of which only a part lies in the
    /// range is cut if it changes its kind. Returns how many pages were done, at most `budget` entries.
    fn edit(
        &mut self,
        start: u64,
        end: u64,
        budget: u64,
        becomes: impl Fn(Entry) -> Result<Entry, Full>,
    ) -> Result<u64, Full> {
        let mut at = start;
        let mut stopped = None;
        let mut visited = 0;
        while at < end && visited < budget {
            let here = self.at(at);
            let new = match becomes(here.entry) {
                Ok(new) => new,
                Err(why) => {
                    stopped = Some(why);
                    break;
                }
            };
            let whole = here.base == at && here.end() <= end;
            let same_kind = core::mem::discriminant(&here.entry) == core::mem::discriminant(&new);
            if whole {
                self.put(here.base, here.level, new);
            } else if !same_kind {
                if let Err(why) = self.cut_down(at, end) {
                    stopped = Some(why);
                    break;
                }
                continue;
            }
            // A part that keeps its kind keeps its hint too: that is not worth a table.
            at = here.end().min(end);
            visited += 1;
        }
        match stopped {
            Some(why) if at == start => Err(why),
            _ => Ok((at - start) / PAGE),
        }
    }

    /// Declares pages from `start` on: as many as it can, at most [`BUDGET`] entries. An error where that is
    /// none.
    pub fn declare(&mut self, start: u64, end: u64, hint: Hint) -> Result<u64, Full> {
        self.edit(start, end, BUDGET, |entry| match entry {
            Entry::Empty | Entry::Declared(_) => Ok(Entry::Declared(hint)),
            Entry::Owner(_) | Entry::Leaf { .. } => Err(Full::Occupied),
        })
    }

    /// Undeclares pages from `start` on; what is not declared is left alone, and done.
    pub fn undeclare(&mut self, start: u64, end: u64) -> Result<u64, Full> {
        self.edit(start, end, BUDGET, |entry| match entry {
            Entry::Declared(_) => Ok(Entry::Empty),
            other => Ok(other),
        })
    }

    /// Maps a device's page, which is empty, declared or mapped so already.
    pub fn install(&mut self, ipa: u64, pa: u64) -> Result<(), Full> {
        let device = Entry::Leaf { pa, leaf: Leaf::Device };
        match self.at(ipa).entry {
            entry if entry == device => return Ok(()),
            Entry::Empty | Entry::Declared(_) => {}
            Entry::Owner(_) | Entry::Leaf { .. } => return Err(Full::Occupied),
        }
        self.cut_down(ipa, ipa + PAGE)?;
        self.put(ipa, 3, device);
        Ok(())
    }

    /// Takes a device's page away, if it is mapped.
    pub fn remove(&mut self, ipa: u64) {
        if matches!(self.at(ipa).entry, Entry::Leaf { leaf: Leaf::Device, .. }) {
            self.put(ipa, 3, Entry::Empty);
        }
    }

    /// Makes all entries from `start` to `end` carry `entry`: none of them reaches beyond.
    pub fn replace(&mut self, start: u64, end: u64, entry: Entry) {
        let mut at = start;
        while at < end {
            let here = self.at(at);
            self.put(here.base, here.level, entry);
            at = here.end();
        }
    }

    /// Maps what is empty or declared, with the largest entries that the alignment of both sides allows: all of it, or
    /// nothing.
    pub fn map(&mut self, ipa: u64, pa: u64, size: u64, leaf: Leaf) -> Result<(), Full> {
        let mut mapped = self.clone();
        mapped.map_some(ipa, pa, size, leaf)?;
        *self = mapped;
        Ok(())
    }

    fn map_some(&mut self, ipa: u64, pa: u64, size: u64, leaf: Leaf) -> Result<(), Full> {
        let end = ipa + size;
        let mut at = ipa;
        while at < end {
            let here = self.at(at);
            if !matches!(here.entry, Entry::Empty | Entry::Declared(_)) {
                return Err(Full::Occupied);
            }
            let output = pa + (at - ipa);
            let whole = here.base == at && here.end() <= end;
            if whole && here.level >= 1 && output.is_multiple_of(size_of_level(here.level)) {
                self.put(at, here.level, Entry::Leaf { pa: output, leaf });
                at = here.end();
            } else if self.free == 0 {
                return Err(Full::NoTable);
            } else {
                self.cut(here);
            }
        }
        Ok(())
    }

    /// Only memory stays mapped; a cut below which nothing is mapped is undone, and its table page is free
    /// again.
    pub fn reset(&mut self) {
        let gone: alloc::vec::Vec<Found> =
            self.carried().filter(|found| !found.entry.is_kept()).collect();
        for found in gone {
            self.put(found.base, found.level, Entry::Empty);
        }
        let carried = &self.carried;
        let needed = |base: u64, level: u8| {
            carried.range(base..base + size_of_level(level)).next().is_some()
        };
        let (kept, undone): (BTreeSet<_>, BTreeSet<_>) =
            self.cut.iter().copied().partition(|(base, level)| needed(*base, *level));
        self.cut = kept;
        for (base, level) in undone {
            self.free += 1;
            self.marks = self.marks.wrapping_sub(mark(base, level, None));
        }
    }

    /// The mark of an entry, or of the cut that an entry was: see [`Tables::marks`]. Empty ones have none.
    pub fn mark(base: u64, level: u8, entry: Option<Entry>) -> u64 {
        mark(base, level, entry)
    }
}

fn mark(base: u64, level: u8, entry: Option<Entry>) -> u64 {
    let (kind, payload) = match entry {
        Some(Entry::Empty) => return 0,
        None => (1, 0),
        Some(Entry::Owner(id)) => (2, u64::from(id)),
        Some(Entry::Declared(hint)) => {
            let payload =
                u64::from(hint.index) | u64::from(hint.mair) << 8 | u64::from(hint.preset) << 16;
            (3, payload)
        }
        Some(Entry::Leaf { pa, leaf }) => (4 + leaf as u64, pa),
    };
    let place = base | u64::from(level) << 8 | kind;
    scatter(place ^ payload.wrapping_mul(0xd134_2543_de82_ef95))
}

/// Spreads a number over 64 bits (the finalizer of splitmix64).
const fn scatter(value: u64) -> u64 {
    let a = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let b = (a ^ a >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let c = (b ^ b >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    c ^ c >> 31
}
