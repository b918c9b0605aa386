// SPDX-License-Identifier: MIT OR Apache-2.0
//! The floors: what an exit costs before anything is decided. Started at EL2, the stub drops to EL1 and leaves one of two
//! handlers behind: `bare`, an ERET, and `full`, which saves and restores x0 to x30, ELR and SPSR, reads ESR, FAR and HPFAR, and
//! calls an empty function. The word `floor=` says which.

use core::arch::global_asm;

use crate::scratch::Shared;
use crate::{hvc, tree};

/// Not 0: the stub was started at EL2 and has dropped.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".data")]
static FLOOR_MARK: Shared<u64> = Shared::new(0);

/// Whether there is a floor below; installs the one that the arguments name.
pub fn here() -> bool {
    // SAFETY: written by the entry code alone.
    let dropped = unsafe { FLOOR_MARK.get().read_volatile() } != 0;
    if dropped {
        hvc::hvc(u64::from(tree::argument("floor") == Some("full")), [0; 3]);
    }
    dropped
}

global_asm!(
    r#"
    .section .text.floor, "ax"
    // Returns to x30 at EL1, wherever it is called from EL2. x0 to x28 stay.
    .global floor_drop
floor_drop:
    mov     x29, #(1 << 31)         // HCR_EL2.RW
    msr     hcr_el2, x29
    mov     x29, #3                 // EL1 has the counters and its timers
    msr     cnthctl_el2, x29
    msr     cntvoff_el2, xzr
    mov     x29, #0x33ff            // CPTR_EL2: no traps
    msr     cptr_el2, x29
    msr     mdcr_el2, xzr
    msr     hstr_el2, xzr
    mrs     x29, midr_el1
    msr     vpidr_el2, x29
    mrs     x29, mpidr_el1
    msr     vmpidr_el2, x29
    mov     x29, #0xf
    msr     S3_4_C12_C9_5, x29      // ICC_SRE_EL2
    isb
    adrp    x29, FLOOR_MARK
    str     x30, [x29, :lo12:FLOOR_MARK]
    adrp    x29, floor_vectors_chooser
    add     x29, x29, :lo12:floor_vectors_chooser
    msr     vbar_el2, x29
    adrp    x29, floor_stack
    add     x29, x29, :lo12:floor_stack
    mov     sp, x29
    movz    x29, #0x30d0, lsl #16
    movk    x29, #0x0980
    msr     sctlr_el1, x29
    mov     x29, #0x3c5
    msr     spsr_el2, x29
    msr     elr_el2, x30
    eret

    .balign 0x800
floor_vectors_chooser:
    .space  0x400
    adrp    x1, floor_vectors_bare
    add     x1, x1, :lo12:floor_vectors_bare
    adrp    x2, floor_vectors_full
    add     x2, x2, :lo12:floor_vectors_full
    cmp     x0, #0
    csel    x1, x1, x2, eq
    msr     vbar_el2, x1
    eret
    .balign 0x800

floor_vectors_bare:
    .space  0x400
    eret
    .balign 0x800

floor_vectors_full:
    .space  0x400
    b       floor_full
    .balign 0x800

    // x0..x30, ELR, SPSR in the frame that SP_EL2 points to.
floor_full:
    stp     x0, x1, [sp, #0]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x1, elr_el2
    mrs     x2, spsr_el2
    stp     x30, x1, [sp, #240]
    str     x2, [sp, #256]
    mrs     x0, esr_el2
    mrs     x1, far_el2
    mrs     x2, hpfar_el2
    bl      floor_empty
    ldp     x30, x1, [sp, #240]
    ldr     x2, [sp, #256]
    msr     elr_el2, x1
    msr     spsr_el2, x2
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
    ldp     x0, x1, [sp, #0]
    eret
floor_empty:
    ret

    .section .data.floor, "aw"
    .balign 16
floor_stack:
    .space  272
    .previous
"#
);
