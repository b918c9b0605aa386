// SPDX-License-Identifier: MIT OR Apache-2.0
//! The owner of each physical frame.
//!
//! Sparse: one word per 2 MiB chunk, and 512 owner ids only for chunks that are split between owners.
//! The caller gives the storage for both. A frame has one owner or none; a chunk whose frames come to
//! have the same owner again becomes one word again.

use core::fmt;

use arch::{PAGE_SHIFT, PAGE_SIZE, Pa, Range};

/// The owner id of a free frame.
pub const NO_OWNER: u16 = 0;

/// log2 of the bytes of a chunk.
const CHUNK_SHIFT: u32 = 21;
const CHUNK_SIZE: u64 = 1 << CHUNK_SHIFT;
/// Frames of a chunk.
const FRAMES: usize = 512;

/// State of one 2 MiB chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk(State);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// All frames have this owner, or none.
    Whole(u16),
    /// Owners are in this split.
    Split(u16),
}

impl Chunk {
    /// A chunk without an owner.
    pub const FREE: Self = Self(State::Whole(NO_OWNER));
}

/// Owners of the frames of one split chunk: 1 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    owners: [u16; FRAMES],
    used: bool,
}

impl Split {
    /// An unused split.
    pub const FREE: Self = Self { owners: [NO_OWNER; FRAMES], used: false };
}

/// Why a range of frames did not change hands. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// Empty, not page-aligned, or not wholly within the table.
    Range,
    /// The owner id is [`NO_OWNER`].
    NoOwner,
    /// This frame does not belong to whom it should.
    Owned {
        /// The first such frame.
        frame: Pa,
        /// Its owner; [`NO_OWNER`] for a free one.
        owner: u16,
    },
    /// There is no room for another split chunk.
    NoRoom,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range => f.write_str("not whole frames of this machine's RAM"),
            Self::NoOwner => f.write_str("there is no such owner"),
            Self::Owned { frame, owner: NO_OWNER } => write!(f, "{frame} has no owner"),
            Self::Owned { frame, owner } => write!(f, "{frame} belongs to owner {owner}"),
            Self::NoRoom => f.write_str("too many pieces smaller than 2 MiB"),
        }
    }
}

impl core::error::Error for FrameError {}

/// Who can reach a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parties {
    /// The id of the VM that it belongs to.
    pub owner: u16,
    /// The id of the VM with which the owner shares it.
    pub shared_with: Option<u16>,
}

/// Owners of the frames from `base` on, in storage that the caller gave.
#[derive(Debug)]
pub struct FrameTable<'a> {
    base: u64,
    chunks: &'a mut [Chunk],
    splits: &'a mut [Split],
}

impl<'a> FrameTable<'a> {
    /// All frames free. `base` is rounded down to 2 MiB; `chunks` has a word for each 2 MiB from there.
    /// Ranges whose ends are 2 MiB aligned never need a split.
    pub fn new(base: Pa, chunks: &'a mut [Chunk], splits: &'a mut [Split]) -> Self {
        chunks.fill(Chunk::FREE);
        splits.fill(Split::FREE);
        Self { base: base.raw() & !(CHUNK_SIZE.wrapping_sub(1)), chunks, splits }
    }

    /// Chunks needed for the frames of `range`.
    pub fn chunks_for(range: Range<Pa>) -> usize {
        if range.size() == 0 {
            return 0;
        }
        let first = range.start().raw() >> CHUNK_SHIFT;
        let last = range.end().raw().wrapping_sub(1) >> CHUNK_SHIFT;
        last.wrapping_sub(first).wrapping_add(1) as usize
    }

    /// Gives free frames to `owner`.
    ///
    /// # Errors
    /// Nothing has changed then. [`FrameError::Owned`] if one of them is not free.
    pub fn claim(&mut self, range: Range<Pa>, owner: u16) -> Result<(), FrameError> {
        if owner == NO_OWNER {
            return Err(FrameError::NoOwner);
        }
        self.change(range, NO_OWNER, owner)
    }

    /// Takes frames back from `owner`.
    ///
    /// # Errors
    /// Nothing has changed then. [`FrameError::Owned`] where one of them is not `owner`'s.
    pub fn release(&mut self, range: Range<Pa>, owner: u16) -> Result<(), FrameError> {
        if owner == NO_OWNER {
            return Err(FrameError::NoOwner);
        }
        self.change(range, owner, NO_OWNER)
    }

    /// Hands frames of `from` to `to`.
    ///
    /// # Errors
    /// Nothing has changed then. [`FrameError::Owned`] where one of them is not `from`'s.
    pub fn transfer(&mut self, range: Range<Pa>, from: u16, to: u16) -> Result<(), FrameError> {
        if from == NO_OWNER || to == NO_OWNER {
            return Err(FrameError::NoOwner);
        }
        self.change(range, from, to)
    }

    /// The owner of a frame: [`NO_OWNER`] for a free one, `None` outside the table.
    pub fn owner_of(&self, frame: Pa) -> Option<u16> {
        let offset = frame.raw().checked_sub(self.base)?;
        let chunk = self.chunks.get(usize::try_from(offset >> CHUNK_SHIFT).ok()?)?;
        match chunk.0 {
            State::Whole(owner) => Some(owner),
            State::Split(split) => {
                let owners = &self.splits.get(usize::from(split))?.owners;
                owners.get((offset >> PAGE_SHIFT) as usize & (FRAMES - 1)).copied()
            }
        }
    }

    /// Who can reach a frame (promise P2): its owner, and the VM with which that one shares it. `shared_with` answers for the owner,
    /// who keeps a bit for each page of its RAM: the table has none. `None` for a frame that is free or unknown.
    pub fn parties(
        &self,
        frame: Pa,
        shared_with: impl FnOnce(u16) -> Option<u16>,
    ) -> Option<Parties> {
        let owner = self.owner_of(frame).filter(|owner| *owner != NO_OWNER)?;
        Some(Parties { owner, shared_with: shared_with(owner) })
    }

    /// Whether all of `range` belongs to `owner`.
    pub fn owns(&self, owner: u16, range: Range<Pa>) -> bool {
        self.first_not(range, owner).is_ok()
    }

    /// Frames that belong to `owner`.
    pub fn frames_of(&self, owner: u16) -> u64 {
        let in_chunk = |chunk: &Chunk| match chunk.0 {
            State::Whole(o) if o == owner => FRAMES as u64,
            State::Whole(_) => 0,
            State::Split(split) => self
                .splits
                .get(usize::from(split))
                .map_or(0, |s| s.owners.iter().filter(|o| **o == owner).count() as u64),
        };
        self.chunks.iter().map(in_chunk).fold(0, u64::wrapping_add)
    }

    /// Split chunks in use.
    pub fn splits_used(&self) -> usize {
        self.splits.iter().filter(|split| split.used).count()
    }

    /// The parts of `range` by chunk: index, first frame, frame after the last.
    fn parts(&self, range: Range<Pa>) -> Result<Parts, FrameError> {
        let good =
            range.size() != 0 && range.start().page_offset() == 0 && range.end().page_offset() == 0;
        let start = range.start().raw().checked_sub(self.base);
        let end = range.end().raw().checked_sub(self.base);
        let (Some(start), Some(end), true) = (start, end, good) else {
            return Err(FrameError::Range);
        };
        if end > (self.chunks.len() as u64).saturating_mul(CHUNK_SIZE) {
            return Err(FrameError::Range);
        }
        Ok(Parts { at: start, end })
    }

    /// `Ok` where all frames of `range` have this owner.
    fn first_not(&self, range: Range<Pa>, owner: u16) -> Result<(), FrameError> {
        for part in self.parts(range)? {
            let whole = match self.chunks.get(part.chunk).map(|c| c.0) {
                Some(State::Whole(found)) => Some(found),
                _ => None,
            };
            for frame in part.first..part.last {
                let frame = self.frame(part.chunk, frame);
                let found = whole.or_else(|| self.owner_of(frame)).unwrap_or(NO_OWNER);
                if found != owner {
                    return Err(FrameError::Owned { frame, owner: found });
                }
                if whole.is_some() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn frame(&self, chunk: usize, frame: usize) -> Pa {
        let offset = (chunk as u64).wrapping_mul(CHUNK_SIZE);
        let inside = (frame as u64).wrapping_mul(PAGE_SIZE);
        Pa::new(self.base.wrapping_add(offset).wrapping_add(inside))
    }

    fn change(&mut self, range: Range<Pa>, from: u16, to: u16) -> Result<(), FrameError> {
        self.first_not(range, from)?;
        let splits_needed = self
            .parts(range)?
            .filter(|part| !part.is_whole())
            .filter(|part| matches!(self.chunks.get(part.chunk), Some(Chunk(State::Whole(_)))))
            .count();
        if splits_needed > self.splits.len().saturating_sub(self.splits_used()) {
            return Err(FrameError::NoRoom);
        }
        if from == to {
            return Ok(());
        }
        for part in self.parts(range)? {
            let Some(chunk) = self.chunks.get_mut(part.chunk) else { continue };
            let index = match chunk.0 {
                State::Whole(_) if part.is_whole() => {
                    chunk.0 = State::Whole(to);
                    continue;
                }
                State::Whole(owner) => {
                    let Some((index, split)) =
                        self.splits.iter_mut().enumerate().find(|(_, split)| !split.used)
                    else {
                        debug_assert!(false, "splits had been counted");
                        continue;
                    };
                    *split = Split { owners: [owner; FRAMES], used: true };
                    chunk.0 = State::Split(index as u16);
                    index
                }
                State::Split(index) => usize::from(index),
            };
            let Some(split) = self.splits.get_mut(index) else { continue };
            if let Some(owners) = split.owners.get_mut(part.first..part.last) {
                owners.fill(to);
            }
            if split.owners.iter().all(|owner| *owner == to) {
                split.used = false;
                chunk.0 = State::Whole(to);
            }
        }
        Ok(())
    }
}

/// A part of a range within one chunk.
struct Part {
    chunk: usize,
    first: usize,
    last: usize,
}

impl Part {
    fn is_whole(&self) -> bool {
        self.first == 0 && self.last == FRAMES
    }
}

/// Cuts offsets `at..end` at the borders of chunks.
struct Parts {
    at: u64,
    end: u64,
}

impl Iterator for Parts {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        if self.at >= self.end {
            return None;
        }
        let base = self.at & !CHUNK_SIZE.wrapping_sub(1);
        let stop = base.wrapping_add(CHUNK_SIZE).min(self.end);
        let part = Part {
            chunk: (base >> CHUNK_SHIFT) as usize,
            first: (self.at.wrapping_sub(base) >> PAGE_SHIFT) as usize,
            last: (stop.wrapping_sub(base) >> PAGE_SHIFT) as usize,
        };
        self.at = stop;
        Some(part)
    }
}
