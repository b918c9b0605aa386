// SPDX-License-Identifier: MIT OR Apache-2.0
//! D: what the handler of an injected exception finds: PSTATE bit by bit, single steps, trapped system
//! registers.

use crate::guard::{self, hole};
use crate::machine::{Machine, pstate};
use crate::probe::{self, Abort, Access};
use crate::verdict::Verdict;
use crate::{features, scratch, testdev, tree};

tests! {
    // bug: 51 54
    d19_pstate_of_handler: "D19", "", "" => pstate_of_handler;
    d19_pstate_of_fetch: "D19,C13", "", "" => pstate_of_fetch;
    d19_pstate_of_undefined: "D19,D22", "", "" => pstate_of_undefined;
    d19_branch_type: "D19", "", "" => branch_type;
    d20_single_step_el0: "D20", "vm.testdev=0x0b000000", "" => single_step_el0;
    d20_single_step_el1: "D20", "vm.testdev=0x0b000000", "" => single_step_el1;
    d20_step_over_refusal: "D20", "", "" => step_over_refusal;
    d22_zero_register: "D22", "", "" => zero_register;
    d22_wrong_direction: "D22", "", "" => wrong_direction;
    // bug: 71
    d22_hidden_features: "D22,I8", "", "" => hidden_features;
    d22_id_registers: "D22", "", "" => id_registers;
    d22_pauth: "D22", "", "" => pauth;
}

/// Calls `body` with every PSTATE of AArch64 that this CPU can be in, and every setting of SCTLR_EL1 that
/// decides the handler's.
fn for_each_pstate(mut body: impl FnMut(u64) -> Verdict) -> Verdict {
    const PAN: u64 = 1 << 22;
    const UAO: u64 = 1 << 23;
    const DIT: u64 = 1 << 24;
    const SSBS: u64 = 1 << 12;
    let mut optional = [0; 4];
    let mut count = 0;
    for (exists, bit) in [
        (features::pan(), PAN),
        (features::uao(), UAO),
        (features::dit(), DIT),
        (features::ssbs(), SSBS),
    ] {
        if exists {
            optional[count] = bit;
            count += 1;
        }
    }
    let sctlr = mrs!("sctlr_el1");
    let settings = [
        (true, sctlr),
        (features::pan(), sctlr & !(1 << 23)),
        (features::ssbs(), sctlr | 1 << 44),
        (features::pan() && features::ssbs(), sctlr & !(1 << 23) | 1 << 44),
    ];
    let mut result = Ok(());
    'all: for (possible, setting) in settings {
        if !possible {
            continue;
        }
        msr!("sctlr_el1", setting);
        plain!("isb");
        for level in [0x5, 0x4, 0x0] {
            for subset in 0..1_u64 << count {
                let bits: u64 = optional
                    .iter()
                    .enumerate()
                    .map(|(n, bit)| if subset >> n & 1 != 0 { *bit } else { 0 })
                    .sum();
                // All flags with some masks, all masks with some flags.
                for low in 0..16_u64 {
                    for (flags, masks) in [(low, 0xf), (low, !low & 0xf), (0xa, low), (0x5, low)] {
                        result = body(level | flags << 28 | masks << 6 | bits);
                        if result.is_err() {
                            break 'all;
                        }
                    }
                }
            }
        }
    }
    msr!("sctlr_el1", sctlr);
    plain!("isb");
    result
}

/// All combinations of flags, masks, stack, PAN, UAO, DIT, SSBS, SPAN and DSSBS.
fn pstate_of_handler() -> Verdict {
    guard::activate()?;
    for_each_pstate(|state| {
        // PAN: EL1 must be able to reach the page; the identity map is not EL0's.
        let va =
            if state & 0xf == 0 { crate::mmu::View::UserDevice.of(hole(80)) } else { hole(80) };
        probe::access_at(probe::str_w, va, state).refused(va)
    })
}

fn pstate_of_fetch() -> Verdict {
    guard::activate()?;
    use crate::mmu::View;
    for_each_pstate(|state| {
        let view = if state & 0xf == 0 { View::UserExecutable } else { View::Executable };
        let va = view.of(hole(80));
        let mut machine = Machine::new(probe::ldr_w).at(state);
        machine.pc = va;
        probe::run(machine).aborted(Abort::Fetch, va, 0)
    })
}

/// An undefined instruction exception, exact: what the CPU does itself and what EL2 injects look alike.
fn undefined(result: &Access, sctlr: u64) -> Verdict {
    equal!(result.exit.esr, 0x0200_0000, "ESR_EL1");
    equal!(result.exit.elr, result.before.pc, "ELR_EL1");
    equal!(result.exit.spsr, result.before.pstate, "SPSR_EL1");
    let vector = match result.before.pstate & 0xf {
        0 => 0x400,
        4 => 0x000,
        _ => 0x200,
    };
    equal!(result.exit.vector, vector, "vector");
    let handler = probe::handler_pstate(result.before.pstate, sctlr);
    equal!(result.exit.handler, handler, "PSTATE of the handler");
    result.unchanged(&[])
}

/// `mrs x0, pmcr_el0`: there is no PMU for guests, so EL2 traps it and injects.
const MRS_PMCR: u32 = 0xd53b_9c00;

fn pstate_of_undefined() -> Verdict {
    need!(guard::dialect().is_some(), "no hypervisor");
    need!(mrs!("id_aa64dfr0_el1") >> 8 & 0xf == 0, "this CPU shows a PMU");
    let code = scratch::code(&[MRS_PMCR]);
    for_each_pstate(|state| {
        let result = probe::run(Machine::new(code).at(state));
        // At EL0 PMUSERENR_EL0 decides first, if there is one: then it is a trap to EL1 by the CPU.
        if state & 0xf == 0 && result.exit.class() == 0x18 {
            return Ok(());
        }
        undefined(&result, mrs!("sctlr_el1"))
    })
}

/// BTYPE is cleared for the handler; SPSR_EL1 keeps it or not, as it was.
fn branch_type() -> Verdict {
    need!(features::bti(), "no BTI");
    guard::activate()?;
    for kind in 1..4_u64 {
        let state = pstate::EL1H | kind << 10;
        let result = probe::access_at(probe::ldr_w, hole(80), state);
        equal!(result.exit.esr, 0x9600_0010, "ESR_EL1");
        let saved = result.exit.spsr;
        check!(saved == state || saved == pstate::EL1H, "SPSR_EL1 {saved:#x} for {state:#x}");
        equal!(result.exit.handler >> 10 & 3, 0, "BTYPE of the handler");
    }
    Ok(())
}

snippet!(two_loads, "ldr w0, [x1]", "ldr w2, [x1]", "nop",);

/// MDSCR_EL1.SS with the OS lock open; `extra` bits as well.
fn arm_step(extra: u64) {
    msr!("oslar_el1", 0);
    msr!("mdscr_el1", 1 | extra);
    plain!("isb");
}

fn disarm_step() {
    msr!("mdscr_el1", 0);
    plain!("isb");
}

/// One step with SPSR.SS set executes exactly one instruction, an emulated one included.
fn step(state: u64, extra: u64, va: u64) -> Verdict {
    testdev::set_value(0x1234);
    let class = if state & 0xf == 0 { 0x32 } else { 0x33 };
    // D clear: debug exceptions are not masked. SS: the next instruction, then stop.
    let state = state & !(1 << 9) | 1 << 21;
    let before = testdev::counts();
    arm_step(extra);
    let first = probe::run(Machine::new(two_loads).with(1, va).at(state));
    disarm_step();
    equal!(first.exit.class(), class, "exception class after the first step");
    equal!(first.exit.elr, first.before.pc + 4, "ELR_EL1 after the first step");
    equal!(first.after.x[0], 0x1234, "x0 after the first step");
    first.unchanged(&[0])?;
    equal!(testdev::counts().loads, before.loads + 1, "loads after the first step");

    arm_step(extra);
    let mut next = first.after.clone();
    next.pstate = state;
    let second = probe::run(next);
    disarm_step();
    equal!(second.exit.class(), class, "exception class after the second step");
    equal!(second.exit.elr, first.before.pc + 8, "ELR_EL1 after the second step");
    equal!(second.after.x[2], 0x1234, "x2 after the second step");
    equal!(testdev::counts().loads, before.loads + 2, "loads after the second step");
    Ok(())
}

fn single_step_el0() -> Verdict {
    testdev::ready()?;
    step(pstate::EL0, 0, crate::mmu::View::UserDevice.of(testdev::window()))
}

fn single_step_el1() -> Verdict {
    testdev::ready()?;
    // KDE: debug exceptions from EL1 as well.
    step(pstate::EL1H, 1 << 13, testdev::window())
}

/// A step onto a refused access gives its abort, with PSTATE.SS kept for the handler to return to, and no
/// step exception in the handler.
fn step_over_refusal() -> Verdict {
    guard::activate()?;
    let va = crate::mmu::View::UserDevice.of(hole(80));
    let state = pstate::EL0 & !(1 << 9) | 1 << 21;
    arm_step(0);
    let result = probe::access_at(probe::ldr_w, va, state);
    disarm_step();
    equal!(result.exit.esr, 0x9200_0010, "ESR_EL1");
    equal!(result.exit.far, va, "FAR_EL1");
    equal!(result.exit.elr, result.before.pc, "ELR_EL1");
    equal!(result.exit.spsr, state, "SPSR_EL1");
    result.unchanged(&[])
}

/// `msr`/`mrs` with these fields and register `rt`.
pub fn encoding(read: bool, op0: u32, op1: u32, crn: u32, crm: u32, op2: u32, rt: u32) -> u32 {
    0xd500_0000
        | u32::from(read) << 21
        | op0 << 19
        | op1 << 16
        | crn << 12
        | crm << 8
        | op2 << 5
        | rt
}

/// Register 31 of a trapped system register access is zero.
fn zero_register() -> Verdict {
    need!(guard::dialect().is_some(), "no hypervisor");
    // mrs xzr, of ID registers: trapped, and discarded.
    for (crm, op2) in [(4, 0), (5, 0), (6, 0), (7, 0), (1, 0)] {
        let code = scratch::code(&[encoding(true, 3, 0, 0, crm, op2, 31)]);
        probe::run(Machine::new(code)).completed(&[])?;
    }
    if features::gic_sysregs() && matches!(tree::get().gic, tree::Gic::V3(..)) {
        guard::activate()?;
        crate::gic::init();
        crate::gic::init_cpu();
        // msr icc_sgi1r_el1, xzr: SGI 0 without a target. With SP or x31's canary it would have one.
        let before = crate::gic::pending();
        let code = scratch::code(&[encoding(false, 3, 0, 12, 11, 5, 31)]);
        let mut machine = Machine::new(code);
        machine.sp = 1 << 40;
        probe::run(machine).completed(&[])?;
        equal!(crate::gic::pending(), before, "pending interrupts");
    }
    Ok(())
}

/// Reads of what can only be written and writes of what can only be read are undefined.
fn wrong_direction() -> Verdict {
    need!(guard::dialect().is_some(), "no hypervisor");
    let sctlr = mrs!("sctlr_el1");
    let cases = [
        encoding(false, 3, 0, 0, 4, 0, 0),   // ID_AA64PFR0_EL1
        encoding(false, 3, 0, 0, 7, 0, 0),   // ID_AA64MMFR0_EL1
        encoding(false, 3, 0, 0, 0, 0, 0),   // MIDR_EL1
        encoding(false, 3, 0, 0, 0, 5, 0),   // MPIDR_EL1
        encoding(true, 3, 0, 12, 11, 5, 0),  // ICC_SGI1R_EL1
        encoding(true, 3, 0, 12, 12, 1, 0),  // ICC_EOIR1_EL1
        encoding(false, 3, 0, 12, 12, 0, 0), // ICC_IAR1_EL1
        encoding(true, 2, 0, 1, 0, 4, 0),    // OSLAR_EL1
        encoding(false, 2, 0, 1, 1, 4, 0),   // OSLSR_EL1
    ];
    for word in cases {
        let result = probe::run(Machine::new(scratch::code(&[word])));
        undefined(&result, sctlr)?;
    }
    Ok(())
}

/// What EL2 does not switch between VMs is not there: not in the ID registers, and not in fact.
fn hidden_features() -> Verdict {
    need!(guard::dialect().is_some(), "no hypervisor");
    let pfr0 = mrs!("id_aa64pfr0_el1");
    let pfr1 = mrs!("id_aa64pfr1_el1");
    let dfr0 = mrs!("id_aa64dfr0_el1");
    equal!(pfr0 >> 32 & 0xf, 0, "ID_AA64PFR0_EL1.SVE");
    equal!(pfr0 >> 44 & 0xf, 0, "ID_AA64PFR0_EL1.AMU");
    equal!(pfr1 >> 24 & 0xf, 0, "ID_AA64PFR1_EL1.SME");
    equal!(pfr1 >> 8 & 0xf, 0, "ID_AA64PFR1_EL1.MTE");
    equal!(dfr0 >> 8 & 0xf, 0, "ID_AA64DFR0_EL1.PMUVer");
    equal!(dfr0 >> 32 & 0xf, 0, "ID_AA64DFR0_EL1.PMSVer");
    equal!(dfr0 & 0xf, 6, "ID_AA64DFR0_EL1.DebugVer: v8.0");
    equal!(mrs!("s3_0_c0_c4_4"), 0, "ID_AA64ZFR0_EL1");
    equal!(mrs!("s3_0_c0_c4_5"), 0, "ID_AA64SMFR0_EL1");
    let sctlr = mrs!("sctlr_el1");
    msr!("cpacr_el1", 3 << 20 | 3 << 16 | 3 << 24); // FP, SVE and SME not trapped to EL1
    plain!("isb");
    for (word, what) in [
        (0x04bf_5020, "rdvl x0, #1 (SVE)"),
        (0x2518_e3e0, "ptrue p0.b (SVE)"),
        (encoding(true, 3, 0, 1, 2, 0, 0), "mrs x0, zcr_el1"),
        (0xd503_477f, "smstart (SME)"),
        (encoding(true, 3, 3, 4, 2, 2, 0), "mrs x0, svcr"),
        (encoding(true, 3, 0, 5, 6, 0, 0), "mrs x0, tfsr_el1 (MTE)"),
        (encoding(true, 3, 0, 1, 0, 5, 0), "mrs x0, rgsr_el1 (MTE)"),
        (MRS_PMCR, "mrs x0, pmcr_el0"),
        (encoding(true, 3, 3, 9, 13, 0, 0), "mrs x0, pmccntr_el0"),
        (encoding(true, 3, 0, 9, 14, 1, 0), "mrs x0, pmintenset_el1"),
        (encoding(true, 3, 3, 13, 2, 0, 0), "mrs x0, amcr_el0"),
        (encoding(true, 3, 0, 9, 9, 0, 0), "mrs x0, pmscr_el1"),
        (encoding(true, 3, 0, 9, 11, 0, 0), "mrs x0, trblimitr_el1"),
    ] {
        let result = probe::run(Machine::new(scratch::code(&[word])));
        check!(
            result.exit.esr == 0x0200_0000,
            "{what}: ended with ESR {:#x}, x0 {:#x}",
            result.exit.esr,
            result.after.x[0]
        );
        undefined(&result, sctlr)?;
    }
    Ok(())
}

/// The ID registers: the same each time, the IPA size as physical size, nothing in the reserved places,
/// and the vCPU's own affinity.
fn id_registers() -> Verdict {
    need!(guard::dialect().is_some(), "no hypervisor");
    equal!(features::pa_bits(), guard::ipa_bits(), "ID_AA64MMFR0_EL1.PARange");
    equal!(mrs!("mpidr_el1"), 1 << 31, "MPIDR_EL1 of vCPU 0");
    equal!(mrs!("id_aa64pfr0_el1") >> 8 & 0xf, 0, "ID_AA64PFR0_EL1.EL2");
    equal!(mrs!("id_aa64pfr0_el1") >> 12 & 0xf, 1, "ID_AA64PFR0_EL1.EL3");
    let v3 = matches!(tree::get().gic, tree::Gic::V3(..));
    check!(!v3 || features::gic_sysregs(), "GICv3, but no ID_AA64PFR0_EL1.GIC");
    // Unallocated encodings of the ID space read as zero: CRm 2 to 7 where nothing is known.
    for op2 in 0..8 {
        for crm in 1..8 {
            let code = scratch::code(&[encoding(true, 3, 0, 0, crm, op2, 0)]);
            let first = probe::run(Machine::new(code));
            first.completed(&[0])?;
            let second = probe::run(Machine::new(code));
            equal!(first.after.x[0], second.after.x[0], "CRm {crm}, op2 {op2}, read twice");
        }
    }
    for op2 in [6, 7] {
        let code = scratch::code(&[encoding(true, 3, 0, 0, 7, op2, 0)]);
        equal!(probe::run(Machine::new(code)).loaded()?, 0, "CRm 7, op2 {op2}");
    }
    Ok(())
}

/// Pointer authentication works where it is shown: keys, signing, checking, over traps.
fn pauth() -> Verdict {
    need!(features::pauth(), "no pointer authentication");
    guard::activate()?;
    // Key A for instructions, by encoding: APIAKeyLo/Hi_EL1.
    msr!("s3_0_c2_c1_0", 0x0123_4567_89ab_cdef);
    msr!("s3_0_c2_c1_1", 0xfedc_ba98_7654_3210);
    let sctlr = mrs!("sctlr_el1");
    msr!("sctlr_el1", sctlr | 1 << 31); // EnIA
    plain!("isb");
    let code = scratch::code(&[
        0xdac1_0040, // pacia x0, x2
        0xaa00_03e4, // mov x4, x0
        0xaa02_03e8, // mov x8, x2
        0xaa05_03e0, // mov x0, x5
        0xd400_0002, // hvc #0
        0xb940_0126, // ldr w6, [x9]
        0xaa04_03e7, // mov x7, x4
        0xdac1_1107, // autia x7, x8
    ]);
    let pointer = 0x4020_1234;
    let machine = Machine::new(code)
        .with(0, pointer)
        .with(2, 42)
        .with(5, 0xc600_f000)
        .with(9, tree::get().uart + 0x18);
    let result = probe::run(machine);
    msr!("sctlr_el1", sctlr);
    plain!("isb");
    result.completed(&[0, 1, 2, 3, 4, 6, 7, 8])?;
    check!(result.after.x[4] != pointer, "the pointer was not signed");
    equal!(result.after.x[7], pointer, "the pointer after authentication");
    equal!(mrs!("s3_0_c2_c1_0"), 0x0123_4567_89ab_cdef, "APIAKeyLo_EL1");
    Ok(())
}
