// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest says about its RAM: docs/abi.md, sections MEM_SHARE and MEM_UNSHARE, and RELINQUISH.

use crate::calls::{INVALID_PARAMETER, SUCCESS, answer, done};
use crate::{Full, Outcome, PAGE, Region, Sharing, Vm, is_aligned};

/// Granules that one call shares at most, and where a window changes with each.
const SHARED_AT_ONCE: u64 = 128;
const WINDOWED_AT_ONCE: u64 = 16;

impl Vm {
    /// MEM_SHARE, and MEM_UNSHARE where `shared` is false.
    pub(crate) fn share(&mut self, [start, granules, zero]: [u64; 3], shared: bool) -> Outcome {
        let granules = granules.max(1);
        let end = u128::from(start) + u128::from(granules) * u128::from(PAGE);
        if zero != 0 || !is_aligned(start) || end > u128::from(self.config.limit()) {
            return answer(INVALID_PARAMETER);
        }
        let most = if self.config.served.is_some() { WINDOWED_AT_ONCE } else { SHARED_AT_ONCE };
        let mut pages = 0;
        // The first page that it cannot do ends the call.
        while pages < granules.min(most) && self.share_page(start + pages * PAGE, shared) {
            pages += 1;
        }
        if pages == 0 { answer(INVALID_PARAMETER) } else { done(pages) }
    }

    /// RELINQUISH. That the page is filled with zeros is the machine's part: [`Vm::wipes`].
    pub(crate) fn relinquish(&self, [ipa, ..]: [u64; 3]) -> Outcome {
        if !is_aligned(ipa) || self.shared.contains(&ipa) {
            return answer(INVALID_PARAMETER);
        }
        answer(SUCCESS)
    }

    /// The page that a call which was answered so fills with zeros.
    pub fn wipes(&self, call: &crate::Call, outcome: Outcome) -> Option<u64> {
        let [ipa, ..] = call.arguments();
        let wiped = call.imm == 0
            && call.id() == 0xc600_0009
            && outcome == answer(SUCCESS)
            && self.config.is_ram(ipa);
        wiped.then_some(ipa)
    }

    /// What its owner shares on the VM's behalf before its first instruction, in pieces: the one that begins `at` bytes in.
    /// Returns where the next one begins, `None` at the end.
    ///
    /// # Errors
    /// The tables do not suffice.
    pub fn share_for_owner(&mut self, at: u64) -> Result<Option<u64>, Full> {
        let (region, auto, piece) = match self.config.served.as_ref().map(|served| served.share) {
            Some(Sharing::Pool { at, auto }) => (at, auto, WINDOWED_AT_ONCE * PAGE),
            // As blocks, which take no table.
            Some(Sharing::All) => {
                let next = at + (2 << 20);
                let ram = self.config.ram;
                let end = (ram.start + next).min(ram.end);
                self.shared.extend(Region { start: ram.start + at, end }.pages());
                return Ok((ram.start + next < ram.end).then_some(next));
            }
            Some(Sharing::Own) | None => return Ok(None),
        };
        if !auto {
            return Ok(None);
        }
        let end = (region.start + at + piece).min(region.end);
        for page in (Region { start: region.start + at, end }).pages() {
            if !self.share_page(page, true) {
                return Err(Full::NoTable);
            }
        }
        Ok((end < region.end).then_some(end - region.start))
    }

    /// Shares a page of RAM, or takes its share back. `false` where that cannot be.
    pub(crate) fn share_page(&mut self, page: u64, shared: bool) -> bool {
        if !self.config.is_ram(page) || self.shared.contains(&page) == shared {
            return false;
        }
        let sharing = self.config.served.as_ref().map(|served| served.share);
        match sharing {
            Some(Sharing::All) => return false,
            Some(Sharing::Pool { at, .. }) if shared && !at.contains(page) => return false,
            _ => {}
        }
        if sharing.is_some() && shared {
            // The first share of 2 MiB takes a table, which stays until the VM stops.
            let piece = (page - self.config.ram.start) >> 21;
            if !self.link.tables.contains(&piece) {
                if self.tables.free() == 0 {
                    return false;
                }
                self.tables.set_free(self.tables.free() - 1);
                self.link.tables.insert(piece);
            }
        }
        if shared { self.shared.insert(page) } else { self.shared.remove(&page) }
    }
}
