// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest of docs/first-guest.md.

use xtask::qemu::{Machine, Module};

use crate::fixture::{Checked, Fixture, ensure, one, powered_off};

cases![enrols_and_prints, says_why_it_does_not_enrol];

fn hello(fixture: &Fixture, bootargs: &str) -> Machine {
    let kernel = fixture.images.hello_guest.clone();
    let module = Module { kernel, bootargs: bootargs.into(), ..Module::default() };
    Machine { modules: vec![module], ..fixture.machine() }
}

/// One access of the UART before it is declared would be refused, and end the guest, which has no handler.
fn enrols_and_prints(fixture: &Fixture) -> Checked {
    for policy in ["enrol", "enforce"] {
        let run = fixture.run(&hello(fixture, &format!("vm.name=a vm.guard={policy}")))?;
        one(&run, "hello: enrolled, and this UART is declared")?;
        let stopped = one(&run, "[hyp] a: stopped (power off)")?;
        ensure(stopped.ends_with(" 0 refused"), "an access was refused", &run)?;
        powered_off(&run)?;
    }
    Ok(())
}

fn says_why_it_does_not_enrol(fixture: &Fixture) -> Checked {
    for (words, why) in [
        ("vm.guard=off", "no MMIO guard is offered"),
        // Its feature map could be the beginning of the other dialect's.
        ("vm.dialect=series", "features 0x3d fit more than one dialect: name the dialect"),
    ] {
        let run = fixture.run(&hello(fixture, words))?;
        one(&run, &format!("hello: not enrolled: {why}"))?;
        powered_off(&run)?;
    }
    Ok(())
}
