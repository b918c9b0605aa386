// SPDX-License-Identifier: MIT OR Apache-2.0
//! From ticks of CNTVCT_EL0 to instructions.

use super::results::Figure;

/// Batches of a figure.
pub const BATCHES: usize = 32;
/// Operations in a batch.
pub const LENGTH: u64 = 128;
/// Nanoseconds of a tick at QEMU's 62.5 MHz, and so instructions under `-icount shift=0`.
pub const PER_TICK: u64 = 16;
/// Instructions of the loop around an operation: SUBS, B.NE.
pub const LOOP: u64 = 2;

/// Defines `NAME(count, [x9, x10, x11]) -> (ticks, x16)`: the instructions, so many times. They may use x0 to x11 and x15 to x17, and the
/// vectors x14; x9 to x11 keep what they make of them, x16 begins with 0.
macro_rules! timed {
    ($(#[$doc:meta])* $visibility:vis $name:ident, $($line:literal),+ $(,)?) => {
        $(#[$doc])*
        $visibility fn $name(count: u64, [x9, x10, x11]: [u64; 3]) -> (u64, u64) {
            let (start, end, counted): (u64, u64, u64);
            // SAFETY: what is measured touches registers that are named here, devices, and hypercalls that leave the stub's memory
            // alone.
            unsafe {
                core::arch::asm!(
                    ".arch_extension fp",
                    "isb",
                    "mrs x13, cntvct_el0",
                    "2:",
                    $($line,)+
                    "subs x12, x12, #1",
                    "b.ne 2b",
                    "isb",
                    "mrs x17, cntvct_el0",
                    ".arch_extension nofp",
                    inout("x9") x9 => _, inout("x10") x10 => _, inout("x11") x11 => _, inout("x12") count => _,
                    out("x13") start, inout("x16") 0_u64 => counted, out("x17") end,
                    out("x0") _, out("x1") _, out("x2") _, out("x3") _, out("x4") _, out("x5") _, out("x6") _,
                    out("x7") _, out("x8") _, out("x14") _, out("x15") _,
                );
            }
            (end - start, counted)
        }
    };
}

/// Hundredths of an instruction for one of `count` operations that took `ticks`, without `own` instructions each.
pub const fn each(ticks: u64, count: u64, own: u64) -> u64 {
    (ticks * PER_TICK * 100 / count).saturating_sub(own * 100)
}

/// The figure of these samples.
pub fn figure(samples: &mut [u64]) -> Figure {
    samples.sort_unstable();
    let at = |n: usize| samples.get(n).copied().unwrap_or_default();
    Figure { median: at(samples.len() / 2), min: at(0), max: at(samples.len().saturating_sub(1)) }
}

/// The figure of `operation(batch)`, which says how many ticks its `count` operations took; the first call warms up.
pub fn batches(count: u64, own: u64, mut operation: impl FnMut(u64) -> u64) -> Figure {
    let mut samples = [0; BATCHES];
    operation(0);
    for (batch, sample) in samples.iter_mut().enumerate() {
        *sample = each(operation(batch as u64), count, own);
    }
    figure(&mut samples)
}
