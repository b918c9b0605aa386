// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hypercalls as the tests need them: any id, any argument, every result register.

use core::arch::asm;

use mmio_guard::client::Hypercall;

/// `hvc #0` with x0 = `id` and x1 to x3; returns x0 to x3.
pub fn hvc(id: u64, args: [u64; 3]) -> [u64; 4] {
    let [mut x1, mut x2, mut x3] = args;
    let mut x0 = id;
    // SAFETY: SMCCC 1.1: the call changes x0 to x3 only. x4 to x17 are marked as changed all the same:
    // whether they are kept is for a test to find out. The calls made here do not touch the memory of
    // the stub's Rust objects.
    unsafe {
        asm!(
            "hvc #0",
            inout("x0") x0, inout("x1") x1, inout("x2") x2, inout("x3") x3,
            out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _,
            out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _,
            out("x16") _, out("x17") _,
            options(nostack),
        );
    }
    [x0, x1, x2, x3]
}

/// The same with x1 to x4, for calls with four arguments.
pub fn hvc_4(id: u64, args: [u64; 4]) -> [u64; 4] {
    let [mut x1, mut x2, mut x3, x4] = args;
    let mut x0 = id;
    // SAFETY: as `hvc`.
    unsafe {
        asm!(
            "hvc #0",
            inout("x0") x0, inout("x1") x1, inout("x2") x2, inout("x3") x3, inout("x4") x4 => _,
            out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _, out("x10") _,
            out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _,
            out("x17") _,
            options(nostack),
        );
    }
    [x0, x1, x2, x3]
}

/// `smc #0` in the same way as [`hvc`].
pub fn smc(id: u64, args: [u64; 3]) -> [u64; 4] {
    let [mut x1, mut x2, mut x3] = args;
    let mut x0 = id;
    // SAFETY: as `hvc`.
    unsafe {
        asm!(
            "smc #0",
            inout("x0") x0, inout("x1") x1, inout("x2") x2, inout("x3") x3,
            out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _,
            out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _,
            out("x16") _, out("x17") _,
            options(nostack),
        );
    }
    [x0, x1, x2, x3]
}

/// The stub's way to call, for the client of `mmio-guard`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hvc;

impl Hypercall for Hvc {
    fn call(&self, id: u32, args: [u64; 3]) -> [u64; 4] {
        hvc(id.into(), args)
    }
}
