// SPDX-License-Identifier: MIT OR Apache-2.0
//! The console: everything goes through a ring, which is drained as fast as the UART takes it and never waited for
//! while a guest could run. Boot, the last stop and a panic wait. What each VM may put into it is bounded (`vm::ring`).

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use lock::{Lock, Rank};
use log::{Level, LevelFilter, Log, Metadata, Record};
use platform::MAX_VMS;
use spin::Once;
use vm::live::{Live, Open};
use vm::ring::Ring;

use crate::uart::Uart;

const RING: usize = 16 * 1024;
/// Room that a VM needs to be asked for more: a line with its name and its end.
const LINE: usize = 256;

struct Pending {
    ring: Ring<RING, MAX_VMS>,
    /// Whose line has not ended yet.
    open: Open,
}

static RING_LOCK: Lock<Pending> =
    Lock::new(Rank::Console, Pending { ring: Ring::new(), open: Open::new() });
static UART: Once<Uart> = Once::new();
/// Bytes in the ring, for a look without the lock.
static USED: AtomicUsize = AtomicUsize::new(0);
/// A bit for each VM whose share of the ring is used up, for a look without the lock.
static FULL: AtomicU32 = AtomicU32::new(0);
/// Wait for the UART (boot and last words) instead of leaving bytes in the ring.
static WAIT: AtomicBool = AtomicBool::new(true);

impl Pending {
    /// Ends the line of a guest that stands at the end: somebody else has something to say.
    fn close(&mut self) {
        let Self { ring, open } = self;
        open.close(|bytes| bytes.iter().for_each(|byte| ring.push(*byte)));
    }

    /// Hands bytes to the UART while it takes them.
    fn drain(&mut self, uart: &Uart, wait: bool) {
        while self.ring.used() != 0 {
            if !uart.ready() {
                if wait {
                    core::hint::spin_loop();
                    continue;
                }
                return;
            }
            if let Some(byte) = self.ring.pop() {
                uart.put(byte);
            }
        }
        let lost = self.ring.take_lost();
        if lost != 0 {
            let mut line = Line { ring: &mut self.ring };
            let _ = writeln!(
                line,
                "[hyp] warning: {lost} bytes of console output lost: the ring was full"
            );
        }
    }
}

struct Line<'a> {
    ring: &'a mut Ring<RING, MAX_VMS>,
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
        let mut pending = RING_LOCK.lock(order);
        pending.close();
        let mut line = Line { ring: &mut pending.ring };
        let kind = match record.level() {
            Level::Error => "error: ",
            Level::Warn => "warning: ",
            Level::Info => "",
            Level::Debug | Level::Trace => "debug: ",
        };
        let _ = writeln!(line, "[hyp] {kind}{}", record.args());
        finish(&mut pending);
    }

    fn flush(&self) {
        flush();
    }
}

/// A bit for each VM whose share of the ring has no room for a line.
#[inline(never)]
fn full(ring: &Ring<RING, MAX_VMS>) -> u32 {
    match ring.used() {
        0 => 0,
        _ => (0..MAX_VMS).filter(|vm| !ring.fits(*vm, LINE)).fold(0, |set, vm| set | 1 << vm),
    }
}

fn finish(pending: &mut Pending) {
    let Some(uart) = UART.get() else {
        // Nobody ever takes it: the oldest makes room, and no guest waits.
        while full(&pending.ring) != 0 && pending.ring.pop().is_some() {}
        return;
    };
    pending.drain(uart, WAIT.load(Ordering::Relaxed));
    let ring = &pending.ring;
    FULL.store(full(ring), Ordering::Relaxed);
    USED.store(ring.used(), Ordering::Relaxed);
    if ring.used() != 0 && !WAIT.load(Ordering::Relaxed) {
        crate::time::wake_soon();
    }
}

/// Divides the ring among `vms` VMs.
pub fn divide(vms: usize) {
    RING_LOCK.lock(&crate::cpu::current().order).ring.divide(vms);
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
    let mut pending = RING_LOCK.lock(order);
    if let Some(uart) = UART.get() {
        pending.drain(uart, true);
        USED.store(pending.ring.used(), Ordering::Relaxed);
    }
}

/// Whether something waits to be written.
#[inline(always)]
pub fn backlog() -> bool {
    USED.load(Ordering::Relaxed) != 0
}

/// Writes what the UART takes now.
pub fn pump() {
    let order = &crate::cpu::current().order;
    if let Some(mut pending) = RING_LOCK.try_lock(order) {
        finish(&mut pending);
    }
}

/// Puts bytes of VM `index`; all of them or, where it has no room, none.
pub fn guest_bytes(index: usize, bytes: &[u8]) {
    let order = &crate::cpu::current().order;
    let mut pending = RING_LOCK.lock(order);
    if pending.ring.admit(index, bytes.len()) {
        pending.close();
        for byte in bytes {
            pending.ring.push(*byte);
        }
    }
    finish(&mut pending);
}

/// Shows how the line of VM `index`, called `name`, goes on.
pub fn guest_line(index: usize, name: &str, live: &Live<'_>) {
    let order = &crate::cpu::current().order;
    let mut pending = RING_LOCK.lock(order);
    let Pending { ring, open } = &mut *pending;
    // It may have to be shown whole again.
    if ring.fits(index, LINE) {
        let before = ring.used();
        open.show(index, name, live, |bytes| bytes.iter().for_each(|byte| ring.push(*byte)));
        let _ = ring.admit(index, ring.used() - before);
    } else {
        ring.lose(match live {
            Live::More { new, .. } => new.len(),
            Live::End { .. } => 1,
        });
    }
    finish(&mut pending);
}

/// Whether VM `index` may put more.
#[inline(always)]
pub fn guest_room(index: usize) -> bool {
    FULL.load(Ordering::Relaxed) >> (index & 31) & 1 == 0
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
        if let Some(mut pending) = RING_LOCK.try_lock(&order) {
            if let Some(uart) = UART.get() {
                pending.drain(uart, true);
            }
            return;
        }
        core::hint::spin_loop();
    }
}
