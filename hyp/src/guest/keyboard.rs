// SPDX-License-Identifier: MIT OR Apache-2.0
//! Console input: bytes for the VM that has the keyboard, and the operator's keys (`console::escape_key`).

use console::escape_key::{Command, Key, Keys};
use lock::{Lock, Rank};
use vm::{Holders, Phase};

use crate::console::{guest_input, ring};
use crate::cpu;
use crate::guest::instance::{self, VmInstance};
use crate::guest::keyboard_focus;
use crate::guest::loaded::Loaded;
use crate::guest::operator;

static KEYS: Lock<Keys> = Lock::new(Rank::Console, Keys::new());

/// Takes what the UART has received. `loaded` is the vCPU whose registers are in this CPU, if any.
pub fn collect(loaded: Option<Loaded>) {
    let vms = instance::all().len();
    let mut touched = false;
    loop {
        // A lone VM that runs gets all keys, and input that it has no room for stays in the UART. Otherwise the
        // operator's keys must come through, and input without room is lost.
        let alone = vms == 1 && instance::all().iter().all(|guest| runs(guest));
        if alone && guest_input::hold_back_if_full(0) {
            break;
        }
        let Some(byte) = ring::take() else { break };
        touched = true;
        if alone {
            guest_input::give(&[byte]);
            continue;
        }
        let mut again = true;
        while again {
            let key;
            (key, again) = KEYS.lock(&cpu::current().order).take(byte, vms);
            act(key);
        }
    }
    if touched && let Some(guest) = instance::all().get(guest_input::focus()) {
        guest.vm.poll_console(&cpu::current().order, Loaded::vcpu_of(loaded, guest));
    }
}

/// Does what a key asks for.
fn act(key: Key) {
    let guest = |index: usize| instance::all().get(index).copied();
    match key {
        Key::Pending => {}
        Key::Byte(byte) => guest_input::give(&[byte]),
        Key::Bytes(bytes) => guest_input::give(&bytes),
        Key::Next => keyboard_focus::select_next(None),
        Key::Who => list_vms(),
        Key::Do(command, index) => match (command, guest(index)) {
            (_, None) => list_vms(),
            (Command::Select, Some(guest)) if keyboard_focus::is_finished(guest) => list_vms(),
            (Command::Select, Some(guest)) => keyboard_focus::select(guest, None),
            (Command::Restart, Some(guest)) => operator::restart(guest),
            (Command::Stop, Some(guest)) => operator::stop_or_start(guest),
            (Command::Pause, Some(guest)) => operator::pause_or_resume(guest),
        },
    }
}

/// Whether the VM reads its input, or will: it is neither paused nor stopped.
fn runs(guest: &VmInstance) -> bool {
    let (lifecycle, order) = (guest.vm.lifecycle(), &cpu::current().order);
    let exists = !matches!(lifecycle.phase(order), Phase::Resting | Phase::Stopped);
    exists && lifecycle.holders(order) == Holders::NONE
}

/// Logs each VM's status, and what the keys do.
fn list_vms() {
    for guest in instance::all() {
        let keyboard = if guest_input::has_keyboard(guest.index) { " (keyboard)" } else { "" };
        log::info!(
            "{} {}{keyboard}: {}",
            guest.index,
            guest.vm.name(),
            operator::Status::of(guest)
        );
    }
    log::info!(
        "after Ctrl-]: number or n keyboard, r number restart, s number stop or start, p number pause or resume, ? this"
    );
}
