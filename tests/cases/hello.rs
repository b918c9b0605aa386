// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest of docs/first-guest.md.

use xtask::qemu::{Machine, Module};

use crate::fixture::{Checked, Lab, ensure, one, powered_off};

cases![enrols_and_prints, says_why_it_does_not_enrol];

fn hello(lab: &Lab, bootargs: &str) -> Machine {
    let kernel = lab.images.hello_guest.clone();
    let module = Module { kernel, bootargs: bootargs.into(), ..Module::default() };
    Machine { modules: vec![module], ..lab.machine() }
}

/// One access of the UART before it is declared would be refused, and end the guest, which has no handler.
fn enrols_and_prints(lab: &Lab) -> Checked {
    for policy in ["enrol", "enforce"] {
        let run = lab.run(&hello(lab, &format!("vm.name=a vm.guard={policy}")))?;
        one(&run, "hello: enrolled, and this UART is declared")?;
        let stopped = one(&run, "[hyp] a: stopped (power off)")?;
        ensure(stopped.ends_with(" 0 refused"), "an access was refused", &run)?;
        powered_off(&run)?;
    }
    Ok(())
}

fn says_why_it_does_not_enrol(lab: &Lab) -> Checked {
    for (words, why) in [
        ("vm.guard=off", "no MMIO guard is offered"),
        // Its feature map could be the beginning of the other dialect's.
        ("vm.dialect=series", "features 0x3d fit more than one dialect: name the dialect"),
    ] {
        let run = lab.run(&hello(lab, words))?;
        one(&run, &format!("hello: not enrolled: {why}"))?;
        powered_off(&run)?;
    }
    Ok(())
}
