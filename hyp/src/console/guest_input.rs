// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is typed at the console: taken from the UART as it comes, kept until the VM that has the keyboard takes it.
//!
//! The UART's interrupt goes to the boot CPU, whichever guest runs there; where the tree names none, that CPU looks
//! now and then. With several VMs, or one that does not run, `console::escape_key` says what the keys mean.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use arrayvec::ArrayVec;
use console::escape_key::{Command, Key, Keys};
use lock::{Lock, Order, Rank};
use log::Level;
use platform::MAX_VMS;
use vm::{Holders, Phase};

use crate::console::ring;
use crate::cpu;
use crate::cpu::timer;
use crate::gic;
use crate::guest::instance::{self, Guest};
use crate::guest::operator;
use crate::guest::vm_log;
use crate::vcpu::context::VcpuContext;

/// Bytes that wait for a VM at most.
const ROOM: usize = 256;

/// Of each VM, what it has not taken yet.
static WAITING: [Lock<ArrayVec<u8, ROOM>>; MAX_VMS] =
    [const { Lock::new(Rank::Console, ArrayVec::new_const()) }; MAX_VMS];
/// How many those are, for a look without the lock.
static COUNT: [AtomicUsize; MAX_VMS] = [const { AtomicUsize::new(0) }; MAX_VMS];
static KEYS: Lock<Keys> = Lock::new(Rank::Console, Keys::new());
/// The VM that has the keyboard.
static FOCUS: AtomicUsize = AtomicUsize::new(0);
/// The UART's interrupt; `u32::MAX` where it has none that the GIC knows.
static INTID: AtomicU32 = AtomicU32::new(u32::MAX);
/// The boot CPU looks for input now and then, as nothing tells it of any.
static POLLED: AtomicBool = AtomicBool::new(false);
/// There was no room: the UART keeps what comes, and whoever types waits.
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

/// The UART's interrupt; `u32::MAX` where it has none.
#[inline(always)]
pub fn intid() -> u32 {
    INTID.load(Ordering::Relaxed)
}

/// CNTPCT_EL0 at which this CPU should call [`collect`], if it is the one that has to.
#[inline(always)]
pub fn next_look() -> Option<u64> {
    if POLLED.load(Ordering::Relaxed) && cpu::current().index.get() == 0 {
        return Some(timer::now().saturating_add(timer::frequency() / 50));
    }
    None
}

/// Takes what has been typed. `loaded` is the vCPU whose registers are in this CPU, if any.
pub fn collect(loaded: Option<&VcpuContext>) {
    let vms = instance::all().len();
    let mut touched = false;
    loop {
        // One VM that runs: all keys are its own, and what it has no room for stays in the UART. Else the keys that leave one
        // that takes nothing, or let it go on, must come through, and what it has no room for is lost.
        let alone = vms == 1 && instance::all().iter().all(|guest| runs(guest));
        if alone && count(0).load(Ordering::Relaxed) >= ROOM {
            ring::interrupt_for_input(false);
            HELD_BACK.store(true, Ordering::SeqCst);
            // Another CPU may have taken it all meanwhile, and seen nothing held back.
            if count(0).load(Ordering::SeqCst) >= ROOM / 2 {
                break;
            }
            let_in();
        }
        let Some(byte) = ring::take() else { break };
        touched = true;
        if alone {
            give(&[byte]);
            continue;
        }
        let mut again = true;
        while again {
            let key;
            (key, again) = KEYS.lock(&Order::new()).take(byte, vms);
            act(key);
        }
    }
    if touched && let Some(guest) = instance::all().get(FOCUS.load(Ordering::Relaxed)) {
        tell(guest, loaded);
    }
}

/// Does what a key asks for.
fn act(key: Key) {
    let guest = |index: usize| instance::all().get(index).copied();
    match key {
        Key::Pending => {}
        Key::Byte(byte) => give(&[byte]),
        Key::Bytes(bytes) => give(&bytes),
        Key::Next => next(None),
        Key::Who => who(),
        Key::Do(command, index) => match (command, guest(index)) {
            (_, None) => who(),
            (Command::Select, Some(guest)) if finished(guest) => who(),
            (Command::Select, Some(guest)) => select(guest, None),
            (Command::Restart, Some(guest)) => operator::restart(guest),
            (Command::Stop, Some(guest)) => operator::stop_or_start(guest),
            (Command::Pause, Some(guest)) => operator::pause_or_resume(guest),
        },
    }
}

/// Whether the VM takes what is typed, or will: it neither is paused nor has stopped.
fn runs(guest: &Guest) -> bool {
    let (lifecycle, order) = (guest.vm.lifecycle(), Order::new());
    let there = !matches!(lifecycle.phase(&order), Phase::Resting | Phase::Stopped);
    there && lifecycle.holders(&order) == Holders::NONE
}

/// Lets the VM's UART take what waits for it.
fn tell(guest: &Guest, loaded: Option<&VcpuContext>) {
    match loaded {
        Some(ctx) if core::ptr::eq(ctx.guest, guest) => {
            guest.vm.poll_console(&ctx.vcpu.order, Some(ctx.vcpu.index));
        }
        _ => guest.vm.poll_console(&Order::new(), None),
    }
}

/// Keeps bytes for the VM that has the keyboard.
fn give(bytes: &[u8]) {
    let index = FOCUS.load(Ordering::Relaxed);
    if let (Some(waiting), Some(count)) = (WAITING.get(index), COUNT.get(index)) {
        let order = Order::new();
        let mut waiting = waiting.lock(&order);
        for byte in bytes {
            let _ = waiting.try_push(*byte);
        }
        count.store(waiting.len(), Ordering::Relaxed);
    }
}

/// Whether VM `index` has the keyboard.
#[inline(always)]
pub fn has_keyboard(index: usize) -> bool {
    FOCUS.load(Ordering::Relaxed) == index
}

/// How many bytes wait for VM `index`: what a guest's poll of its UART looks at.
pub fn count(index: usize) -> &'static AtomicUsize {
    static NONE: AtomicUsize = AtomicUsize::new(0);
    COUNT.get(index).unwrap_or(&NONE)
}

fn ready(index: usize) -> bool {
    count(index).load(Ordering::Relaxed) != 0
}

/// A byte of input for VM `index`.
pub fn take(index: usize) -> Option<u8> {
    if !ready(index) {
        return None;
    }
    let (waiting, count) = (WAITING.get(index)?, COUNT.get(index)?);
    let order = Order::new();
    let mut waiting = waiting.lock(&order);
    let byte = (!waiting.is_empty()).then(|| waiting.remove(0));
    count.store(waiting.len(), Ordering::SeqCst);
    if waiting.len() < ROOM / 2 {
        let_in();
    }
    byte
}

/// Ends the holding back, if there is one: what the UART has kept interrupts at once.
pub fn let_in() {
    if HELD_BACK.load(Ordering::SeqCst) && HELD_BACK.swap(false, Ordering::SeqCst) {
        ring::interrupt_for_input(!POLLED.load(Ordering::Relaxed));
    }
}

/// Forgets what was typed for a VM whose life has ended.
pub fn forget(index: usize) {
    while take(index).is_some() {}
}

/// A VM has stopped for good: if it had the keyboard, another one gets it.
pub fn leave(guest: &Guest) {
    if has_keyboard(guest.index) {
        next(Some(guest));
    }
}

fn finished(guest: &Guest) -> bool {
    guest.vm.lifecycle().finished(&Order::new())
}

/// Gives the keyboard to `guest`; `stopped` is the VM that had it and has stopped, where that is why.
fn select(guest: &Guest, stopped: Option<&Guest>) {
    FOCUS.store(guest.index, Ordering::Relaxed);
    let text = format_args!("the keyboard goes to {}", guest.config.name);
    match stopped {
        Some(stopped) => vm_log::always(stopped, Level::Info, text),
        None => log::info!("{text}"),
    }
    crate::console::guest_output::show(guest.index);
}

/// Gives the keyboard to the next VM that has not stopped, if there is one.
fn next(stopped: Option<&Guest>) {
    let all = instance::all();
    let now = FOCUS.load(Ordering::Relaxed);
    let others = (1..all.len()).map(|n| (now + n) % all.len());
    for guest in others.filter_map(|index| all.get(index)) {
        if !finished(guest) {
            return select(guest, stopped);
        }
    }
}

/// Says which VMs there are, and what the keys do.
fn who() {
    for guest in instance::all() {
        let keyboard = if has_keyboard(guest.index) { " (keyboard)" } else { "" };
        log::info!("{} {}{keyboard}: {}", guest.index, guest.vm.name(), operator::Status(guest));
    }
    log::info!(
        "after Ctrl-]: number or n keyboard, r number restart, s number stop or start, p number pause or resume, ? this"
    );
}
