// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guests' output on the one console: unchanged from a lone VM, in lines with the VM's name from several. The line of the
//! VM that has the keyboard is shown while it is written.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use arrayvec::ArrayVec;
use console::line_mux::Mux;
use console::live_line::{Live, LiveLine};
use lock::{Lock, Rank};
use platform::VmConfig;
use spin::Once;

use crate::console::{guest_input, ring};
use crate::cpu;

/// Room for a line of a guest with its name and its end.
const LINE: usize = 256;

/// The line that a VM is writing: as a whole, and as shown if the VM has the keyboard.
struct Writing {
    name: &'static str,
    whole: Mux<'static>,
    live: LiveLine,
}

static WRITING: Once<Vec<Lock<Writing>>> = Once::new();
/// There is one VM: its bytes go out unchanged, without a lock.
static ALONE: AtomicBool = AtomicBool::new(true);

/// Makes a line for each VM.
pub fn init(configs: &[VmConfig]) {
    let alone = configs.len() == 1;
    ALONE.store(alone, Ordering::Release);
    ring::divide(configs.len());
    WRITING.call_once(|| {
        configs
            .iter()
            .map(|c| {
                let name: &'static str = c.name.clone().leak();
                let (whole, live) = (Mux::new(name, alone), LiveLine::new());
                Lock::new(Rank::ConsoleLine, Writing { name, whole, live })
            })
            .collect()
    });
}

/// A byte that VM `index` writes.
pub fn put(index: usize, byte: u8) {
    if ALONE.load(Ordering::Relaxed) {
        ring::guest_bytes(index, &[byte]);
    } else {
        with(index, |whole, out| whole.put(byte, out), |live, show| live.put(byte, show));
    }
}

/// Completes the line that VM `index` has begun.
pub fn finish_line(index: usize) {
    with(index, |whole, out| whole.flush(out), |live, show| live.flush(show));
}

/// Shows what VM `index`, which has just got the keyboard, has begun to write.
pub fn show(index: usize) {
    if let Some(writing) = WRITING.get().and_then(|w| w.get(index)) {
        let writing = writing.lock(&cpu::current().order);
        let whole = writing.live.so_far();
        ring::guest_line(index, writing.name, &Live::More { whole, new: &[] });
    }
}

/// Lets `whole` and `live` change the line of VM `index`. A line that `whole` completes goes to the console in one piece, so
/// that no other CPU's line interrupts it. If the VM has the keyboard, `live` is shown instead.
fn with(
    index: usize,
    whole: impl FnOnce(&mut Mux<'static>, &mut dyn FnMut(&[u8])),
    live: impl FnOnce(&mut LiveLine, &mut dyn FnMut(Live<'_>)),
) {
    let Some(writing) = WRITING.get().and_then(|w| w.get(index)) else { return };
    let mut writing = writing.lock(&cpu::current().order);
    let keyboard = guest_input::has_keyboard(index);
    let name = writing.name;
    live(&mut writing.live, &mut |live| {
        if keyboard {
            ring::guest_line(index, name, &live);
        }
    });
    let mut line: ArrayVec<u8, LINE> = ArrayVec::new();
    whole(&mut writing.whole, &mut |bytes| {
        if line.try_extend_from_slice(bytes).is_err() && !keyboard {
            ring::guest_bytes(index, &line);
            line.clear();
            ring::guest_bytes(index, bytes);
        }
    });
    if !line.is_empty() && !keyboard {
        ring::guest_bytes(index, &line);
    }
}
