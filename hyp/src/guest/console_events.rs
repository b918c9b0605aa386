// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the console's ring reports back to VMs: lost output, and room for more.

use crate::console::ring;
use crate::cpu;
use crate::guest::{instance, vm_log};

/// Writes what the UART accepts now, logs what VMs have lost, and polls the UARTs of VMs that waited for room. Called
/// without any lock held.
pub fn pump() {
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
