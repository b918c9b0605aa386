// SPDX-License-Identifier: MIT OR Apache-2.0
//! EL2's own stage 1: one to one, W^X, guard pages under the stacks.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicUsize, Ordering};

use aarch64_cpu::registers::{ReadWriteable, SCTLR_EL2};
use aarch64_paging::MapError;
use aarch64_paging::descriptor::El23Attributes;
use aarch64_paging::idmap::IdMap;
use aarch64_paging::paging::{El2, MemoryRegion};
use arch::Pa;

use crate::layout::{self, Span};

/// MAIR_EL2: 0 is Device-nGnRE, 1 is Normal Write-Back.
pub const MAIR: u64 = 0xff04;
/// TCR_EL2: 48 bits, 4 KiB, inner-shareable write-back walks, RES1 bits 31 and 23; PS is added at run time.
pub const TCR: u64 = 1 << 31 | 1 << 23 | 3 << 12 | 1 << 10 | 1 << 8 | 16;
/// SCTLR_EL2: RES1 bits, I, SA, C, M. WXN follows when the final tables are in use.
pub const SCTLR: u64 = 0x30c5_0830 | 1 << 12 | 1 << 3 | 1 << 2 | 1;

const BLOCK: usize = 2 << 20;
const DEVICE: El23Attributes = El23Attributes::VALID
    .union(El23Attributes::ATTRIBUTE_INDEX_0)
    .union(El23Attributes::ACCESSED)
    .union(El23Attributes::XN)
    .union(El23Attributes::USER_RES1);
const NORMAL: El23Attributes = El23Attributes::VALID
    .union(El23Attributes::ATTRIBUTE_INDEX_1)
    .union(El23Attributes::INNER_SHAREABLE)
    .union(El23Attributes::ACCESSED)
    .union(El23Attributes::USER_RES1);
const DATA: El23Attributes = NORMAL.union(El23Attributes::XN);
const RODATA: El23Attributes = DATA.union(El23Attributes::READ_ONLY);
const TEXT: El23Attributes = NORMAL.union(El23Attributes::READ_ONLY);

/// Root of the final tables, for CPUs that start later (with their MMU off: cleaned to PoC).
pub static ROOT: AtomicUsize = AtomicUsize::new(0);

const EARLY_TABLES: usize = 10;
#[repr(C, align(4096))]
struct Early(UnsafeCell<[[u64; 512]; EARLY_TABLES]>);
// SAFETY: only `map_early` touches it, once, on the boot CPU, before any other CPU runs.
unsafe impl Sync for Early {}
static EARLY: Early = Early(UnsafeCell::new([[0; 512]; EARLY_TABLES]));

/// Maps the image and the device tree in 2 MiB blocks of Normal memory, with the MMU still off, and returns the root.
///
/// With the MMU off all of memory is Device: no atomics here, and no lock. Everything else runs with the MMU on.
pub extern "C" fn map_early(tree: usize) -> usize {
    let tables = EARLY.0.get();
    let mut used = 1;
    let mut map = |span: Span| {
        let mut address = span.start & !(BLOCK - 1);
        while address < span.end {
            let mut table = 0;
            for shift in [39, 30] {
                let slot = (address >> shift) & 511;
                // SAFETY: `table` < EARLY_TABLES and `slot` < 512; see the Sync impl for exclusivity.
                let entry = unsafe { &mut (*tables)[table][slot] };
                if *entry == 0 {
                    if used == EARLY_TABLES {
                        return;
                    }
                    // SAFETY: as above.
                    *entry = unsafe { (&raw const (*tables)[used]) as u64 } | 3;
                    used += 1;
                }
                table = (*entry as usize & !0xfff).wrapping_sub(tables as usize) / 4096;
            }
            // SAFETY: as above. Valid block, AttrIndx 1, inner shareable, AF.
            unsafe { (*tables)[table][(address >> 21) & 511] = address as u64 | 0x705 };
            address += BLOCK;
        }
    };
    map(layout::image());
    // The boot protocol bounds a device tree to 2 MiB.
    map(tree..tree + BLOCK);
    // What was written with the MMU off may have stale copies in a cache.
    for span in [layout::constants_and_data(), layout::bss(), crate::cpu::CPUS[0].span()] {
        crate::cpu::cache::invalidate_before_mmu(span);
    }
    tables as usize
}

/// The final tables, while they are being made.
pub struct Builder {
    map: IdMap<El2>,
}

impl Builder {
    /// Maps the image, W^X, with nothing under the stacks.
    pub fn new() -> Result<Self, MapError> {
        Ok(Self { map: IdMap::new(0, El2) })
    }

    /// Maps memory (read, write, never executable). The image goes on top: call [`Builder::image`] last.
    pub fn memory(&mut self, span: Span) -> Result<(), MapError> {
        self.map.map_range(&MemoryRegion::new(span.start, span.end), DATA)
    }

    /// Takes memory out again: what firmware keeps for itself is not EL2's to map, let alone to speculate into.
    pub fn unmap(&mut self, span: Span) -> Result<(), MapError> {
        let region = MemoryRegion::new(span.start, span.end);
        self.map.map_range(&region, El23Attributes::empty())
    }

    /// Maps device registers.
    pub fn device(&mut self, start: Pa, size: u64) -> Result<(), MapError> {
        let start = start.raw() as usize;
        self.map.map_range(&MemoryRegion::new(start, start + size as usize), DEVICE)
    }

    /// Maps the image over the memory it lies in; `known`: which [`Builder::memory`] has mapped.
    pub fn image(&mut self, known: bool) -> Result<(), MapError> {
        let region = |s: Span| MemoryRegion::new(s.start, s.end);
        self.map.map_range(&region(layout::text()), TEXT)?;
        self.map.map_range(&region(layout::rodata()), RODATA)?;
        if !known {
            self.map.map_range(&region(layout::data()), DATA)?;
        }
        for area in &crate::cpu::CPUS {
            let guard = area.guard_page();
            self.map.map_range(&region(guard..guard + 4096), El23Attributes::empty())?;
        }
        Ok(())
    }

    /// Switches this CPU to the tables, and keeps them for the others.
    pub fn activate(self) {
        let root = self.map.root_address().0;
        ROOT.store(root, Ordering::Release);
        // Other CPUs read ROOT with their MMU off.
        crate::cpu::cache::clean_to_poc((&raw const ROOT) as usize, size_of::<usize>());
        // The tables live as long as the machine runs.
        core::mem::forget(self.map);
        switch(root);
    }
}

/// Puts a CPU on the tables at `root`, with WXN.
fn switch(root: usize) {
    unsafe extern "C" {
        fn enable_mmu(root: usize);
    }
    // SAFETY: the tables map the image one to one, executable where it is text, and `enable_mmu` touches no memory
    // between the old regime and the new one.
    unsafe { enable_mmu(root) };
    forbid_writable_code();
}

/// Sets SCTLR_EL2.WXN: what is writable is never executable, whatever the tables say.
pub fn forbid_writable_code() {
    SCTLR_EL2.modify(SCTLR_EL2::WXN::Enable);
    crate::cpu::barrier::isb();
}
