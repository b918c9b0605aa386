// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first instructions: Image header, checks, relocation, stack, first translation tables.
//!
//! Boot protocol: Linux Documentation/arch/arm64/booting.rst. x0 holds the device tree's address, MMU and
//! D-cache are off, and the loader has cleaned the image to PoC. Deviations (the MMU on, one to one; VHE; interrupts; SP_EL0)
//! are corrected first.

use core::arch::global_asm;

global_asm!(
    r#"
    .section .text.header, "ax"
    .global _start
_start:
    .inst   0x91005a4d                  // code0: `MZ` of a PE/COFF file; add x13, x18, #0x16
    b       primary_entry               // code1
    .quad   0                           // text_offset
    .quad   image_end - _start          // image_size, bss included
    .quad   0b1010                      // flags: little endian, 4 KiB pages, anywhere in memory
    .quad   0, 0, 0                     // reserved
    .ascii  "ARM\x64"                   // magic
    .long   pe_header - _start

    // The same image as an EFI application: one section, everything behind the headers, for any address.
pe_header:
    .ascii  "PE\0\0"
    .short  0xaa64, 1                   // AArch64, one section
    .long   0, 0, 0
    .short  section_table - optional_header, 0x206  // executable, no line numbers, no symbols
optional_header:
    .short  0x20b                       // PE32+
    .byte   2, 20
    .long   image_end - pe_code, 0, 0   // sizes of code, data, and what is not in the file
    .long   efi_entry - _start
    .long   pe_code - _start
    .quad   0                           // address
    .long   512, 512                    // alignment in memory and in the file
    .short  0, 0, 0, 0, 0, 0
    .long   0
    .long   image_end - _start          // SizeOfImage
    .long   pe_code - _start            // SizeOfHeaders
    .long   0
    .short  10, 0                       // EFI application
    .quad   0, 0, 0, 0
    .long   0, 6                        // six directories, all empty
    .quad   0, 0, 0, 0, 0, 0
section_table:
    .ascii  ".text\0\0\0"
    .long   image_end - pe_code         // VirtualSize
    .long   pe_code - _start
    .long   file_end - pe_code          // SizeOfRawData
    .long   pe_code - _start
    .long   0, 0
    .short  0, 0
    .long   0xe0000020                  // code; read, write, execute
    .balign 512
pe_code:

    .section .text.entry, "ax"
efi_entry:
    b       {efi}

    .global primary_entry
primary_entry:
    mov     x19, x0                     // device tree
    mrs     x20, CurrentEL
    mov     x21, xzr
    msr     daifset, #0xf
    msr     spsel, #1
    cmp     x20, #(2 << 2)
    b.ne    0f
    bl      settle
0:  adrp    x0, bss_start
    adrp    x1, bss_end
    bl      zero
    // Boot CPU's structure. Its stack is right below.
    adrp    x0, {cpus}
    add     x0, x0, :lo12:{cpus}
    ldr     x1, ={cpu_offset}
    add     x0, x0, x1
    mov     sp, x0
    mov     x1, #{cpu_zeroed}
    add     x1, x0, x1
    bl      zero
    // Apply the R_AARCH64_RELATIVE relocations (offset, info, addend); the image is linked at 0.
    adrp    x0, rela_start
    add     x0, x0, :lo12:rela_start
    adrp    x1, rela_end
    add     x1, x1, :lo12:rela_end
    adrp    x2, _start
3:  cmp     x0, x1
    b.hs    4f
    ldp     x3, x4, [x0], #16
    ldr     x5, [x0], #8
    cmp     w4, #1027                   // R_AARCH64_RELATIVE
    b.ne    3b
    add     x5, x5, x2
    str     x5, [x3, x2]
    b       3b
4:  mov     x29, xzr
    mov     x30, xzr
    mov     x0, x19
    mov     x1, x20
    mov     x2, x21
    bl      {check_entry}               // returns if this may go on
    mov     x0, sp
    msr     tpidr_el2, x0
    adr     x1, vectors
    msr     vbar_el2, x1
    isb
    mov     x0, x19
    bl      {map_early}
    bl      enable_mmu
    // The other CPUs' structures, now that they go to the caches.
    ldr     x20, ={cpu_stride}
    mov     x0, sp
    add     x21, x0, x20
    ldr     x22, ={other_cpus}
    add     x22, x21, x22
5:  mov     x0, x21
    mov     x1, #{cpu_zeroed}
    add     x1, x21, x1
    bl      zero
    add     x21, x21, x20
    cmp     x21, x22
    b.lo    5b
    mov     x0, x19
    b       {main}

    // Zeroes x0 to x1, in steps of 64 bytes.
zero:
    stp     xzr, xzr, [x0]
    stp     xzr, xzr, [x0, #16]
    stp     xzr, xzr, [x0, #32]
    stp     xzr, xzr, [x0, #48]
    add     x0, x0, #64
    cmp     x0, x1
    b.lo    zero
    ret

    // At EL2: MMU and caches off, E2H clear, and no dirty cache line that could fall onto what is written with caches
    // off. x21: HCR_EL2 as it reads then. Touches no memory.
settle:
    mrs     x3, ctr_el0
    ubfx    x3, x3, #16, #4
    mov     x4, #4
    lsl     x4, x4, x3                  // bytes of the smallest data cache line
    mrs     x3, sctlr_el2
    tbz     x3, #0, 2f
    // The MMU is on: of the image much may be in caches alone.
    adrp    x1, _start
    adrp    x2, image_end
1:  dc      civac, x1
    add     x1, x1, x4
    cmp     x1, x2
    b.lo    1b
    dsb     sy
    mov     x1, #0x1005                 // I, C, M
    bic     x3, x3, x1
    msr     sctlr_el2, x3
    isb
2:  mov     x1, #(1 << 31)              // RW: EL1 is AArch64
    msr     hcr_el2, x1
    isb
    mrs     x21, hcr_el2
    adrp    x1, bss_start
    adrp    x2, bss_end
3:  dc      ivac, x1
    add     x1, x1, x4
    cmp     x1, x2
    b.lo    3b
    // The boot CPU's stack and structure.
    adrp    x1, {cpus}
    ldr     x2, ={cpu_stride}
    add     x2, x1, x2
4:  dc      ivac, x1
    add     x1, x1, x4
    cmp     x1, x2
    b.lo    4b
    dsb     sy
    ret

    // A CPU released from a spin-table: it has no argument, and others may come with it. It waits until PEN points to
    // its own structure. What it reads was cleaned to PoC.
    .global secondary_pen
secondary_pen:
    mrs     x2, mpidr_el1
    and     x2, x2, #0xffffffffff
    and     x2, x2, #0xffffffff00ffffff // Aff3, Aff2, Aff1, Aff0
    adrp    x1, {pen}
8:  ldr     x0, [x1, :lo12:{pen}]
    cbz     x0, 9f
    ldr     x3, [x0, {mpidr}]
    cmp     x2, x3
    b.eq    secondary_entry
9:  wfe
    b       8b

    // A CPU that firmware has just started (PSCI CPU_ON): x0 is the address of its Cpu structure, which was cleaned to
    // PoC.
    .global secondary_entry
secondary_entry:
    mrs     x1, CurrentEL
    cmp     x1, #(2 << 2)
    b.ne    7f
    mov     x19, x0
    msr     daifset, #0xf
    msr     spsel, #1
    mov     x1, #(1 << 31)              // RW; E2H clear, as TCR_EL2 will have it
    msr     hcr_el2, x1
    mov     sp, x0
    msr     tpidr_el2, x0
    adr     x1, vectors
    msr     vbar_el2, x1
    isb
    adrp    x0, {secondary_root}
    ldr     x0, [x0, :lo12:{secondary_root}]
    bl      enable_mmu
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x19
    b       {secondary}
7:  wfe
    b       7b

    // x0: root of EL2's translation tables. Every register of the regime is set; no memory is touched
    // between turning an old regime off and the new one on, so that this also switches tables.
    .global enable_mmu
enable_mmu:
    mrs     x1, sctlr_el2
    bic     x2, x1, #1
    msr     sctlr_el2, x2
    isb
    msr     ttbr0_el2, x0
    ldr     x1, ={mair}
    msr     mair_el2, x1
    ldr     x1, ={tcr}
    mrs     x2, id_aa64mmfr0_el1
    and     x2, x2, #0xf
    cmp     x2, #5                      // at most 48 bits of PA with this format
    mov     x3, #5
    csel    x2, x2, x3, lo
    orr     x1, x1, x2, lsl #16         // TCR_EL2.PS
    msr     tcr_el2, x1
    isb
    tlbi    alle2
    ic      iallu
    dsb     nsh
    isb
    ldr     x1, ={sctlr}
    msr     sctlr_el2, x1
    isb
    ret
"#,
    cpus = sym crate::cpu::CPUS,
    cpu_offset = const crate::cpu::CPU_OFFSET,
    cpu_zeroed = const crate::cpu::CPU_ZEROED,
    cpu_stride = const crate::cpu::CPU_STRIDE,
    other_cpus = const crate::cpu::CPU_STRIDE * (crate::cpu::MAX_CPUS - 1),
    map_early = sym crate::memory::mmu::map_early,
    main = sym crate::main,
    efi = sym crate::boot::efi::entry,
    check_entry = sym crate::boot::boot_error::check_entry,
    secondary = sym crate::boot::smp::secondary_main,
    pen = sym crate::boot::smp::PEN,
    mpidr = const core::mem::offset_of!(crate::cpu::Cpu, mpidr),
    secondary_root = sym crate::memory::mmu::ROOT,
    mair = const crate::memory::mmu::MAIR,
    tcr = const crate::memory::mmu::TCR,
    sctlr = const crate::memory::mmu::SCTLR,
);
