// SPDX-License-Identifier: MIT OR Apache-2.0
//! Barriers, TLB maintenance and waiting.

use core::arch::asm;

macro_rules! instruction {
    ($(#[$doc:meta])* $name:ident, $text:literal) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $name() {
            // SAFETY: changes no value that Rust knows of. Without `nomem` the block also orders the compiler's memory
            // accesses, as a barrier must.
            unsafe { asm!($text, options(nostack, preserves_flags)) };
        }
    };
}

instruction!(/// Context synchronization.
    isb, "isb");
instruction!(/// Makes stores to tables visible to the walkers of all CPUs.
    dsb_ishst, "dsb ishst");
instruction!(/// Waits until all accesses are complete in the inner shareable domain.
    dsb_ish, "dsb ish");
instruction!(/// Waits until all accesses are complete in the full system.
    dsb_sy, "dsb sy");
instruction!(/// Waits for an interrupt, which EL2 does not take: interrupts are masked.
    wfi, "wfi");
instruction!(/// Waits for an event.
    wfe, "wfe");
instruction!(/// Wakes CPUs in WFE.
    sev, "sev");

/// Waits for ever.
pub fn park() -> ! {
    loop {
        wfi();
    }
}
