// SPDX-License-Identifier: MIT OR Apache-2.0
//! The virtual counter.

/// CNTVCT_EL0, in ticks, not earlier than the instructions before.
pub fn now() -> u64 {
    plain!("isb");
    mrs!("cntvct_el0")
}

/// Ticks in `milliseconds`.
pub fn ticks(milliseconds: u64) -> u64 {
    mrs!("cntfrq_el0").max(1000) / 1000 * milliseconds
}

/// Ticks in `us` microseconds.
pub fn ticks_of_us(us: u64) -> u64 {
    ticks(us) / 1000
}

/// Nanoseconds in `ticks`.
pub fn nanoseconds(ticks: u64) -> u64 {
    ticks.saturating_mul(1_000_000_000) / mrs!("cntfrq_el0").max(1)
}

/// Microseconds in `ticks`.
pub fn microseconds(ticks: u64) -> u64 {
    ticks.saturating_mul(1_000_000) / mrs!("cntfrq_el0").max(1)
}

/// A moment that lies in the future for a while.
#[derive(Clone, Copy)]
pub struct Deadline {
    start: u64,
    length: u64,
}

impl Deadline {
    /// `milliseconds` from now.
    pub fn after(milliseconds: u64) -> Self {
        Self { start: now(), length: ticks(milliseconds) }
    }

    /// Whether it is over.
    pub fn passed(&self) -> bool {
        now().wrapping_sub(self.start) > self.length
    }
}

/// Waits until `condition` holds; false if that takes longer than `milliseconds`.
pub fn wait_until(milliseconds: u64, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Deadline::after(milliseconds);
    loop {
        if condition() {
            return true;
        }
        if deadline.passed() {
            return condition();
        }
        plain!("yield");
    }
}

/// Lets `milliseconds` pass.
pub fn sleep(milliseconds: u64) {
    wait_until(milliseconds, || false);
}
