// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state of a VM's MMIO guard.

use crate::SetupError;
use arch::{Ipa, Range};
use arrayvec::ArrayVec;
use lock::atomic::{AtomicBool, Ordering};
use mmio_guard::{Dialect, Policy};

/// Most ranges of an allow list, and of presets.
pub(crate) const MAX_RANGES: usize = 16;

/// Policy, dialect, and whether the guard is active.
#[derive(Debug)]
pub struct Guard {
    active: AtomicBool,
    policy: Policy,
    dialect: Dialect,
    allow: ArrayVec<Range<Ipa>, MAX_RANGES>,
    preset: ArrayVec<Range<Ipa>, MAX_RANGES>,
}

impl Guard {
    pub(crate) fn new(
        policy: Policy,
        dialect: Dialect,
        allow: &[Range<Ipa>],
        preset: &[Range<Ipa>],
    ) -> Result<Self, SetupError> {
        Ok(Self {
            active: AtomicBool::new(policy == Policy::Enforce),
            policy,
            dialect,
            allow: allow.try_into().map_err(|_| SetupError::TooMany("allow"))?,
            preset: preset.try_into().map_err(|_| SetupError::TooMany("preset"))?,
        })
    }

    /// When the guard is active.
    #[inline(always)]
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// Which numbers its calls have.
    #[inline(always)]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Whether accesses to undeclared pages are refused now: policy enforce, or enrol after ENROLL.
    ///
    /// An access that traps after its vCPU has seen ENROLL return sees it: acquire pairs with release.
    #[inline(always)]
    pub fn active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    pub(crate) fn activate(&self) {
        self.active.store(true, Ordering::Release);
    }

    /// Back to what the policy says a VM begins with.
    pub(crate) fn reset(&self) {
        self.active.store(self.policy == Policy::Enforce, Ordering::Release);
    }

    /// Pages declared on the guest's behalf.
    pub fn preset(&self) -> &[Range<Ipa>] {
        &self.preset
    }

    /// End of the allowed range that holds `ipa`; `None` where the owner does not allow it.
    #[inline(always)]
    pub(crate) fn allowed_until(&self, ipa: Ipa) -> Option<Ipa> {
        if self.allow.is_empty() {
            return Some(Ipa::new(u64::MAX));
        }
        self.allow.iter().find(|range| range.contains(ipa)).map(|range| range.end())
    }
}
