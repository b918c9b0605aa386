// SPDX-License-Identifier: MIT OR Apache-2.0
//! The smallest guest that enrols: it declares its UART, prints, and turns itself off.
//!
//! docs/first-guest.md explains it. One CPU, no interrupts, no MMU: while stage 1 is disabled, every data access is
//! Device-nGnRnE, which suits a UART (Arm ARM DDI 0487, "Behavior when stage 1 address translation is disabled").
#![no_std]
#![no_main]

use core::arch::global_asm;
use core::fmt::{self, Write};
use core::panic::PanicInfo;

use mmio_guard::Error;
use mmio_guard::client::{AttrIndex, Guard, Ioremap, Region, SmcccHvc, smccc_version};
use mmio_guard::smccc::{Hvc, psci};

/// The PL011 of a VM, as its device tree says.
const UART: u64 = 0x0900_0000;
/// RAM that may never be declared: 128 MiB, the default of `vm.mem`.
const RAM: core::ops::Range<u64> = 0x4000_0000..0x4800_0000;
/// The guest has no stage-1 tables and so no MAIR_EL1 index: 0 says nothing.
const NO_HINT: AttrIndex = AttrIndex::new(0).unwrap();

// The header of an arm64 Image (Linux, Documentation/arch/arm64/booting.rst), and the first instructions.
global_asm!(
    r#"
    .section .head, "ax"
    .global _start
_start:
    b       1f
    .long   0
    .quad   0                       // text_offset
    .quad   __image_size            // .bss and stack included
    .quad   2                       // little-endian, 4 KiB pages
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .long   0
1:  adrp    x0, __stack_top
    add     x0, x0, :lo12:__stack_top
    mov     sp, x0
    adrp    x0, __bss_start
    add     x0, x0, :lo12:__bss_start
    adrp    x1, __bss_end
    add     x1, x1, :lo12:__bss_end
2:  cmp     x0, x1
    b.hs    3f
    stp     xzr, xzr, [x0], #16
    b       2b
3:  bl      guest_main
4:  wfi
    b       4b
"#
);

/// Where the first instructions lead.
#[unsafe(no_mangle)]
extern "C" fn guest_main() {
    match enrol() {
        Ok(_) => say(format_args!("hello: enrolled, and this UART is declared\n")),
        // Nothing is refused where the guard is not active, so that this can be read.
        Err(error) => say(format_args!("hello: not enrolled: {error}\n")),
    }
    // Returns where the hypervisor has no PSCI: the vCPU sleeps then.
    let _ = psci::system_off::<Hvc>();
}

/// From here on, an access outside RAM aborts unless its page is declared. The UART's is.
fn enrol() -> Result<Ioremap<'static, SmcccHvc, 4>, Error> {
    smccc_version(&SmcccHvc)?;
    let guard = Guard::detect(SmcccHvc, None)?;
    let mut devices = Ioremap::new(guard, &[RAM]);
    devices.enrol(&[Region { ipa: UART, bytes: 0x1000, attribute: NO_HINT }])?;
    Ok(devices)
}

/// The console.
struct Uart;

impl Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: the device tree of every VM has a PL011 here, whose first register takes a byte to send. Nothing
            // else uses it.
            unsafe { (UART as *mut u32).write_volatile(byte.into()) };
        }
        Ok(())
    }
}

fn say(text: fmt::Arguments<'_>) {
    let _ = Uart.write_fmt(text);
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    say(format_args!("hello: {info}\n"));
    loop {
        core::hint::spin_loop();
    }
}
