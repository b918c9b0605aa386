// SPDX-License-Identifier: MIT OR Apache-2.0
//! The stub's own tools, and what it was started with.

use crate::boot;
use crate::machine::{self, Machine, canary, pstate};
use crate::verdict::Verdict;

tests! {
    // bug: 82
    boot_entry: "J5", "", "" => entry;
    self_machine: "", "", "" => machine_round_trip;
}

/// The boot protocol: EL1h, MMU off, everything masked, x1 to x3 zero.
fn entry() -> Verdict {
    let entry = boot::entry();
    equal!(entry.current_el, 4, "CurrentEL");
    equal!(entry.spsel, 1, "SPSel");
    equal!(entry.daif, 0x3c0, "DAIF");
    equal!(entry.sctlr & 0x1005, 0, "SCTLR_EL1 M, C, I");
    equal!(entry.x[1..4], [0, 0, 0], "x1 to x3");
    Ok(())
}

snippet!(swap, "add x0, x0, #1", "mov x1, sp");

/// Every register goes in and comes out, at every level and stack.
fn machine_round_trip() -> Verdict {
    for (level, vector) in [(pstate::EL1H, 0x200), (pstate::EL1T, 0x000), (pstate::EL0, 0x400)] {
        let mut machine = Machine::new(swap).at(level | 0xa000_0000);
        let start = machine.pc;
        let exit = machine::run(&mut machine);
        equal!(exit.vector, vector, "vector");
        check!(exit.done(), "ESR {:#x}", exit.esr);
        equal!(machine.x[0], canary(0) + 1, "x0");
        equal!(machine.x[1], canary(31), "SP");
        equal!(machine.disturbed(&[0, 1]), None, "register");
        equal!(exit.spsr, level | 0xa000_0000, "SPSR_EL1");
        equal!(exit.elr, start + 12, "ELR_EL1");
    }
    Ok(())
}
