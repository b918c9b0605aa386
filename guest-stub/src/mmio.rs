// SPDX-License-Identifier: MIT OR Apache-2.0
//! Device accesses as single instructions. A volatile access in Rust may become one with write-back or
//! a pair, which no hypervisor can emulate from the syndrome alone.

use core::arch::asm;

macro_rules! access {
    ($read:ident, $write:ident, $type:ty, $load:literal, $store:literal) => {
        #[doc = concat!("Loads by `", $load, "`.")]
        #[inline(always)]
        pub fn $read(address: u64) -> $type {
            let value: u64;
            // SAFETY: the address is that of a device register, or of nothing at all: no memory that
            // Rust knows of.
            unsafe {
                asm!(concat!($load, ", [{1}]"), out(reg) value, in(reg) address, options(nostack));
            }
            value as $type
        }

        #[doc = concat!("Stores by `", $store, "`.")]
        #[inline(always)]
        pub fn $write(address: u64, value: $type) {
            // SAFETY: as for the load.
            unsafe {
                asm!(concat!($store, ", [{1}]"), in(reg) u64::from(value), in(reg) address, options(nostack));
            }
        }
    };
}

access!(read8, write8, u8, "ldrb {0:w}", "strb {0:w}");
access!(read32, write32, u32, "ldr {0:w}", "str {0:w}");
access!(read64, write64, u64, "ldr {0:x}", "str {0:x}");
