// SPDX-License-Identifier: MIT OR Apache-2.0
//! Data and instruction cache maintenance by address.

use core::arch::asm;

use aarch64_cpu::registers::Readable;

use crate::cpu::sysreg::CTR_EL0;
use crate::layout::Span;

/// Smallest data cache line, in bytes (CTR_EL0.DminLine).
fn line() -> usize {
    4 << (CTR_EL0.get() >> 16 & 0xf)
}

macro_rules! by_line {
    ($span:expr, $op:literal) => {{
        let span: Span = $span;
        let line = line();
        let mut address = span.start & line.wrapping_neg();
        while address < span.end {
            // SAFETY: the callers pass memory that is mapped or, with the MMU off, exists. Cleaning changes no value, and
            // only `invalidate_before_mmu` invalidates without it.
            unsafe { asm!(concat!("dc ", $op, ", {}"), in(reg) address, options(nostack, preserves_flags)) };
            address = match address.checked_add(line) {
                Some(next) => next,
                None => break,
            };
        }
        crate::cpu::barrier::dsb_sy();
    }};
}

/// Discards cached copies of data that was written with the MMU off: memory is newer than any cache.
pub fn invalidate_before_mmu(span: Span) {
    by_line!(span, "ivac");
}

/// Writes dirty lines back to the point of coherency.
pub fn clean_to_poc(start: usize, bytes: usize) {
    by_line!(start..start.saturating_add(bytes), "cvac");
}

/// Writes dirty lines back to the point of coherency and drops them.
pub fn clean_invalidate_to_poc(start: usize, bytes: usize) {
    by_line!(start..start.saturating_add(bytes), "civac");
}

/// Drops the instruction cache lines of all CPUs, before new code runs.
pub fn invalidate_instructions() {
    // SAFETY: drops copies and changes no value.
    unsafe { asm!("ic ialluis", "dsb ish", "isb", options(nostack, preserves_flags)) };
}
