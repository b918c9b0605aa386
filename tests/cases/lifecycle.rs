// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lives of a VM: as many as it likes, each as new as the first.

use anyhow::Context;
use xtask::qemu::{Gic, Machine};

use crate::asm::{Asm, ENTRY, NOWHERE, UART, calls};
use crate::fixture::{Checked, Fixture, ensure, one};

cases![
    nothing_in_memory_survives,
    guard_is_off_again,
    enforce_is_on_again,
    tlbs_are_empty_again;
    slow: a_thousand_lives
];

/// Boots `code` until it has said `alive` for the `lives`th time; it must not say `DIRTY`.
fn live(fixture: &Fixture, code: Asm, options: &str, lives: usize) -> Checked {
    let mut session = fixture.boot(&fixture.machine_code(code, options)?)?;
    for life in 1..=lives {
        session.wait_for("alive").with_context(|| format!("life {life} of {lives}"))?;
    }
    let run = session.stop_after(std::time::Duration::ZERO);
    ensure(run.with("DIRTY").count() == 0, "a former life shows", &run)?;
    ensure(run.with("[hyp] panic").count() == 0, "EL2 panicked", &run)?;
    one(&run, "incarnation 2 begins: 0 declared").map(drop)
}

// scenario: G1
// bug: 67
fn a_thousand_lives(fixture: &Fixture) -> Checked {
    // Declares a page of each of 16 separate GiB first, which takes tables: the pool is full again each time.
    let mut code = Asm::new().print("alive\n");
    for gib in 2..18_u64 {
        code = code.call(calls::MAP, gib << 30).unless_zero(0, "dirty");
    }
    let code = code.call(calls::RESET, 0).label("dirty").print("DIRTY\n").off();
    live(fixture, code, "vm.mem=4M vm.pool=40", 1000)
}

// scenario: G2 J6
// bug: 72
fn nothing_in_memory_survives(fixture: &Fixture) -> Checked {
    // The last word of its RAM, the first one behind its code, and one of its code itself, which is pristine.
    let mut code = Asm::new().print("alive\n");
    for address in [0x4200_0000 - 4, ENTRY + 0x1000, ENTRY + 0x10_0000] {
        code = code.mov(9, address).load(10, 9).unless_zero(10, "dirty").store(9, 9);
    }
    let code = code
        .mov(9, ENTRY + 0xff0)
        .load(10, 9)
        .unless_zero(10, "dirty")
        .store(9, 9)
        .call(calls::RESET, 0)
        .label("dirty")
        .print("DIRTY\n")
        .off()
        .at(0xff4)
        .eret();
    live(fixture, code, "vm.mem=32M", 20)
}

/// The word `dirty` is printed from a handler: an access was refused that should not have been.
fn handler(code: Asm) -> Asm {
    code.at(0x800 + 0x200).call(calls::MAP, UART).print("DIRTY\n").off()
}

// scenario: B13
// bug: 31
fn guard_is_off_again(fixture: &Fixture) -> Checked {
    // Its console is not declared in any life: printing works only while the guard is off.
    let code = Asm::new()
        .mov(9, ENTRY + 0x800)
        .set_vectors(9)
        .print("alive\n")
        .call(calls::ENROLL, 0)
        .call(calls::MAP, NOWHERE)
        .call(calls::RESET, 0);
    live(fixture, handler(code), "vm.mem=4M", 20)
}

// scenario: B13
fn enforce_is_on_again(fixture: &Fixture) -> Checked {
    // In each boot its console must be refused at first: the abort's handler declares it, prints, and resets.
    let code = Asm::new()
        .mov(9, ENTRY + 0x800)
        .set_vectors(9)
        .print("DIRTY\n")
        .off()
        .at(0x800 + 0x200)
        .call(calls::MAP, UART)
        .print("alive\n")
        .call(calls::RESET, 0);
    let machine = fixture.machine_code(code, "vm.mem=4M vm.guard=enforce")?;
    let mut session = fixture.boot(&machine)?;
    for _ in 0..20 {
        session.wait_for("alive")?;
    }
    let run = session.stop_after(std::time::Duration::ZERO);
    ensure(run.with("DIRTY").count() == 0, "its console was served undeclared", &run)
}

/// The next boot has the VMID of this one: what its TLBs knew of a page is not for the next.
// scenario: G4
fn tlbs_are_empty_again(fixture: &Fixture) -> Checked {
    // A page of the GICv2's CPU interface is reached without a trap while it is declared. In each boot the first access
    // is refused; the abort's handler declares the page and uses it, so that a translation of it is held.
    let page = 0x0801_0000;
    let code = Asm::new()
        .mov(9, ENTRY + 0x800)
        .set_vectors(9)
        .mov(10, page)
        .load(11, 10)
        .call(calls::MAP, UART)
        .print("DIRTY\n")
        .off()
        .at(0x800 + 0x200)
        .call(calls::MAP, page)
        .load(11, 10)
        .call(calls::MAP, UART)
        .print("alive\n")
        .call(calls::RESET, 0);
    let machine = fixture.machine_code(code, "vm.mem=4M vm.guard=enforce")?;
    let mut session = fixture.boot(&Machine { gic: Gic::V2, ..machine })?;
    for life in 1..=20 {
        session.wait_for("alive").with_context(|| format!("life {life}"))?;
    }
    let run = session.stop_after(std::time::Duration::ZERO);
    ensure(run.with("DIRTY").count() == 0, "the former life's page could be used", &run)
}
