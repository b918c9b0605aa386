// SPDX-License-Identifier: MIT OR Apache-2.0
//! Judges the order of stores, barriers and invalidations.

use super::event::Event;
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
    /// Part of the tree: level of its entries, and the address that its first one stands for.
    Live { level: u8, base: u64 },
    /// Was part of the tree; walk caches may know it.
    Detached,
}

/// How far the removal of a valid descriptor has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Written,
    Visible,
    Stage2Issued,
    Stage2Done,
    Stage1Issued,
    AllIssued,
    Done,
}

#[derive(Clone, Copy, Debug)]
struct Removal {
    /// What the descriptor translated.
    ipa: u64,
    level: u8,
    /// Normal memory it mapped.
    memory: Option<Pa>,
    /// A table rather than a leaf.
    table: bool,
    step: Step,
    rounds: u8,
}

impl Removal {
    fn round_done(&mut self) {
        self.rounds -= 1;
        self.step = if self.rounds == 0 { Step::Done } else { Step::Visible };
    }
}

pub(super) struct Judge {
    pub(super) repeat: bool,
    roles: Vec<Role>,
    /// Descriptors on their way from valid to clean, by word.
    removals: BTreeMap<usize, Removal>,
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
    pub(super) fn new(pages: usize, geometry: &Stage2Geometry, repeat: bool) -> Self {
        let mut roles = vec![Role::Loose { synced: false }; pages];
        let span = level_size(geometry.start_level) * ENTRIES as u64;
        for (page, role) in roles.iter_mut().take(usize::from(geometry.root_pages)).enumerate() {
            *role = Role::Live { level: geometry.start_level, base: page as u64 * span };
        }
        Self {
            repeat,
            roles,
            removals: BTreeMap::new(),
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

    pub(super) fn live_pages(&self) -> usize {
        self.roles.iter().filter(|role| matches!(role, Role::Live { .. })).count()
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.violations.is_empty() && self.removals.is_empty() && !self.unsynced
    }

    pub(super) fn unfinished(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for removal in self.removals.values() {
            faults.push(format!("removal not completed: {removal:x?}"));
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
        let (level, base) = match self.roles[page] {
            Role::Loose { .. } => {
                self.roles[page] = Role::Loose { synced: false };
                return None;
            }
            Role::Detached => {
                self.blame(format!("page {page} touched before the VMID was invalidated"));
                return None;
            }
            Role::Live { level, base } => (level, base),
        };
        let ipa = base + ((index as u64) << level_shift(level));
        let what = Change { ipa, level, old, new };
        self.shape(new, level, &what);
        let (before, after) = (self.mark(ipa, level, old), self.mark(ipa, level, new));
        self.marks = self.marks.wrapping_sub(before).wrapping_add(after);

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
            // A table without leaves translates nothing more than the invalid entry before it.
            self.unsynced |= match codec::decode(new, level) {
                Descriptor::Table(table) | Descriptor::Window(table) => {
                    self.publish(words, table, level + 1, ipa, &what)
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
        let rounds = if self.repeat { 2 } else { 1 };
        let (table, memory) = match codec::decode(old, level) {
            Descriptor::Table(table) | Descriptor::Window(table) => {
                self.detach(words, table, level + 1, ipa);
                (true, None)
            }
            Descriptor::Entry(Entry::Leaf { pa, attr }) if attr.is_memory() => (false, Some(pa)),
            Descriptor::Entry(_) => (false, None),
        };
        let removal = Removal { ipa, level, memory, table, step: Step::Written, rounds };
        self.removals.insert(word, removal);
    }

    /// The page of table memory at `table`, if there is one.
    fn page_of(&self, table: Pa) -> Option<usize> {
        let page = table.raw().checked_sub(TABLES.raw())? / PAGE_SIZE;
        usize::try_from(page).ok().filter(|page| *page < self.roles.len())
    }

    /// Makes a table part of the tree; returns whether there is a leaf in it.
    fn publish(&mut self, words: &Words, table: Pa, level: u8, base: u64, what: &Change) -> bool {
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
            role => self.blame(format!("a page used twice ({role:?}): {what}")),
        }
        self.roles[page] = Role::Live { level, base };
        for index in 0..ENTRIES {
            let raw = words.get(page * ENTRIES + index);
            let at = base + ((index as u64) << level_shift(level));
            // As a part of the new table it has no past.
            self.shape(raw, level, &Change { ipa: at, level, old: raw, new: raw });
            self.marks = self.marks.wrapping_add(self.mark(at, level, raw));
            leaves |= match codec::decode(raw, level) {
                Descriptor::Table(next) | Descriptor::Window(next) => {
                    self.publish(words, next, level + 1, at, what)
                }
                Descriptor::Entry(entry) => matches!(entry, Entry::Leaf { .. }),
            };
        }
        leaves
    }

    fn detach(&mut self, words: &Words, table: Pa, level: u8, base: u64) {
        let Some(page) = self.page_of(table) else { return };
        self.roles[page] = Role::Detached;
        for index in 0..ENTRIES {
            let raw = words.get(page * ENTRIES + index);
            let at = base + ((index as u64) << level_shift(level));
            self.marks = self.marks.wrapping_sub(self.mark(at, level, raw));
            if let Descriptor::Table(next) = codec::decode(raw, level) {
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
                for removal in self.removals.values_mut() {
                    let same = removal.ipa == ipa.raw() && !removal.table;
                    if same && level.is_none_or(|level| level == removal.level) {
                        hit = true;
                        if removal.step == Step::Visible {
                            removal.step = Step::Stage2Issued;
                        }
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
            if let Role::Loose { synced } = role {
                *synced = true;
            }
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
        if !self.removals.values().any(|removal| removal.table) {
            for role in &mut self.roles {
                if *role == Role::Detached {
                    *role = Role::Loose { synced: true };
                }
            }
        }
    }
}
