// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far a reset is. What it does to the tables is in `reset`.

use arch::Pa;

/// How far a reset is: a walk over all tables, from left to right.
pub(crate) struct Clearing {
    pub(crate) pass: Pass,
    /// Where the walk is.
    pub(crate) level: u8,
    /// The tables from the root down to it, by level.
    path: [Position; 4],
}

/// See `reset`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Everything that goes becomes invalid, and its tables are detached.
    Prune,
    /// Detached tables go back to the pool.
    Reclaim,
}

/// A table on the path: the descriptor that is next, or whose table is being walked.
#[derive(Clone, Copy)]
pub(crate) struct Position {
    pub(crate) table: Pa,
    pub(crate) index: usize,
    /// A leaf was found in it that stays.
    pub(crate) needed: bool,
}

impl Clearing {
    pub(crate) const fn new(pass: Pass, root: Pa, level: u8) -> Self {
        let position = Position { table: root, index: 0, needed: false };
        Self { pass, level, path: [position; 4] }
    }

    /// The table where the walk is.
    pub(crate) fn position(&mut self) -> &mut Position {
        let [first, second, third, last] = &mut self.path;
        // A descriptor of level 3 is no table: the level is never beyond.
        match self.level {
            0 => first,
            1 => second,
            2 => third,
            _ => last,
        }
    }

    /// Goes on with `table`, below the descriptor that is next.
    pub(crate) fn descend(&mut self, table: Pa) {
        self.level = self.level.wrapping_add(1);
        *self.position() = Position { table, index: 0, needed: false };
    }
}
