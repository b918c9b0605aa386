// SPDX-License-Identifier: MIT OR Apache-2.0
//! Portcullis: the EL2 image.
//!
//! The only crate with assembly, system registers, statics and linker symbols. The crates under crates/ decide; this one
//! executes. `main` below is the boot sequence.
#![no_std]
#![no_main]

extern crate alloc;

mod boot;
mod console;
mod cpu;
mod entry;
mod exception;
mod firmware;
mod gic;
mod guest;
mod layout;
mod memory;
mod oracle;
mod vcpu;

/// The boot CPU, at EL2, on the early tables, with the device tree's address. Nothing runs unless all of this is right.
extern "C" fn main(tree: usize) -> ! {
    // 1. The device tree: the board, and a console even if the board has an error.
    let tree = boot::device_tree::find(tree);
    let (console, mut board) = platform::Board::with_console(tree);
    // 2. EL2's own tables: all RAM, the devices EL2 drives, the image W^X.
    if let Ok(board) = &mut board {
        board.reserved.extend(boot::efi::reserved());
    }
    boot::device_tree::map(tree, console.as_ref(), board.as_ref().ok());
    boot::boot_error::keep_console(console.as_ref());
    console::ring::init(console.as_ref().and_then(console::uart::Uart::new));
    let board = board.unwrap_or_else(|e| boot::boot_error::halt_with(format_args!("{e}")));
    log::info!("Portcullis {} at EL2: {}", env!("CARGO_PKG_VERSION"), board.model);
    boot::command_line::debug(&board);
    // 3. Firmware, traps, interrupts, time.
    firmware::init(board.psci.as_ref());
    cpu::current()
        .mpidr
        .store(cpu::id_registers::mpidr().raw(), core::sync::atomic::Ordering::Release);
    firmware::init_cpu();
    exception::guest_exit::init_cpu();
    let gic = gic::init(&board.gic)
        .unwrap_or_else(|e| boot::boot_error::halt_with(format_args!("GIC: {e}")));
    gic.init_cpu(0).unwrap_or_else(|e| boot::boot_error::halt_with(format_args!("GIC: {e}")));
    cpu::timer::init(&board.timer);
    cpu::timer::init_cpu();
    cpu::qemu_timer::probe(&board.model);
    vcpu::interrupts::init(&board.gic);
    // 4. The VMs' descriptions, and the memory that they can have.
    let own = boot::device_tree::own(tree);
    let configs = boot::device_tree::vms(&board, tree, &own)
        .unwrap_or_else(|e| boot::boot_error::halt_with(format_args!("{e}")));
    for free in board.free_ram(&own.each_ref().map(|o| o.range)) {
        log::debug!("free {free}");
        memory::add(free);
    }
    memory::frame_owners::init(&board.ram);
    // 5. The other CPUs.
    cpu::current().online.store(true, core::sync::atomic::Ordering::Release);
    let cpus = boot::smp::start_all(&board);
    log::info!(
        "{cpus} CPU{} up, {} list registers, {} MiB of RAM free",
        if cpus == 1 { "" } else { "s" },
        gic.list_registers(),
        memory::free() >> 20
    );
    // 6. The VMs.
    console::guest_output::init(&configs);
    boot::create_vms::create_all(&board, configs, cpus)
        .unwrap_or_else(|e| boot::boot_error::halt_with(format_args!("{e}")));
    boot::command_line::apply(&board.bootargs);
    // 7. Guests run.
    console::guest_input::init(console.as_ref());
    console::ring::stop_waiting();
    vcpu::scheduler::release_all();
    vcpu::scheduler::first_entry()
}
