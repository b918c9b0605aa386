// SPDX-License-Identifier: MIT OR Apache-2.0
//! Errors that end the boot. The reason goes to the console, if there is one, and always to the symbol `boot_refusal`.
//! Another symbol, `boot_console`, names the console or says why there is none.

use core::fmt::Write;
use core::sync::atomic::{AtomicU8, Ordering};

use arch::EntryRefusal;

/// Why the image did not start: text for a debugger (`x/s &boot_refusal`). Empty without an error.
#[unsafe(no_mangle)]
pub static boot_refusal: [AtomicU8; 128] = [const { AtomicU8::new(0) }; 128];

/// The console's driver and node, or why there is none: text for a debugger. Empty until the tree has been read.
#[unsafe(no_mangle)]
pub static boot_console: [AtomicU8; 128] = [const { AtomicU8::new(0) }; 128];

/// Writes into one of the texts above, as far as there is room. The last byte stays 0.
struct Kept(core::slice::Iter<'static, AtomicU8>);

impl Kept {
    fn new(text: &'static [AtomicU8; 128]) -> Self {
        Self(text[..127].iter())
    }
}

impl Write for Kept {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        // Only as many bytes as there are slots.
        for (byte, slot) in text.bytes().zip(&mut self.0) {
            slot.store(byte, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Stores the reason for a debugger.
fn keep(reason: &str) {
    let _ = Kept::new(&boot_refusal).write_str(reason);
}

/// Stores what is known of the console.
#[inline(never)]
pub fn keep_console(uart: Option<&platform::Uart>) {
    let mut text = Kept::new(&boot_console);
    let _ = match uart {
        None => text.write_str("none: neither stdout-path nor the alias serial0 leads to a UART"),
        Some(uart) => match &uart.kind {
            platform::UartKind::Driven { name, .. } => write!(text, "{name}: {}", uart.path),
            platform::UartKind::Unknown(name) => write!(text, "none: no driver for {name}"),
        },
    };
}

/// Returns if the image can run as it was entered, with the MMU off. Takes x0, CurrentEL, and HCR_EL2 with E2H cleared.
pub extern "C" fn check_entry(tree: usize, current_el: u64, hcr: u64) {
    let Some(refusal) = arch::entry_refusal(current_el, hcr, tree as u64) else { return };
    let (reason, advice) = match refusal {
        EntryRefusal::AtEl1 => (
            "started at EL1: Portcullis is EL2 firmware",
            "QEMU: -machine virt,virtualization=on; boards: firmware must enter the image at EL2",
        ),
        EntryRefusal::AtEl3 => (
            "started at EL3: Portcullis is EL2 firmware",
            "let EL3 firmware (TF-A) enter it at EL2 as BL33; QEMU: start it with -kernel",
        ),
        EntryRefusal::OnlyVhe => (
            "this CPU has EL2 with VHE only (HCR_EL2.E2H is RES1)",
            "Portcullis needs EL2 without it: FEAT_E2H0",
        ),
        EntryRefusal::NoTree => {
            ("no device tree in x0: start the image as arm64 Linux is started (booting.rst)", "")
        }
    };
    keep(reason);
    if let Some(mut out) = early_console(tree) {
        let _ = writeln!(out, "[hyp] error: {reason}; {advice}");
    }
    stop()
}

/// Ends the boot for a reason found with the console up.
pub fn halt_with(reason: core::fmt::Arguments<'_>) -> ! {
    let _ = Kept::new(&boot_refusal).write_fmt(reason);
    log::error!("{reason}");
    crate::console::ring::flush();
    crate::firmware::power_off();
    stop()
}

/// Ends the boot for a reason found before there is a console.
pub fn halt_silently(reason: &str) -> ! {
    keep(reason);
    stop()
}

fn stop() -> ! {
    loop {
        crate::cpu::barrier::wfe();
    }
}

/// A PL011 found in the tree without allocation or atomics, as the MMU is off.
struct Early(u64);

impl Write for Early {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let uart = crate::console::uart::Uart::at(self.0, platform::PL011);
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
    // SAFETY: by the boot protocol x0 holds a device tree of at most 2 MiB. Its magic and size are checked before the
    // rest is read. With the MMU off all memory can be read.
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
