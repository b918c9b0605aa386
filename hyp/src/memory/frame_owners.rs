// SPDX-License-Identifier: MIT OR Apache-2.0
//! The owner of each frame of RAM (DESIGN promise P2).

use alloc::vec;
use alloc::vec::Vec;

use arch::{Pa, Range};
use lock::{Lock, Rank};
#[cfg(feature = "oracle")]
use stage2::Parties;
use stage2::{Chunk, FrameError, FrameTable, Split};

static TABLE: Lock<Option<FrameTable<'static>>> = Lock::new(Rank::Frames, None);
/// How many chunks of 2 MiB can have several owners. ROMs and other small pieces need them.
const SPLITS: usize = 8;

/// Makes the table for the machine's RAM.
pub fn init(ram: &[Range<Pa>]) {
    let Some(first) = ram.iter().map(|r| r.start().raw()).min() else { return };
    let end = ram.iter().map(|r| r.end().raw()).max().unwrap_or(first);
    let Some(span) = Range::<Pa>::new(Pa::new(first), end.saturating_sub(first)) else { return };
    let chunks: Vec<Chunk> = vec![Chunk::FREE; FrameTable::chunks_for(span)];
    let splits: Vec<Split> = vec![Split::FREE; SPLITS];
    let order = &crate::cpu::current().order;
    *TABLE.lock(order) =
        Some(FrameTable::new(Pa::new(first), Vec::leak(chunks), Vec::leak(splits)));
}

/// Why a VM does not get frames.
#[derive(Clone, Copy, Debug)]
pub enum ClaimError {
    /// The range wraps.
    Wraps,
    /// There is no table of owners.
    NoTable,
    /// One of the frames has an owner, or the table is full.
    Frames(Range<Pa>, FrameError),
}

impl core::fmt::Display for ClaimError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Wraps => f.write_str("a range of frames wraps"),
            Self::NoTable => f.write_str("no frame table"),
            Self::Frames(range, error) => write!(f, "it cannot have the frames {range}: {error}"),
        }
    }
}

/// Who can reach a frame, by the numbers of VMs; `shared_with` says with which VM its owner shares it.
#[cfg(feature = "oracle")]
pub fn parties(frame: Pa, shared_with: impl FnOnce(u16) -> Option<u16>) -> Option<Parties> {
    let mut table = TABLE.lock(&crate::cpu::current().order);
    // VMs own frames as their number plus 1.
    let parties = table.as_mut()?.parties(frame, |owner| shared_with(owner.checked_sub(1)?))?;
    Some(Parties { owner: parties.owner.checked_sub(1)?, ..parties })
}

/// Gives frames to a VM.
///
/// # Errors
/// A frame that has an owner.
pub fn claim(pa: Pa, size: u64, owner: u16) -> Result<(), ClaimError> {
    let mut table = TABLE.lock(&crate::cpu::current().order);
    let range = Range::<Pa>::new(pa, size).ok_or(ClaimError::Wraps)?;
    let table = table.as_mut().ok_or(ClaimError::NoTable)?;
    table.claim(range, owner).map_err(|e| ClaimError::Frames(range, e))
}
