// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starts that cannot go on: said on the console where there is one, and in the symbol `boot_refusal` always.

use core::fmt::Write;
use core::sync::atomic::{AtomicU8, Ordering};

/// Why the image did not start; a text for a debugger (`x/s &boot_refusal`). Empty while all is well.
#[unsafe(no_mangle)]
pub static boot_refusal: [AtomicU8; 128] = [const { AtomicU8::new(0) }; 128];

/// Keeps the reason where a debugger finds it.
fn keep(reason: &str) {
    for (slot, byte) in boot_refusal.iter().zip(reason.bytes().take(127)) {
        slot.store(byte, Ordering::Relaxed);
    }
}

/// Entered with 0 in x0.
pub extern "C" fn no_tree() -> ! {
    keep("no device tree in x0: start the image as arm64 Linux is started (booting.rst)");
    stop()
}

/// Entered at another exception level than EL2, with the MMU off. `current` is CurrentEL.
pub extern "C" fn wrong_el(tree: usize, current: u64) -> ! {
    let (reason, advice) = match current >> 2 & 3 {
        1 => (
            "started at EL1: Portcullis is EL2 firmware",
            "QEMU: -machine virt,virtualization=on; boards: firmware must enter the image at EL2",
        ),
        _ => (
            "started at EL3: Portcullis is EL2 firmware",
            "let EL3 firmware (TF-A) enter it at EL2 as BL33; QEMU: start it with -kernel",
        ),
    };
    keep(reason);
    if let Some(mut out) = early_console(tree) {
        let _ = writeln!(out, "[hyp] error: {reason}; {advice}");
    }
    stop()
}

/// A reason found later, with the console up.
pub fn with(reason: core::fmt::Arguments<'_>) -> ! {
    let mut text = Text { bytes: [0; 127], used: 0 };
    let _ = text.write_fmt(reason);
    keep(core::str::from_utf8(&text.bytes[..text.used]).unwrap_or("refused"));
    log::error!("{reason}");
    crate::console::flush();
    crate::firmware::power_off();
    stop()
}

/// A reason found before there is a console.
pub fn silently(reason: &str) -> ! {
    keep(reason);
    stop()
}

fn stop() -> ! {
    loop {
        crate::barrier::wfe();
    }
}

struct Text {
    bytes: [u8; 127],
    used: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            if let Some(slot) = self.bytes.get_mut(self.used) {
                *slot = byte;
                self.used += 1;
            }
        }
        Ok(())
    }
}

/// A PL011 found in the tree without allocation or atomics, as the MMU is off.
struct Early(u64);

impl Write for Early {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let uart = crate::uart::Uart::Pl011 { base: self.0 };
        for byte in text.bytes() {
            if byte == b'\n' {
                uart.put(b'\r');
            }
            while !uart.ready() {}
            uart.put(byte);
        }
        Ok(())
    }
}

fn early_console(tree: usize) -> Option<Early> {
    if tree == 0 || !tree.is_multiple_of(8) {
        return None;
    }
    // SAFETY: the boot protocol says that x0 holds a device tree, of at most 2 MiB; its magic and size are checked
    // before anything else of it is read. With the MMU off all of memory can be read.
    let tree = unsafe {
        let magic = u32::from_be((tree as *const u32).read_volatile());
        let size = u32::from_be((tree as *const u32).add(1).read_volatile()) as usize;
        if magic != 0xd00d_feed || size > 2 << 20 {
            return None;
        }
        core::slice::from_raw_parts(tree as *const u8, size)
    };
    // The board description of the platform crate allocates, which needs atomics and so the MMU.
    platform::early_pl011(tree).map(|base| Early(base.raw()))
}
