// SPDX-License-Identifier: MIT OR Apache-2.0
//! State of a bank of flash.

use alloc::collections::BTreeSet;

/// How far the chips are in a sentence of commands. What it does to what they hold is not specified here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sentence {
    /// None is begun, and loads find what the bank holds.
    Array,
    /// None is begun, and loads find something else.
    Other,
    /// The next store ends it, whatever it is.
    Last,
    /// The number of words comes.
    Count,
    /// Words come, of which all lie within `count` words from the first one's address on.
    Words {
        /// How many there are in all.
        count: u64,
        /// How many are still to come.
        left: u64,
        /// Offset of the first.
        first: Option<u64>,
    },
}

/// A bank and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bank {
    /// What the chips do.
    pub sentence: Sentence,
    /// All of it is mapped; else nothing of it is.
    pub mapped: bool,
    /// Its declared pages.
    pub declared: BTreeSet<u64>,
}

impl Bank {
    /// A bank before its VM's first start.
    pub const fn new() -> Self {
        Self { sentence: Sentence::Array, mapped: false, declared: BTreeSet::new() }
    }
}

impl Default for Bank {
    fn default() -> Self {
        Self::new()
    }
}

impl Sentence {
    /// After a store of `word` at `offset`.
    pub(crate) const fn after(self, offset: u64, word: u32) -> Self {
        let command = word as u8;
        match self {
            Self::Array | Self::Other => match command {
                0xff => Self::Array,
                0x70 | 0xb0 | 0xd0 | 0x90 | 0x98 => Self::Other,
                0x10 | 0x40 | 0x20 | 0x60 => Self::Last,
                0xe8 => Self::Count,
                _ => self,
            },
            Self::Last => Self::Other,
            Self::Count if command < 32 => {
                let count = command as u64 + 1;
                Self::Words { count, left: count, first: None }
            }
            Self::Count => Self::Other,
            Self::Words { count, left, first } => {
                let first = match first {
                    Some(first) => first,
                    None => offset,
                };
                match offset.checked_sub(first) {
                    Some(distance) if distance / 4 < count && left == 1 => Self::Last,
                    Some(distance) if distance / 4 < count => {
                        Self::Words { count, left: left - 1, first: Some(first) }
                    }
                    _ => Self::Other,
                }
            }
        }
    }
}
