// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a vCPU does while its CPU does not run it, and what a change of that means to the scheduler.

use crate::Scheduler;

/// State of a vCPU that is not loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VcpuState {
    /// Not turned on, or paused.
    Off,
    /// Wants the CPU.
    Ready,
    /// Sleeps until an interrupt is deliverable.
    Waiting,
    /// As [`VcpuState::Ready`], with an access that a device VM answers: to be looked at before it enters its guest.
    Answered,
    /// Parked: its share of the CPU goes into the reset of its VM.
    Preparing,
}

impl VcpuState {
    /// Whether it wants the CPU.
    #[inline(always)]
    pub const fn wants_cpu(self) -> bool {
        matches!(self, Self::Ready | Self::Answered | Self::Preparing)
    }
}

impl Scheduler {
    /// `vcpu`, which is not loaded, was in the state `before` and is in `now`. One that waits is looked at again at
    /// `deadline`; `None` and `u64::MAX` stand for never.
    #[inline(always)]
    pub fn update(
        &mut self,
        vcpu: usize,
        before: VcpuState,
        now: VcpuState,
        deadline: Option<u64>,
    ) {
        match now {
            VcpuState::Ready | VcpuState::Answered | VcpuState::Preparing => {
                if !before.wants_cpu() {
                    self.wake(vcpu);
                }
            }
            VcpuState::Waiting => self.set_deadline(vcpu, finite(deadline)),
            VcpuState::Off => {
                if before != VcpuState::Off {
                    self.turn_off(vcpu);
                }
            }
        }
    }

    /// `vcpu` was put because it waits, with its next timer at `deadline` (`u64::MAX` for never). `state` is what has
    /// become of it: with an interrupt to take it is ready at once. Time has been accounted for before.
    #[inline(always)]
    pub fn wait(&mut self, vcpu: usize, state: VcpuState, deadline: u64) {
        self.sleep(vcpu, finite(Some(deadline)));
        if state.wants_cpu() {
            self.wake(vcpu);
        }
    }

    /// What the CPU listens for from `now` on ([`Scheduler::heed`]), and when it chooses again ([`Scheduler::until`]).
    #[inline(always)]
    pub fn next_choice(&self, now: u64) -> (u64, u64) {
        (self.heed(now), self.until(now))
    }
}

#[inline(always)]
fn finite(deadline: Option<u64>) -> Option<u64> {
    deadline.filter(|at| *at != u64::MAX)
}
