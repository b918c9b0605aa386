// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines of EL2's that a guest can cause. Each counts against the allowance of its VM (`vm::RateLimit`): ten at once, then
//! one a second, whatever they say. No other line may be written where a guest decides how often.

use core::fmt;

use log::Level;
use vm::RateLimit;

use crate::guest::{self, Guest};
use crate::{console, output, time};

/// Lines that no VM is to blame for, but that may come often: of interrupts that the machine sends unasked.
static STRAY: RateLimit = RateLimit::new();

/// A line about `guest`, if its allowance admits one.
#[cold]
#[inline(never)]
pub fn about(guest: &Guest, level: Level, text: fmt::Arguments<'_>) {
    if let Some(left_out) = guest.vm.log_limit().admit(time::now(), time::frequency()) {
        admitted(guest, level, left_out, text);
    }
}

/// A line about `guest` that is always written, and counts like any other: of its stop for good, or one of a bounded number.
#[cold]
#[inline(never)]
pub fn always(guest: &Guest, level: Level, text: fmt::Arguments<'_>) {
    let left_out = guest.vm.log_limit().admit_last(time::now(), time::frequency());
    admitted(guest, level, left_out, text);
}

/// A line about `guest` that its allowance has admitted; `left_out` lines before it were not.
#[cold]
#[inline(never)]
pub fn admitted(guest: &Guest, level: Level, left_out: u64, text: fmt::Arguments<'_>) {
    output::finish_line(guest.index);
    console::about(guest.index, level, left_out, text);
}

/// Tells what the console has lost of VMs, a bit for each, where their allowance admits a line.
#[cold]
#[inline(never)]
pub fn losses(vms: u32) {
    let now = time::now();
    for guest in guest::all().iter().filter(|guest| vms >> (guest.index & 31) & 1 != 0) {
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
    if let Some(left_out) = STRAY.admit(time::now(), time::frequency()) {
        log::warn!("{text} ({left_out} more lines left out)");
    }
}
