// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a few instructions with every register chosen and hands every register back.
//!
//! [`run`] enters the code of a [`Machine`] by an exception return, at the exception level and with the
//! flags that its `pstate` says, and comes back at the next synchronous exception: the `svc` at the end
//! of the code, or the fault that a test is about. [`Exit`] says which, with everything that the
//! exception handler saw. Interrupts that are not masked are taken meanwhile and change nothing.
//!
//! Runs may be nested: the test harness runs each test in one, so that a fault nobody expected becomes
//! a failed test.

use core::arch::naked_asm;
use core::mem::offset_of;

use crate::cpu::{self, Cpu};
use crate::exception::Frame;

/// A snippet: instructions for a [`Machine`], ending in `svc #0`.
///
/// `snippet!(name, "ldr x0, [x1]")` defines `name: Code`.
macro_rules! snippet {
    ($(#[$doc:meta])* $visibility:vis $name:ident, $($line:literal),+ $(,)?) => {
        $(#[$doc])*
        #[allow(non_upper_case_globals)]
        $visibility const $name: $crate::machine::Code = {
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
            $crate::machine::Code(code)
        };
    };
}

/// Instructions that [`run`] can enter. Position independent.
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

    /// The same with another PSTATE. Code for EL0 is entered where EL0 finds it.
    pub fn at(mut self, pstate: u64) -> Self {
        self.pstate = pstate;
        let user = pstate & 0xf == 0 && crate::mmu::enabled();
        if user && (0x4000_0000..0x8000_0000).contains(&self.pc) {
            self.pc = crate::mmu::user(self.pc);
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

/// One call of [`run`].
#[repr(C)]
pub struct Run {
    machine: *mut Machine,
    exit: Exit,
    sp: u64,
}

/// Runs the machine until its next synchronous exception.
pub fn run(machine: &mut Machine) -> Exit {
    let cpu = cpu::own();
    let mut run = Run { machine, exit: Exit::default(), sp: 0 };
    // SAFETY: the record is this vCPU's own. `run` outlives the entry: `enter` comes back only after
    // `leave` has filled it, and the pointer is put back right then. What the code does to memory is
    // the caller's choice of registers.
    unsafe {
        let outer = (*cpu).run;
        (*cpu).run = &raw mut run;
        enter(&raw mut run);
        (*cpu).run = outer;
    }
    run.exit
}

/// Saves what a call must preserve, loads the machine, returns to it from an exception.
#[unsafe(naked)]
unsafe extern "C" fn enter(run: *mut Run) {
    naked_asm!(
        "stp x29, x30, [sp, #-112]!",
        "stp x19, x20, [sp, #16]",
        "stp x21, x22, [sp, #32]",
        "stp x23, x24, [sp, #48]",
        "stp x25, x26, [sp, #64]",
        "stp x27, x28, [sp, #80]",
        "mrs x2, daif",
        "str x2, [sp, #96]",
        "msr daifset, #15",
        "mov x2, sp",
        "str x2, [x0, #{saved_sp}]",
        "ldr x30, [x0, #{machine}]",
        "ldp x3, x4, [x30, #{sp}]",
        "msr elr_el1, x4",
        "ldr x4, [x30, #{pstate}]",
        "msr spsr_el1, x4",
        "and x4, x4, #0x1f",
        "cmp x4, #5",
        "b.ne 1f",
        "mov sp, x3",
        "b 2f",
        "1: msr sp_el0, x3",
        "2: ldp x0, x1, [x30]",
        "ldp x2, x3, [x30, #16]",
        "ldp x4, x5, [x30, #32]",
        "ldp x6, x7, [x30, #48]",
        "ldp x8, x9, [x30, #64]",
        "ldp x10, x11, [x30, #80]",
        "ldp x12, x13, [x30, #96]",
        "ldp x14, x15, [x30, #112]",
        "ldp x16, x17, [x30, #128]",
        "ldp x18, x19, [x30, #144]",
        "ldp x20, x21, [x30, #160]",
        "ldp x22, x23, [x30, #176]",
        "ldp x24, x25, [x30, #192]",
        "ldp x26, x27, [x30, #208]",
        "ldp x28, x29, [x30, #224]",
        "ldr x30, [x30, #240]",
        "eret",
        "dsb sy",
        "isb",
        saved_sp = const offset_of!(Run, sp),
        machine = const offset_of!(Run, machine),
        sp = const offset_of!(Machine, sp),
        pstate = const offset_of!(Machine, pstate),
    )
}

/// Where the exception handler sends the CPU to come back from [`enter`], with SP as that saved it.
#[unsafe(naked)]
unsafe extern "C" fn entered() {
    naked_asm!(
        "ldr x2, [sp, #96]",
        "msr daif, x2",
        "ldp x19, x20, [sp, #16]",
        "ldp x21, x22, [sp, #32]",
        "ldp x23, x24, [sp, #48]",
        "ldp x25, x26, [sp, #64]",
        "ldp x27, x28, [sp, #80]",
        "ldp x29, x30, [sp], #112",
        "ret",
    )
}

/// Called by the exception handler: ends the run in progress, if there is one.
pub fn leave(frame: &mut Frame, cpu: &mut Cpu) -> bool {
    // SAFETY: `Cpu::run` is null or points to the record of a `run` that is in progress on this vCPU,
    // whose stack frame and machine are therefore alive.
    let Some(run) = (unsafe { cpu.run.as_mut() }) else { return false };
    // SAFETY: as above.
    let machine = unsafe { &mut *run.machine };
    machine.x = frame.x;
    machine.sp = if frame.spsr & 0x1f == 5 { frame.sp } else { frame.sp_el0 };
    machine.pc = frame.elr;
    machine.pstate = frame.spsr;
    run.exit = Exit {
        vector: frame.vector,
        esr: frame.esr,
        far: frame.far,
        elr: frame.elr,
        spsr: frame.spsr,
        handler: frame.nzcv
            | frame.daif
            | frame.current_el & 0xc
            | frame.spsel & 1
            | crate::features::optional_pstate(),
    };
    frame.elr = entered as *const () as usize as u64;
    frame.spsr = pstate::EL1H;
    frame.sp = run.sp;
    true
}
