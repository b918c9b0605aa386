// SPDX-License-Identifier: MIT OR Apache-2.0
//! ELF files as kernels: which bytes go where, and where the first instruction is.
//!
//! Segments go to their physical addresses. The entry point is virtual by the standard; where it lies in a segment's
//! virtual addresses it is translated through that segment, as QEMU does.
//!
//! Source: System V ABI, "Program Header" and "Program Loading"; ELF for the Arm 64-bit Architecture (AAELF64).

use crate::error::{Error, err};
use alloc::vec::Vec;
use arch::{Ipa, Range};

/// Most segments that are loaded.
pub(crate) const MAX_SEGMENTS: usize = 32;
/// Sizes of a 64-bit file's header and of a program header.
const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
/// e_ident up to EI_DATA: 64-bit, little-endian.
const IDENT: &[u8] = b"\x7fELF\x02\x01";
const EM_AARCH64: u16 = 183;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const PT_LOAD: u64 = 1;

/// A part of an image: bytes of the file, and zeros behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ElfSegment {
    /// Offset of its bytes in the file.
    pub offset: u64,
    /// Bytes of the file: at most the size of `memory`.
    pub bytes: u64,
    /// Where it lies, BSS included; not empty.
    pub memory: Range<Ipa>,
}

/// An ELF file, checked by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ElfImage {
    /// Physical address of the first instruction, in one of the segments.
    pub entry: Ipa,
    /// In the order of their addresses. No two overlap, and there is at least one.
    pub segments: Vec<ElfSegment>,
    /// It may be moved as a whole: the file is position independent.
    pub relocatable: bool,
}

impl ElfImage {
    /// Reads the headers of `file`, which begins with ELF's magic number.
    ///
    /// # Errors
    /// It is no executable for arm64, or is truncated, or its headers contradict each other.
    #[inline(never)]
    pub(crate) fn parse(file: &[u8]) -> Result<Self, Error> {
        let Some(header) = file.first_chunk::<HEADER_BYTES>() else {
            return Err(err!(Image, "its ELF file is truncated: it ends in its header"));
        };
        let (kind, entry) = (half(header, 16), long(header, 24));
        if !header.starts_with(IDENT) || half(header, 18) != EM_AARCH64 {
            return Err(err!(
                Image,
                "its ELF file is not for arm64 (64-bit, little-endian); give one that is"
            ));
        }
        if kind != ET_EXEC && kind != ET_DYN {
            return Err(err!(Image, "its ELF file is no executable (type {kind}); link it first"));
        }
        let bytes = usize::from(half(header, 56)).saturating_mul(PROGRAM_HEADER_BYTES);
        let table = usize::try_from(long(header, 32)).ok().and_then(|start| file.get(start..));
        let table = table.and_then(|rest| rest.get(..bytes));
        let table = table.filter(|_| usize::from(half(header, 54)) == PROGRAM_HEADER_BYTES);
        let Some(table) = table else {
            return Err(err!(
                Image,
                "its ELF file is truncated: its program headers are not there"
            ));
        };
        let mut segments: Vec<ElfSegment> = Vec::new();
        let (mut entered, mut entered_physically) = (None, None);
        for found in table.as_chunks::<PROGRAM_HEADER_BYTES>().0 {
            // p_type is the lower half of the first eight bytes.
            if long(found, 0) & 0xffff_ffff != PT_LOAD || long(found, 40) == 0 {
                continue;
            }
            let segment = segment(found, file.len() as u64)?;
            if segments.len() == MAX_SEGMENTS
                || segments.iter().any(|it| it.memory.overlaps(&segment.memory))
            {
                return Err(err!(
                    Image,
                    "its ELF file has a segment at {} that overlaps another, or more than \
                     {MAX_SEGMENTS} of them",
                    segment.memory
                ));
            }
            // The virtual address counts, and the physical one where no segment has the virtual.
            let start = segment.memory.start().raw();
            let within = |from: u64| {
                let offset = entry.checked_sub(from).filter(|offset| *offset < segment.bytes)?;
                start.checked_add(offset)
            };
            entered = entered.or(within(long(found, 16)));
            entered_physically = entered_physically.or(within(start));
            let place = segments.partition_point(|it| it.memory.start().raw() < start);
            segments.insert(place, segment);
        }
        let entered = entered.or(entered_physically).map(Ipa::new);
        match entered.filter(|entry| entry.is_aligned(4)) {
            Some(entry) => Ok(Self { entry, segments, relocatable: kind == ET_DYN }),
            None => Err(err!(
                Image,
                "its ELF file is entered at {entry:#x}, where none of its segments has instructions"
            )),
        }
    }

    /// From the lowest address to the end of the highest segment.
    pub(crate) fn extent(&self) -> Option<Range<Ipa>> {
        let start = self.segments.first()?.memory.start();
        let end = self.segments.last()?.memory.end();
        Range::<Ipa>::new(start, end.raw().checked_sub(start.raw())?)
    }

    /// The same image, moved so that the 4 KiB page of its lowest segment begins at `base`, if that is possible.
    #[inline(never)]
    pub(crate) fn moved(&self, base: Ipa) -> Option<Self> {
        let lowest = self.segments.first()?.memory.start().raw() & !0xfff;
        // Modulo 2^64, so that it moves down as well.
        let shift = |at: Ipa| Ipa::new(at.raw().wrapping_sub(lowest).wrapping_add(base.raw()));
        let mut moved = self.clone();
        moved.entry = shift(self.entry);
        for segment in &mut moved.segments {
            let start = shift(segment.memory.start());
            segment.memory = Range::<Ipa>::new(start, segment.memory.size())?;
        }
        Some(moved)
    }
}

/// A segment to load, from a file of `size` bytes.
#[inline(never)]
fn segment(found: &[u8; PROGRAM_HEADER_BYTES], size: u64) -> Result<ElfSegment, Error> {
    let [offset, vaddr, paddr, bytes, memory, align] =
        [8, 16, 24, 32, 40, 48].map(|at| long(found, at));
    let there = offset.checked_add(bytes).is_some_and(|end| end <= size);
    let aligned =
        align <= 1 || align.is_power_of_two() && (vaddr ^ offset) & align.wrapping_sub(1) == 0;
    let possible = aligned && bytes <= memory && vaddr.checked_add(memory).is_some();
    match Range::<Ipa>::new(Ipa::new(paddr), memory) {
        Some(memory) if possible && there => Ok(ElfSegment { offset, bytes, memory }),
        _ => Err(err!(
            Image,
            "its ELF file is truncated or damaged: a segment at {paddr:#x} has {bytes:#x} bytes at \
             offset {offset:#x} for {memory:#x} bytes of memory, aligned to {align:#x}"
        )),
    }
}

/// Two bytes at `at`, which is inside.
#[inline(always)]
fn half(header: &[u8], at: usize) -> u16 {
    header.get(at..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u16::from_le_bytes)
}

/// Eight bytes at `at`, which is inside.
#[inline(always)]
fn long(header: &[u8], at: usize) -> u64 {
    header.get(at..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u64::from_le_bytes)
}
