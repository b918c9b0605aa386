// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory of a VM: gathered from free frames at boot, filled with its images before each start.

use alloc::vec::Vec;

use arch::{Ipa, Pa, Range};
use platform::VmConfig;

use crate::guest::vm_error::Cause;
use crate::memory;

/// Contiguous memory of a VM.
pub struct Piece {
    /// Where the guest sees it.
    pub ipa: Ipa,
    /// Where it is.
    pub pa: Pa,
    /// Its size.
    pub size: u64,
}

impl Piece {
    /// The address `offset` bytes behind its start.
    fn at(&self, offset: u64) -> Result<Pa, Cause> {
        self.pa.checked_add(offset).ok_or(Cause::NoMemoryAt(self.ipa))
    }
}

/// All memory of a VM.
pub struct MemoryImage {
    /// RAM.
    pub ram: Vec<Piece>,
    /// ROMs.
    pub roms: Vec<Piece>,
    /// Banks of flash.
    pub flash: Vec<Piece>,
    /// The guest's device tree, kept outside of the guest's memory.
    pub tree: Range<Pa>,
}

/// Bytes that are zeroed, or written otherwise, at once: less than 10 us of EL2's time.
const ZEROED: u64 = 96 << 10;
const WRITTEN: u64 = 12 << 10;

impl MemoryImage {
    /// Fills the next bytes, where `at` bytes are done: zeroes RAM, sets ROMs to 0xff, then copies the boot loader's images and
    /// the tree. Returns how many bytes it has filled; 0 at the end.
    ///
    /// # Errors
    /// An image that lies outside this memory.
    pub fn fill(&self, config: &VmConfig, mut at: u64) -> Result<u64, Cause> {
        let ram = self.ram.iter().map(|piece| (piece, 0, ZEROED));
        let roms = self.roms.iter().map(|piece| (piece, 0xff, WRITTEN));
        for (piece, byte, most) in ram.chain(roms) {
            let bytes = most.min(piece.size.saturating_sub(at));
            if bytes != 0 {
                memory::fill(piece.at(at)?, bytes, byte);
                return Ok(bytes);
            }
            at = at.saturating_sub(piece.size);
        }
        let place = &config.placement;
        let image = place.parts.iter();
        let image = image.map(|part| (config.kernel.start().checked_add(part.offset), part.to));
        let ramdisk = config.ramdisk.zip(place.ramdisk);
        let ramdisk = ramdisk.map(|(module, to)| (Some(module.start()), to));
        let tree = Range::<Ipa>::new(place.tree.start(), self.tree.size());
        let tree = tree.map(|to| (Some(self.tree.start()), to));
        for (from, to) in image.chain(ramdisk).chain(tree) {
            let bytes = WRITTEN.min(to.size().saturating_sub(at));
            if bytes != 0 {
                let outside = || Cause::NoMemoryAt(to.start());
                let from = from.and_then(|from| from.checked_add(at)).ok_or_else(outside)?;
                let ipa = to.start().checked_add(at).ok_or_else(outside)?;
                let part = Range::<Pa>::new(from, bytes).ok_or_else(outside)?;
                // SAFETY: modules were checked against everything else in memory, are given to no VM and are never
                // written. Parts of an image lie inside its module. The tree is in frames of its own, and is written by the
                // CPU that fills this memory alone, before it does.
                self.write(ipa, unsafe { memory::slice(part) })?;
                return Ok(bytes);
            }
            at = at.saturating_sub(to.size());
        }
        Ok(0)
    }

    /// Copies `bytes` to the guest's memory at `ipa`.
    ///
    /// # Errors
    /// Bytes that lie outside this memory.
    pub fn write(&self, mut ipa: Ipa, mut bytes: &[u8]) -> Result<(), Cause> {
        while !bytes.is_empty() {
            let mut pieces = self.ram.iter().chain(&self.roms).chain(&self.flash);
            let offset = |piece: &Piece| ipa.raw().wrapping_sub(piece.ipa.raw());
            let piece = pieces.find(|piece| offset(piece) < piece.size);
            let piece = piece.ok_or(Cause::NoMemoryAt(ipa))?;
            let offset = offset(piece);
            let room = piece.size.saturating_sub(offset).min(bytes.len() as u64);
            let (now, rest) = bytes.split_at_checked(room as usize).unwrap_or((bytes, &[]));
            memory::copy(piece.at(offset)?, now);
            bytes = rest;
            ipa = ipa.checked_add(room).ok_or(Cause::NoMemoryAt(ipa))?;
        }
        Ok(())
    }
}

/// Gathers memory for `range` from free frames: 1 GiB at once if range and machine allow, then 32 MiB, 2 MiB, pages.
pub fn gather(range: Range<Ipa>, smallest: u64) -> Option<Vec<Piece>> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut ipa = range.start();
    while ipa < range.end() {
        let left = range.end().raw().saturating_sub(ipa.raw());
        let fits = |size: u64| ipa.is_aligned(size) && left >= size && size >= smallest;
        let sizes = [memory::LARGE_PIECE, memory::MIDDLE_PIECE, memory::PIECE, arch::PAGE_SIZE];
        let (pa, size) = sizes
            .into_iter()
            .filter(|size| fits(*size))
            .find_map(|size| Some((memory::take(size, size)?, size)))?;
        match pieces.last_mut() {
            Some(last) if last.pa.checked_add(last.size) == Some(pa) => {
                last.size = last.size.saturating_add(size);
            }
            _ => pieces.push(Piece { ipa, pa, size }),
        }
        ipa = ipa.checked_add(size)?;
    }
    Some(pieces)
}
