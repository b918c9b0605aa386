// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a VM and its vCPUs are in their lifecycle.

/// A vCPU's power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// Off.
    Off,
    /// It will begin at `entry` with `context` in x0.
    Pending {
        /// Address of its first instruction.
        entry: u64,
        /// x0.
        context: u64,
    },
    /// On.
    On,
}

/// Why a VM stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// SYSTEM_OFF.
    PowerOff,
    /// SYSTEM_RESET or RESET2: a restart follows.
    Reset,
    /// The last vCPU turned itself off.
    AllOff,
    /// EL2 or its owner stopped it: an SError, a crash loop, a reset that failed, a key.
    Other,
}

/// The phase of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No vCPU runs: before the first start, or between two runs.
    Parked,
    /// It waits for its restart.
    Resting,
    /// It runs.
    Running,
    /// Its vCPUs are leaving. The first reason counts.
    Stopping(StopReason),
    /// It has ended.
    Stopped,
}

/// What a vCPU finds that has left a VM that stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parked {
    /// Others are still to come.
    Others,
    /// It was the last.
    Last(StopReason),
}
