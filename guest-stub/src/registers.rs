// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registers that code starts and ends with, and the code.

/// A snippet: instructions for a [`Machine`], ending in `svc #0`.
///
/// `snippet!(name, "ldr x0, [x1]")` defines `name: Code`.
macro_rules! snippet {
    ($(#[$doc:meta])* $visibility:vis $name:ident, $($line:literal),+ $(,)?) => {
        $(#[$doc])*
        #[allow(non_upper_case_globals)]
        $visibility const $name: $crate::registers::Code = {
            #[unsafe(naked)]
            unsafe extern "C" fn code() {
                core::arch::naked_asm!(
                    ".arch_extension fp",
                    ".arch_extension simd",
                    $($line,)+
                    "svc #0",
                    ".arch_extension nosimd",
                    ".arch_extension nofp",
                )
            }
            $crate::registers::Code(code)
        };
    };
}

/// Instructions that [`machine::run`](crate::machine::run) can enter. Position independent.
#[derive(Clone, Copy)]
pub struct Code(pub unsafe extern "C" fn());

impl Code {
    /// Where they are: an identity-mapped address.
    pub fn address(self) -> u64 {
        self.0 as usize as u64
    }
}

/// PSTATE values for [`Machine::pstate`], interrupts masked.
pub mod pstate {
    /// EL1 with SP_EL1.
    pub const EL1H: u64 = 0x3c5;
    /// EL1 with SP_EL0.
    pub const EL1T: u64 = 0x3c4;
    /// EL0, AArch64.
    pub const EL0: u64 = 0x3c0;
    /// EL0, AArch32, A32 instructions.
    pub const A32: u64 = 0x1d0;
    /// EL0, AArch32, T32 instructions.
    pub const T32: u64 = 0x1f0;
}

/// The registers that code starts and ends with.
#[repr(C)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// x0 to x30.
    pub x: [u64; 31],
    /// SP of the chosen level.
    pub sp: u64,
    /// The next instruction.
    pub pc: u64,
    /// PSTATE in the layout of SPSR_EL1.
    pub pstate: u64,
}

impl Machine {
    /// Every register a recognizable value, at EL1h.
    pub fn new(code: Code) -> Self {
        let mut x = [0; 31];
        for (n, x) in x.iter_mut().enumerate() {
            *x = canary(n);
        }
        Self { x, sp: canary(31), pc: code.address(), pstate: pstate::EL1H }
    }

    /// The same with `x[n] = value`.
    pub fn with(mut self, n: usize, value: u64) -> Self {
        if let Some(x) = self.x.get_mut(n) {
            *x = value;
        }
        self
    }

    /// The first general register outside `except` that is not its canary any more.
    pub fn disturbed(&self, except: &[usize]) -> Option<usize> {
        self.x.iter().enumerate().position(|(n, x)| *x != canary(n) && !except.contains(&n))
    }
}

/// What [`Machine::new`] puts into register `n` (31: SP, 16-byte aligned).
pub const fn canary(n: usize) -> u64 {
    0xc0de_0000_a5a5_0000 | (n as u64) << 32 | (n as u64) << 4
}

/// How the code ended, as the exception handler saw it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Offset of the vector: 0x000 EL1t, 0x200 EL1h, 0x400 EL0, 0x600 AArch32 EL0. 0x800: the exception
    /// came while SCTLR_EL1.EE was set.
    pub vector: u64,
    /// ESR_EL1.
    pub esr: u64,
    /// FAR_EL1.
    pub far: u64,
    /// ELR_EL1.
    pub elr: u64,
    /// SPSR_EL1.
    pub spsr: u64,
    /// PSTATE of the handler, in the layout of an SPSR, as far as this CPU has the fields.
    pub handler: u64,
}

impl Exit {
    /// The code reached its `svc #0`.
    pub fn done(&self) -> bool {
        self.esr == 0x5600_0000
    }

    /// The exception class.
    pub fn class(&self) -> u64 {
        self.esr >> 26 & 0x3f
    }
}

/// One call of [`machine::run`](crate::machine::run).
#[repr(C)]
pub struct Run {
    /// What runs.
    pub machine: *mut Machine,
    /// How it ended.
    pub exit: Exit,
    /// SP of the caller.
    pub sp: u64,
}
