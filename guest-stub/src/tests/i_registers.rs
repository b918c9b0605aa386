// SPDX-License-Identifier: MIT OR Apache-2.0
//! I: system registers, all encodings of them, and instructions that act on a whole CPU.

use crate::guard::{self, hole};
use crate::harness::Verdict;
use crate::machine::{Exit, Machine, pstate};
use crate::probe;
use crate::{cpu, mmu, scratch};

tests! {
    i09_reads_at_el1: "I9,D22", "", "" => reads_at_el1;
    i09_reads_at_el0: "I9,D22", "", "" => reads_at_el0;
    i09_writes_at_el0: "I9,D22", "", "" => writes_at_el0;
    // bug: 69
    i09_writes_at_el1: "I9,D22", "", "alone" => writes_at_el1;
    i09_system_instructions: "I9", "", "alone" => system_instructions;
    i10_mmu_toggled: "I10", "", "" => mmu_toggled;
    // bug: 74
    i11_set_way: "I11", "", "" => set_way;
    // bug: 69
    i13_debug_registers: "I13", "", "" => debug_registers;
}

/// An instruction of the space of system registers and instructions.
#[derive(Clone, Copy)]
struct Encoding(u32);

impl Encoding {
    /// `msr`/`mrs` number `n` of 2^15: op0 2 or 3, op1, CRn, CRm, op2.
    const fn register(n: u32) -> Self {
        Self(n << 5 | 2 << 19)
    }

    const fn read(self, rt: u32) -> u32 {
        0xd520_0000 | self.0 | rt
    }

    const fn write(self, rt: u32) -> u32 {
        0xd500_0000 | self.0 | rt
    }

    const fn op0(self) -> u32 {
        self.0 >> 19 & 3
    }

    const fn op1(self) -> u32 {
        self.0 >> 16 & 7
    }

    const fn crn(self) -> u32 {
        self.0 >> 12 & 15
    }

    const fn crm(self) -> u32 {
        self.0 >> 8 & 15
    }

    const fn op2(self) -> u32 {
        self.0 >> 5 & 7
    }

    const fn fields(self) -> (u32, u32, u32, u32, u32) {
        (self.op0(), self.op1(), self.crn(), self.crm(), self.op2())
    }
}

/// How an access may end: done; undefined; or trapped to EL1 by the guest's own controls (FP, SVE, SME,
/// system register from EL0, pointer authentication, debug).
fn allowed(exit: &Exit) -> bool {
    exit.done()
        || exit.esr == 0x0200_0000
        || matches!(exit.class(), 0x18 | 0x07 | 0x19 | 0x1d | 0x09 | 0x0a)
}

/// Runs the instruction with x0 as its register; all others must stay.
fn one(encoding: Encoding, word: u32, x0: u64, state: u64) -> Verdict {
    let result = probe::run(Machine::new(scratch::code(&[word])).with(0, x0).at(state));
    check!(
        allowed(&result.exit),
        "{:?} as {word:#010x}: vector {:#x} ESR {:#x} FAR {:#x} ELR {:#x}",
        encoding.fields(),
        result.exit.vector,
        result.exit.esr,
        result.exit.far,
        result.exit.elr
    );
    if result.exit.esr == 0x0200_0000 {
        equal!(result.exit.elr, result.before.pc, "{:?}: ELR_EL1", encoding.fields());
        result.unchanged(&[])
    } else {
        result.unchanged(&[0])
    }
}

/// Reads with an effect: they take an interrupt or a character away. They are not made while something
/// is pending, so all are left in.
fn reads_at_el1() -> Verdict {
    guard::activate()?;
    for n in 0..1 << 15 {
        let encoding = Encoding::register(n);
        one(encoding, encoding.read(0), 0, pstate::EL1H)?;
    }
    Ok(())
}

fn reads_at_el0() -> Verdict {
    guard::activate()?;
    for n in 0..1 << 15 {
        let encoding = Encoding::register(n);
        one(encoding, encoding.read(0), 0, pstate::EL0)?;
    }
    Ok(())
}

fn writes_at_el0() -> Verdict {
    guard::activate()?;
    for n in 0..1 << 15 {
        let encoding = Encoding::register(n);
        one(encoding, encoding.write(0), 0, pstate::EL0)?;
    }
    cpu::restore();
    Ok(())
}

/// Registers of EL1 that the stub stands on: a write of zero would saw off its own branch.
fn stands_on(encoding: Encoding) -> bool {
    match encoding.fields() {
        // SCTLR, ACTLR, CPACR and their kin; TTBR0, TTBR1, TCR; SPSR, ELR, SP_EL0, SPSel; MAIR, AMAIR;
        // VBAR; TPIDR_EL1, CONTEXTIDR.
        (3, 0, 1, 0, _)
        | (3, 0, 2, 0, _)
        | (3, 0, 4, ..)
        | (3, 0, 10, ..)
        | (3, 0, 12, 0, _)
        | (3, 0, 13, 0, _) => true,
        // TPIDRRO_EL0 is the exception entry's; DAIF and NZCV are PSTATE.
        (3, 3, 13, 0, _) | (3, 3, 4, 2, _) => true,
        // Implementation defined: what the CPU does with it nobody knows.
        (3, _, 11 | 15, ..) => true,
        // MDSCR_EL1 and the breakpoints: see `debug_registers`.
        _ => false,
    }
}

/// Zero to every register but those that the stub stands on.
fn writes_at_el1() -> Verdict {
    guard::activate()?;
    for n in 0..1 << 15 {
        let encoding = Encoding::register(n);
        if !stands_on(encoding) {
            one(encoding, encoding.write(0), 0, pstate::EL1H)?;
        }
    }
    cpu::restore();
    mmu::enable();
    // The guard is as it was.
    probe::load(hole(100)).refused(hole(100))
}

/// SYS instructions of the space op0 = 1, with an address that is RAM: done, undefined, or an abort.
fn system_instructions() -> Verdict {
    guard::activate()?;
    static PAGE: scratch::Shared<scratch::Page> = scratch::Shared::new(scratch::Page::new(0x5a));
    for n in 0..1_u32 << 14 {
        let encoding = Encoding(n << 5 | 1 << 19);
        for (state, address) in
            [(pstate::EL1H, PAGE.address()), (pstate::EL0, mmu::user(PAGE.address()))]
        {
            for word in [encoding.write(0), encoding.read(0)] {
                let result =
                    probe::run(Machine::new(scratch::code(&[word])).with(0, address).at(state));
                // Data aborts (0x24, 0x25) of cache maintenance without the right.
                let fine = allowed(&result.exit) || matches!(result.exit.class(), 0x24 | 0x25);
                check!(
                    fine,
                    "{:?} as {word:#010x}: vector {:#x} ESR {:#x} FAR {:#x}",
                    encoding.fields(),
                    result.exit.vector,
                    result.exit.esr,
                    result.exit.far
                );
                result.unchanged(&[0])?;
            }
        }
    }
    probe::load(hole(100)).refused(hole(100))
}

/// Translation on and off, with other sizes and attributes, around every kind of exit.
fn mmu_toggled() -> Verdict {
    guard::activate()?;
    let uart = crate::tree::get().uart + 0x18;
    for round in 0..50_u64 {
        if round % 2 == 0 {
            mmu::disable();
        }
        let results = [
            probe::load(hole(100)).refused(hole(100)),
            probe::load(uart).completed(&[0]),
            probe::access(probe::str_x, hole(101)).refused(hole(101)),
        ];
        let map = guard::map(hole(102));
        let unmap = guard::unmap(hole(102));
        if round % 2 == 0 {
            mmu::enable();
        }
        for result in results {
            result?;
        }
        equal!((map, unmap), (guard::done(), guard::done()), "MAP and UNMAP");
        // Another size of the address space and other attributes: the same addresses.
        msr!("tcr_el1", mmu::tcr() & !(7 << 32) | (round % 3) << 32);
        msr!("mair_el1", mrs!("mair_el1") ^ 0x0400_0000_0000_0000);
        plain!("isb");
        mmu::flush_all();
    }
    mmu::enable();
    probe::load(hole(100)).refused(hole(100))
}

/// Maintenance by set and way: one VM's must not reach what is others', and it goes on behind itself.
fn set_way() -> Verdict {
    snippet!(isw, "dc isw, x0", "mov x2, #1");
    snippet!(csw, "dc csw, x0", "mov x2, #1");
    snippet!(cisw, "dc cisw, x0", "mov x2, #1");
    static WORD: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);
    WORD.store(0x1234_5678, core::sync::atomic::Ordering::Relaxed);
    for code in [isw, csw, cisw] {
        for level in 0..3_u64 {
            for way in 0..4_u64 {
                for set in 0..16_u64 {
                    let operand = way << 30 | set << 6 | level << 1;
                    let result = probe::run(Machine::new(code).with(0, operand));
                    result.completed(&[2])?;
                    equal!(result.after.x[2], 1, "x2");
                }
            }
        }
        // Not for EL0.
        let result = probe::run(Machine::new(code).at(pstate::EL0));
        check!(
            result.exit.esr == 0x0200_0000 || result.exit.class() == 0x18,
            "ESR_EL1 {:#x} at EL0",
            result.exit.esr
        );
    }
    equal!(WORD.load(core::sync::atomic::Ordering::Relaxed), 0x1234_5678, "a word in memory");
    Ok(())
}

/// Breakpoints and watchpoints on addresses of EL2, the OS lock, and exits between: nothing happens.
fn debug_registers() -> Verdict {
    guard::activate()?;
    // Everywhere and at every level that the register can say: HMC, SSC, PMC, BAS, enabled.
    for control in [0x1e7_u64, 0x21e7, 0xa1e7, 0x61e7, 0x2_01e7] {
        for address in [0_u64, 0x4000_0000, 0x4020_0000 + 0x1000, 0xffff_ffff_fff0_0000] {
            msr!("dbgbvr0_el1", address);
            msr!("dbgbcr0_el1", control);
            msr!("dbgwvr0_el1", address);
            msr!("dbgwcr0_el1", control | 0x1fe0);
            msr!("oslar_el1", 0);
            plain!("isb");
            equal!(guard::map(hole(103)), guard::done(), "MAP");
            equal!(guard::unmap(hole(103)), guard::done(), "UNMAP");
            probe::load(hole(103)).refused(hole(103))?;
        }
    }
    for lock in [1, 0] {
        msr!("oslar_el1", lock);
        plain!("isb");
        equal!(mrs!("oslsr_el1") & 0x9, 8, "OSLSR_EL1: the OS lock is there, 64-bit");
        probe::load(hole(103)).refused(hole(103))?;
    }
    msr!("dbgbcr0_el1", 0);
    msr!("dbgwcr0_el1", 0);
    plain!("isb");
    Ok(())
}
