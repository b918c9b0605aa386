// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the server counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that any thread raises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters of a queue.
#[derive(Debug, Default)]
pub struct Queue {
    /// Wake-ups by the driver.
    pub kicks: Counter,
    /// Requests that were finished.
    pub requests: Counter,
    /// Bytes that the device read of the peer's memory, without headers.
    pub bytes_in: Counter,
    /// Bytes that the device wrote to the peer's memory, without headers.
    pub bytes_out: Counter,
    /// Requests that were answered with an error.
    pub errors: Counter,
    /// Chains that were given back unserved, since they break the rules.
    pub malformed: Counter,
    /// Interrupts that were raised.
    pub interrupts: Counter,
    /// Times that the ring broke the rules, so that the queue was stopped.
    pub broken: Counter,
}
