// SPDX-License-Identifier: MIT OR Apache-2.0
//! Barriers, TLB maintenance and waiting.

use core::arch::asm;

macro_rules! instruction {
    ($(#[$doc:meta])* $name:ident, $text:literal) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $name() {
            // SAFETY: changes no value that Rust knows of; as an asm block without `nomem` it also orders the
            // compiler's memory accesses, which is what it is for.
            unsafe { asm!($text, options(nostack, preserves_flags)) };
        }
    };
}

instruction!(/// Context synchronization.
    isb, "isb");
instruction!(/// Stores to tables are visible to walkers of all CPUs.
    dsb_ishst, "dsb ishst");
instruction!(/// All is complete in the inner shareable domain.
    dsb_ish, "dsb ish");
instruction!(/// All is complete, for the full system.
    dsb_sy, "dsb sy");
instruction!(/// Waits for an interrupt or an event; EL2's interrupts are masked, so it only wakes.
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
