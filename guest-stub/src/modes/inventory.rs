// SPDX-License-Identifier: MIT OR Apache-2.0
//! A list of every register that can be read, before and after all that can be written has been. Nothing of it may
//! be there in the next boot of the VM, or in another VM of the same CPU.
//!
//! Registers of which writes set or clear single bits, such as debug claim tags, are found too: what counts is what
//! can be read anywhere.

use arrayvec::ArrayVec;

use crate::encoding::Encoding;
use crate::machine::{Machine, pstate};
use crate::{console, probe, psci, scratch, testdev, time};

/// What is read differs from time to time: the counters and timers, random numbers, and what the probes' own
/// exceptions write (SPSR, ELR, SP_EL0 and PSTATE; ESR, FAR; TPIDR_EL1 and TPIDRRO_EL0).
fn is_volatile(encoding: Encoding) -> bool {
    matches!(
        encoding.fields(),
        (3, 3, 14, ..)
            | (3, 3, 2, 4, _)
            | (3, 0, 4, 0..=2, _)
            | (3, 3, 4, 2, _)
            | (3, 0, 5, 2, 0)
            | (3, 0, 6, 0, 0)
            | (3, 0, 13, 0, 4)
            | (3, 3, 13, 0, 3)
    )
}

/// What the stub itself depends on: SCTLR, CPACR; TTBR0, TCR; MAIR; VBAR. Single-stepping and breakpoints would come
/// alive in MDSCR_EL1. Accesses to ICC registers that acknowledge, end and send interrupts do something.
fn is_needed(encoding: Encoding) -> bool {
    matches!(
        encoding.fields(),
        (3, 0, 1, 0, 0 | 2)
            | (3, 0, 2, 0, 0 | 2)
            | (3, 0, 10, 2, 0)
            | (3, 0, 12, 0, 0)
            | (2, 0, 0, 2, 2)
            | (3, 0, 12, 8, 0..=1)
            | (3, 0, 12, 11, _)
            | (3, 0, 12, 12, 0 | 1)
            | (3, _, 11 | 15, ..)
    )
}

fn run(word: u32, value: u64) -> Option<u64> {
    let machine = Machine::new(scratch::code(&[word])).with(0, value).at(pstate::EL1H);
    let result = probe::run(machine);
    result.exit.done().then_some(result.after.x[0])
}

fn all() -> impl Iterator<Item = Encoding> {
    (0..1 << 15).map(Encoding::register).filter(|encoding| !is_volatile(*encoding))
}

/// One line for each register that can be read.
fn list(title: &str) {
    let mut count = 0;
    for encoding in all() {
        if let Some(value) = run(encoding.read(0), 0) {
            say!("{title} {:?} {value:#x}", encoding.fields());
            count += 1;
        }
    }
    say!("{title} has {count} registers");
}

/// Lists the registers of a first boot, fills them, lists them again, and resets; lists those of the second boot.
pub fn fill() {
    if testdev::kept() != 0 {
        return list("second");
    }
    testdev::keep(1);
    list("first");
    // Not the same everywhere: where one register sets bits and another clears them, some are to stay set.
    for pattern in [u64::MAX, 0x5aa5_5aa5_5aa5_5aa5_u64] {
        for (n, encoding) in all().enumerate().filter(|(_, encoding)| !is_needed(*encoding)) {
            run(encoding.write(0), pattern.rotate_left(n as u32 & 63));
        }
    }
    list("filled");
    psci::system_reset()
}

/// The registers that can be read, and what was first read of them.
static FIRST: scratch::Shared<ArrayVec<(Encoding, u64), 512>> =
    scratch::Shared::new(ArrayVec::new_const());

/// Lists the registers, and looks for so many seconds, or until a key is typed, whether one changes. This VM writes
/// none.
pub fn look(seconds: u64) {
    list("other");
    // SAFETY: the first vCPU alone does this, once.
    let first = unsafe { &mut *FIRST.get() };
    for encoding in all() {
        if let Some(value) = run(encoding.read(0), 0) {
            let _ = first.try_push((encoding, value));
        }
    }
    let deadline = time::Deadline::after(seconds * 1000);
    let mut rounds = 0;
    while !deadline.passed() && !console::has_input() {
        for (encoding, value) in first.iter() {
            let now = run(encoding.read(0), 0).unwrap_or(0);
            if now != *value {
                say!("FAIL other {:?} was {value:#x} and is {now:#x}", encoding.fields());
                return;
            }
        }
        rounds += 1;
        time::wait_until(20, || {
            plain!("sevl", "wfe", "wfe");
            false
        });
    }
    say!("other looked {rounds} times");
}
