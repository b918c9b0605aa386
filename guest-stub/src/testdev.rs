// SPDX-License-Identifier: MIT OR Apache-2.0
//! The test device of Portcullis (`vm.testdev=IPA`): counts what reaches it, and answers with errors
//! where it is asked to. docs/vm.md describes it.

use crate::verdict::{Verdict, Why};
use crate::{guard, mmio, probe, tree};

/// The window: loads and stores are counted. 2 KiB up to the end of the page.
pub const WINDOW: u64 = 0x800;
/// An access here is answered with an error.
pub const ERROR: u64 = 0x400;

/// "test".
const ID_VALUE: u32 = 0x7465_7374;

const ID: u64 = 0x00;
const LOADS: u64 = 0x08;
const STORES: u64 = 0x10;
const ERRORS: u64 = 0x18;
const LAST_VALUE: u64 = 0x20;
const LAST_ACCESS: u64 = 0x28;
const VALUE: u64 = 0x30;
const KEEP: u64 = 0x48;

/// Where it is: what the word `testdev=` says, else the default place.
pub fn base() -> u64 {
    tree::number("testdev").unwrap_or(0x0b00_0000)
}

/// The first byte of the window.
pub fn window() -> u64 {
    base() + WINDOW
}

/// What it has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Loads from the window.
    pub loads: u64,
    /// Stores to the window.
    pub stores: u64,
    /// Accesses answered with an error.
    pub errors: u64,
}

/// Reads the counters; does not count itself.
pub fn counts() -> Counts {
    Counts {
        loads: mmio::read64(base() + LOADS),
        stores: mmio::read64(base() + STORES),
        errors: mmio::read64(base() + ERRORS),
    }
}

/// The last access to the window: offset, width in bytes, whether it stored.
pub fn last() -> (u64, u64, bool) {
    let last = mmio::read64(base() + LAST_ACCESS);
    (last & 0xffff, last >> 16 & 0xff, last >> 24 & 1 != 0)
}

/// The value of the last store to the window.
pub fn stored() -> u64 {
    mmio::read64(base() + LAST_VALUE)
}

/// Sets what loads from the window get.
pub fn set_value(value: u64) {
    mmio::write64(base() + VALUE, value);
}

/// A word that outlives a reset.
pub fn kept() -> u64 {
    mmio::read64(base() + KEEP)
}

/// Sets that word.
pub fn keep(value: u64) {
    mmio::write64(base() + KEEP, value);
}

/// Skips the test unless the device keeps a word over resets.
pub fn need_keeping() -> Verdict {
    need()?;
    if kept() != 0 {
        return Ok(());
    }
    keep(1);
    let keeps = kept() == 1;
    keep(0);
    need!(keeps, "the test device keeps nothing");
    Ok(())
}

/// Skips the test unless there is one. Where there is none, nothing answers.
pub fn need() -> Verdict {
    let id = probe::load(base() + ID);
    if id.exit.done() && id.after.x[probe::DATA] as u32 == ID_VALUE {
        Ok(())
    } else {
        Err(Why::Skipped("no test device (vm.testdev)"))
    }
}

/// The guard is active and the device declared, so that it can be used.
pub fn ready() -> Verdict {
    guard::activate()?;
    check!(guard::map(base()) == guard::done(), "MAP of the test device");
    need()
}
