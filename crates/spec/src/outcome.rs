// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an exit leads to.

use crate::power_state::StopReason;

/// The register that a load writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Its number; 31 is none.
    pub register: u8,
}

/// Why an access was aborted: docs/abi.md, accesses; the numbers are those of trace events (docs/vm.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The guard refused it.
    Undeclared = 0,
    /// Nothing is there.
    NoDevice = 1,
    /// Not one register to or from memory.
    NoSyndrome = 2,
    /// It reaches into a second page.
    CrossesPage = 3,
    /// A store to rom.
    ReadOnly = 4,
    /// An instruction fetch.
    Fetch = 5,
    /// A stage-1 walk.
    Walk = 6,
    /// The device said so.
    DeviceError = 7,
    /// Memory that the VM no longer has.
    GivenAway = 8,
    /// The machine said so.
    External = 9,
    /// The VM that serves this one has not answered in time, or is gone.
    NoAnswer = 11,
}

/// What an exit leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// x0 to x3 are these; no other register changes. The guest goes on behind the call.
    Answer([u64; 4]),
    /// Only x0 is written (the workarounds).
    AnswerX0(u64),
    /// As [`Outcome::Answer`], once an interrupt has come.
    AnswerAfterWaiting([u64; 4]),
    /// The vCPU is off.
    Off,
    /// The VM stops for this reason.
    Stop(StopReason),
    /// The same instruction again, with nothing changed.
    Retry,
    /// Where the access leads is to be found out first, and asked again.
    ResolveIpa,
    /// The device behind the page has answered: a load writes this register, a store none; the guest goes on
    /// behind the instruction.
    Served(Option<Load>),
    /// A transport has done it, as [`Outcome::Served`], or the vCPU waits and then executes it again.
    ServedOrWaits(Option<Load>),
    /// The server is asked; the vCPU waits, and no other with it.
    Asks,
    /// The server has answered a load: the register has this value; the guest goes on behind the instruction.
    Loaded(Load, u64),
    /// A transport's registers answer a call of the server: x0 is 0 or -3; where it is 0 and this is the value of a register, x1 is
    /// that; the rest is 0.
    Registers {
        /// x1 is a value.
        value: bool,
    },
    /// The guest goes on behind the instruction, which did nothing.
    Skipped,
    /// A synchronous external abort at the instruction.
    Abort {
        /// Why.
        reason: Reason,
        /// Which address is to blame; `None` where it is not known.
        ipa: Option<u64>,
        /// It hit a stage-1 walk: the abort has that walk's level.
        walk: bool,
        /// It is an instruction abort.
        fetch: bool,
    },
}
