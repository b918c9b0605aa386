// SPDX-License-Identifier: MIT OR Apache-2.0
//! Log lines that a guest can cause. Each counts against the limit of its VM (`vm::RateLimit`): ten at once, then one a
//! second. Code that a guest can trigger at will writes no other line.

use core::fmt;

use log::Level;
use vm::RateLimit;

use crate::console::{guest_output, ring};
use crate::cpu::timer;
use crate::guest::instance::{self, VmInstance};

/// Limit of lines that no VM causes, but that may be frequent: unexpected interrupts.
static STRAY: RateLimit = RateLimit::new();

/// A line about `guest`, if its limit admits one.
#[cold]
#[inline(never)]
pub fn about(guest: &VmInstance, level: Level, text: fmt::Arguments<'_>) {
    admit(guest, level, true, text);
}

/// A line about `guest` that is always written, and counted: its final stop, or one of a bounded number.
#[cold]
#[inline(never)]
pub fn always(guest: &VmInstance, level: Level, text: fmt::Arguments<'_>) {
    admit(guest, level, false, text);
}

/// A line about `guest`, if its limit admits one or it is not `rationed`. Returns whether it was written. Lines that belong
/// to it may follow ([`more`]).
#[cold]
#[inline(never)]
pub fn admit(guest: &VmInstance, level: Level, rationed: bool, text: fmt::Arguments<'_>) -> bool {
    let (limit, now, frequency) = (guest.vm.log_limit(), timer::now(), timer::frequency());
    let left_out =
        if rationed { limit.admit(now, frequency) } else { Some(limit.admit_last(now, frequency)) };
    let Some(left_out) = left_out else { return false };
    admitted(guest, level, left_out, text);
    true
}

/// A further line of one that was just admitted.
#[cold]
#[inline(never)]
pub fn more(guest: &VmInstance, level: Level, text: fmt::Arguments<'_>) {
    ring::about(guest.index, level, 0, text);
}

/// A line about `guest` that its limit has admitted, after `left_out` lines that it has not.
#[cold]
#[inline(never)]
pub fn admitted(guest: &VmInstance, level: Level, left_out: u64, text: fmt::Arguments<'_>) {
    guest_output::finish_line(guest.index);
    ring::about(guest.index, level, left_out, text);
}

/// Logs that the console has lost output of these VMs, one bit each, if their limits admit a line.
#[cold]
#[inline(never)]
pub fn losses(vms: u32) {
    let now = timer::now();
    for guest in instance::all().iter().filter(|guest| vms >> (guest.index & 31) & 1 != 0) {
        // Not counted as left out otherwise: any other line about the VM reports the loss too.
        if guest.vm.log_limit().would_admit(now) {
            let name = guest.vm.name();
            about(guest, Level::Warn, format_args!("{name}: the console was full"));
        }
    }
}

/// A line about an unexpected interrupt.
#[cold]
#[inline(never)]
pub fn stray(text: fmt::Arguments<'_>) {
    if let Some(left_out) = STRAY.admit(timer::now(), timer::frequency()) {
        log::warn!("{text} ({left_out} more lines left out)");
    }
}
