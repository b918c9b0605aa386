// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far the removal of what a walker could reach has got.

use arch::Pa;
use std::collections::BTreeMap;
use std::vec::Vec;

/// How far the removal of a valid descriptor has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Written,
    Visible,
    Stage2Issued,
    Stage2Done,
    Stage1Issued,
    AllIssued,
    Done,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Removal {
    /// What the descriptor translated.
    pub(super) ipa: u64,
    pub(super) level: u8,
    /// Normal memory it mapped.
    pub(super) memory: Option<Pa>,
    /// A table rather than a leaf.
    pub(super) table: bool,
    pub(super) step: Step,
    pub(super) rounds: u8,
}

impl Removal {
    pub(super) fn round_done(&mut self) {
        self.rounds -= 1;
        self.step = if self.rounds == 0 { Step::Done } else { Step::Visible };
    }
}

/// How far the invalidation of the whole VMID has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forgetting {
    pub(super) step: Step,
    pub(super) rounds: u8,
}

impl Forgetting {
    pub(super) fn new(repeat: bool) -> Self {
        Self { step: Step::Written, rounds: rounds(repeat) }
    }

    pub(super) fn issued(&mut self) {
        if !matches!(self.step, Step::Written | Step::Done) {
            self.step = Step::AllIssued;
        }
    }

    pub(super) fn barrier(&mut self, loads_too: bool) {
        match self.step {
            Step::Written => self.step = Step::Visible,
            Step::AllIssued if loads_too => {
                self.rounds -= 1;
                self.step = if self.rounds == 0 { Step::Done } else { Step::Visible };
            }
            _ => {}
        }
    }
}

/// How often an invalidation is to be done.
pub(super) fn rounds(repeat: bool) -> u8 {
    if repeat { 2 } else { 1 }
}

/// A table of leaves that was taken away. TLBs may hold each of its leaves until the VMID, or that leaf, was invalidated.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) base: u64,
    pub(super) leaves: Vec<u64>,
    /// How often each leaf was invalidated by its address, by index.
    pub(super) covered: BTreeMap<usize, u8>,
    pub(super) forgetting: Forgetting,
}
