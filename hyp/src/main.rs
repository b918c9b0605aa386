// SPDX-License-Identifier: MIT OR Apache-2.0
//! Portcullis: the EL2 image.
//!
//! The only crate with assembly, system registers, statics and linker symbols; what it decides, the crates under
//! crates/ decide for it. `main` below is the boot story.
#![no_std]
#![no_main]

extern crate alloc;

#[macro_use]
mod sysreg;

mod at;
mod barrier;
mod cache;
mod console;
mod context;
mod cpu;
mod crash;
mod efi;
mod el1;
mod el2;
mod entry;
mod firmware;
mod frames;
mod gic;
mod guest;
mod host;
mod ids;
mod input;
mod interrupts;
#[cfg_attr(feature = "oracle", path = "oracle.rs")]
mod judged;
mod layout;
mod lives;
mod memory;
mod mmu;
mod operator;
mod options;
mod output;
mod panic;
mod passed;
mod probe;
mod qemu_timer;
mod queue;
mod refuse;
mod report;
mod run;
mod serror;
mod setup;
mod smp;
mod time;
mod trap;
mod tree;
mod uart;
mod vcpu;
mod vectors;

/// The boot CPU, at EL2, on the early tables, with the device tree's address. Nothing runs unless all of this is right.
extern "C" fn main(tree: usize) -> ! {
    // 1. The device tree: the board, and a console even where there is something wrong with the board.
    let tree = tree::find(tree);
    let (console, mut board) = platform::Board::with_console(tree);
    // 2. EL2's own tables: all RAM, the devices EL2 drives, the image W^X.
    if let Ok(board) = &mut board {
        board.reserved.extend(efi::reserved());
    }
    tree::map(tree, console.as_ref(), board.as_ref().ok());
    refuse::keep_console(console.as_ref());
    console::init(console.as_ref().and_then(uart::Uart::new));
    let board = board.unwrap_or_else(|e| refuse::with(format_args!("{e}")));
    log::info!("Portcullis {} at EL2: {}", env!("CARGO_PKG_VERSION"), board.model);
    options::debug(&board);
    // 3. Firmware, traps, interrupts, time.
    firmware::init(board.psci.as_ref());
    cpu::current().mpidr.store(ids::mpidr().raw(), core::sync::atomic::Ordering::Release);
    firmware::init_cpu();
    trap::init_cpu();
    let gic = gic::init(&board.gic).unwrap_or_else(|e| refuse::with(format_args!("GIC: {e}")));
    gic.init_cpu(0).unwrap_or_else(|e| refuse::with(format_args!("GIC: {e}")));
    time::init(&board.timer);
    time::init_cpu(0);
    qemu_timer::probe(&board.model);
    interrupts::init(&board.gic);
    // 4. Memory that guests may have, and what they are.
    let own = tree::own(tree);
    let configs =
        tree::vms(&board, tree, &own).unwrap_or_else(|e| refuse::with(format_args!("{e}")));
    for free in board.free_ram(&own.each_ref().map(|o| o.range)) {
        log::debug!("free {free}");
        memory::add(free);
    }
    frames::init(&board.ram);
    // 5. The other CPUs.
    cpu::current().online.store(true, core::sync::atomic::Ordering::Release);
    let cpus = smp::start_all(&board);
    log::info!(
        "{cpus} CPU{} up, {} list registers, {} MiB of RAM free",
        if cpus == 1 { "" } else { "s" },
        gic.list_registers(),
        memory::free() >> 20
    );
    // 6. The VMs.
    output::init(&configs);
    guest::make_all(&board, configs, cpus).unwrap_or_else(|e| refuse::with(format_args!("{e}")));
    options::apply(&board.bootargs);
    // 7. Guests run.
    input::init(console.as_ref());
    console::stop_waiting();
    run::release_all();
    run::first_entry()
}
