// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which vCPUs are worth a kick, or another interruption of what runs.

use super::Scheduler;
use crate::seat::{bit, first};

impl Scheduler {
    /// A kick, or other work for a vCPU of an equal, changed nothing: no equal's is heeded for 50 us.
    pub fn be_quiet(&mut self, now: u64) {
        self.quiet_until = now.saturating_add(self.turn);
    }

    /// Waiting and off vCPUs whose waking is a reason to interrupt what runs.
    #[inline(always)]
    fn heeded(&self, now: u64) -> u32 {
        if self.seat == 0 {
            return u32::MAX;
        }
        let seat = self.seats.at(first(self.seat, 0));
        let level = self.levels.at(usize::from(seat.level));
        let heeded = if now < self.quiet_until {
            level.above
        } else {
            level.above | level.vcpus & !level.spent
        };
        if self.limited { heeded & self.eligible_vcpus() } else { heeded }
    }

    /// Whether work for `vcpu`'s VM may interrupt what runs.
    pub fn may_interrupt(&self, vcpu: usize, now: u64) -> bool {
        let seat = self.seat_index(vcpu);
        self.seat == bit(seat) || self.heeded(now) & bit(vcpu) != 0
    }

    /// Which bits of [`Wake`](crate::Wake) are worth a kick: those of the running vCPU, and of those that may preempt it. One that is
    /// ready and not loaded needs none; one that is off needs none for an interrupt.
    #[inline(always)]
    pub fn heed(&self, now: u64) -> u64 {
        let heeded = self.heeded(now);
        let interrupt = self.waiting & heeded | self.running;
        let power = (self.waiting | self.off) & heeded | self.running;
        u64::from(power) << 32 | u64::from(interrupt)
    }
}
