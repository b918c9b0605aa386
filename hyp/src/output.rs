// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guests' consoles on the machine's one: unchanged with one VM, line by line with a name in front with several.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use arrayvec::ArrayVec;
use lock::{Lock, Order, Rank};
use platform::VmConfig;
use spin::Once;
use vm::mux::Mux;

use crate::console;

/// Room for a line of a guest with its name and its end.
const LINE: usize = 256;

static MUXES: Once<Vec<Lock<Mux<'static>>>> = Once::new();
/// With one VM nothing is put together in lines, and no lock is needed.
static ALONE: AtomicBool = AtomicBool::new(true);

/// Makes a line for each VM.
pub fn init(configs: &[VmConfig]) {
    let alone = configs.len() == 1;
    ALONE.store(alone, Ordering::Release);
    MUXES.call_once(|| {
        configs
            .iter()
            .map(|c| {
                let name: &'static str = Box::leak(c.name.clone().into_boxed_str());
                Lock::new(Rank::Console, Mux::new(name, alone))
            })
            .collect()
    });
}

/// A byte that VM `index` writes.
pub fn put(index: usize, byte: u8) {
    if ALONE.load(Ordering::Relaxed) {
        console::guest_bytes(&[byte]);
    } else {
        with(index, |mux, out| mux.put(byte, out));
    }
}

/// Ends what VM `index` has begun to write: its last words.
pub fn finish_line(index: usize) {
    with(index, |mux, out| mux.flush(out));
}

/// Lets `f` put a byte into the line of VM `index`, and hands what that completes to the console in one piece: no other
/// CPU's line gets between.
fn with(index: usize, f: impl FnOnce(&mut Mux<'static>, &mut dyn FnMut(&[u8]))) {
    // The console's own lock is taken inside, with the same rank: a line is a lock of its own kind, always outermost.
    let order = Order::new();
    if let Some(mux) = MUXES.get().and_then(|m| m.get(index)) {
        let mut line: ArrayVec<u8, LINE> = ArrayVec::new();
        f(&mut mux.lock(&order), &mut |bytes| {
            if line.try_extend_from_slice(bytes).is_err() {
                console::guest_bytes(&line);
                line.clear();
                console::guest_bytes(bytes);
            }
        });
        if !line.is_empty() {
            console::guest_bytes(&line);
        }
    }
}
