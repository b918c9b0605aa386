// SPDX-License-Identifier: MIT OR Apache-2.0
//! Data and instruction cache maintenance by address.

use core::arch::asm;

use aarch64_cpu::registers::Readable;

use crate::cpu::sysreg::{CTR_EL0, DCZID_EL0};
use crate::layout::Span;

/// Smallest data cache line, in bytes (CTR_EL0.DminLine).
fn line() -> usize {
    4 << (CTR_EL0.get() >> 16 & 0xf)
}

/// Bytes that DC ZVA zeroes at once, where it may be used (DCZID_EL0: BS is the log of words, DZP prohibits).
fn zero_block() -> Option<usize> {
    let id = DCZID_EL0.get();
    (id & 1 << 4 == 0).then_some(4 << (id & 0xf))
}

/// How many instructions by address follow one another without a branch.
const UNROLLED: usize = 8;

/// Executes `dc $op` for each `$step` bytes of `$span`, which begins at a multiple of `$step`.
macro_rules! by_step {
    ($span:expr, $step:expr, $op:literal) => {{
        let span: Span = $span;
        let step: usize = $step;
        let whole = span.end.saturating_sub(span.start) & step.wrapping_mul(UNROLLED).wrapping_neg();
        // SAFETY: the callers pass memory that is mapped or, with the MMU off, exists. Cleaning changes no value;
        // `invalidate_before_mmu` and `zero` say why they may. Memory ends far below the last address, so that no step
        // leads beyond it.
        unsafe {
            asm!(
                "b 3f",
                "2:",
                ".rept {unrolled}",
                concat!("dc ", $op, ", {at}"),
                "add {at}, {at}, {step}",
                ".endr",
                "3:",
                "cmp {at}, {last}",
                "b.lo 2b",
                "b 5f",
                "4:",
                concat!("dc ", $op, ", {at}"),
                "add {at}, {at}, {step}",
                "5:",
                "cmp {at}, {end}",
                "b.lo 4b",
                at = inout(reg) span.start => _,
                last = in(reg) span.start.wrapping_add(whole),
                end = in(reg) span.end,
                step = in(reg) step,
                unrolled = const UNROLLED,
                options(nostack)
            );
        }
    }};
}

macro_rules! by_line {
    ($span:expr, $op:literal) => {{
        let span: Span = $span;
        let line = line();
        by_step!(span.start & line.wrapping_neg()..span.end, line, $op);
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

/// Zeroes memory, by DC ZVA where that may be used; not cleaned.
///
/// # Safety
/// The memory is Normal, EL2's tables map it read-write, the caller owns it, and it holds no Rust object.
pub unsafe fn zero(start: usize, bytes: usize) {
    // A multiple of both, as pages are, or all by stores.
    let block = zero_block().filter(|block| (start | bytes) & block.wrapping_sub(1) == 0);
    match block {
        // As the caller promises; each block lies inside.
        Some(block) => by_step!(start..start.saturating_add(bytes), block, "zva"),
        // SAFETY: as the caller promises.
        None => unsafe { core::ptr::write_bytes(start as *mut u8, 0, bytes) },
    }
}

/// Drops the instruction cache lines of all CPUs, before new code runs.
pub fn invalidate_instructions() {
    // SAFETY: drops copies and changes no value.
    unsafe { asm!("ic ialluis", "dsb ish", "isb", options(nostack, preserves_flags)) };
}
