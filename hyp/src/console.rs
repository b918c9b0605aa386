// SPDX-License-Identifier: MIT OR Apache-2.0
//! The console: everything goes through a ring, which is drained as fast as the UART takes it and never waited for
//! while a guest could run. Boot, the last stop and a panic wait.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lock::{Lock, Rank};
use log::{Level, LevelFilter, Log, Metadata, Record};
use spin::Once;
use vm::live::{Live, Open};

use crate::uart::Uart;

const RING: usize = 16 * 1024;
/// How much of the ring guests' output may fill; the rest is EL2's own.
const GUESTS: usize = RING - 2048;

struct Ring {
    bytes: [u8; RING],
    head: usize,
    used: usize,
    /// Bytes lost because the ring was full.
    lost: usize,
    /// Whose line has not ended yet.
    open: Open,
}

static RING_LOCK: Lock<Ring> = Lock::new(
    Rank::Console,
    Ring { bytes: [0; RING], head: 0, used: 0, lost: 0, open: Open::new() },
);
static UART: Once<Uart> = Once::new();
/// Bytes in the ring, for a look without the lock.
static USED: AtomicUsize = AtomicUsize::new(0);
/// Wait for the UART (boot and last words) instead of leaving bytes in the ring.
static WAIT: AtomicBool = AtomicBool::new(true);

impl Ring {
    fn push(&mut self, byte: u8) {
        if self.used == RING {
            self.lost = self.lost.saturating_add(1);
            return;
        }
        let at = (self.head + self.used) % RING;
        if let Some(slot) = self.bytes.get_mut(at) {
            *slot = byte;
            self.used += 1;
        }
    }

    /// Ends the line of a guest that stands at the end: somebody else has something to say.
    fn close(&mut self) {
        let mut open = core::mem::take(&mut self.open);
        open.close(|bytes| bytes.iter().for_each(|byte| self.push(*byte)));
    }

    /// Hands bytes to the UART while it takes them.
    fn drain(&mut self, uart: &Uart, wait: bool) {
        while self.used != 0 {
            if !uart.ready() {
                if wait {
                    core::hint::spin_loop();
                    continue;
                }
                break;
            }
            if let Some(byte) = self.bytes.get(self.head) {
                uart.put(*byte);
            }
            self.head = (self.head + 1) % RING;
            self.used -= 1;
        }
        if self.used == 0 && self.lost != 0 {
            let lost = core::mem::take(&mut self.lost);
            let mut line = Line { ring: self };
            let _ = writeln!(
                line,
                "[hyp] warning: {lost} bytes of console output lost: the ring was full"
            );
        }
    }
}

struct Line<'a> {
    ring: &'a mut Ring,
}

impl Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.ring.push(b'\r');
            }
            self.ring.push(byte);
        }
        Ok(())
    }
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let order = &crate::cpu::current().order;
        let mut ring = RING_LOCK.lock(order);
        ring.close();
        let mut line = Line { ring: &mut ring };
        let kind = match record.level() {
            Level::Error => "error: ",
            Level::Warn => "warning: ",
            Level::Info => "",
            Level::Debug | Level::Trace => "debug: ",
        };
        let _ = writeln!(line, "[hyp] {kind}{}", record.args());
        finish(&mut ring);
    }

    fn flush(&self) {
        flush();
    }
}

fn finish(ring: &mut Ring) {
    if let Some(uart) = UART.get() {
        ring.drain(uart, WAIT.load(Ordering::Relaxed));
    }
    USED.store(ring.used, Ordering::Relaxed);
    if ring.used != 0 && !WAIT.load(Ordering::Relaxed) {
        crate::time::wake_soon();
    }
}

/// Starts to log to `uart`; without one, lines stay in the ring, where a debugger finds them.
pub fn init(uart: Option<Uart>) {
    if let Some(uart) = uart {
        UART.call_once(|| uart);
    }
    // Only the first call can succeed, and there is only one.
    let _ = log::set_logger(&Logger);
    log::set_max_level(LevelFilter::Info);
}

/// From here on nobody waits for the UART.
pub fn stop_waiting() {
    WAIT.store(false, Ordering::Relaxed);
}

/// Writes all that is left, and waits for it.
pub fn flush() {
    let order = &crate::cpu::current().order;
    let mut ring = RING_LOCK.lock(order);
    if let Some(uart) = UART.get() {
        ring.drain(uart, true);
    }
    USED.store(ring.used, Ordering::Relaxed);
}

/// Whether something waits to be written.
#[inline(always)]
pub fn backlog() -> bool {
    USED.load(Ordering::Relaxed) != 0
}

/// Writes what the UART takes now.
pub fn pump() {
    let order = &crate::cpu::current().order;
    if let Some(mut ring) = RING_LOCK.try_lock(order) {
        finish(&mut ring);
    }
}

/// Puts bytes of a guest.
pub fn guest_bytes(bytes: &[u8]) {
    let order = &crate::cpu::current().order;
    let mut ring = RING_LOCK.lock(order);
    ring.close();
    for byte in bytes {
        ring.push(*byte);
    }
    finish(&mut ring);
}

/// Shows how the line of VM `index`, called `name`, goes on.
pub fn guest_line(index: usize, name: &str, live: &Live<'_>) {
    let order = &crate::cpu::current().order;
    let mut ring = RING_LOCK.lock(order);
    let mut open = core::mem::take(&mut ring.open);
    open.show(index, name, live, |bytes| bytes.iter().for_each(|byte| ring.push(*byte)));
    ring.open = open;
    finish(&mut ring);
}

/// Whether a guest may put more.
#[inline(always)]
pub fn guest_room() -> bool {
    USED.load(Ordering::Relaxed) < GUESTS
}

/// A byte from the console's input.
pub fn take() -> Option<u8> {
    UART.get()?.get()
}

/// Whether the UART can interrupt for input.
pub fn can_interrupt() -> bool {
    UART.get().is_some_and(Uart::interrupts)
}

/// Whether the UART interrupts for as long as input waits in it.
pub fn interrupt_for_input(on: bool) {
    if let Some(uart) = UART.get() {
        uart.interrupt_for_input(on);
    }
}

/// The UART without ring or lock, for a panic.
pub struct Raw;

impl Write for Raw {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let Some(uart) = UART.get() else { return Ok(()) };
        for byte in text.bytes() {
            for byte in [b'\r', byte].into_iter().skip(usize::from(byte != b'\n')) {
                while !uart.ready() {
                    core::hint::spin_loop();
                }
                uart.put(byte);
            }
        }
        Ok(())
    }
}

/// What a panic does first: writes what is in the ring, if its holder lets go of it.
pub fn take_over() {
    let order = lock::Order::new();
    for _ in 0..1_000_000 {
        if let Some(mut ring) = RING_LOCK.try_lock(&order) {
            if let Some(uart) = UART.get() {
                ring.drain(uart, true);
            }
            return;
        }
        core::hint::spin_loop();
    }
}
