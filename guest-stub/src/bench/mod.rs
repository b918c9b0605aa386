// SPDX-License-Identifier: MIT OR Apache-2.0
//! Benchmarks in executed instructions. They only mean something under QEMU's `-icount shift=0`, where an instruction of
//! any CPU and exception level takes 1 ns of virtual time: `./scripts/bench` boots them so.
//!
//! | `bench=` | what is measured |
//! |---|---|
//! | `operations` | the clock, and what one vCPU asks of a hypervisor |
//! | `floor` | the clock, a bare round trip and interrupts: on a [`floor`] instead of a hypervisor |
//! | `pingpong` | two vCPUs in WFI that wake each other |
//! | `growth` | costs with more and more pages declared |
//! | `vms` | costs while other VMs, which say `bench=quiet`, are there |
//! | `vcpus` | device accesses of 1, 2, 4 .. vCPUs at once |
//! | `switch` | with the same in a second VM: from one vCPU of a CPU to another's and back |
//! | `served` | forwarded loads, doorbells, shares and a transport, beside a VM that says `bench=serve` and answers |
//! | `wakes` | how late it runs after its timer, beside what others on its CPU do |
//! | `dense` | how many pages the VM's table pool can declare |
//! | `sections` | nothing here: what makes EL2 work long with interrupts masked, for a plugin of QEMU |
//! | `start` | nothing here: what each CPU executes before its first guest, for the same |
//! | `beside` | nothing here: what other VMs of its CPU make EL2 do, for the same |
//!
//! Results are kept and printed at the end, so that the console is not in the way: `bench`, name, median, minimum and
//! maximum in hundredths of an instruction, separated by semicolons; then `bench: done`.

#[macro_use]
mod clock;
mod floor;
mod growth;
mod operations;
mod results;
mod sections;
mod served;
mod several;
mod vectors;

use crate::guard;
use results::{Figure, note};

/// Measures what `bench=` names.
pub fn run(what: &str) {
    if what == "floor" {
        if !floor::here() {
            say!("FAIL bench: not started at EL2");
            return;
        }
    } else {
        guard::declare_own();
        if guard::activate().is_err() {
            say!("FAIL bench: no guard");
            return;
        }
    }
    // What EL2 still has to print of its boot log is not to be measured.
    crate::time::sleep(20);
    note(format_args!("entered at"), Figure::exact(crate::boot::entered_at() * clock::PER_TICK));
    match what {
        "" | "operations" => operations::all(),
        "floor" => operations::floor(),
        "pingpong" => several::ping_pong(),
        "growth" => growth::pages(),
        "vms" => growth::beside_others(),
        "quiet" => several::quiet(),
        "vcpus" => several::at_once(),
        "switch" => several::switch(),
        "served" => served::client(),
        "serve" => served::server(),
        "wakes" => several::latest_wake(),
        "dense" => growth::dense(),
        "sections" => sections::all(),
        "start" => sections::start(),
        "beside" => sections::beside(),
        other => say!("FAIL bench: no benchmark {other}"),
    }
    results::print();
    say!("bench: done");
}
