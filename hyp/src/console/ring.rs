// SPDX-License-Identifier: MIT OR Apache-2.0
//! The console's ring, through which all output goes. It is drained as fast as the UART accepts bytes. While guests run
//! nothing waits for it; boot, the last stop and a panic do. The share of each VM is bounded (`console::ring`), and so are
//! EL2's lines about it (`guest::vm_log`).

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use console::live_line::Live;
use console::output::{Console, Drain, Transmitter};
use console::ring::{Room, Source};
use lock::{Lock, Rank};
use log::{Level, LevelFilter, Log, Metadata, Record};
use spin::Once;

use crate::console::uart::Uart;

const RING: usize = 32 * 1024;
/// Bytes that the UART is handed at once: interrupts wait for that.
const AT_ONCE: usize = 64;

/// Not in the image and not zeroed at boot: every byte is written before it is read.
#[unsafe(link_section = ".bss.unset.console")]
static ROOM: Room<RING> = Room::new();
static RING_LOCK: Lock<Console<'static, RING>> = Lock::new(Rank::Console, Console::new(&ROOM));
const _: () = assert!(platform::MAX_VMS <= console::ring::MAX_VMS);
static UART: Once<Uart> = Once::new();
/// Bytes in the ring, and at least 1 if a VM must be polled. Read without the lock.
static USED: AtomicUsize = AtomicUsize::new(0);
/// VMs whose share of the ring is full, one bit each. Read without the lock.
static FULL: AtomicU32 = AtomicU32::new(0);
/// VMs that found no room and have not been polled since, one bit each.
static WAITING: AtomicU32 = AtomicU32::new(0);
/// VMs whose losses have not been logged, one bit each.
static UNTOLD: AtomicU32 = AtomicU32::new(0);
/// Wait for the UART (at boot and the last stop) instead of leaving bytes in the ring.
static WAIT: AtomicBool = AtomicBool::new(true);

impl Transmitter for Uart {
    fn ready(&self) -> bool {
        Self::ready(self)
    }
    fn put(&self, byte: u8) {
        Self::put(self, byte);
    }
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut console = RING_LOCK.lock(&crate::cpu::current().order);
        let kind = kind(record.level());
        console.lines(Source::Hypervisor, format_args!("[hyp] {kind}{}\n", record.args()));
        // To format it has taken its time: EL2's timer hands it to the UART.
        finish(&mut console, 0);
    }

    fn flush(&self) {
        flush();
    }
}

/// Prefix of a line of this level.
const fn kind(level: Level) -> &'static str {
    match level {
        Level::Error => "error: ",
        Level::Warn => "warning: ",
        Level::Info => "",
        Level::Debug | Level::Trace => "debug: ",
    }
}

/// A line about VM `index`, which `guest::vm_log` has admitted; `left_out` lines before it were not.
pub fn about(index: usize, level: Level, left_out: u64, text: fmt::Arguments<'_>) {
    let mut console = RING_LOCK.lock(&crate::cpu::current().order);
    console.about(index, left_out, format_args!("[hyp] {}{text}", kind(level)));
    // As for `Logger::log`.
    finish(&mut console, 0);
}

/// Hands the UART so many bytes at most, unless the console waits for it, and publishes what is left.
fn finish(console: &mut Console<'_, RING>, most: usize) {
    let Some(uart) = UART.get() else {
        // Without a UART the oldest lines make room, and no guest waits.
        return console.drop_oldest();
    };
    let wait = WAIT.load(Ordering::Relaxed);
    console.drain(uart, if wait { Drain::All } else { Drain::Most(most) });
    let full = console.full();
    FULL.store(full, Ordering::Relaxed);
    let waiting = WAITING.fetch_or(full, Ordering::Relaxed) | full;
    let untold = console.untold();
    UNTOLD.store(untold, Ordering::Relaxed);
    let used = console.used().max(usize::from(waiting | untold != 0));
    USED.store(used, Ordering::Relaxed);
    if used != 0 && !wait {
        crate::cpu::timer::wake_soon();
    }
}

/// Divides the ring among `vms` VMs.
pub fn divide(vms: usize) {
    RING_LOCK.lock(&crate::cpu::current().order).divide(vms);
}

/// Starts to log to `uart`. Without one, lines stay in the ring, where a debugger finds them.
pub fn init(uart: Option<Uart>) {
    if let Some(uart) = uart {
        UART.call_once(|| uart);
    }
    // Only the first call can succeed, and there is only one.
    let _ = log::set_logger(&Logger);
    log::set_max_level(LevelFilter::Info);
}

/// From here on the console does not wait for the UART.
pub fn stop_waiting() {
    WAIT.store(false, Ordering::Relaxed);
}

/// Writes all that is left, and waits for it.
pub fn flush() {
    let mut console = RING_LOCK.lock(&crate::cpu::current().order);
    if let Some(uart) = UART.get() {
        console.drain(uart, Drain::All);
        USED.store(console.used(), Ordering::Relaxed);
    }
}

/// Whether bytes wait to be written, or a VM must be polled.
#[inline(always)]
pub fn backlog() -> bool {
    USED.load(Ordering::Relaxed) != 0
}

/// Writes what the UART accepts now.
pub fn pump() {
    if let Some(mut console) = RING_LOCK.try_lock(&crate::cpu::current().order) {
        finish(&mut console, AT_ONCE);
    }
}

/// VMs whose losses have not been logged, one bit each.
#[inline(always)]
pub fn losses() -> u32 {
    UNTOLD.load(Ordering::Relaxed)
}

/// VMs that found no room and now have some, one bit each. Each is returned once.
#[inline(always)]
pub fn take_room_again() -> u32 {
    let waiting = WAITING.load(Ordering::Relaxed);
    if waiting == 0 {
        return 0;
    }
    let vms = waiting & !FULL.load(Ordering::Relaxed);
    WAITING.fetch_and(!vms, Ordering::Relaxed);
    vms
}

/// Puts bytes of VM `index`: all, or none if it has no room.
pub fn guest_bytes(index: usize, bytes: &[u8]) {
    let mut console = RING_LOCK.lock(&crate::cpu::current().order);
    console.guest_bytes(index, bytes);
    finish(&mut console, AT_ONCE.saturating_sub(bytes.len()));
}

/// Shows more of the line of VM `index`, called `name`.
pub fn guest_line(index: usize, name: &str, live: &Live<'_>) {
    let mut console = RING_LOCK.lock(&crate::cpu::current().order);
    console.guest_line(index, name, live);
    finish(&mut console, AT_ONCE / 2);
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

/// First step of a panic: writes what is in the ring, if its lock becomes free.
pub fn take_over() {
    let order = &crate::cpu::current().order;
    order.abandon();
    for _ in 0..1_000_000 {
        if let Some(mut console) = RING_LOCK.try_lock(order) {
            if let Some(uart) = UART.get() {
                console.drain(uart, Drain::All);
            }
            return;
        }
        core::hint::spin_loop();
    }
}
