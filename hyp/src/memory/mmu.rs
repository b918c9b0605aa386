// SPDX-License-Identifier: MIT OR Apache-2.0
//! EL2's own stage 1: one to one, W^X, guard pages under the stacks.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicUsize, Ordering};

use aarch64_cpu::registers::{MAIR_EL2, ReadWriteable, SCTLR_EL2, TCR_EL2};
use aarch64_paging::MapError;
use aarch64_paging::descriptor::El23Attributes;
use aarch64_paging::idmap::IdMap;
use aarch64_paging::paging::{El2, MemoryRegion};
use arch::{EarlyMap, Pa, Range};
use platform::El2Memory;

use crate::layout;

/// MAIR_EL2: 0 is Device-nGnRE, 1 is Normal Write-Back.
pub const MAIR: u64 = MAIR_EL2::Attr0_Device::nonGathering_nonReordering_EarlyWriteAck.value
    | MAIR_EL2::Attr1_Normal_Outer::WriteBack_NonTransient_ReadWriteAlloc.value
    | MAIR_EL2::Attr1_Normal_Inner::WriteBack_NonTransient_ReadWriteAlloc.value;
/// TCR_EL2: 48 bits, 4 KiB, inner-shareable write-back walks, RES1 bits 31 and 23; PS is added at run time.
pub const TCR: u64 = 1 << 31
    | 1 << 23
    | TCR_EL2::TG0::KiB_4.value
    | TCR_EL2::SH0::Inner.value
    | TCR_EL2::ORGN0::WriteBack_ReadAlloc_WriteAlloc_Cacheable.value
    | TCR_EL2::IRGN0::WriteBack_ReadAlloc_WriteAlloc_Cacheable.value
    | TCR_EL2::T0SZ.val(16).value;
/// SCTLR_EL2: RES1 bits, I, SA, C, M. WXN follows when the final tables are in use.
pub const SCTLR: u64 = 0x30c5_0830
    | SCTLR_EL2::I::Cacheable.value
    | SCTLR_EL2::SA::Enable.value
    | SCTLR_EL2::C::Cacheable.value
    | SCTLR_EL2::M::Enable.value;

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

/// Root of the final tables. CPUs that start later read it with the MMU off, so it is cleaned to PoC.
pub static ROOT: AtomicUsize = AtomicUsize::new(0);

const EARLY_TABLES: usize = 10;
#[repr(C, align(4096))]
struct Early(UnsafeCell<[[u64; 512]; EARLY_TABLES]>);
// SAFETY: only `map_early` touches it, once, on the boot CPU, before any other CPU runs.
unsafe impl Sync for Early {}
static EARLY: Early = Early(UnsafeCell::new([[0; 512]; EARLY_TABLES]));

/// Maps the image and the device tree in 2 MiB blocks of Normal memory, with the MMU still off, and returns the root.
///
/// With the MMU off all memory is Device: no atomics and no locks here. Everything else runs with the MMU on.
pub extern "C" fn map_early(tree: usize) -> usize {
    let base = EARLY.0.get();
    // SAFETY: see the Sync impl for exclusivity.
    let mut map = EarlyMap::new(unsafe { &mut *base }, base as u64);
    map.add(layout::image());
    // The boot protocol bounds a device tree to 2 MiB.
    map.add(tree..tree.saturating_add(2 << 20));
    // A cache may hold stale copies of data that was written with the MMU off.
    let [boot_cpu, ..] = &crate::cpu::CPUS;
    for span in [layout::constants_and_data(), layout::bss(), boot_cpu.span()] {
        crate::cpu::cache::invalidate_before_mmu(span);
    }
    base as usize
}

/// The final tables under construction.
pub struct Builder {
    map: IdMap<El2>,
}

impl Builder {
    /// Nothing is mapped.
    pub fn new() -> Self {
        Self { map: IdMap::new(0, El2) }
    }

    /// Maps a range one to one, over what was there.
    pub fn add(&mut self, range: Range<Pa>, memory: El2Memory) -> Result<(), MapError> {
        let attributes = match memory {
            El2Memory::None => El23Attributes::empty(),
            El2Memory::Device => DEVICE,
            El2Memory::Data => DATA,
            El2Memory::Constants => RODATA,
            El2Memory::Code => TEXT,
        };
        let region = MemoryRegion::new(range.start().raw() as usize, range.end().raw() as usize);
        self.map.map_range(&region, attributes)
    }

    /// Switches this CPU to the tables, and keeps them for the others.
    pub fn activate(self) {
        let root = self.map.root_address().0;
        ROOT.store(root, Ordering::Release);
        // Other CPUs read ROOT with their MMU off.
        crate::cpu::cache::clean_to_poc((&raw const ROOT) as usize, size_of::<usize>());
        // The tables are in use for as long as the machine runs.
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

/// Sets SCTLR_EL2.WXN: writable memory is never executable, whatever the tables say.
pub fn forbid_writable_code() {
    SCTLR_EL2.modify(SCTLR_EL2::WXN::Enable);
    crate::cpu::barrier::isb();
}
