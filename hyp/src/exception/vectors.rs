// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exception vectors of EL2: save, call, restore.
//!
//! While a guest runs, SP_EL2 points to its [`VcpuContext`] and TPIDR_EL2 to the CPU's stack top: an exit needs no
//! register to find either. A handler gets the context in x0 and returns the one to enter, in x0.
//!
//! [`VcpuContext`]: crate::vcpu::context::VcpuContext

use core::arch::global_asm;

global_asm!(
    r#"
    // GuestRegs: x0..x30, ELR, SPSR at offsets 0, 248, 256.
    .macro save_guest
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
    mrs     x3, tpidr_el2
    mov     x0, sp
    mov     sp, x3
    mov     x29, xzr
    .endm

    .macro vector_lower, handler
    .balign 128
    save_guest
    bl      \handler
    b       enter_guest
    .endm

    .macro vector_el2, kind
    .balign 128
    // The stack may be the cause: use the emergency stack. That needs one register, which is kept in
    // EL2's own timer: the worst effect is an early interrupt.
    msr     cnthp_cval_el2, x0
    mrs     x0, tpidr_el2
    add     x0, x0, #({emergency} & 0xfff)
    add     x0, x0, #({emergency} >> 12), lsl #12
    sub     x0, x0, #272
    str     x1, [x0, #8]
    mov     x1, #\kind
    b       el2_fault_entry
    .endm

    .section .text.vectors, "ax"
    .balign 2048
    .global vectors
vectors:
    vector_el2 0
    vector_el2 1
    vector_el2 2
    vector_el2 3
    vector_el2 4
    vector_el2 5
    vector_el2 6
    vector_el2 7
    vector_lower {sync}
    vector_lower {irq}
    vector_lower {fiq}
    vector_lower {serror}
    vector_lower {sync}
    vector_lower {irq}
    vector_lower {fiq}
    vector_lower {serror}

    // x0: the context to enter. The stack is empty again.
    .global enter_guest
enter_guest:
    mov     sp, x0
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
    // Against speculation behind ERET.
    dsb     nsh
    isb

    // A fault of EL2 itself. Frame: x0..x30, sp, kind. Returns only from faults that EL2 expects.
el2_fault_entry:
    str     x1, [x0, #256]
    mov     x1, sp
    str     x1, [x0, #248]
    stp     x2, x3, [x0, #16]
    stp     x4, x5, [x0, #32]
    stp     x6, x7, [x0, #48]
    stp     x8, x9, [x0, #64]
    stp     x10, x11, [x0, #80]
    stp     x12, x13, [x0, #96]
    stp     x14, x15, [x0, #112]
    stp     x16, x17, [x0, #128]
    stp     x18, x19, [x0, #144]
    stp     x20, x21, [x0, #160]
    stp     x22, x23, [x0, #176]
    stp     x24, x25, [x0, #192]
    stp     x26, x27, [x0, #208]
    stp     x28, x29, [x0, #224]
    str     x30, [x0, #240]
    mrs     x1, cnthp_cval_el2
    str     x1, [x0]
    msr     cnthp_cval_el2, xzr
    mov     sp, x0
    bl      {el2_fault}
    mov     x0, sp
    ldp     x2, x3, [x0, #16]
    ldp     x4, x5, [x0, #32]
    ldp     x6, x7, [x0, #48]
    ldp     x8, x9, [x0, #64]
    ldp     x10, x11, [x0, #80]
    ldp     x12, x13, [x0, #96]
    ldp     x14, x15, [x0, #112]
    ldp     x16, x17, [x0, #128]
    ldp     x18, x19, [x0, #144]
    ldp     x20, x21, [x0, #160]
    ldp     x22, x23, [x0, #176]
    ldp     x24, x25, [x0, #192]
    ldp     x26, x27, [x0, #208]
    ldp     x28, x29, [x0, #224]
    ldr     x30, [x0, #240]
    ldr     x1, [x0, #248]
    mov     sp, x1
    ldp     x0, x1, [x0]
    eret
    dsb     nsh
    isb
"#,
    sync = sym crate::exception::guest_exit::sync_from_guest,
    irq = sym crate::exception::guest_exit::irq_from_guest,
    fiq = sym crate::exception::guest_exit::fiq_from_guest,
    serror = sym crate::exception::guest_exit::serror_from_guest,
    el2_fault = sym crate::exception::panic::el2_fault,
    emergency = const crate::cpu::EMERGENCY_TOP,
);

const _: () = {
    use arch::GuestRegs;
    use core::mem::offset_of;
    assert!(offset_of!(GuestRegs, x) == 0);
    assert!(offset_of!(GuestRegs, elr) == 248);
    assert!(offset_of!(GuestRegs, spsr) == 256);
};
