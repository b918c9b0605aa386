// SPDX-License-Identifier: MIT OR Apache-2.0
//! Part by part, what a device tree tells of a board: to review a vendor's tree without the board.
//!
//! [`Board::from_tree`](crate::Board::from_tree) stops at the first thing that is wrong, and wants what only
//! firmware can know. This looks at every part, with the same code.

use crate::board::types::{Cpu, Gic, Psci, Reserved, Timer, Uart};
use crate::board::{chosen, cpus, gic, memory, timer, uart};
use crate::error::Error;
use crate::fdt::Tree;
use alloc::string::String;
use alloc::vec::Vec;
use arch::{Pa, Range};

/// The RAM of a tree as its vendor ships it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportedRam {
    /// Banks, sorted and joined.
    Banks(Vec<Range<Pa>>),
    /// None, or banks of size 0 alone: the boot loader knows how much there is, and fills it in.
    FilledByFirmware,
}

/// What each part of a tree gives, or why Portcullis could not use it.
#[derive(Clone, Debug)]
pub struct BoardReport {
    /// `model`, else the first `compatible`; may be empty.
    pub model: String,
    /// RAM.
    pub ram: Result<ReportedRam, Error>,
    /// Memory that others use.
    pub reserved: Result<Vec<Reserved>, Error>,
    /// The CPUs.
    pub cpus: Result<Vec<Cpu>, Error>,
    /// The firmware's PSCI.
    pub psci: Result<Option<Psci>, Error>,
    /// The interrupt controller.
    pub gic: Result<Gic, Error>,
    /// Whether there is a GICv2 or GICv3 with what EL2 needs of it, enabled or not, usable or not.
    pub has_el2_gic: bool,
    /// The generic timer.
    pub timer: Result<Timer, Error>,
    /// The console.
    pub uart: Result<Option<Uart>, Error>,
}

impl BoardReport {
    /// Looks at the tree at the start of `blob`.
    ///
    /// # Errors
    /// Where it is no device tree, or not a whole one.
    pub fn of(blob: &[u8]) -> Result<Self, Error> {
        let tree = Tree::parse(blob)?;
        let psci = cpus::psci(&tree);
        let has_psci = matches!(psci, Ok(Some(_)));
        Ok(Self {
            model: chosen::model(&tree),
            ram: memory::banks(&tree).map(|banks| {
                if banks.is_empty() {
                    ReportedRam::FilledByFirmware
                } else {
                    ReportedRam::Banks(banks)
                }
            }),
            reserved: memory::reserved(&tree),
            cpus: cpus::cpus(&tree, has_psci),
            psci,
            gic: gic::gic(&tree),
            has_el2_gic: tree.nodes().any(|node| gic::serves_el2(&node)),
            timer: timer::timer(&tree),
            uart: uart::console(&tree),
        })
    }

    /// The first part for which Portcullis would refuse the board, if there is one. RAM that firmware fills in
    /// is none, nor is a console that it cannot drive.
    #[must_use]
    pub fn refusal(&self) -> Option<&Error> {
        [
            self.psci.as_ref().err(),
            self.ram.as_ref().err(),
            self.reserved.as_ref().err(),
            self.cpus.as_ref().err(),
            self.gic.as_ref().err(),
            self.timer.as_ref().err(),
            self.uart.as_ref().err(),
        ]
        .into_iter()
        .flatten()
        .next()
    }
}
