// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server that does what it should not, or is away: only the access in question fails, and only as documented.

use super::wishes::{Step, last, nothing_wrong, order};
use crate::device_calls::{ALL, DENIED, call};
use crate::served::{self, command, value};
use crate::verdict::Verdict;
use crate::{guard, mmio, probe, psci, smp, time, tree};

pub const STEPS: &[Step] = &[
    ("error", error),
    ("foreign", || answered(command::FOREIGN)),
    ("twice", || answered(command::TWICE)),
    ("detached", || answered(command::DETACH)),
    ("server-reset", || answered(command::RESET)),
    ("server-resets", server_resets),
    ("cycles", cycles),
    ("silent", silent),
    ("lost", lost),
    ("off", off),
    ("random", random),
    ("trespass", trespass),
    ("denied", denied),
    ("reset", reset),
    ("reset-silent", reset_with_an_access_outstanding),
    ("pause", pause),
    ("bye", bye),
];

/// The value that all of these have to get.
const PLACE: u64 = served::VALUES + 0xa8;

fn answered_right() -> Verdict {
    equal!(mmio::read64(PLACE), value(PLACE), "an access");
    Ok(())
}

/// The next load gets its value, whatever the server does first.
fn answered(behave: u64) -> Verdict {
    order(behave);
    equal!(probe::access(probe::ldrh, PLACE).loaded()?, value(PLACE) & 0xffff, "the access");
    answered_right()?;
    nothing_wrong()
}

/// A server that resets itself each time: its next incarnation finds the access and answers it.
fn server_resets() -> Verdict {
    (0..10).try_for_each(|_| answered(command::RESET))
}

/// Attaching and detaching many times costs nothing that would run out.
fn cycles() -> Verdict {
    order(command::CYCLES);
    answered_right()?;
    nothing_wrong()
}

/// A device error is one abort, of that access.
fn error() -> Verdict {
    for code in [probe::ldr_x, probe::str_w, probe::ldrb] {
        order(command::ERROR);
        probe::access(code, PLACE).refused(PLACE)?;
        answered_right()?;
    }
    nothing_wrong()
}

/// Seconds of `vm.iotimeout`, as the word `deadline=` has them.
fn deadline() -> u64 {
    tree::number("deadline").unwrap_or(30)
}

/// Milliseconds that an access took.
fn took(access: impl FnOnce() -> Verdict) -> Result<u64, crate::verdict::Why> {
    let start = time::now();
    access()?;
    Ok(time::microseconds(time::now() - start) / 1000)
}

/// Without an answer a load or store ends in one abort at its deadline. The next one does so at once, and they are answered
/// again when the server has come back.
fn silent() -> Verdict {
    for code in [probe::ldr_x, probe::str_x] {
        let (_, before) = last();
        order(command::SILENT);
        let first = took(|| probe::access(code, PLACE).refused(PLACE))?;
        let next = took(|| probe::access(code, PLACE + 8).refused(PLACE + 8))?;
        let wanted = deadline() * 1000;
        check!((wanted..wanted + 900).contains(&first), "the deadline was after {first} ms");
        check!(next < 400, "with the server lost, the next took {next} ms");
        // It comes back by itself.
        time::sleep(2_500);
        answered_right()?;
        equal!(last().1, before + 2, "accesses that the server was told of");
    }
    nothing_wrong()
}

/// `vm.onloss=abort`: a server that leaves ends the access.
fn lost() -> Verdict {
    order(command::DETACH_ABORT);
    let took = took(|| probe::access(probe::ldr_x, PLACE).refused(PLACE))?;
    check!(took < 2_000, "it took {took} ms");
    probe::load(PLACE).refused(PLACE)?;
    time::sleep(2_500);
    answered_right()?;
    nothing_wrong()
}

/// The server goes off with an access outstanding: an abort at once, or at the deadline, and so for all that follow.
fn off() -> Verdict {
    order(command::OFF);
    let first = took(|| probe::access(probe::ldr_x, PLACE).refused(PLACE))?;
    let next = took(|| probe::access(probe::str_w, PLACE).refused(PLACE))?;
    say!("client: aborts after {first} ms, and {next} ms");
    // Its own memory and calls are as before.
    equal!(guard::query(served::VALUES), guard::State::Declared, "its page");
    Ok(())
}

fn random() -> Verdict {
    order(command::RANDOM);
    answered_right()?;
    nothing_wrong()
}

fn trespass() -> Verdict {
    order(command::TRESPASS);
    super::accesses::refused()?;
    nothing_wrong()
}

/// A VM that is served has none of the calls.
fn denied() -> Verdict {
    for id in ALL {
        for args in [[0; 4], [0, 1, 1, 0]] {
            equal!(call(id, args), DENIED, "{id:#x}");
        }
    }
    Ok(())
}

/// Whether this is the first incarnation that the server sees.
fn is_first() -> bool {
    mmio::read64(served::LIVES) == 1
}

/// Resets itself once.
fn reset() -> Verdict {
    if is_first() {
        order(command::EXPECT_RESET);
        psci::system_reset();
    }
    answered_right()?;
    nothing_wrong()
}

/// Resets itself once, while the access of vCPU 1 is not answered.
fn reset_with_an_access_outstanding() -> Verdict {
    if is_first() {
        order(command::EXPECT_RESET);
        order(command::SILENT);
        smp::give(1, |_| mmio::read64(PLACE), 0)?;
        time::sleep(300);
        check!(smp::busy(1), "it was answered");
        psci::system_reset();
    }
    answered_right()?;
    nothing_wrong()
}

fn pause() -> Verdict {
    time::sleep(500);
    Ok(())
}

fn bye() -> Verdict {
    order(command::BYE);
    Ok(())
}
