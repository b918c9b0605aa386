// SPDX-License-Identifier: MIT OR Apache-2.0
//! System registers by name. The stub reads and writes so many, some of them unknown to any crate and
//! some on purpose wrong, that two macros say it best.

/// The value of a system register, by its name as a literal.
macro_rules! mrs {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: reading a system register changes no memory. Where the register does not exist the
        // instruction is undefined, which the exception handler reports.
        unsafe {
            core::arch::asm!(concat!("mrs {}, ", $register), out(reg) value, options(nostack));
        }
        value
    }};
}

/// Writes a system register, by its name as a literal.
macro_rules! msr {
    ($register:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: the stub owns its virtual CPU: it may set each of its registers. Those that decide how
        // the stub itself runs (translation, vectors) are written by `mmu`, `boot` and `cpu` only, or by
        // tests that put them back.
        unsafe {
            core::arch::asm!(concat!("msr ", $register, ", {}"), in(reg) value, options(nostack));
        }
    }};
}

/// An instruction without operands, such as a barrier.
macro_rules! plain {
    ($($instruction:literal),+) => {
        // SAFETY: used for barriers, hints and TLB maintenance only: no registers, no memory that the
        // compiler knows of.
        unsafe { core::arch::asm!($($instruction),+, options(nostack)) }
    };
}
