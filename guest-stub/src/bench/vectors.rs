// SPDX-License-Identifier: MIT OR Apache-2.0
//! Short vectors: an abort is skipped; an interrupt is acknowledged, ended and counted in x16 by a handler that keeps registers as
//! real ones do. Both note CNTVCT_EL0 in x14 first.

use core::arch::global_asm;

unsafe extern "C" {
    fn bench_vectors();
}

global_asm!(
    r#"
    .section .text.bench_vectors, "ax"
    .balign 0x800
    .global bench_vectors
bench_vectors:
    .space  0x200
    // Synchronous, SP_EL1.
    mrs     x15, elr_el1
    add     x15, x15, #4
    msr     elr_el1, x15
    eret
    .balign 0x80
    // IRQ, SP_EL1.
    mrs     x14, cntvct_el0
    b       1f
    .space  0x800 - 0x288
1:  stp     x0, x1, [sp, #-160]!
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x17, x18, [sp, #112]
    stp     x29, x30, [sp, #128]
    mrs     x0, S3_0_C12_C12_0      // ICC_IAR1_EL1
    add     x16, x16, #1
    cmp     w0, #27
    b.ne    2f
    mov     x1, #2
    msr     cntv_ctl_el0, x1
2:  msr     S3_0_C12_C12_1, x0      // ICC_EOIR1_EL1
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x17, x18, [sp, #112]
    ldp     x29, x30, [sp, #128]
    ldp     x0, x1, [sp], #160
    eret
    .previous
"#
);

/// Instructions of the abort handler.
pub const SKIP: u64 = 4;

/// Runs `f` with these vectors.
pub fn with<T>(f: impl FnOnce() -> T) -> T {
    let before = mrs!("vbar_el1");
    msr!("vbar_el1", bench_vectors as *const () as usize as u64);
    plain!("isb");
    let result = f();
    msr!("vbar_el1", before);
    plain!("isb");
    result
}
