// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory that tests write by address: code made at run time, pages for the hardware.

use core::cell::UnsafeCell;

use crate::registers::Code;

/// A static that hardware, snippets and other vCPUs write as well.
#[repr(transparent)]
pub struct Shared<T>(UnsafeCell<T>);

// SAFETY: reached by address only; each test says who writes when.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// With a first value.
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Where it is.
    pub fn address(&self) -> u64 {
        self.0.get() as u64
    }

    /// The value itself.
    pub const fn get(&self) -> *mut T {
        self.0.get()
    }
}

const SLOTS: usize = 64;
const WORDS: usize = 16;

#[repr(align(4096))]
struct Slots {
    _words: [[u32; WORDS]; SLOTS],
}
static CODE: Shared<Slots> = Shared::new(Slots { _words: [[0; WORDS]; SLOTS] });

/// A page of bytes, for tests that let the hardware write it.
#[repr(align(4096))]
pub struct Page {
    _bytes: [u8; 4096],
}

impl Page {
    /// Full of one byte.
    pub const fn new(byte: u8) -> Self {
        Self { _bytes: [byte; 4096] }
    }
}
static NEXT: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(0);

/// Code made of these instructions and an `svc #0`; at most 15. It stays until 64 more are made.
pub fn code(instructions: &[u32]) -> Code {
    const SVC: u32 = 0xd400_0001;
    let slot = NEXT.fetch_add(1, core::sync::atomic::Ordering::Relaxed) % SLOTS;
    let address = CODE.address() + (slot * WORDS * 4) as u64;
    let all = instructions.iter().take(WORDS - 1).chain([&SVC]);
    for (n, word) in all.enumerate() {
        // SAFETY: within the slot, which no vCPU executes now.
        unsafe { (address as *mut u32).add(n).write_volatile(*word) };
    }
    // SAFETY: makes what was written visible to fetches; a slot is one cache line, or part of one.
    unsafe {
        core::arch::asm!(
            "dc cvau, {0}", "dsb ish", "ic ivau, {0}", "dsb ish", "isb",
            in(reg) address, options(nostack)
        );
    }
    // SAFETY: the address of instructions that end in `svc`.
    Code(unsafe { core::mem::transmute::<usize, unsafe extern "C" fn()>(address as usize) })
}
