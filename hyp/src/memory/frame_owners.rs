// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who owns each frame of RAM (DESIGN promise P2).

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use arch::{Pa, Range};
use lock::{Lock, Rank};
use stage2::{Chunk, FrameTable, Split};

static TABLE: Lock<Option<FrameTable<'static>>> = Lock::new(Rank::Frames, None);
/// Chunks of 2 MiB that can have several owners: ROMs and other small pieces.
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

/// Gives frames to a VM.
///
/// # Errors
/// Where somebody has one of them: a line for the log.
pub fn claim(pa: Pa, size: u64, owner: u16) -> Result<(), String> {
    let order = &crate::cpu::current().order;
    let mut table = TABLE.lock(order);
    let range = Range::<Pa>::new(pa, size).ok_or("a range of frames wraps")?;
    table
        .as_mut()
        .ok_or("no frame table")?
        .claim(range, owner)
        .map_err(|e| format!("frames {range} cannot be given to VM {owner}: {e}"))
}
