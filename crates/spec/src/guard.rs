// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guard's calls: docs/abi.md, sections ENROLL to RANGE_UNMAP, and QUERY_PAGE.

use crate::calls::{INVALID_PARAMETER, NOT_SUPPORTED, SUCCESS, answer, done};
use crate::{BUDGET, Dialect, Entry, Hint, Outcome, PAGE, Vm, is_aligned, page_of};

impl Vm {
    /// ENROLL. Device pages that were reached without a trap are so no longer, unless they are declared.
    pub(crate) fn enroll(&mut self) -> Outcome {
        self.enrolled = true;
        for page in self
            .config
            .mapped_mmio
            .clone()
            .into_iter()
            .flat_map(|mapped_mmio| mapped_mmio.at.pages())
        {
            if self.active() && !self.mapped_mmio.contains(&page) {
                self.tables.remove(page);
            }
        }
        for n in 0..self.banks.len() {
            // Nothing is cut for it.
            let _ = self.map_or_unmap_bank(n);
        }
        answer(SUCCESS)
    }

    /// What MAP and UNMAP of a granule answer.
    fn one(&self, granted: bool) -> Outcome {
        match (self.config.dialect, granted) {
            (Dialect::Pkvm, true) => done(1),
            (Dialect::Pkvm, false) => answer(INVALID_PARAMETER),
            (Dialect::Series, true) => answer(SUCCESS),
            (Dialect::Series, false) => answer(NOT_SUPPORTED),
        }
    }

    /// In the series' dialect MAP and UNMAP fail until the guard is active.
    fn is_too_early(&self) -> bool {
        self.config.dialect == Dialect::Series && !self.active()
    }

    /// Whether the granule at `ipa` may be declared at all.
    fn may_declare(&self, ipa: u64) -> bool {
        ipa < self.config.limit()
            && !self.config.is_memory(ipa)
            && !self.config.is_window(ipa)
            && self.config.allowed_until(ipa).is_some()
    }

    /// Declares a page that may be reached without a trap. `false` where a table is needed and none is left.
    fn declare_mapped(&mut self, page: u64, hint: Hint) -> bool {
        if let Some(n) = self.bank_at(page) {
            return self.declare_in_bank(n, page, hint);
        }
        let Some(mapped_mmio) = self.config.mapped_mmio_at(page) else { return false };
        let installed =
            self.tables.install(page, mapped_mmio.pa + (page - mapped_mmio.at.start)).is_ok();
        if installed {
            self.mapped_mmio.insert(page);
        }
        installed
    }

    /// Undeclares it; `false` where a table is needed and none is left.
    fn undeclare_mapped(&mut self, page: u64) -> bool {
        if let Some(n) = self.bank_at(page) {
            return self.undeclare_in_bank(n, page);
        }
        if self.active() {
            self.tables.remove(page);
        }
        self.mapped_mmio.remove(&page);
        true
    }

    /// End of the pages that hold `ipa` and may be reached without a trap, as far as one call goes.
    fn mapped_mmio_until(&self, ipa: u64) -> Option<u64> {
        let mapped_mmio = self.config.mapped_mmio_at(ipa).map(|mapped_mmio| mapped_mmio.at.end);
        let bank = || self.bank_at(ipa).map(|n| self.config.flash[n].at.end);
        mapped_mmio.or_else(bank).map(|end| end.min(ipa + BUDGET * PAGE))
    }

    /// MAP.
    pub(crate) fn map(&mut self, [ipa, x2, _]: [u64; 3], mair_el1: u64) -> Outcome {
        if self.is_too_early() || !is_aligned(ipa) || !self.may_declare(ipa) {
            return self.one(false);
        }
        let index = (x2 >> 2 & 7) as u8;
        let hint = Hint { index, mair: (mair_el1 >> (8 * index)) as u8, preset: false };
        let granted = match self.mapped_mmio_until(ipa) {
            Some(_) => self.declare_mapped(ipa, hint),
            None => self.tables.declare(ipa, ipa + PAGE, hint).is_ok(),
        };
        self.one(granted)
    }

    /// UNMAP.
    pub(crate) fn unmap(&mut self, [ipa, ..]: [u64; 3]) -> Outcome {
        let pkvm = self.config.dialect == Dialect::Pkvm;
        if self.is_too_early() || pkvm && !is_aligned(ipa) {
            return self.one(false);
        }
        let page = page_of(ipa);
        let declared = self.is_declared(page);
        if !declared {
            return self.one(pkvm);
        }
        let granted = match self.mapped_mmio_until(page) {
            Some(_) => self.undeclare_mapped(page),
            None => self.tables.undeclare(page, page + PAGE).is_ok(),
        };
        self.one(granted)
    }

    /// The range that x1, x2 and x3 name, as its first address and its end.
    fn range(&self, [start, granules, zero]: [u64; 3]) -> Option<(u64, u64)> {
        let end = u128::from(start) + u128::from(granules) * u128::from(PAGE);
        let good = granules != 0
            && zero == 0
            && is_aligned(start)
            && end <= u128::from(self.config.limit());
        good.then_some((start, end as u64))
    }

    /// RANGE_MAP. The work changes its kind, so that the call ends, at memory, at the edge of an allowed range, and
    /// at the edge of pages reached without a trap.
    pub(crate) fn range_map(&mut self, arguments: [u64; 3]) -> Outcome {
        let Some((start, end)) = self.range(arguments) else { return answer(INVALID_PARAMETER) };
        let allowed = self.config.allowed_until(start);
        let (Some(allowed), true) = (allowed, self.may_declare(start)) else {
            return answer(INVALID_PARAMETER);
        };
        let memory = core::iter::once(self.config.ram).chain(self.config.roms.iter().copied());
        let memory = memory.chain(self.config.windows.iter().copied());
        let next_memory = memory.map(|m| m.start).filter(|at| *at > start).min();
        let mut end = end.min(allowed).min(next_memory.unwrap_or(end));
        let granules = match self.mapped_mmio_until(start) {
            Some(until) => {
                end = end.min(until);
                let mut at = start;
                while at < end && self.declare_mapped(at, Hint::default()) {
                    at += PAGE;
                }
                (at - start) / PAGE
            }
            None => {
                end = end.min(self.next_mapped_mmio(start).unwrap_or(end));
                self.tables.declare(start, end, Hint::default()).unwrap_or(0)
            }
        };
        if granules == 0 { answer(INVALID_PARAMETER) } else { done(granules) }
    }

    /// RANGE_UNMAP.
    pub(crate) fn range_unmap(&mut self, arguments: [u64; 3]) -> Outcome {
        let Some((start, end)) = self.range(arguments) else { return answer(INVALID_PARAMETER) };
        if let Some(until) = self.mapped_mmio_until(start) {
            let end = end.min(until);
            let mut at = start;
            while at < end && self.undeclare_mapped(at) {
                at += PAGE;
            }
            return if at == start { answer(INVALID_PARAMETER) } else { done((at - start) / PAGE) };
        }
        let end = end.min(self.next_mapped_mmio(start).unwrap_or(end));
        match self.tables.undeclare(start, end) {
            Ok(granules) => done(granules),
            Err(_) => answer(INVALID_PARAMETER),
        }
    }

    /// QUERY_PAGE.
    pub(crate) fn query_page(&self, [ipa, ..]: [u64; 3]) -> Outcome {
        if ipa >= self.config.limit() {
            return answer(INVALID_PARAMETER);
        }
        let (state, hint) = match self.entry(ipa) {
            _ if self.config.is_ram(ipa) => (1, 0),
            _ if self.config.is_rom(ipa) => (2, 0),
            Entry::Declared(hint) => {
                let bits = u64::from(hint.index) << 2
                    | u64::from(hint.mair) << 8
                    | u64::from(hint.preset) << 16;
                (3, bits)
            }
            // A device's page, or flash.
            Entry::Leaf { .. } => (4, 0),
            _ => (0, 0),
        };
        Outcome::Answer([SUCCESS, state, hint, 0])
    }
}
