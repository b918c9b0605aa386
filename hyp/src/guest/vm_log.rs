// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines of EL2's that a guest can cause. Each counts against the allowance of its VM (`vm::RateLimit`): ten at once, then
//! one a second, whatever they say. No other line may be written where a guest decides how often.

use core::fmt;

use log::Level;
use vm::RateLimit;

use crate::console::{guest_output, ring};
use crate::cpu::timer;
use crate::guest::instance::{self, VmInstance};

/// Lines that no VM is to blame for, but that may come often: of interrupts that the machine sends unasked.
static STRAY: RateLimit = RateLimit::new();

/// A line about `guest`, if its allowance admits one.
#[cold]
#[inline(never)]
pub fn about(guest: &VmInstance, level: Level, text: fmt::Arguments<'_>) {
    admit(guest, level, true, text);
}

/// A line about `guest` that is always written, and counts like any other: of its stop for good, or one of a bounded number.
#[cold]
#[inline(never)]
pub fn always(guest: &VmInstance, level: Level, text: fmt::Arguments<'_>) {
    admit(guest, level, false, text);
}

/// A line about `guest`, if its allowance admits one or it is not `rationed`; whether it was written. More lines that belong
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

/// A line that belongs to one that was just admitted, as a part of it.
#[cold]
#[inline(never)]
pub fn more(guest: &VmInstance, level: Level, text: fmt::Arguments<'_>) {
    ring::about(guest.index, level, 0, text);
}

/// A line about `guest` that its allowance has admitted; `left_out` lines before it were not.
#[cold]
#[inline(never)]
pub fn admitted(guest: &VmInstance, level: Level, left_out: u64, text: fmt::Arguments<'_>) {
    guest_output::finish_line(guest.index);
    ring::about(guest.index, level, left_out, text);
}

/// Tells what the console has lost of VMs, a bit for each, where their allowance admits a line.
#[cold]
#[inline(never)]
pub fn losses(vms: u32) {
    let now = timer::now();
    for guest in instance::all().iter().filter(|guest| vms >> (guest.index & 31) & 1 != 0) {
        // What is not admitted here is no line that was left out: any other line about the VM tells the loss too.
        if guest.vm.log_limit().would_admit(now) {
            let name = guest.vm.name();
            about(guest, Level::Warn, format_args!("{name}: the console was full"));
        }
    }
}

/// A line about an interrupt that the machine sends unasked.
#[cold]
#[inline(never)]
pub fn stray(text: fmt::Arguments<'_>) {
    if let Some(left_out) = STRAY.admit(timer::now(), timer::frequency()) {
        log::warn!("{text} ({left_out} more lines left out)");
    }
}
