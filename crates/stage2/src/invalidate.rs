// SPDX-License-Identifier: MIT OR Apache-2.0
//! TLB maintenance: the one place that knows its order.
//!
//! ```text
//! store            the descriptor is invalid now (annotation, or `locked`)
//! DSB ISHST        walkers see that
//! TLBI IPAS2E1IS   per entry removed, at its own base and level
//! DSB ISH          before stage 1: else a walk elsewhere refills a combined entry from the old one
//! TLBI VMALLE1IS   combined and stage-1 entries; their virtual addresses are unknown
//! DSB ISH          nothing old is left, and accesses made through it are complete
//! (TLBI to DSB ISH once more where an erratum asks for it)
//! ISB
//! ```
//! Only then is a page cleaned, released, or mapped again. Sources: DDI 0487 D8.14, D8.16.

use crate::codec::level_size;
use crate::host::{TableMemory, Tlb};
use crate::tables::Stage2;
use arch::{Ipa, Pa};
use arrayvec::ArrayVec;

/// A valid leaf that was just overwritten by an invalid descriptor.
#[derive(Clone, Copy)]
pub(crate) struct Stale {
    pub(crate) ipa: u64,
    pub(crate) level: u8,
    pub(crate) pa: Pa,
    /// Normal memory that goes away: to be cleaned once no TLB knows it.
    pub(crate) clean: bool,
}

/// Leaves removed together share the stage-1 part of the sequence.
pub(crate) type Batch = ArrayVec<Stale, 32>;

impl<H: TableMemory + Tlb> Stage2<H> {
    /// Completes the removal of `batch`, and empties it.
    pub(crate) fn complete(&self, batch: &mut Batch) {
        if batch.is_empty() {
            return;
        }
        self.host.dsb_ishst();
        self.twice(|| {
            for stale in batch.iter() {
                self.host.tlbi_ipas2e1is(Ipa::new(stale.ipa), Some(stale.level));
            }
            self.host.dsb_ish();
            self.host.tlbi_vmalle1is();
            self.host.dsb_ish();
        });
        self.host.isb();
        for stale in batch.drain(..) {
            if stale.clean {
                self.host.clean_invalidate_to_poc(stale.pa, level_size(stale.level));
            }
        }
    }

    /// Completes the removal of one page that stays in use: as [`Stage2::complete`], without cleaning.
    #[inline]
    pub(crate) fn complete_page(&self, ipa: Ipa) {
        self.host.dsb_ishst();
        self.twice(|| {
            self.host.tlbi_ipas2e1is(ipa, Some(3));
            self.host.dsb_ish();
            self.host.tlbi_vmalle1is();
            self.host.dsb_ish();
        });
        self.host.isb();
    }

    /// Forgets everything that TLBs hold of this VMID, tables included.
    pub(crate) fn invalidate_all(&self) {
        self.host.dsb_ishst();
        self.twice(|| {
            self.host.tlbi_vmalls12e1is();
            self.host.dsb_ish();
        });
        self.host.isb();
    }

    /// `maintain` once, or twice where an erratum asks for it.
    fn twice(&self, maintain: impl Fn()) {
        maintain();
        if self.host.repeat() {
            maintain();
        }
    }
}
