// SPDX-License-Identifier: MIT OR Apache-2.0
//! Judges the order of stores, barriers and invalidations.

use super::event::Event;
use super::progress::{Broken, Forgetting, Removal, Step, rounds};
use super::words::{TABLES, Words};
use crate::codec::{self, Descriptor, Entry, level_shift, level_size};
use crate::host::ENTRIES;
use arch::{Ipa, PAGE_SIZE, Pa, Stage2Geometry};
use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

/// What a page of table memory is to a walker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Not reachable: free, or being filled. `synced` where a DSB followed the last store.
    Loose { synced: bool },
    /// Part of the tree: level of its entries, the address that its first one stands for, and whether a window is above it.
    Live { level: u8, base: u64, window: bool },
    /// The blank table of a window: one leaf 512 times, below so many entries of level 2. Never changed there: that would
    /// change as many places at once.
    Blank { hangs: usize },
    /// Was part of the tree; walk caches may know it.
    Detached(Forgetting),
}

pub(super) struct Judge {
    pub(super) repeat: bool,
    roles: Vec<Role>,
    /// Descriptors on their way from valid to clean, by word.
    removals: BTreeMap<usize, Removal>,
    /// Tables of leaves whose place is invalid now, by the word of that place.
    broken: BTreeMap<usize, Broken>,
    /// Normal memory whose leaf is gone for good, and may be cleaned.
    cleanable: Vec<(Pa, u64)>,
    /// A descriptor was made valid, and no DSB followed yet.
    unsynced: bool,
    pub(super) violations: Vec<String>,
    /// What a descriptor that a walker can reach adds to `marks`.
    pub(super) mark: Option<Mark>,
    /// Sum over the tree.
    pub(super) marks: u64,
}

/// A number for a descriptor at an IPA and a level.
pub type Mark = fn(Ipa, u8, Descriptor) -> u64;

/// A store, for those who blame.
struct Change {
    ipa: u64,
    level: u8,
    old: u64,
    new: u64,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { ipa, level, old, new } = self;
        write!(f, "{ipa:#x} level {level}: {old:#x} -> {new:#x}")
    }
}

impl Judge {
    /// For memory of so many `pages`, of which the root begins with number `first`.
    pub(super) fn new(pages: usize, first: usize, geometry: &Stage2Geometry, repeat: bool) -> Self {
        let mut roles = vec![Role::Loose { synced: false }; pages];
        let span = level_size(geometry.start_level) * ENTRIES as u64;
        let root = roles.iter_mut().skip(first).take(usize::from(geometry.root_pages));
        for (page, role) in root.enumerate() {
            let (level, base) = (geometry.start_level, page as u64 * span);
            *role = Role::Live { level, base, window: false };
        }
        Self {
            repeat,
            roles,
            removals: BTreeMap::new(),
            broken: BTreeMap::new(),
            cleanable: Vec::new(),
            unsynced: false,
            violations: Vec::new(),
            mark: None,
            marks: 0,
        }
    }

    fn mark(&self, ipa: u64, level: u8, raw: u64) -> u64 {
        self.mark.map_or(0, |mark| mark(Ipa::new(ipa), level, codec::decode(raw, level)))
    }

    /// Pages of the tree, those of windows left out.
    pub(super) fn live_pages(&self) -> usize {
        self.roles.iter().filter(|role| matches!(role, Role::Live { window: false, .. })).count()
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.violations.is_empty() && self.unfinished().is_empty()
    }

    pub(super) fn unfinished(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for removal in self.removals.values() {
            faults.push(format!("removal not completed: {removal:x?}"));
        }
        for Broken { base, .. } in self.broken.values() {
            faults.push(format!("TLBs may hold leaves of the table that was at {base:#x}"));
        }
        if self.unsynced {
            faults.push("a descriptor was made valid without a DSB after it".into());
        }
        faults
    }

    fn blame(&mut self, what: String) {
        self.violations.push(what);
    }

    /// Judges a store that has just changed `words[word]` from `old`.
    pub(super) fn store(&mut self, words: &Words, word: usize, old: u64) -> Option<Event> {
        let (page, index, new) = (word / ENTRIES, word % ENTRIES, words.get(word));
        let (level, base, window) = match self.roles[page] {
            Role::Loose { .. } => {
                self.roles[page] = Role::Loose { synced: false };
                return None;
            }
            Role::Detached(_) => {
                self.blame(format!("page {page} touched before the VMID was invalidated"));
                return None;
            }
            Role::Blank { hangs } => {
                self.blame(format!("page {page}, a table in {hangs} places, touched"));
                return None;
            }
            Role::Live { level, base, window } => (level, base, window),
        };
        let ipa = base + ((index as u64) << level_shift(level));
        let what = Change { ipa, level, old, new };
        self.shape(new, level, &what);
        if !window {
            let (before, after) = (self.mark(ipa, level, old), self.mark(ipa, level, new));
            self.marks = self.marks.wrapping_sub(before).wrapping_add(after);
        }

        let removing = self.removals.contains_key(&word);
        let was_valid = codec::is_valid(old);
        let is_valid = codec::is_valid(new);
        if removing && is_valid {
            self.blame(format!("valid before the invalidation was complete: {what}"));
        } else if was_valid && is_valid && old != new {
            self.blame(format!("valid to valid without a break: {what}"));
        }
        if was_valid && !is_valid {
            self.remove(words, word, &what);
        }
        if is_valid && !was_valid {
            self.make(words, word, &what);
            // A table without leaves translates nothing more than the invalid entry before it.
            self.unsynced |= match codec::decode(new, level) {
                Descriptor::Table(table) => {
                    self.publish(words, table, level + 1, ipa, window, &what)
                }
                Descriptor::Window(table) => {
                    self.publish(words, table, level + 1, ipa, true, &what)
                }
                Descriptor::Entry(_) => true,
            };
        }
        Some(Event::Store { ipa: Ipa::new(ipa), level, old, new })
    }

    /// Whether `new` is a descriptor that may stand in a table at all.
    fn shape(&mut self, new: u64, level: u8, what: &Change) {
        match codec::decode(new, level) {
            Descriptor::Entry(Entry::Unknown(_)) => self.blame(format!("no descriptor: {what}")),
            Descriptor::Entry(Entry::Leaf { .. })
            | Descriptor::Table(_)
            | Descriptor::Window(_) => {}
            Descriptor::Entry(_) if new & 3 != 0 => {
                self.blame(format!("annotation with bit 0 or 1 set: {what}"));
            }
            Descriptor::Entry(_) => {}
        }
    }

    fn remove(&mut self, words: &Words, word: usize, what: &Change) {
        let Change { ipa, level, old, .. } = *what;
        let rounds = rounds(self.repeat);
        let (table, memory) = match codec::decode(old, level) {
            Descriptor::Table(table) | Descriptor::Window(table) => {
                if level == 2
                    && let Some(page) = self.page_of(table)
                {
                    let leaves = (0..ENTRIES).map(|n| words.get(page * ENTRIES + n)).collect();
                    let forgetting = Forgetting::new(self.repeat);
                    let covered = BTreeMap::new();
                    self.broken.insert(word, Broken { base: ipa, leaves, covered, forgetting });
                }
                self.detach(words, table, level + 1, ipa);
                (true, None)
            }
            Descriptor::Entry(Entry::Leaf { pa, attr }) if attr.is_memory() => (false, Some(pa)),
            Descriptor::Entry(_) => (false, None),
        };
        let removal = Removal { ipa, level, memory, table, step: Step::Written, rounds };
        self.removals.insert(word, removal);
    }

    /// Judges what takes the place of a table of leaves that went without an invalidation of the whole VMID: a leaf that a
    /// TLB may hold is the same as before, or was invalidated by its address.
    fn make(&mut self, words: &Words, word: usize, what: &Change) {
        let Some(broken) = self.broken.remove(&word) else { return };
        let page = match codec::decode(what.new, what.level) {
            Descriptor::Table(table) => self.page_of(table),
            _ => None,
        };
        for (index, leaf) in broken.leaves.iter().enumerate() {
            let same = page.is_some_and(|page| words.get(page * ENTRIES + index) == *leaf);
            let covered = broken.covered.get(&index).copied().unwrap_or(0);
            if codec::is_valid(*leaf) && !same && covered < rounds(self.repeat) {
                let at = broken.base + index as u64 * PAGE_SIZE;
                self.blame(format!("TLBs may hold the leaf that was at {at:#x}: {what}"));
            }
        }
    }

    /// The page of table memory at `table`, if there is one.
    fn page_of(&self, table: Pa) -> Option<usize> {
        let page = table.raw().checked_sub(TABLES.raw())? / PAGE_SIZE;
        usize::try_from(page).ok().filter(|page| *page < self.roles.len())
    }

    /// Whether all of a page is one and the same leaf of level 3.
    fn is_uniform(words: &Words, page: usize) -> bool {
        let first = words.get(page * ENTRIES);
        let leaf = matches!(codec::decode(first, 3), Descriptor::Entry(Entry::Leaf { .. }));
        leaf && (1..ENTRIES).all(|index| words.get(page * ENTRIES + index) == first)
    }

    /// Makes a table part of the tree; returns whether there is a leaf in it.
    fn publish(
        &mut self,
        words: &Words,
        table: Pa,
        level: u8,
        base: u64,
        window: bool,
        what: &Change,
    ) -> bool {
        let mut leaves = false;
        let Some(page) = self.page_of(table) else {
            self.blame(format!("no table at {table:?}: {what}"));
            return leaves;
        };
        match self.roles[page] {
            Role::Loose { synced: true } => {}
            Role::Loose { synced: false } => {
                self.blame(format!("table published before its contents: {what}"));
            }
            Role::Blank { hangs } if window && level == 3 => {
                self.roles[page] = Role::Blank { hangs: hangs + 1 };
                return true;
            }
            Role::Live { level: 3, window: true, .. }
                if window && level == 3 && Self::is_uniform(words, page) =>
            {
                self.roles[page] = Role::Blank { hangs: 2 };
                return true;
            }
            role => self.blame(format!("a page used twice ({role:?}): {what}")),
        }
        self.roles[page] = Role::Live { level, base, window };
        for index in 0..ENTRIES {
            let raw = words.get(page * ENTRIES + index);
            let at = base + ((index as u64) << level_shift(level));
            // As a part of the new table it has no past.
            self.shape(raw, level, &Change { ipa: at, level, old: raw, new: raw });
            if !window {
                self.marks = self.marks.wrapping_add(self.mark(at, level, raw));
            }
            leaves |= match codec::decode(raw, level) {
                Descriptor::Table(next) => self.publish(words, next, level + 1, at, window, what),
                Descriptor::Window(next) => self.publish(words, next, level + 1, at, true, what),
                Descriptor::Entry(entry) => matches!(entry, Entry::Leaf { .. }),
            };
        }
        leaves
    }

    fn detach(&mut self, words: &Words, table: Pa, level: u8, base: u64) {
        let Some(page) = self.page_of(table) else { return };
        let window = match self.roles[page] {
            Role::Blank { hangs } if hangs > 1 => {
                self.roles[page] = Role::Blank { hangs: hangs - 1 };
                return;
            }
            Role::Blank { .. } => true,
            Role::Live { window, .. } => window,
            _ => false,
        };
        self.roles[page] = Role::Detached(Forgetting::new(self.repeat));
        for index in 0..ENTRIES {
            let raw = words.get(page * ENTRIES + index);
            let at = base + ((index as u64) << level_shift(level));
            if !window {
                self.marks = self.marks.wrapping_sub(self.mark(at, level, raw));
            }
            if let Descriptor::Table(next) | Descriptor::Window(next) = codec::decode(raw, level) {
                self.detach(words, next, level + 1, at);
            }
        }
    }

    /// Judges a barrier, an invalidation or a cache operation.
    pub(super) fn event(&mut self, event: Event) {
        match event {
            Event::Store { .. } => {}
            Event::DsbIshst => self.barrier(false),
            Event::DsbIsh => self.barrier(true),
            Event::Isb => self.isb(),
            Event::TlbiIpa { ipa, level } => {
                let mut hit = false;
                for (word, removal) in &mut self.removals {
                    let mut broken = None;
                    let (same, its_level) = if removal.table {
                        // Of a table: one of its leaves, and the way to it.
                        broken = self.broken.get_mut(word);
                        let inside = ipa.raw().checked_sub(removal.ipa);
                        (broken.is_some() && inside.is_some_and(|at| at < level_size(2)), 3)
                    } else {
                        (removal.ipa == ipa.raw(), removal.level)
                    };
                    if !same || level.is_some_and(|level| level != its_level) {
                        continue;
                    }
                    hit = true;
                    if removal.step == Step::Visible {
                        removal.step = Step::Stage2Issued;
                    }
                    if removal.step == Step::Stage2Issued
                        && let Some(broken) = broken
                    {
                        let index = (ipa.raw() - removal.ipa) / PAGE_SIZE;
                        *broken.covered.entry(index as usize).or_default() += 1;
                    }
                }
                if !hit {
                    self.blame(format!("invalidation of {ipa:?} level {level:?}: no such entry"));
                }
            }
            Event::TlbiStage1 => {
                for removal in self.removals.values_mut() {
                    if removal.step == Step::Stage2Done {
                        removal.step = Step::Stage1Issued;
                    }
                }
            }
            // They reach the CPU that issues them, and vCPUs run on others.
            Event::DsbNsh | Event::TlbiIpaNsh { .. } | Event::TlbiStage1Nsh | Event::TlbiAllNsh => {
                self.blame(format!("{event:?} is not for the Inner Shareable domain"));
            }
            Event::TlbiAll => {
                for removal in self.removals.values_mut() {
                    if !matches!(removal.step, Step::Written | Step::Done) {
                        removal.step = Step::AllIssued;
                    }
                }
                for broken in self.broken.values_mut() {
                    broken.forgetting.issued();
                }
                for role in &mut self.roles {
                    if let Role::Detached(forgetting) = role {
                        forgetting.issued();
                    }
                }
            }
            Event::Clean { pa, bytes } => {
                let found = self.cleanable.iter().position(|c| *c == (pa, bytes));
                match found {
                    Some(index) => drop(self.cleanable.swap_remove(index)),
                    None => self.blame(format!(
                        "cache maintenance of {pa:?}+{bytes:#x}: no Normal leaf that is gone"
                    )),
                }
            }
        }
    }

    fn barrier(&mut self, loads_too: bool) {
        self.unsynced = false;
        for role in &mut self.roles {
            match role {
                Role::Loose { synced } => *synced = true,
                Role::Detached(forgetting) => forgetting.barrier(loads_too),
                _ => {}
            }
        }
        for broken in self.broken.values_mut() {
            broken.forgetting.barrier(loads_too);
        }
        for removal in self.removals.values_mut() {
            match removal.step {
                Step::Written => removal.step = Step::Visible,
                Step::Stage2Issued if loads_too => removal.step = Step::Stage2Done,
                Step::Stage1Issued | Step::AllIssued if loads_too => removal.round_done(),
                _ => {}
            }
        }
    }

    fn isb(&mut self) {
        let done: Vec<usize> = self
            .removals
            .iter()
            .filter(|(_, removal)| removal.step == Step::Done)
            .map(|(word, _)| *word)
            .collect();
        for word in done {
            let Some(removal) = self.removals.remove(&word) else { continue };
            if let Some(pa) = removal.memory {
                self.cleanable.push((pa, level_size(removal.level)));
            }
        }
        // After an invalidation of the whole VMID no TLB holds what removed tables led to.
        self.broken.retain(|_, broken| broken.forgetting.step != Step::Done);
        for role in &mut self.roles {
            if let Role::Detached(Forgetting { step: Step::Done, .. }) = role {
                *role = Role::Loose { synced: true };
            }
        }
    }
}
