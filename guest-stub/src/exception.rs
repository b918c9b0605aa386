// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exception vectors. Every exception saves every register, and the PSTATE that the handler was entered
//! with, in a frame of the vCPU's own memory: SP is not relied on, as tests set it to all kinds of
//! things. A synchronous one ends the [`machine::run`] in progress; an interrupt goes
//! to `gic` and returns.

use core::arch::global_asm;
use core::mem::{offset_of, size_of};

use crate::cpu::{self, Cpu};
use crate::frame::{CHUNK, Frame};
use crate::machine;

unsafe extern "C" {
    /// The vector table.
    pub fn vectors();
}

global_asm!(
    r#"
    .macro vector offset
    .balign 0x80
    msr     tpidrro_el0, x0
    mrs     x0, sctlr_el1           // a guest test of big-endian data may have failed: EE would turn
    tbnz    x0, #25, exception_ee   // every store below around
    mrs     x0, tpidr_el1
    str     x1, [x0, #{scratch}]
    mov     x1, #\offset
    b       exception_entry
    .endm

    .section .text.vectors, "ax"
    .balign 0x800
    .global vectors
vectors:
    vector 0x000
    vector 0x080
    vector 0x100
    vector 0x180
    vector 0x200
    vector 0x280
    vector 0x300
    vector 0x380
    vector 0x400
    vector 0x480
    vector 0x500
    vector 0x580
    vector 0x600
    vector 0x680
    vector 0x700
    vector 0x780

exception_ee:
    bic     x0, x0, #(1 << 25)
    msr     sctlr_el1, x0
    isb
    mrs     x0, tpidr_el1
    str     x1, [x0, #{scratch}]
    mov     x1, #0x800              // says so in the frame

exception_entry:                    // x0 = Cpu, x1 = vector; NZCV is still the handler's own
    str     x2, [x0, #({scratch} + 8)]
    ldr     x2, [x0, #{frame_top}]
    sub     x2, x2, #{frame_size}
    str     x1, [x2, #{vector}]
    mrs     x1, nzcv
    str     x1, [x2, #{nzcv}]
    stp     x3, x4, [x2, #24]
    stp     x5, x6, [x2, #40]
    stp     x7, x8, [x2, #56]
    stp     x9, x10, [x2, #72]
    stp     x11, x12, [x2, #88]
    stp     x13, x14, [x2, #104]
    stp     x15, x16, [x2, #120]
    stp     x17, x18, [x2, #136]
    stp     x19, x20, [x2, #152]
    stp     x21, x22, [x2, #168]
    stp     x23, x24, [x2, #184]
    stp     x25, x26, [x2, #200]
    stp     x27, x28, [x2, #216]
    stp     x29, x30, [x2, #232]
    mrs     x3, tpidrro_el0
    ldp     x4, x5, [x0, #{scratch}]
    stp     x3, x4, [x2]
    str     x5, [x2, #16]
    mov     x3, sp
    mrs     x4, sp_el0
    stp     x3, x4, [x2, #{sp}]
    mrs     x3, elr_el1
    mrs     x4, spsr_el1
    stp     x3, x4, [x2, #{elr}]
    mrs     x3, esr_el1
    mrs     x4, far_el1
    stp     x3, x4, [x2, #{esr}]
    mrs     x3, daif
    mrs     x4, CurrentEL
    stp     x3, x4, [x2, #{daif}]
    mrs     x3, spsel
    str     x3, [x2, #{spsel}]

    mov     sp, x2                  // the chunk's own stack; the next exception gets the next chunk
    add     x3, x2, #{frame_size}
    sub     x3, x3, #{chunk}
    str     x3, [x0, #{frame_top}]
    mov     x19, x0
    mov     x1, x0
    mov     x0, x2
    mov     x29, xzr
    bl      {handle}                // returns the new top of frames

    mov     x2, sp
    str     x0, [x19, #{frame_top}]
    ldp     x3, x4, [x2, #{elr}]
    msr     elr_el1, x3
    msr     spsr_el1, x4
    ldp     x3, x4, [x2, #{sp}]
    msr     sp_el0, x4
    mov     sp, x3
    ldp     x3, x4, [x2, #24]
    ldp     x5, x6, [x2, #40]
    ldp     x7, x8, [x2, #56]
    ldp     x9, x10, [x2, #72]
    ldp     x11, x12, [x2, #88]
    ldp     x13, x14, [x2, #104]
    ldp     x15, x16, [x2, #120]
    ldp     x17, x18, [x2, #136]
    ldp     x19, x20, [x2, #152]
    ldp     x21, x22, [x2, #168]
    ldp     x23, x24, [x2, #184]
    ldp     x25, x26, [x2, #200]
    ldp     x27, x28, [x2, #216]
    ldp     x29, x30, [x2, #232]
    ldp     x0, x1, [x2]
    ldr     x2, [x2, #16]
    eret
    dsb     sy                      // nothing is executed past an eret, not even by speculation
    isb
    .previous
"#,
    scratch = const offset_of!(Cpu, scratch),
    frame_top = const offset_of!(Cpu, frame_top),
    frame_size = const size_of::<Frame>(),
    vector = const offset_of!(Frame, vector),
    nzcv = const offset_of!(Frame, nzcv),
    sp = const offset_of!(Frame, sp),
    elr = const offset_of!(Frame, elr),
    esr = const offset_of!(Frame, esr),
    daif = const offset_of!(Frame, daif),
    spsel = const offset_of!(Frame, spsel),
    chunk = const CHUNK,
    handle = sym handle,
);

/// Called by the entry code with everything saved and masked. Returns where the next exception of this
/// vCPU shall put its frame.
extern "C" fn handle(frame: &mut Frame, cpu: &mut Cpu) -> u64 {
    let own_top = frame as *const Frame as u64 + size_of::<Frame>() as u64;
    if frame.vector & 0x180 == 0x080 && frame.vector != 0x800 {
        crate::gic::interrupt(cpu);
        return own_top;
    }
    if own_top <= cpu::frame_limit(cpu.index) {
        crate::panic::die("exceptions nested too deeply", Some(frame));
    }
    if machine::leave(frame, cpu) {
        return cpu::frame_base(cpu.index);
    }
    crate::panic::die("exception", Some(frame))
}

/// Puts the registers back that tests change, after each of them.
pub fn restore() {
    plain!("msr daifset, #15");
    msr!("vbar_el1", vectors as *const () as usize as u64);
    msr!("cpacr_el1", 3 << 20);
    msr!("cntv_ctl_el0", 0);
    msr!("mdscr_el1", 0);
    plain!("isb");
}
