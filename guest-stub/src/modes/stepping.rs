// SPDX-License-Identifier: MIT OR Apache-2.0
//! A VM that turns debug events on, and one beside it that has none of its own. A debug event that is still on in the
//! CPU when the second one runs at EL0 is an exception there: a step, a breakpoint.

use crate::machine::{Machine, pstate};
use crate::{probe, scratch, time};

/// MDSCR_EL1: MDE and SS. KDE is clear, so that EL1 itself sees no event (DDI 0487 D2.4.1, D2.12).
const EVENTS: u64 = 1 << 15 | 1;
const NOP: u32 = 0xd503_201f;

/// Has debug events on for so many seconds, and lets others run meanwhile.
pub fn arm(seconds: u64) {
    msr!("mdscr_el1", EVENTS);
    plain!("isb");
    say!("step: armed");
    let deadline = time::Deadline::after(seconds * 1000);
    while !deadline.passed() {
        time::wait_until(5, || false);
        plain!("sevl", "wfe", "wfe");
        let seen = mrs!("mdscr_el1");
        if seen & EVENTS != EVENTS {
            say!("FAIL step: MDSCR_EL1 is {seen:#x}");
            return;
        }
    }
    say!("step: done");
}

/// Runs at EL0 for so many seconds: nothing ends it but its own `svc`.
pub fn watch(seconds: u64) {
    let deadline = time::Deadline::after(seconds * 1000);
    let mut rounds = 0;
    while !deadline.passed() {
        for _ in 0..20 {
            let code = scratch::code(&[NOP, NOP]);
            let exit = probe::run(Machine::new(code).at(pstate::EL0)).exit;
            if !exit.done() {
                say!("FAIL stepped: ESR {:#x} ELR {:#x} in round {rounds}", exit.esr, exit.elr);
                return;
            }
        }
        rounds += 1;
        time::wait_until(1, || false);
        plain!("sevl", "wfe", "wfe");
    }
    say!("stepped: {rounds} rounds");
}
