// SPDX-License-Identifier: MIT OR Apache-2.0
//! Console input that VMs have not read yet, and which VM gets the next byte. `guest::keyboard` fills the queues.
//!
//! The UART's interrupt goes to the boot CPU, whichever guest runs there. Without one in the device tree, that CPU polls.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use arrayvec::ArrayVec;
use lock::{Lock, Rank};
use platform::MAX_VMS;

use crate::console::ring;
use crate::cpu;
use crate::cpu::timer;
use crate::gic;

/// Bytes that a VM's queue holds at most.
const ROOM: usize = 256;

/// Each VM's input that it has not read.
static WAITING: [Lock<ArrayVec<u8, ROOM>>; MAX_VMS] =
    [const { Lock::new(Rank::Console, ArrayVec::new_const()) }; MAX_VMS];
/// Length of each queue, for a look without the lock.
static COUNT: [AtomicUsize; MAX_VMS] = [const { AtomicUsize::new(0) }; MAX_VMS];
/// The VM that has the keyboard.
static FOCUS: AtomicUsize = AtomicUsize::new(0);
/// The UART's interrupt; `u32::MAX` if it has none that the GIC knows.
static INTID: AtomicU32 = AtomicU32::new(u32::MAX);
/// The boot CPU polls the UART, as no interrupt reports input.
static POLLED: AtomicBool = AtomicBool::new(false);
/// A queue was full: input stays in the UART, and flow control stops the sender.
static HELD_BACK: AtomicBool = AtomicBool::new(false);

/// Begins to listen to `uart`. Boot CPU, once.
pub fn init(uart: Option<&platform::Uart>) {
    let Some(uart) = uart else { return };
    match (gic::get(), uart.intid) {
        (Some(gic), Some(intid @ 32..gic::SPECIAL)) if ring::can_interrupt() => {
            INTID.store(intid, Ordering::Relaxed);
            gic.enable_spi(cpu::current().index.get(), intid, false);
            ring::interrupt_for_input(true);
        }
        _ => POLLED.store(true, Ordering::Relaxed),
    }
}

/// The UART's interrupt; `u32::MAX` if it has none.
#[inline(always)]
pub fn intid() -> u32 {
    INTID.load(Ordering::Relaxed)
}

/// CNTPCT_EL0 at which this CPU polls the UART next, if it is the one that polls.
#[inline(always)]
pub fn next_poll() -> Option<u64> {
    if POLLED.load(Ordering::Relaxed) && cpu::current().index.get() == 0 {
        return Some(timer::now().saturating_add(timer::frequency() / 50));
    }
    None
}

/// Leaves input in the UART if the queue of VM `index` is full. Returns whether it does.
pub fn hold_back_if_full(index: usize) -> bool {
    let count = count(index);
    if count.load(Ordering::Relaxed) < ROOM {
        return false;
    }
    ring::interrupt_for_input(false);
    HELD_BACK.store(true, Ordering::SeqCst);
    // Another CPU may have emptied the queue meanwhile, and seen nothing held back.
    if count.load(Ordering::SeqCst) >= ROOM / 2 {
        return true;
    }
    resume_rx();
    false
}

/// Queues bytes for the VM that has the keyboard. Bytes that do not fit are lost.
pub fn give(bytes: &[u8]) {
    let index = focus();
    if let (Some(waiting), Some(count)) = (WAITING.get(index), COUNT.get(index)) {
        let mut waiting = waiting.lock(&cpu::current().order);
        for byte in bytes {
            let _ = waiting.try_push(*byte);
        }
        count.store(waiting.len(), Ordering::Relaxed);
    }
}

/// The VM that has the keyboard.
#[inline(always)]
pub fn focus() -> usize {
    FOCUS.load(Ordering::Relaxed)
}

/// Gives the keyboard to VM `index`.
pub fn set_focus(index: usize) {
    FOCUS.store(index, Ordering::Relaxed);
}

/// Whether VM `index` has the keyboard.
#[inline(always)]
pub fn has_keyboard(index: usize) -> bool {
    focus() == index
}

/// Length of the queue of VM `index`: what a guest's poll of its UART reads.
pub fn count(index: usize) -> &'static AtomicUsize {
    static NONE: AtomicUsize = AtomicUsize::new(0);
    COUNT.get(index).unwrap_or(&NONE)
}

/// Takes a byte of input of VM `index`.
pub fn take(index: usize) -> Option<u8> {
    if count(index).load(Ordering::Relaxed) == 0 {
        return None;
    }
    let (waiting, count) = (WAITING.get(index)?, COUNT.get(index)?);
    let mut waiting = waiting.lock(&cpu::current().order);
    let byte = (!waiting.is_empty()).then(|| waiting.remove(0));
    count.store(waiting.len(), Ordering::SeqCst);
    if waiting.len() < ROOM / 2 {
        resume_rx();
    }
    byte
}

/// Accepts input from the UART again, if it was held back: what the UART has kept interrupts at once.
pub fn resume_rx() {
    if HELD_BACK.load(Ordering::SeqCst) && HELD_BACK.swap(false, Ordering::SeqCst) {
        ring::interrupt_for_input(!POLLED.load(Ordering::Relaxed));
    }
}

/// Discards the input of a VM that has stopped.
pub fn discard(index: usize) {
    while take(index).is_some() {}
}
