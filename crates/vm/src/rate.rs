// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which of a VM's refusals become log lines: the first ten, then one a second.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Lines without a limit at the beginning.
const BURST: u32 = 10;

/// A limit that several CPUs may ask at once. It outlives the VM's resets: a guest must not get lines by
/// resetting itself.
#[derive(Debug, Default)]
pub struct RateLimit {
    lines: AtomicU32,
    next: AtomicU64,
    left_out: AtomicU64,
}

impl RateLimit {
    /// A limit that has let nothing pass.
    pub const fn new() -> Self {
        Self { lines: AtomicU32::new(0), next: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// Whether a line may be written at `now`, and how many were left out before it. Both in ticks of a
    /// counter that runs at `frequency` ticks a second (CNTFRQ_EL0).
    #[inline]
    pub fn admit(&self, now: u64, frequency: u64) -> Option<u64> {
        if self.lines.load(Relaxed) >= BURST && now < self.next.load(Relaxed) {
            self.left_out.fetch_add(1, Relaxed);
            return None;
        }
        self.ask(now, frequency)
    }

    #[cold]
    fn ask(&self, now: u64, frequency: u64) -> Option<u64> {
        let more = self.lines.fetch_update(Relaxed, Relaxed, |lines| {
            (lines < BURST).then_some(lines.wrapping_add(1))
        });
        let admitted = match more {
            Ok(_) => {
                // The last line of the burst begins the first second.
                self.next.fetch_max(now.saturating_add(frequency), Relaxed);
                true
            }
            Err(_) => self
                .next
                .fetch_update(Relaxed, Relaxed, |next| {
                    (now >= next).then_some(now.saturating_add(frequency))
                })
                .is_ok(),
        };
        if admitted {
            Some(self.left_out.swap(0, Relaxed))
        } else {
            self.left_out.fetch_add(1, Relaxed);
            None
        }
    }

    /// Lines left out since the last one.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Relaxed)
    }
}
