// SPDX-License-Identifier: MIT OR Apache-2.0
//! CPU time of one vCPU.

use lock::atomic::{AtomicU64, Ordering};

/// CPU time that a vCPU has used, EL2's work for it included, in ticks of the counter.
///
/// One CPU writes it. Any CPU may read it at any time.
#[derive(Debug)]
pub struct CpuTime {
    used: AtomicU64,
    /// Counter value up to which the running vCPU has been charged; 0 while it does not run.
    since: AtomicU64,
}

impl CpuTime {
    /// Nothing used, not running.
    pub const fn new() -> Self {
        Self { used: AtomicU64::new(0), since: AtomicU64::new(0) }
    }

    /// The vCPU runs from `now` on.
    #[inline(always)]
    pub fn start(&self, now: u64) {
        self.since.store(now, Ordering::Relaxed);
    }

    /// The vCPU runs, and has used `ticks` up to `now`.
    #[inline(always)]
    pub fn charge(&self, ticks: u64, now: u64) {
        self.add(ticks);
        self.since.store(now, Ordering::Relaxed);
    }

    /// The vCPU has stopped running; all has been charged.
    #[inline(always)]
    pub fn stop(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    /// Adds `ticks`.
    #[inline(always)]
    pub fn add(&self, ticks: u64) {
        let used = self.used.load(Ordering::Relaxed).wrapping_add(ticks);
        self.used.store(used, Ordering::Relaxed);
    }

    /// Ticks used up to `now`. A reader on another CPU may miss the last stretch, or count it to its own `now`.
    pub fn used(&self, now: u64) -> u64 {
        let since = self.since.load(Ordering::Relaxed);
        let used = self.used.load(Ordering::Relaxed);
        let running = if since == 0 { 0 } else { now.saturating_sub(since) };
        used.wrapping_add(running)
    }
}

impl Default for CpuTime {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_vcpu_has_used_what_was_charged_and_the_time_since() {
        let time = CpuTime::new();
        assert_eq!(time.used(5), 0);
        time.start(10);
        assert_eq!(time.used(14), 4);
        time.charge(6, 16);
        assert_eq!(time.used(18), 8);
        time.stop();
        assert_eq!(time.used(100), 6);
        time.add(3);
        time.start(110);
        assert_eq!(time.used(112), 11);
        assert_eq!(time.used(100), 9, "a reader whose counter is behind sees no negative time");
    }
}
