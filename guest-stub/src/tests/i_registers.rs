// SPDX-License-Identifier: MIT OR Apache-2.0
//! I: system registers, all encodings of them, and instructions that act on a whole CPU.

use crate::encoding::Encoding;
use crate::guard::{self, hole};
use crate::machine::{Exit, Machine, pstate};
use crate::probe;
use crate::smp::need_vcpus;
use crate::verdict::Verdict;
use crate::{exception, mmu, scratch, smp, time};

tests! {
    i09_reads_at_el1: "I9,D22", "", "" => reads_at_el1;
    i09_reads_at_el0: "I9,D22", "", "" => reads_at_el0;
    i09_writes_at_el0: "I9,D22", "", "" => writes_at_el0;
    // bug: 69
    i09_writes_at_el1: "I9,D22", "", "alone" => writes_at_el1;
    i09_hidden_registers: "I9", "", "" => hidden_registers;
    i09_system_instructions: "I9", "", "alone" => system_instructions;
    i08_shared_vmid: "I8,G4", "vm.cpus=4", "" => shared_vmid;
    i10_mmu_toggled: "I10", "", "" => mmu_toggled;
    // bug: 74
    i11_set_way: "I11", "", "" => set_way;
    // bug: 69
    i13_debug_registers: "I13", "", "" => debug_registers;
    i13_os_lock: "I13,I8", "", "" => os_lock;
    i14_error_synchronization: "I14", "", "" => error_synchronization;
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
    exception::restore();
    Ok(())
}

/// Registers of EL1 that the stub depends on: a write of zero would break it.
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
        // Implementation defined: any behaviour of the CPU is right.
        (3, _, 11 | 15, ..) => true,
        // MDSCR_EL1 and the breakpoints: see `debug_registers`.
        _ => false,
    }
}

/// Zero to every register but those that the stub depends on.
fn writes_at_el1() -> Verdict {
    guard::activate()?;
    for n in 0..1 << 15 {
        let encoding = Encoding::register(n);
        if !stands_on(encoding) {
            one(encoding, encoding.write(0), 0, pstate::EL1H)?;
        }
    }
    exception::restore();
    mmu::enable();
    // The guard is as it was.
    probe::load(hole(100)).refused(hole(100))
}

/// Registers of features that guests do not see. Where the CPU has the feature, they trap, and are UNDEFINED.
const HIDDEN: [(&str, Encoding); 24] = [
    ("LORSA_EL1 (HCR_EL2.TLOR)", Encoding::of(3, 0, 10, 4, 0)),
    ("LOREA_EL1 (HCR_EL2.TLOR)", Encoding::of(3, 0, 10, 4, 1)),
    ("LORN_EL1 (HCR_EL2.TLOR)", Encoding::of(3, 0, 10, 4, 2)),
    ("LORC_EL1 (HCR_EL2.TLOR)", Encoding::of(3, 0, 10, 4, 3)),
    ("LORID_EL1 (HCR_EL2.TLOR)", Encoding::of(3, 0, 10, 4, 7)),
    ("ERRIDR_EL1 (HCR_EL2.TERR)", Encoding::of(3, 0, 5, 3, 0)),
    ("ERRSELR_EL1 (HCR_EL2.TERR)", Encoding::of(3, 0, 5, 3, 1)),
    ("ERXFR_EL1 (HCR_EL2.TERR)", Encoding::of(3, 0, 5, 4, 0)),
    ("ERXCTLR_EL1 (HCR_EL2.TERR)", Encoding::of(3, 0, 5, 4, 1)),
    ("ERXSTATUS_EL1 (HCR_EL2.TERR)", Encoding::of(3, 0, 5, 4, 2)),
    ("PMCR_EL0 (MDCR_EL2.TPMCR)", Encoding::of(3, 3, 9, 12, 0)),
    ("PMCNTENSET_EL0 (MDCR_EL2.TPM)", Encoding::of(3, 3, 9, 12, 1)),
    ("PMCCNTR_EL0 (MDCR_EL2.TPM)", Encoding::of(3, 3, 9, 13, 0)),
    ("PMUSERENR_EL0 (MDCR_EL2.TPM)", Encoding::of(3, 3, 9, 14, 0)),
    ("SCXTNUM_EL1 (HCR_EL2.EnSCXT)", Encoding::of(3, 0, 13, 0, 7)),
    ("SCXTNUM_EL0 (HCR_EL2.EnSCXT)", Encoding::of(3, 3, 13, 0, 7)),
    ("ZCR_EL1 (CPTR_EL2.TZ)", Encoding::of(3, 0, 1, 2, 0)),
    ("SMCR_EL1 (CPTR_EL2.TSM)", Encoding::of(3, 0, 1, 2, 6)),
    ("TRFCR_EL1 (MDCR_EL2.TTRF)", Encoding::of(3, 0, 1, 2, 1)),
    ("AMCR_EL0 (CPTR_EL2.TAM)", Encoding::of(3, 3, 13, 2, 0)),
    ("PMSCR_EL1 (MDCR_EL2.TPMS)", Encoding::of(3, 0, 9, 9, 0)),
    ("GCR_EL1 (HCR_EL2.ATA)", Encoding::of(3, 0, 1, 0, 6)),
    ("TFSR_EL1 (HCR_EL2.ATA)", Encoding::of(3, 0, 5, 6, 0)),
    ("GMID_EL1 (HCR_EL2.TID5)", Encoding::of(3, 1, 0, 0, 4)),
];

fn hidden_registers() -> Verdict {
    need!(guard::dialect().is_some(), "no hypervisor");
    for (name, encoding) in HIDDEN {
        for word in [encoding.read(0), encoding.write(0)] {
            let exit = probe::run(Machine::new(scratch::code(&[word])).at(pstate::EL1H)).exit;
            // The guest's own CPACR_EL1 traps SVE and SME first.
            let kept_away = allowed(&exit) && !exit.done();
            check!(kept_away, "{name} as {word:#010x}: ESR_EL1 {:#x}", exit.esr);
        }
    }
    Ok(())
}

/// SYS instructions of the space op0 = 1, with an address that is RAM: done, undefined, or an abort.
fn system_instructions() -> Verdict {
    guard::activate()?;
    static PAGE: scratch::Shared<scratch::Page> = scratch::Shared::new(scratch::Page::new(0x5a));
    for n in 0..1_u32 << 14 {
        let encoding = Encoding::instruction(n);
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

/// The OS lock is the CPU's: a guest that closes it changes nothing for others.
fn os_lock() -> Verdict {
    need!(guard::dialect().is_some(), "no hypervisor");
    for lock in [1, 0] {
        msr!("oslar_el1", lock);
        plain!("isb");
        equal!(mrs!("oslsr_el1") & 0xf, 8, "OSLSR_EL1: open");
    }
    Ok(())
}

/// ESB, which is a NOP where there is no RAS, and DISR_EL1 behind it: nothing is pending, and what a guest writes there
/// is its own business.
fn error_synchronization() -> Verdict {
    snippet!(synchronize, "hint #16", "mov x2, #1");
    for state in [pstate::EL1H, pstate::EL1T, pstate::EL0] {
        for unmasked in [0, 1 << 8] {
            let result = probe::run(Machine::new(synchronize).at(state & !unmasked));
            result.completed(&[2])?;
        }
    }
    let deferred = Encoding::of(3, 0, 12, 1, 1);
    one(deferred, deferred.read(0), 0, pstate::EL1H)?;
    for value in [u64::MAX, 0] {
        one(deferred, deferred.write(0), value, pstate::EL1H)?;
        probe::run(Machine::new(synchronize).at(pstate::EL1H & !(1 << 8))).completed(&[2])?;
    }
    // EL0 has no business there.
    let result = probe::run(Machine::new(scratch::code(&[deferred.read(0)])).at(pstate::EL0));
    check!(!result.exit.done(), "DISR_EL1 can be read at EL0");
    Ok(())
}

/// Tables of one vCPU: the same virtual address in each leads to another page.
#[repr(C, align(4096))]
struct Own {
    levels: [mmu::Table; 4],
    page: [u64; 512],
}
static OWN: scratch::Shared<[Own; 4]> = scratch::Shared::new(
    [const { Own { levels: [const { mmu::Table::new() }; 4], page: [0; 512] } }; 4],
);
/// Set when all are to stop.
static STOP: core::sync::atomic::AtomicBool = core::sync::atomic::AtomicBool::new(false);
/// How many are at it.
static READY: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

/// Maps its own page at an address of TTBR1_EL1 that others map as well, with the same ASID, and looks at it until told
/// to stop. Returns the first thing seen there that is not its own.
fn look_at_own(index: u64) -> u64 {
    use core::sync::atomic::Ordering::{AcqRel, Acquire};
    const VA: u64 = 0xffff_0000_0000_0000;
    let own = &raw const *OWN.get() as u64 + index * size_of::<Own>() as u64;
    // SAFETY: this vCPU's own element.
    let own = unsafe { &mut *(own as *mut Own) };
    own.page[0] = 0x600d_0000 + index;
    let [l0, l1, l2, l3] = &own.levels;
    for (table, next) in [(l0, l1), (l1, l2), (l2, l3)] {
        table.set(0, next.address() | mmu::attribute::TABLE);
    }
    // Not global: nG.
    let page = &raw const own.page as u64;
    l3.set(
        0,
        page | mmu::attribute::VALID | mmu::attribute::PAGE | mmu::attribute::SHARED | 1 << 11,
    );
    msr!("ttbr1_el1", l0.address());
    msr!("tcr_el1", mmu::tcr() & !(1 << 23));
    plain!("isb", "tlbi vmalle1", "dsb nsh", "isb");
    READY.fetch_add(1, AcqRel);
    let mut seen = 0;
    while !STOP.load(Acquire) && seen == 0 {
        for _ in 0..1000 {
            // SAFETY: mapped above to a page of its own.
            let value = unsafe { (VA as *const u64).read_volatile() };
            if value != 0x600d_0000 + index {
                seen = value;
                break;
            }
        }
        // Where they share a CPU, another one's turn.
        plain!("sevl", "wfe", "yield", "wfe");
    }
    msr!("tcr_el1", mmu::tcr());
    msr!("ttbr1_el1", 0);
    mmu::flush_all();
    seen
}

/// vCPUs that share a CPU have one VMID, and here one ASID: each sees its own page all the same.
fn shared_vmid() -> Verdict {
    use core::sync::atomic::Ordering::{Acquire, Release};
    need_vcpus(4)?;
    STOP.store(false, Release);
    READY.store(0, Release);
    for index in 1..4 {
        smp::give(index, look_at_own, index as u64)?;
    }
    let met = time::wait_until(60_000, || {
        plain!("sevl", "wfe", "yield");
        READY.load(Acquire) == 3
    });
    let seen = if met {
        time::wait_until(300, || false);
        STOP.store(true, Release);
        // The last one looks too, while the others end.
        look_at_own(0)
    } else {
        STOP.store(true, Release);
        0
    };
    for index in 1..4 {
        equal!(smp::finish(index, 60_000)?, 0, "what vCPU {index} saw in its page");
        smp::stop(index)?;
    }
    check!(met, "not all vCPUs came to their pages");
    equal!(seen, 0, "what vCPU 0 saw in its page");
    Ok(())
}
