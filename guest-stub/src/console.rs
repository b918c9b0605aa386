// SPDX-License-Identifier: MIT OR Apache-2.0
//! Output by the PL011. The page is declared by `guard` where the guard is active.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::mmio;

/// Prints a line.
macro_rules! say {
    ($($arguments:tt)*) => {
        $crate::console::line(format_args!($($arguments)*))
    };
}

static BASE: AtomicU64 = AtomicU64::new(0);
static LOCK: AtomicBool = AtomicBool::new(false);

/// Data register.
const DR: u64 = 0x00;
/// Flag register.
const FR: u64 = 0x18;
/// FR: no room for another byte.
const TXFF: u32 = 1 << 5;

/// From here on there is output, if there is a UART at `base`.
pub fn init(base: u64) {
    BASE.store(base, Ordering::Relaxed);
}

/// Where the UART is.
pub fn base() -> u64 {
    BASE.load(Ordering::Relaxed)
}

struct Uart(u64);

impl Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            while mmio::read32(self.0 + FR) & TXFF != 0 {}
            mmio::write8(self.0 + DR, byte);
        }
        Ok(())
    }
}

/// Prints one line, whole where several vCPUs print.
pub fn line(arguments: fmt::Arguments<'_>) {
    let base = base();
    if base == 0 {
        return;
    }
    // A vCPU that died with the lock held must not silence the others for ever.
    crate::time::wait_until(2000, || {
        LOCK.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    });
    // The PL011 cannot fail, so neither can this.
    let _ = Uart(base).write_fmt(arguments);
    let _ = Uart(base).write_str("\n");
    LOCK.store(false, Ordering::Release);
}

/// Whether a typed key is still unread: UARTFR.RXFE is clear.
pub fn has_input() -> bool {
    crate::mmio::read32(BASE.load(Ordering::Relaxed) + FR) & 1 << 4 == 0
}
