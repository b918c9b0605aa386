// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the console's ring reports back to VMs: lost output, and room for more.

use core::sync::atomic::Ordering;

use log::Level;

use crate::console::ring;
use crate::cpu;
use crate::guest::instance::{self, ADVICE, VmInstance};
use crate::guest::vm_log;

/// Writes what the UART accepts now, logs what VMs have lost, and polls the UARTs of VMs that waited for room. Called
/// without any lock held.
pub fn pump() {
    let advice = ADVICE.load(Ordering::Relaxed);
    if advice != 0 {
        // The line has taken its time.
        return advise_first(advice);
    }
    ring::pump();
    let losses = ring::losses();
    if losses != 0 {
        vm_log::losses(losses);
    }
    let room = ring::take_room_again();
    if room != 0 {
        poll(room);
    }
}

/// Gives the advice of the first of these VMs, one bit each.
#[cold]
#[inline(never)]
fn advise_first(vms: u32) {
    match instance::all().get(vms.trailing_zeros() as usize) {
        Some(guest) => advise(guest),
        None => ADVICE.store(0, Ordering::Relaxed),
    }
}

/// Logs the advice for a refusal of `guest` that was put off, if there is any: once per device of the guest's tree, and for a
/// few pages. It is always written, but counted.
#[cold]
#[inline(never)]
pub fn advise(guest: &VmInstance) {
    ADVICE.fetch_and(!(1 << (guest.index & 31)), Ordering::Relaxed);
    if let Some(refusal) = guest.take_advice()
        && let Some(advice) = guest.vm.advice(&refusal)
    {
        vm_log::always(guest, Level::Warn, format_args!("{advice}"));
    }
}

/// There is room again: a driver that sends by interrupts goes on.
#[cold]
#[inline(never)]
fn poll(vms: u32) {
    for guest in instance::all() {
        if vms >> (guest.index & 31) & 1 != 0 {
            guest.vm.poll_console(&cpu::current().order, None);
        }
    }
}
