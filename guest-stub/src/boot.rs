// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first instructions: the arm64 Linux Image header, the entry of the first vCPU and that of the
//! others.

use core::arch::global_asm;
use core::mem::offset_of;

use crate::cpu::{CPUS, Cpu, STACK_SIZE, STACKS};
use crate::exception::vectors;
use crate::scratch::Shared;

/// What the first vCPU had in its registers at its first instruction, for the test that checks it.
#[repr(C)]
pub struct Entry {
    /// x0 to x28. (x29 and x30 are not kept.)
    pub x: [u64; 29],
    /// SCTLR_EL1.
    pub sctlr: u64,
    /// DAIF.
    pub daif: u64,
    /// CurrentEL.
    pub current_el: u64,
    /// SPSel.
    pub spsel: u64,
    /// CNTV_CTL_EL0.
    pub cntv_ctl: u64,
    /// TPIDR_EL0, TPIDRRO_EL0, TPIDR_EL1.
    pub tpidr: [u64; 3],
    /// FPCR, FPSR, d0, d31: the FP state of an earlier boot would be here.
    pub fp: [u64; 4],
}

/// Filled before anything else happens.
#[unsafe(no_mangle)]
pub static ENTRY: Shared<Entry> = Shared::new(Entry {
    x: [0; 29],
    sctlr: 0,
    daif: 0,
    current_el: 0,
    spsel: 0,
    cntv_ctl: 0,
    tpidr: [0; 3],
    fp: [0; 4],
});

/// CNTVCT_EL0 and CNTPCT_EL0 at the first instruction.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".data")]
static ENTERED_AT: Shared<[u64; 2]> = Shared::new([0; 2]);

/// CNTVCT_EL0 and CNTPCT_EL0 at the first instruction of this boot.
pub fn counters_at_entry() -> [u64; 2] {
    // SAFETY: written by the entry code alone, before any Rust code ran.
    unsafe { ENTERED_AT.get().read_volatile() }
}

/// CNTPCT_EL0 at the first instruction of this boot.
pub fn entered_at() -> u64 {
    let [_, physical] = counters_at_entry();
    physical
}

/// What the first vCPU was entered with.
pub fn entry() -> &'static Entry {
    // SAFETY: written by the entry code alone, before any Rust code ran.
    unsafe { &*ENTRY.get() }
}

unsafe extern "C" {
    /// Where a vCPU that PSCI starts begins; x0 is its [`Cpu`].
    pub fn secondary_entry();
}

global_asm!(
    r#"
    .arch_extension fp
    .section .head, "ax"
    .global _start
_start:
    b       1f                      // code0
    .long   0                       // code1
    .quad   0                       // text_offset: RAM base + 2 MiB exactly
    .quad   __image_size            // .bss and stacks included
    .quad   2                       // little-endian, 4 KiB pages
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0

1:  // Nothing is known but x0 = device tree. Keep what a former life could have left before
    // anything is overwritten: the image's own .bss is clean, or is made so below.
    mrs     x29, cntpct_el0
    adrp    x30, ENTERED_AT
    add     x30, x30, :lo12:ENTERED_AT
    str     x29, [x30, #8]
    mrs     x29, cntvct_el0
    str     x29, [x30]
    mrs     x29, CurrentEL
    cmp     x29, #8
    b.ne    3f
    bl      floor_drop              // EL2: a benchmark without a hypervisor
    mrs     x29, CurrentEL
3:  cmp     x29, #4
    b.ne    9f
    mov     x29, #(3 << 20)
    msr     cpacr_el1, x29          // FP and SIMD work at EL1 and EL0
    isb
    adrp    x29, __bss_start
    add     x29, x29, :lo12:__bss_start
    adrp    x30, __bss_end
    add     x30, x30, :lo12:__bss_end
2:  stp     xzr, xzr, [x29], #16
    cmp     x29, x30
    b.lo    2b

    adrp    x29, ENTRY
    add     x29, x29, :lo12:ENTRY
    stp     x0, x1, [x29], #16
    stp     x2, x3, [x29], #16
    stp     x4, x5, [x29], #16
    stp     x6, x7, [x29], #16
    stp     x8, x9, [x29], #16
    stp     x10, x11, [x29], #16
    stp     x12, x13, [x29], #16
    stp     x14, x15, [x29], #16
    stp     x16, x17, [x29], #16
    stp     x18, x19, [x29], #16
    stp     x20, x21, [x29], #16
    stp     x22, x23, [x29], #16
    stp     x24, x25, [x29], #16
    stp     x26, x27, [x29], #16
    str     x28, [x29], #8
    mrs     x1, sctlr_el1
    str     x1, [x29], #8
    mrs     x1, daif
    str     x1, [x29], #8
    mrs     x1, CurrentEL
    str     x1, [x29], #8
    mrs     x1, spsel
    str     x1, [x29], #8
    mrs     x1, cntv_ctl_el0
    str     x1, [x29], #8
    mrs     x1, tpidr_el0
    str     x1, [x29], #8
    mrs     x1, tpidrro_el0
    str     x1, [x29], #8
    mrs     x1, tpidr_el1
    str     x1, [x29], #8
    mrs     x1, fpcr
    str     x1, [x29], #8
    mrs     x1, fpsr
    str     x1, [x29], #8
    str     d0, [x29], #8
    str     d31, [x29], #8

    mov     x19, x0
    adrp    x0, {cpus}
    add     x0, x0, :lo12:{cpus}
    adrp    x1, {stacks}
    add     x1, x1, :lo12:{stacks}
    mov     x2, #{stack_size}
    add     x1, x1, x2
    bl      prepare
    mov     x0, x19
    mov     x29, xzr
    bl      stub_main
9:  wfe                             // not EL1: nothing here would work
    b       9b

    // x0 = Cpu, x1 = top of its stack; sets everything that Rust code relies on.
prepare:
    msr     daifset, #15
    msr     spsel, #1
    mov     sp, x1
    msr     tpidr_el1, x0
    mov     x2, #(3 << 20)
    msr     cpacr_el1, x2
    adrp    x2, {vectors}
    add     x2, x2, :lo12:{vectors}
    msr     vbar_el1, x2
    isb
    ret

    .global secondary_entry
secondary_entry:
    mrs     x1, CurrentEL
    cmp     x1, #8
    b.ne    1f
    bl      floor_drop
1:  msr     daifset, #15
    msr     spsel, #1
    ldr     x1, [x0, #{stack}]
    mov     x19, x0
    bl      prepare
    mov     x0, x19
    mov     x29, xzr
    bl      secondary_main
8:  wfe
    b       8b
    .previous
    .arch_extension nofp
"#,
    cpus = sym CPUS,
    stacks = sym STACKS,
    stack_size = const STACK_SIZE,
    vectors = sym vectors,
    stack = const offset_of!(Cpu, stack),
);
