// SPDX-License-Identifier: MIT OR Apache-2.0
//! State of the PL011 on the bus. Accesses to it are in `uart_access`.

use super::pl011::Pl011;
use crate::Host;
use lock::atomic::{AtomicBool, AtomicU8, Ordering};
use lock::{Lock, Order, Rank};

const FR_BUSY: u32 = 1 << 3;
const FR_RXFE: u32 = 1 << 4;
const FR_TXFF: u32 = 1 << 5;
const FR_RXFF: u32 = 1 << 6;
const FR_TXFE: u32 = 1 << 7;

pub(crate) const HOLDS_BYTES: u8 = 1;
pub(crate) const FULL: u8 = 2;

/// A PL011 and what of it can be seen without its lock.
pub(crate) struct Uart {
    pub(crate) state: Lock<Pl011>,
    /// [`HOLDS_BYTES`] and [`FULL`], of the receiver: what the flag register needs.
    pub(crate) receiver: AtomicU8,
    /// The interrupt line.
    pub(crate) level: AtomicBool,
}

impl Uart {
    pub(crate) fn new() -> Self {
        Self {
            state: Lock::new(Rank::Device, Pl011::new()),
            receiver: AtomicU8::new(0),
            level: AtomicBool::new(false),
        }
    }

    pub(crate) fn reset(&self, order: &Order) {
        *self.state.lock(order) = Pl011::new();
        self.receiver.store(0, Ordering::Relaxed);
        self.level.store(false, Ordering::Relaxed);
    }

    /// Takes no lock: a guest that polls reads little else.
    #[inline(always)]
    pub(crate) fn flags<H: Host>(&self, host: &H) -> u32 {
        let receiver = self.receiver.load(Ordering::Relaxed);
        let output = if host.console_has_room() { FR_TXFE } else { FR_TXFF | FR_BUSY };
        let empty = receiver & HOLDS_BYTES == 0 && !host.console_ready();
        output | if empty { FR_RXFE } else { 0 } | if receiver & FULL != 0 { FR_RXFF } else { 0 }
    }
}
