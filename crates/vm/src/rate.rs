// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which lines about a VM are logged: the first ten, then one a second. Every line that its guest can cause counts.

use lock::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

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
    #[inline(always)]
    pub fn admit(&self, now: u64, frequency: u64) -> Option<u64> {
        if self.leaves_out(now) { None } else { self.ask(now, frequency) }
    }

    /// Whether a line is left out at `now`, and counted so: the quick half of [`RateLimit::admit`], which is to be asked where
    /// not.
    #[inline(always)]
    pub fn leaves_out(&self, now: u64) -> bool {
        let out = self.lines.load(Relaxed) >= BURST && now < self.next.load(Relaxed);
        if out {
            self.left_out.fetch_add(1, Relaxed);
        }
        out
    }

    #[cold]
    #[inline(never)]
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

    /// The last line about a VM that stops: it is always written, and counts like any other. How many were left out.
    #[cold]
    pub fn admit_last(&self, now: u64, frequency: u64) -> u64 {
        if let Some(left_out) = self.ask(now, frequency) {
            return left_out;
        }
        self.next.fetch_max(now.saturating_add(frequency), Relaxed);
        // `ask` has counted this one.
        self.left_out.swap(0, Relaxed).saturating_sub(1)
    }

    /// A line that was admitted is not written after all: it and the `left_out` before it are left out.
    pub fn leave_out(&self, left_out: u64) {
        self.left_out.fetch_add(left_out.saturating_add(1), Relaxed);
    }

    /// Whether [`RateLimit::admit`] would admit a line at `now`. Nothing is counted.
    pub fn would_admit(&self, now: u64) -> bool {
        self.lines.load(Relaxed) < BURST || now >= self.next.load(Relaxed)
    }

    /// Lines left out since the last one.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]

    use super::*;
    use std::vec::Vec;

    const SECOND: u64 = 62_500_000;

    // bug: 59
    #[test]
    fn ten_lines_then_one_a_second_with_the_count_of_those_left_out() {
        let limit = RateLimit::new();
        for n in 0..10 {
            assert_eq!(limit.admit(1000 + n, SECOND), Some(0), "line {n}");
        }
        for n in 0..50 {
            assert_eq!(limit.admit(2000 + n, SECOND), None);
        }
        assert_eq!(limit.left_out(), 50);
        // The second begins with the last line of the burst.
        assert_eq!(limit.admit(1009 + SECOND - 1, SECOND), None);
        assert_eq!(limit.admit(1009 + SECOND, SECOND), Some(51));
        assert_eq!(limit.left_out(), 0);
        assert_eq!(limit.admit(1009 + 2 * SECOND - 1, SECOND), None);
        assert_eq!(limit.admit(1009 + 2 * SECOND, SECOND), Some(1));
    }

    // scenario: F3
    #[test]
    fn the_last_line_is_always_written_and_counts() {
        let limit = RateLimit::new();
        assert_eq!(limit.admit_last(0, SECOND), 0);
        let admitted = (0..100).filter(|n| limit.admit(*n, SECOND).is_some()).count();
        assert_eq!(admitted, 9, "it was one of the ten");
        assert!(!limit.would_admit(200) && limit.would_admit(2 * SECOND));
        assert_eq!(limit.admit_last(200, SECOND), 91);
        assert_eq!(limit.admit_last(201, SECOND), 0);
        // The second begins anew with each.
        assert_eq!(limit.admit(200 + SECOND, SECOND), None);
        assert_eq!(limit.admit(201 + SECOND, SECOND), Some(1));
    }

    #[test]
    fn a_quiet_hour_earns_one_line_and_no_burst() {
        let limit = RateLimit::new();
        for _ in 0..10 {
            limit.admit(0, SECOND);
        }
        assert_eq!(limit.admit(3600 * SECOND, SECOND), Some(0));
        assert_eq!(limit.admit(3600 * SECOND + 1, SECOND), None);
    }

    #[test]
    fn a_burst_spread_over_hours_is_still_one() {
        let limit = RateLimit::new();
        let admitted = (0..30).filter(|n| limit.admit(n * 10 * SECOND, SECOND).is_some()).count();
        assert_eq!(admitted, 30);
    }

    #[test]
    fn the_end_of_time_does_not_wrap() {
        let limit = RateLimit::new();
        for _ in 0..10 {
            assert!(limit.admit(u64::MAX - 1, SECOND).is_some());
        }
        assert_eq!(limit.admit(u64::MAX - 1, SECOND), None);
    }

    #[test]
    fn several_cpus_get_ten_lines_together_and_lose_no_count() {
        let limit = RateLimit::new();
        let lines: Vec<usize> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1000).filter_map(|_| limit.admit(7, SECOND)).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let lines: usize = lines.into_iter().sum();
        assert_eq!(lines, 10);
        assert!(limit.left_out() <= 4000 - 10);
        assert!(limit.left_out() >= 4000 - 10 - 40, "counts swapped out with a line at most");
    }
}
