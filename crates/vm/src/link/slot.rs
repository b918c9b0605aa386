// SPDX-License-Identifier: MIT OR Apache-2.0
//! One vCPU's forwarded access: who may end it, decided by one compare-and-swap.
//!
//! ```text
//!          send               complete (Done or Failed), lose (Lost)              take
//! Idle ------------> Sent ------------------------------------------> answered -----------> Idle
//!                      +--------------------- give_up (deadline, stop) ------------------->
//! ```
//! The word is private to EL2. The number of the access is part of it, so that an answer to an earlier one never fits.

use lock::atomic::{AtomicU64, Ordering};

const IDLE: u64 = 0;
const SENT: u64 = 1;
const DONE: u64 = 2;
const FAILED: u64 = 3;
const LOST: u64 = 4;
/// Bits of the state; the number of the access is above them.
const TAG_BITS: u32 = 3;
const TAG: u64 = (1 << TAG_BITS) - 1;

/// How a forwarded access ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The device model has answered: what a load reads, not yet cut to its size.
    Value(u64),
    /// The device model has answered with an error.
    Error,
    /// No device model will answer.
    Lost,
}

/// The state of one vCPU's access.
#[derive(Debug, Default)]
pub struct Slot {
    word: AtomicU64,
    value: AtomicU64,
    since: AtomicU64,
}

impl Slot {
    /// Begins an access at CNTPCT_EL0 `now`; returns its number. Only the CPU of the vCPU calls this, with no access under way.
    pub fn send(&self, now: u64) -> u64 {
        let number = self.number().wrapping_add(1);
        self.since.store(now, Ordering::Relaxed);
        self.word.store(number.wrapping_shl(TAG_BITS) | SENT, Ordering::SeqCst);
        number
    }

    /// The number of the last access.
    pub fn number(&self) -> u64 {
        self.word.load(Ordering::Acquire) >> TAG_BITS
    }

    /// CNTPCT_EL0 at which the last access began.
    pub fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    /// Whether an access waits for its answer.
    pub fn is_outstanding(&self) -> bool {
        self.word.load(Ordering::Acquire) & TAG == SENT
    }

    /// Answers access `number`. `false`, with nothing changed, unless that one waits. One caller at a time: all hold one lock.
    pub fn complete(&self, number: u64, answer: Answer) -> bool {
        let sent = number.wrapping_shl(TAG_BITS) | SENT;
        if number > u64::MAX >> TAG_BITS || self.word.load(Ordering::Acquire) != sent {
            return false;
        }
        let tag = match answer {
            Answer::Value(value) => {
                // Read only after the swap below, by which time no other answer can be written.
                self.value.store(value, Ordering::Relaxed);
                DONE
            }
            Answer::Error => FAILED,
            Answer::Lost => LOST,
        };
        self.swap(sent, tag)
    }

    /// No device model will answer the access that waits, if one does.
    pub fn lose(&self) -> bool {
        let word = self.word.load(Ordering::Acquire);
        word & TAG == SENT && self.swap(word, LOST)
    }

    /// The answer, if there is one: it is taken, and the slot is idle. Only the CPU of the vCPU calls this.
    pub fn take(&self) -> Option<Answer> {
        let word = self.word.load(Ordering::Acquire);
        let answer = match word & TAG {
            DONE => Answer::Value(self.value.load(Ordering::Relaxed)),
            FAILED => Answer::Error,
            LOST => Answer::Lost,
            _ => return None,
        };
        self.word.store(word & !TAG | IDLE, Ordering::Release);
        Some(answer)
    }

    /// Waits no longer. `false` where an answer has come meanwhile, or where nothing waits.
    pub fn give_up(&self) -> bool {
        let word = self.word.load(Ordering::Acquire);
        word & TAG == SENT && self.swap(word, IDLE)
    }

    fn swap(&self, from: u64, tag: u64) -> bool {
        let to = from & !TAG | tag;
        self.word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_is_answered_once() {
        let slot = Slot::default();
        assert!(!slot.complete(0, Answer::Value(1)), "nothing waits");
        let number = slot.send(5);
        assert_eq!((number, slot.since(), slot.is_outstanding()), (1, 5, true));
        assert_eq!(slot.take(), None);
        assert!(!slot.complete(0, Answer::Value(1)) && !slot.complete(2, Answer::Value(1)));
        assert!(!slot.complete(1 | 1 << 61, Answer::Value(1)), "a number that wraps");
        assert!(slot.complete(1, Answer::Value(7)));
        assert!(!slot.complete(1, Answer::Value(8)) && !slot.lose() && !slot.give_up());
        assert_eq!(slot.take(), Some(Answer::Value(7)));
        assert_eq!(slot.take(), None);
        assert!(!slot.complete(1, Answer::Value(8)), "over");
        assert_eq!(slot.send(6), 2);
        assert!(slot.complete(2, Answer::Error));
        assert_eq!(slot.take(), Some(Answer::Error));
    }

    #[test]
    fn an_access_that_is_given_up_gets_no_answer() {
        let slot = Slot::default();
        assert!(!slot.give_up());
        let number = slot.send(0);
        assert!(slot.give_up());
        assert!(!slot.complete(number, Answer::Value(1)));
        assert_eq!((slot.take(), slot.is_outstanding()), (None, false));
        slot.send(0);
        assert!(slot.lose());
        assert_eq!(slot.take(), Some(Answer::Lost));
        assert!(!slot.lose());
    }
}
