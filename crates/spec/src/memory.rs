// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest says about its RAM: docs/abi.md, sections MEM_SHARE and MEM_UNSHARE, and RELINQUISH.

use crate::calls::{INVALID_PARAMETER, SUCCESS, answer, done};
use crate::{Outcome, PAGE, Vm, is_aligned};

/// Granules that one call shares at most.
const SHARED_AT_ONCE: u64 = 128;

impl Vm {
    /// MEM_SHARE, and MEM_UNSHARE where `shared` is false.
    pub(crate) fn share(&mut self, [start, granules, zero]: [u64; 3], shared: bool) -> Outcome {
        let granules = granules.max(1);
        let end = u128::from(start) + u128::from(granules) * u128::from(PAGE);
        if zero != 0 || !is_aligned(start) || end > u128::from(self.config.limit()) {
            return answer(INVALID_PARAMETER);
        }
        let mut pages = 0;
        while pages < granules.min(SHARED_AT_ONCE) {
            let page = start + pages * PAGE;
            // The first page that it cannot do ends the call.
            if !self.config.is_ram(page) || self.shared.contains(&page) == shared {
                break;
            }
            if shared {
                self.shared.insert(page);
            } else {
                self.shared.remove(&page);
            }
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
}
