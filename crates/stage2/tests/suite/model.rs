// SPDX-License-Identifier: MIT OR Apache-2.0
//! The specification of stage 2, small and slow: a map of entries that do not overlap.
//!
//! An entry is at a level and stands for that level's size. A table is what an entry was cut into:
//! there is nothing else to it here.

use crate::common::*;
use arch::Ipa;
use stage2::codec::level_size;
use std::collections::BTreeMap;

#[derive(Clone)]
pub struct Model {
    limit: u64,
    start_level: u8,
    root_entries: u64,
    /// First address -> level and what it is.
    entries: BTreeMap<u64, (u8, Entry)>,
    pub free: usize,
}

impl Model {
    pub fn new(bits: u8, pool: usize) -> Self {
        let geometry = fake::geometry(bits);
        let size = level_size(geometry.start_level);
        let limit = 1 << bits;
        let root_entries = limit / size;
        let entries =
            (0..root_entries).map(|n| (n * size, (geometry.start_level, Entry::Empty))).collect();
        Self { limit, start_level: geometry.start_level, root_entries, entries, free: pool }
    }

    pub fn entries(&self) -> impl Iterator<Item = (u64, u8, Entry)> {
        self.entries.iter().map(|(base, (level, entry))| (*base, *level, *entry))
    }

    pub fn declared(&self) -> u64 {
        let pages = |(_, level, entry)| match entry {
            Entry::Guard(_) => level_size(level) / KIB4,
            _ => 0,
        };
        self.entries().map(pages).sum()
    }

    /// Each cut makes 512 of one.
    pub fn tables(&self) -> u64 {
        (self.entries.len() as u64 - self.root_entries) / 511
    }

    fn at(&self, ipa: u64) -> (u64, u8, Entry) {
        let (base, (level, entry)) = self.entries.range(..=ipa).next_back().unwrap();
        (*base, *level, *entry)
    }

    fn cut(&mut self, base: u64, level: u8) {
        let entry = self.at(base).2;
        let part = level_size(level + 1);
        for n in 0..512 {
            let entry = match entry {
                Entry::Leaf { pa, attr } => {
                    Entry::Leaf { pa: arch::Pa::new(pa.raw() + n * part), attr }
                }
                other => other,
            };
            self.entries.insert(base + n * part, (level + 1, entry));
        }
        self.free -= 1;
    }

    fn is_range(&self, ipa: u64, size: u64) -> bool {
        let end = u128::from(ipa) + u128::from(size);
        size != 0
            && ipa.is_multiple_of(KIB4)
            && size.is_multiple_of(KIB4)
            && end <= u128::from(self.limit)
    }

    /// Goes through a range as `declare` and `undeclare` do. `rule` says what an entry becomes, or
    /// that it ends the range; what is less than whole is cut where it would change.
    fn annotate(
        &mut self,
        ipa: u64,
        size: u64,
        budget: u32,
        becomes: impl Fn(Entry) -> Option<Entry>,
        changes: impl Fn(Entry) -> bool,
    ) -> Result<u64, DeclareError> {
        if !self.is_range(ipa, size) {
            return Err(DeclareError::Range);
        }
        let (end, mut at) = (ipa + size, ipa);
        let mut stopped = None;
        let mut left = budget;
        while at < end && left > 0 {
            let (base, level, entry) = self.at(at);
            let stop = base + level_size(level);
            let Some(new) = becomes(entry) else {
                stopped = Some(DeclareError::Occupied);
                break;
            };
            if (at == base && stop <= end) || !changes(entry) {
                if at == base && stop <= end {
                    self.entries.insert(base, (level, new));
                }
                at = stop.min(end);
                left -= 1;
                continue;
            }
            // Cut until an entry begins here that ends in time: all of it, or nothing.
            let mut trial = self.clone();
            while trial.free > 0 {
                let (base, level, _) = trial.at(at);
                if at == base && base + level_size(level) <= end {
                    break;
                }
                trial.cut(base, level);
            }
            let (base, level, _) = trial.at(at);
            if at != base || base + level_size(level) > end {
                stopped = Some(DeclareError::PoolEmpty);
                break;
            }
            *self = trial;
        }
        match stopped {
            Some(error) if at == ipa => Err(error),
            _ => Ok((at - ipa) / KIB4),
        }
    }

    pub fn declare(
        &mut self,
        ipa: u64,
        size: u64,
        note: GuardAnnotation,
        budget: u32,
    ) -> Result<u64, DeclareError> {
        let becomes = |entry| match entry {
            Entry::Empty | Entry::Guard(_) => Some(Entry::Guard(note)),
            _ => None,
        };
        self.annotate(ipa, size, budget, becomes, |entry| entry == Entry::Empty)
    }

    pub fn undeclare(&mut self, ipa: u64, size: u64, budget: u32) -> Result<u64, DeclareError> {
        let becomes = |entry| match entry {
            Entry::Guard(_) => Some(Entry::Empty),
            other => Some(other),
        };
        self.annotate(ipa, size, budget, becomes, |entry| matches!(entry, Entry::Guard(_)))
    }

    /// All of it, or nothing: done on a copy with as many tables as it wants, which are then counted.
    fn whole(
        &mut self,
        ipa: u64,
        size: u64,
        step: impl Fn(&mut Self, u64) -> Result<Option<Entry>, MapError>,
    ) -> Result<(), MapError> {
        let mut trial = self.clone();
        trial.free = usize::MAX;
        let (mut at, end) = (ipa, ipa + size);
        // An obstacle is reported wherever it is, before the lack of tables.
        while at < end {
            let (base, level, _) = trial.at(at);
            step(&mut trial, at)?;
            at = (base + level_size(level)).min(end);
        }
        at = ipa;
        while at < end {
            let (base, level, _) = trial.at(at);
            let stop = base + level_size(level);
            match step(&mut trial, at)? {
                Some(new) if at == base && stop <= end => {
                    trial.entries.insert(base, (level, new));
                    at = stop;
                }
                _ => trial.cut(base, level),
            }
            // Far more than there is: no need to go on.
            if usize::MAX - trial.free > self.free {
                return Err(MapError::PoolEmpty);
            }
        }
        let used = usize::MAX - trial.free;
        trial.free = self.free - used;
        *self = trial;
        Ok(())
    }

    pub fn map(
        &mut self,
        ipa: u64,
        pa: u64,
        size: u64,
        attr: Attr,
        over: Over,
    ) -> Result<(), MapError> {
        let pa_end = u128::from(pa) + u128::from(size);
        if !self.is_range(ipa, size) || !pa.is_multiple_of(KIB4) || pa_end > 1 << 48 {
            return Err(MapError::Range);
        }
        self.whole(ipa, size, |model, at| {
            let (_, level, entry) = model.at(at);
            let accepted = match (over, entry) {
                (Over::Empty | Over::Declared, Entry::Empty) => true,
                (Over::Declared, Entry::Guard(_)) => true,
                (Over::Owner(a), Entry::Owner(b)) => a == b,
                _ => false,
            };
            if !accepted {
                return Err(MapError::Occupied(Ipa::new(at)));
            }
            let output = pa + (at - ipa);
            let block = level >= 1 && output.is_multiple_of(level_size(level));
            Ok(block.then_some(Entry::Leaf { pa: arch::Pa::new(output), attr }))
        })
    }

    pub fn unmap(&mut self, ipa: u64, size: u64, leave: Annotation) -> Result<(), MapError> {
        if !self.is_range(ipa, size) {
            return Err(MapError::Range);
        }
        self.whole(ipa, size, |model, at| match model.at(at).2 {
            Entry::Leaf { .. } => Ok(Some(match leave {
                Annotation::Empty => Entry::Empty,
                Annotation::Owner(id) => Entry::Owner(id),
                Annotation::Declared => Entry::Guard(GuardAnnotation::default()),
            })),
            _ => Err(MapError::NotMapped(Ipa::new(at))),
        })
    }

    pub fn install_device(&mut self, ipa: u64, pa: u64) -> Result<(), MapError> {
        let leaf = Entry::Leaf { pa: arch::Pa::new(pa), attr: Attr::Device };
        if self.is_range(ipa, KIB4) && self.at(ipa) == (ipa, 3, leaf) {
            return Ok(());
        }
        self.map(ipa, pa, KIB4, Attr::Device, Over::Declared)
    }

    pub fn remove_device(&mut self, ipa: u64) -> Result<bool, MapError> {
        if !self.is_range(ipa, KIB4) {
            return Err(MapError::Range);
        }
        match self.at(ipa) {
            (_, 3, Entry::Leaf { attr: Attr::Device, .. }) => {
                self.entries.insert(ipa, (3, Entry::Empty));
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    pub fn reset(&mut self) {
        for (_, entry) in self.entries.values_mut() {
            if !matches!(entry, Entry::Leaf { attr: Attr::Ram | Attr::Rom, .. }) {
                *entry = Entry::Empty;
            }
        }
        for level in (self.start_level + 1..=3).rev() {
            let parent = level_size(level - 1);
            let bases: Vec<u64> = self
                .entries
                .iter()
                .filter(|(base, (l, _))| *l == level && base.is_multiple_of(parent))
                .map(|(base, _)| *base)
                .collect();
            for base in bases {
                let children: Vec<u64> =
                    self.entries.range(base..base + parent).map(|(child, _)| *child).collect();
                let empty = children.iter().all(|c| self.entries[c] == (level, Entry::Empty));
                if empty {
                    assert_eq!(children.len(), 512);
                    for child in children {
                        self.entries.remove(&child);
                    }
                    self.entries.insert(base, (level - 1, Entry::Empty));
                    self.free += 1;
                }
            }
        }
    }
}
