// SPDX-License-Identifier: MIT OR Apache-2.0
//! What EL2 records of a vCPU for a crash report.

use vm::crash::{Exits, Watch};

/// One vCPU's record.
pub struct Record {
    /// Detects crash loops.
    pub watch: Watch,
    /// The last exits.
    pub exits: Exits,
    /// PC of the last refusal that was logged, if it came from a loop.
    said: Option<u64>,
    /// Its registers have been logged since the last reset.
    pub reported: bool,
}

impl Record {
    /// An empty record.
    pub const fn new() -> Self {
        Self { watch: Watch::new(), exits: Exits::new(), said: None, reported: false }
    }

    /// An exit with this ESR_EL2 at `pc`.
    pub fn note(&mut self, esr: u64, pc: u64) {
        self.exits.note(esr as u32, pc);
    }

    /// Whether a line about an exception at `pc` would repeat the last one: the guest has not moved on since.
    pub fn is_repeated(&mut self, pc: u64, return_address: u64) -> bool {
        let before = self.said.replace(pc);
        pc == return_address && before == Some(pc)
    }
}
