// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tables need of the machine.

use arch::{Ipa, Pa};

/// Number of descriptors in a table page.
pub(crate) const ENTRIES: usize = 512;

/// Access to table pages by physical address.
///
/// `index` is below 512, but for the root: its concatenated pages are contiguous and count as one
/// table, so there it is below `512 * root_pages`.
pub trait TableMemory {
    /// Reads the descriptor at `table + 8 * index`: one single-copy-atomic 64-bit load with acquire semantics.
    fn load(&self, table: Pa, index: usize) -> u64;

    /// Writes the descriptor at `table + 8 * index`: one single-copy-atomic 64-bit store with release semantics.
    fn store(&self, table: Pa, index: usize, raw: u64);

    /// Writes all 512 descriptors of a page that no walker can reach yet; in any order, with any width.
    #[inline]
    fn fill(&self, table: Pa, raw: u64) {
        for index in 0..ENTRIES {
            self.store(table, index, raw);
        }
    }
}

/// Barriers, and maintenance of TLBs and caches. All TLB operations act on the VMID of the VM whose
/// tables these are, in the whole Inner Shareable domain.
pub trait Tlb {
    /// `DSB ISHST`.
    fn dsb_ishst(&self);
    /// `DSB ISH`.
    fn dsb_ish(&self);
    /// `ISB`.
    fn isb(&self);
    /// `TLBI IPAS2E1IS`: stage-2 entries of the leaf at `ipa`. `level` is the TTL hint, where known.
    fn tlbi_ipas2e1is(&self, ipa: Ipa, level: Option<u8>);
    /// `TLBI VMALLE1IS`: stage-1 and combined entries of this VMID.
    fn tlbi_vmalle1is(&self);
    /// `TLBI VMALLS12E1IS`: everything of this VMID.
    fn tlbi_vmalls12e1is(&self);
    /// Whether an erratum of one of the CPUs asks for every TLBI and its DSB to be done twice.
    fn repeat(&self) -> bool;
    /// `DC CIVAC` over `bytes` bytes at `pa`, and the DSB behind it. Only ever called for the output
    /// of a leaf that was valid Normal memory, after its TLB entries were invalidated.
    fn clean_invalidate_to_poc(&self, pa: Pa, bytes: u64);
}
