// SPDX-License-Identifier: MIT OR Apache-2.0
//! Options of EL2's own command line (/chosen bootargs). A VM's options are in its module's bootargs.

/// Applies the options that begin with `hyp.`. An unknown one ends the boot before any guest runs.
pub fn apply(bootargs: &str) {
    for word in bootargs.split_ascii_whitespace() {
        match word {
            "hyp.panic" => panic_as_asked(),
            "hyp.overflow" => {
                overflow(0);
            }
            // `platform::Board` has chosen the console by it.
            _ if word.starts_with("hyp.console=") => {}
            // `create_vms` has set the windows.
            _ if word.starts_with("hyp.schedule=") => {}
            // `debug` has acted on it when the console came up.
            "hyp.debug" => {}
            _ if word.starts_with("hyp.") => crate::boot::boot_error::halt_with(format_args!(
                "unknown word '{word}' on the command line; known are hyp.console=PATH, hyp.schedule=FRAME/NAME+US.., hyp.debug, hyp.panic, hyp.overflow"
            )),
            _ => {}
        }
    }
}

/// With `hyp.debug`, logs more from here on: what the tree gives, which RAM is free, each CPU before its start.
pub fn debug(board: &platform::Board) {
    if !board.bootargs.split_ascii_whitespace().any(|word| word == "hyp.debug") {
        return;
    }
    log::set_max_level(log::LevelFilter::Debug);
    if let Some(uart) = &board.uart {
        log::debug!("console {} at {}", uart.path, uart.registers);
    }
    for bank in &board.ram {
        log::debug!("RAM {bank}");
    }
    for reserved in &board.reserved {
        log::debug!("reserved {} {}", reserved.range, reserved.name);
    }
}

/// For tests of the panic path.
#[expect(clippy::panic, reason = "a test asks for it")]
fn panic_as_asked() -> ! {
    panic!("asked for by hyp.panic")
}

/// Runs into the guard page below the stack.
#[inline(never)]
fn overflow(depth: u64) -> u64 {
    let mut frame = [depth; 64];
    core::hint::black_box(&mut frame);
    let [first, ..] = frame;
    match depth.checked_add(1) {
        Some(deeper) => overflow(deeper).wrapping_add(first),
        None => 0,
    }
}
