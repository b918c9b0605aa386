// SPDX-License-Identifier: MIT OR Apache-2.0
//! The test guest of Portcullis: a bare-metal EL1 kernel that does on purpose what real guests do by
//! mistake, and checks every register of the answer.
//!
//! It runs as a guest of Portcullis, and directly on QEMU's `virt` machine at EL1 as well, where the
//! tests that need a hypervisor skip themselves. Its boot arguments say what to do:
//!
//! | words | what happens |
//! |---|---|
//! | none, or `demo` | the demonstration of the main job, in prose, with a closing table |
//! | `list` | one line per test: `test NAME IDS VMOPTS FLAGS`, separated by tabs |
//! | `run=NAME:NAME..` | runs these tests (a trailing `*` stands for anything) |
//! | `bench=WHAT` | benchmarks in executed instructions, see [`mod@bench`] |
//! | `spin`, `hammer`, `canary`, ... | company for other VMs, see [`modes`] |
//!
//! A test is one line in its file's `test!` list: a name, the ids of the scenarios that it covers (the
//! register of `tests/` collects them), the VM options that it needs, flags, and a function. Its output
//! is one line: `ok NAME`, `FAIL NAME: reason` or `skip NAME: reason`; the run closes with
//! `stub: P passed, F failed, S skipped` and switches the VM off.
//!
//! How the exact checks work: [`machine`] runs a few instructions at a chosen exception level with every
//! register chosen, and hands back every register and the exception that ended them.
//!
//! Sources: Arm ARM DDI 0487 for registers and exceptions; docs/abi.md for the calls.
#![no_std]
#![no_main]

#[macro_use]
mod sysreg;
#[macro_use]
mod console;
#[macro_use]
mod registers;
#[macro_use]
mod verdict;
#[macro_use]
mod harness;

mod bench;
mod boot;
mod control_page;
mod cpu;
mod cpu_state;
mod demo;
mod device_calls;
mod encoding;
mod exception;
mod features;
mod frame;
mod gic;
mod guard;
mod hvc;
mod image_layout;
mod machine;
mod mmio;
mod mmu;
mod modes;
mod panic;
mod probe;
mod psci;
mod rng;
mod scratch;
mod served;
mod smp;
mod testdev;
mod time;
mod tree;
mod wakes;

mod tests;

use harness::Mode;

/// The boot story of the first vCPU: `boot` has set a stack, vectors and FP up; the MMU is off.
#[unsafe(no_mangle)]
extern "C" fn stub_main(tree: u64) -> ! {
    tree::read(tree); // 1. what the device tree says: console, vCPUs, GIC, arguments
    mmu::init(); // 2. own translation, on from here
    mmu::enable();
    console::init(tree::get().uart); // 3. there is output now
    guard::detect(); // 4. the guard, which changes nothing yet
    Mode::parse(tree::arguments()).run(); // 5. what to do
    psci::system_off() // 6. the end of this VM
}
