// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a few instructions with every register chosen and hands every register back.
//!
//! [`run`] enters the code of a [`Machine`] by an exception return, at the exception level and with the
//! flags that its `pstate` says, and comes back at the next synchronous exception: the `svc` at the end
//! of the code, or the fault that a test is about. [`Exit`] says which, with everything that the
//! exception handler saw. Interrupts that are not masked are taken meanwhile and change nothing.
//!
//! Runs may be nested: the test harness runs each test in one, so that an unexpected fault becomes
//! a failed test.

use core::arch::naked_asm;
use core::mem::offset_of;

use crate::cpu::{self, Cpu};
use crate::frame::Frame;
use crate::mmu;
use crate::registers::Run;
pub use crate::registers::{Code, Exit, Machine, canary, pstate};

impl Machine {
    /// The same with another PSTATE. Code for EL0 is entered where EL0 finds it.
    pub fn at(mut self, pstate: u64) -> Self {
        self.pstate = pstate;
        let user = pstate & 0xf == 0 && mmu::enabled();
        if user && (0x4000_0000..0x8000_0000).contains(&self.pc) {
            self.pc = mmu::user(self.pc);
        }
        self
    }
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
