// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which VM has the keyboard: the operator selects it, or the one before has stopped.

use log::Level;

use crate::console::{guest_input, guest_output};
use crate::cpu;
use crate::guest::instance::{self, VmInstance};
use crate::guest::vm_log;

/// Whether the VM has stopped and does not restart by itself.
pub fn is_finished(guest: &VmInstance) -> bool {
    guest.vm.lifecycle().finished(&cpu::current().order)
}

/// Gives the keyboard to `guest`; `stopped` is the VM that had it, if its stop is the reason.
pub fn select(guest: &VmInstance, stopped: Option<&VmInstance>) {
    guest_input::set_focus(guest.index);
    let text = format_args!("the keyboard goes to {}", guest.config.name);
    match stopped {
        Some(stopped) => vm_log::always(stopped, Level::Info, text),
        None => log::info!("{text}"),
    }
    guest_output::show(guest.index);
}

/// Gives the keyboard to the next VM that has not stopped, if there is one.
pub fn select_next(stopped: Option<&VmInstance>) {
    let all = instance::all();
    let (before, after) = all.split_at(guest_input::focus().saturating_add(1).min(all.len()));
    let others = after.iter().chain(before).filter(|guest| !guest_input::has_keyboard(guest.index));
    if let Some(guest) = others.copied().find(|guest| !is_finished(guest)) {
        select(guest, stopped);
    }
}

/// `guest` has stopped: if it had the keyboard, another VM gets it.
pub fn release(guest: &VmInstance) {
    if guest_input::has_keyboard(guest.index) {
        select_next(Some(guest));
    }
}
