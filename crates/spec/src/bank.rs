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
    /// The next store erases a block, if it confirms that.
    Erase,
    /// The next store locks or unlocks a block, or neither.
    Lock,
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
    /// Its locked blocks, by number.
    pub locked: BTreeSet<u64>,
    /// Pieces of a block that are still to be erased.
    pub busy: u64,
}

/// Bytes of a block.
const BLOCK: u64 = 256 << 10;
/// Bytes that an access to a bank erases of a block that is being erased.
const ERASED_AT_ONCE: u64 = 16 << 10;

impl Bank {
    /// A bank before its VM's first start.
    pub const fn new() -> Self {
        Self {
            sentence: Sentence::Array,
            mapped: false,
            declared: BTreeSet::new(),
            locked: BTreeSet::new(),
            busy: 0,
        }
    }
}

impl Bank {
    /// A store of `word` at `offset`.
    pub(crate) fn store(&mut self, offset: u64, word: u32) {
        let (command, block) = (word as u8, offset / BLOCK);
        match (self.sentence, command) {
            (Sentence::Erase, 0xd0) if !self.locked.contains(&block) => {
                // The first piece is erased by the store itself.
                self.busy = BLOCK / ERASED_AT_ONCE - 1;
            }
            (Sentence::Lock, 0x01 | 0x2f) => {
                self.locked.insert(block);
            }
            (Sentence::Lock, 0xd0) => {
                self.locked.remove(&block);
            }
            _ => {}
        }
        self.sentence = self.sentence.after(offset, word);
    }

    /// An access erases a piece of the block that is being erased; returns whether more of it is left.
    pub(crate) const fn erase_on(&mut self) -> bool {
        self.busy = self.busy.saturating_sub(1);
        self.busy != 0
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
                0x10 | 0x40 => Self::Last,
                0x20 => Self::Erase,
                0x60 => Self::Lock,
                0xe8 => Self::Count,
                _ => self,
            },
            Self::Last | Self::Erase | Self::Lock => Self::Other,
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
