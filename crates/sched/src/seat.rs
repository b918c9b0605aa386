// SPDX-License-Identifier: MIT OR Apache-2.0
//! A VM's seat on a CPU, and the seats of one priority.

/// Seats of a CPU: VMs that have vCPUs there.
pub const SEATS: usize = 32;
/// Priorities, 0 the lowest.
pub const PRIORITIES: usize = 32;
/// The priority of a VM whose owner asks for none.
pub const DEFAULT_PRIORITY: u8 = 8;
/// Levels of seats: one for each priority, and one for each VM that has windows of its own, above all priorities. Such a VM
/// shares its quantum and epochs with no other.
pub(crate) const LEVELS: usize = 64;

/// Bit `index` of a mask of levels.
#[inline(always)]
pub(crate) const fn level_bit(index: usize) -> u64 {
    1 << (index & 63)
}

/// Bit `index` of a mask.
#[inline(always)]
pub(crate) const fn bit(index: usize) -> u32 {
    1 << (index & 31)
}

/// The first one of `mask`, which is not empty, from `start` upwards, beginning anew behind 31.
#[inline(always)]
pub(crate) const fn first(mask: u32, start: u32) -> usize {
    let turned = mask.rotate_right(start & 31);
    (turned.trailing_zeros().wrapping_add(start) & 31) as usize
}

/// A value for each of 32 seats, priorities or vCPUs.
pub(crate) struct Table<T>(pub [T; 32]);

impl<T> Table<T> {
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "the index is below the length")]
    pub const fn at(&self, index: usize) -> &T {
        &self.0[index & 31]
    }

    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "the index is below the length")]
    pub const fn at_mut(&mut self, index: usize) -> &mut T {
        &mut self.0[index & 31]
    }
}

/// The levels.
pub(crate) struct Levels(pub [Level; LEVELS]);

impl Levels {
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "the index is below the length")]
    pub const fn at(&self, index: usize) -> &Level {
        &self.0[index & 63]
    }

    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "the index is below the length")]
    pub const fn at_mut(&mut self, index: usize) -> &mut Level {
        &mut self.0[index & 63]
    }
}

/// A VM on this CPU.
#[derive(Clone, Copy)]
pub(crate) struct Seat {
    /// What is left of its quantum in `epoch`; negative after an overrun.
    pub left: i64,
    /// Ticks of an epoch.
    pub quantum: i64,
    /// Ticks used since it woke.
    pub since_wake: u64,
    /// The epoch of its level that `left` belongs to.
    pub epoch: u32,
    /// Its vCPUs.
    pub vcpus: u32,
    /// Those that want the CPU.
    pub ready: u32,
    /// Those of them that have not run since they woke.
    pub fresh: u32,
    /// The vCPU that ran last.
    pub last: u8,
    /// Its level: its priority, or one of its own if it has windows.
    pub level: u8,
    /// Number of the VM.
    pub vm: u16,
}

impl Seat {
    pub const NONE: Self = Self {
        left: 0,
        quantum: 0,
        since_wake: 0,
        epoch: 0,
        vcpus: 0,
        ready: 0,
        fresh: 0,
        last: 0,
        level: 0,
        vm: 0,
    };

    /// Begins the level's epoch, if it has not: with a whole quantum, less what it overran. Nothing is saved up.
    #[inline(always)]
    pub fn begin(&mut self, epoch: u32) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.left = self.quantum.saturating_add(self.left.min(0));
        }
    }
}

/// The seats of one priority that have a vCPU that wants the CPU, as masks of seats; a seat is in at most one of the
/// first three.
#[derive(Clone, Copy)]
pub(crate) struct Level {
    /// Have woken and have quantum left.
    pub woken: u32,
    /// Have quantum left.
    pub active: u32,
    /// Have used their quantum of this epoch.
    pub used: u32,
    /// Counts epochs: one ends when all that want the CPU have used their quantum.
    pub epoch: u32,
    /// vCPUs of this priority.
    pub vcpus: u32,
    /// vCPUs of this priority whose VM has used its quantum of this epoch.
    pub spent: u32,
    /// vCPUs of higher priorities.
    pub above: u32,
    /// The seat of `woken` that had its turn last.
    pub last: u8,
    /// The seat of `active` whose turn it is.
    pub at: u8,
}

impl Level {
    pub const EMPTY: Self = Self {
        woken: 0,
        active: 0,
        used: 0,
        epoch: 0,
        vcpus: 0,
        spent: 0,
        above: 0,
        last: 0,
        at: 0,
    };

    /// All seats that want the CPU.
    #[inline(always)]
    pub const fn ready(&self) -> u32 {
        self.woken | self.active | self.used
    }

    /// Takes a seat out of all masks.
    #[inline(always)]
    pub const fn remove(&mut self, seat: u32) {
        self.woken &= !seat;
        self.active &= !seat;
        self.used &= !seat;
    }

    /// The next epoch: all `eligible` ones that wait have a quantum again. The seat behind the one that had its turn comes first.
    #[inline(always)]
    pub const fn renew(&mut self, eligible: u32) {
        self.epoch = self.epoch.wrapping_add(1);
        self.active |= self.used & eligible;
        self.used &= !eligible;
        self.spent = 0;
        self.at = self.at.wrapping_add(1);
    }
}
