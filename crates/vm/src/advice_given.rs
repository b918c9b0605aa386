// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a VM got advice for.

use arch::Ipa;
use lock::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Pages without a device for which a VM gets advice.
const MAX_PAGES: usize = 8;

/// What a VM got advice for. It outlives the VM's resets, as [`RateLimit`](crate::RateLimit) does: a guest must not
/// get lines by resetting itself.
#[derive(Debug)]
pub(crate) struct AdviceGiven {
    /// A bit for each device.
    devices: AtomicU32,
    /// Pages without a device; 1, which is no page, where there is room for another.
    pages: [AtomicU64; MAX_PAGES],
}

impl AdviceGiven {
    pub(crate) fn new() -> Self {
        Self { devices: AtomicU32::new(0), pages: core::array::from_fn(|_| AtomicU64::new(1)) }
    }

    /// Whether this is the first time for the device with this bit.
    pub(crate) fn first_for(&self, bit: u32) -> bool {
        let bit = 1_u32.wrapping_shl(bit);
        self.devices.fetch_or(bit, Relaxed) & bit == 0
    }

    /// Whether this is the first time for this page, and there is room to remember it.
    pub(crate) fn first_for_page(&self, page: Ipa) -> bool {
        for slot in &self.pages {
            match slot.compare_exchange(1, page.raw(), Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(known) if known == page.raw() => return false,
                Err(_) => {}
            }
        }
        false
    }
}
