// SPDX-License-Identifier: MIT OR Apache-2.0
//! A: the calling convention: ids that do not exist, HVC and SMC at each exception level, kept registers.

use mmio_guard::{Call, abi};

use crate::guard::{self, State, UNKNOWN, hole};
use crate::hvc::{hvc, smc};
use crate::machine::{self, Machine, canary, pstate};
use crate::verdict::Verdict;
use crate::{features, probe, psci, tree};

tests! {
    a09_unknown_functions: "A9", "", "" => unknown_functions;
    a09_unknown_functions_series: "A9", "vm.dialect=series", "" => unknown_functions;
    a09_unknown_owners: "A9", "", "" => unknown_owners;
    a09_zero_is_no_call: "A9", "", "" => zero_is_no_call;
    a09_zero_is_no_call_off: "A9", "vm.guard=off", "" => zero_is_no_call;
    a09_zero_is_no_call_allow: "A9", "vm.allow=0x09000000+0x1000:0x08000000+0x1000000:0x10000000+0x2000", "" => zero_is_no_call;
    a09_zero_is_no_call_series: "A9", "vm.dialect=series", "" => zero_is_no_call;
    a10_dirty_upper_halves: "A10", "", "" => dirty_upper_halves;
    a10_hvc32_forms: "A10", "", "" => hvc32_forms;
    a11_sve_hint: "A11", "", "" => sve_hint;
    a12_hvc_immediate: "A12", "", "" => hvc_immediate;
    a13_hvc_from_el0: "A13", "", "" => hvc_from_el0;
    a14_smc: "A14", "", "" => smc_answered;
    // bug: 65
    a14_smc_unknown: "A14", "", "" => smc_unknown;
    // bug: 65
    a15_registers_kept: "A15", "", "" => registers_kept;
    a15_registers_kept_series: "A15", "vm.dialect=series", "" => registers_kept;
    // bug: 71
    a15_fp_kept: "A15,I8", "", "" => fp_kept;
    a22_calls_from_aarch32: "A22,A13", "", "" => calls_from_aarch32;
}

/// All 2^16 functions of the vendor's range, both conventions: those that are not documented do not
/// exist.
fn unknown_functions() -> Verdict {
    guard::activate()?;
    let known64 = |function| {
        let last = if guard::series() { 5 } else { 11 };
        (2..=last).contains(&function) || (0xf000..=0xf002).contains(&function)
    };
    for function in 0..=0xffff_u64 {
        if !known64(function) {
            let answer = hvc(0xc600_0000 | function, [hole(6), 1, 0]);
            check!(answer == UNKNOWN, "HVC64 function {function:#x}: {answer:x?}");
        }
        if function != 0 && function != 0xff01 {
            let answer = hvc(0x8600_0000 | function, [hole(6), 1, 0]);
            check!(answer == UNKNOWN, "HVC32 function {function:#x}: {answer:x?}");
        }
    }
    equal!(guard::query(hole(6)), State::Undeclared, "the page");
    probe::load(hole(6)).refused(hole(6))
}

/// Slow calls, other owners, reserved bits: nothing of it exists.
fn unknown_owners() -> Verdict {
    guard::activate()?;
    for bits in [0_u64, 1 << 30] {
        for owner in (1..64).filter(|owner| *owner != 4 && *owner != 6 && *owner != 5) {
            for function in [0, 2, 7, 0xff00, 0xff01, 0xff03] {
                let id = 1 << 31 | bits | owner << 24 | function;
                let answer = hvc(id, [hole(6), 1, 0]);
                check!(answer == UNKNOWN, "{id:#x}: {answer:x?}");
            }
        }
        // Not fast: bit 31 clear.
        for function in [2, 7, 0xff01] {
            let id = bits | 6 << 24 | function;
            let answer = hvc(id, [hole(6), 1, 0]);
            check!(answer == UNKNOWN, "{id:#x}: {answer:x?}");
        }
    }
    // Bits 23:17 are reserved.
    for bit in 17..24 {
        let answer = hvc(guard::id(Call::Map) | 1 << bit, [hole(6), 0, 0]);
        check!(answer == UNKNOWN, "bit {bit}: {answer:x?}");
    }
    for id in [0, 0xffff_ffff, 0x7fff_ffff, 0x8000_0000 | 0x1234] {
        let answer = hvc(id, [hole(6), 1, 0]);
        check!(answer == UNKNOWN, "{id:#x}: {answer:x?}");
    }
    equal!(guard::query(hole(6)), State::Undeclared, "the page");
    Ok(())
}

/// An id of 0, with arguments that would suit MAP or UNMAP: no placeholder of the hypervisor's is an id.
fn zero_is_no_call() -> Verdict {
    need!(tree::get().psci_hvc, "no hypervisor");
    let before = guard::counters();
    for id in [0, 1 << 32, 0x8000_0000 << 32] {
        for page in [hole(30), tree::get().uart, hole(30) + 1] {
            for x2 in [0, 1] {
                equal!(hvc(id, [page, x2, 0]), UNKNOWN, "HVC with {id:#x}");
                equal!(smc(id, [page, x2, 0]), UNKNOWN, "SMC with {id:#x}");
            }
        }
    }
    equal!(guard::counters(), before, "counters");
    equal!(guard::query(hole(30)), State::Undeclared, "the page");
    Ok(())
}

/// W0 alone is the id; an HVC32 call has 32-bit arguments.
fn dirty_upper_halves() -> Verdict {
    guard::activate()?;
    let dirt = 0xdead_beef << 32;
    let uid = hvc(dirt | 0x8600_ff01, [dirt; 3]);
    equal!(uid, [0xb66f_b428, 0xe911_c52e, 0x564b_caa9, 0x743a_004d], "CALL_UID");
    equal!(hvc(dirt | guard::id(Call::Map), [hole(7), 0, 0]), guard::done(), "MAP");
    equal!(guard::query(hole(7)), State::Declared, "the page");
    equal!(hvc(dirt | guard::id(Call::Unmap), [hole(7), 0, 0]), guard::done(), "UNMAP");
    equal!(hvc(dirt | psci::id::VERSION, [dirt; 3])[0] as u32, 0x1_0001, "PSCI_VERSION");
    // PSCI_FEATURES(CPU_OFF) with a dirty argument.
    let answer = psci::call(psci::id::FEATURES, [dirt | psci::id::CPU_OFF, 0, 0]);
    equal!(answer, 0, "PSCI_FEATURES");
    Ok(())
}

/// The 32-bit form of a 64-bit function is another function, which does not exist.
fn hvc32_forms() -> Verdict {
    guard::activate()?;
    for function in (2..=11).chain(0xf000..=0xf002) {
        equal!(hvc(0x8600_0000 | function, [hole(8), 1, 0]), UNKNOWN, "HVC32 {function:#x}");
    }
    for id in [0xc600_0000, 0xc600_ff01] {
        equal!(hvc(id, [0; 3]), UNKNOWN, "HVC64 form {id:#x}");
    }
    equal!(guard::query(hole(8)), State::Undeclared, "the page");
    Ok(())
}

/// Bit 16 is the SVE hint of SMCCC 1.3; this is 1.1.
fn sve_hint() -> Verdict {
    guard::activate()?;
    for id in [0x8600_ff01, 0x8600_0000, guard::id(Call::Info), guard::id(Call::Map)] {
        equal!(hvc(id | 1 << 16, [hole(9), 0, 0]), UNKNOWN, "{id:#x} with the hint");
    }
    equal!(guard::query(hole(9)), State::Undeclared, "the page");
    Ok(())
}

snippet!(hvc_1, "hvc #1");
snippet!(hvc_4660, "hvc #0x1234");
snippet!(hvc_last, "hvc #0xffff");

fn hvc_immediate() -> Verdict {
    guard::activate()?;
    for code in [hvc_1, hvc_4660, hvc_last] {
        for id in [guard::id(Call::Map), 0x8600_ff01, psci::id::VERSION, psci::id::SYSTEM_OFF] {
            let machine = Machine::new(code).with(0, id).with(1, hole(10)).with(2, 0).with(3, 0);
            let result = probe::run(machine);
            result.completed(&[0, 1, 2, 3])?;
            equal!(result.after.x[..4], UNKNOWN[..], "{id:#x}");
        }
    }
    equal!(guard::query(hole(10)), State::Undeclared, "the page");
    Ok(())
}

snippet!(hvc_0, "hvc #0");
snippet!(smc_0, "smc #0");

/// HVC and SMC are undefined at EL0, and EL1 gets to know that.
fn hvc_from_el0() -> Verdict {
    for code in [hvc_0, smc_0, hvc_1] {
        let result = probe::run(
            Machine::new(code).with(0, guard::id(Call::Map)).with(1, hole(11)).at(pstate::EL0),
        );
        equal!(result.exit.esr, 0x0200_0000, "ESR_EL1");
        equal!(result.exit.elr, result.before.pc, "ELR_EL1");
        equal!(result.exit.vector, 0x400, "vector");
        equal!(result.exit.spsr, pstate::EL0, "SPSR_EL1");
        result.unchanged(&[])?;
    }
    Ok(())
}

/// An SMC is answered as an HVC is, or not at all; and it comes back behind itself.
fn smc_answered() -> Verdict {
    need!(guard::dialect().is_some(), "no hypervisor");
    for (id, answer) in [(psci::id::VERSION, 0x1_0001), (psci::id::SMCCC_VERSION, 0x1_0001)] {
        let result = probe::run(Machine::new(smc_0).with(0, id));
        result.completed(&[0, 1, 2, 3])?;
        let x0 = result.after.x[0];
        check!(x0 == answer || x0 == abi::NOT_SUPPORTED, "{id:#x}: {x0:#x}");
    }
    // The hypervisor's own call: firmware, which HCR_EL2.TSC keeps away, would not know it.
    equal!(smc(0x8600_ff01, [0; 3]), hvc(0x8600_ff01, [0; 3]), "the UID");
    Ok(())
}

/// What firmware might know, a guest cannot reach.
fn smc_unknown() -> Verdict {
    need!(guard::dialect().is_some(), "no hypervisor");
    for owner in [1, 2, 3, 48, 50, 63] {
        for bits in [0x8000_0000, 0xc000_0000, 0, 0x4000_0000] {
            for function in [0, 1, 0xff00, 0xff01, 0xff03] {
                let id = bits | owner << 24 | function;
                let answer = smc(id, [0; 3]);
                check!(answer == UNKNOWN, "SMC {id:#x}: {answer:x?}");
            }
        }
    }
    Ok(())
}

/// x4 to x30 and SP survive every call (SMCCC 1.1 says x4 to x17), and flags do as well.
fn registers_kept() -> Verdict {
    guard::activate()?;
    let page = hole(12);
    let calls: [(u64, [u64; 3]); 26] = [
        (0x8600_ff01, [0; 3]),
        (0x8600_0000, [0; 3]),
        (guard::id(Call::Info), [0; 3]),
        (guard::id(Call::Enroll), [0; 3]),
        (guard::id(Call::Map), [page, 0, 0]),
        (guard::id(Call::Map), [page + 1, 0, 0]),
        (guard::id(Call::Map), [tree::get().ram.0, 0, 0]),
        (guard::id(Call::Map), [u64::MAX, 0, 0]),
        (guard::id(Call::Unmap), [page, 0, 0]),
        (guard::id(Call::Unmap), [page, 0, 0]),
        (0xc600_000a, [page, 2, 0]),
        (0xc600_000b, [page, 2, 0]),
        (0xc600_000a, [page, 0, 0]),
        (0xc600_f000, [0; 3]),
        (0xc600_f001, [page, 0, 0]),
        (0xc600_f002, [0; 3]),
        (0xc600_f003, [0; 3]),
        (0xc600_1234, [0; 3]),
        (psci::id::VERSION, [0; 3]),
        (psci::id::FEATURES, [psci::id::CPU_ON, 0, 0]),
        (psci::id::AFFINITY_INFO, [0, 0, 0]),
        (psci::id::CPU_ON, [0xffff, 0, 0]),
        (psci::id::MIGRATE_INFO_TYPE, [0; 3]),
        (psci::id::SMCCC_VERSION, [0; 3]),
        (psci::id::ARCH_FEATURES, [0x8000_8000, 0, 0]),
        (0x8400_0050, [0; 3]),
    ];
    for (id, [x1, x2, x3]) in calls {
        let machine = Machine::new(hvc_0).with(0, id).with(1, x1).with(2, x2).with(3, x3);
        let result = probe::run(machine.at(pstate::EL1H | 0x5000_0000));
        result.completed(&[0, 1, 2, 3])?;
        equal!(result.exit.spsr, pstate::EL1H | 0x5000_0000, "PSTATE after {id:#x}");
        for n in 1..4 {
            // Where a call defines nothing more than x0, x1 to x3 are zero: never what was there, and
            // nothing of the hypervisor's either.
            let x = result.after.x[n];
            check!(x != canary(n), "x{n} after {id:#x} is what it was");
        }
    }
    Ok(())
}

snippet!(
    fp_around_calls,
    "ldp q0, q31, [x20]",
    "ldp q15, q16, [x20, #32]",
    "mov x9, #0x03000000", // FPCR: DN, FZ
    "msr fpcr, x9",
    "mov x10, #0x9f",
    "msr fpsr, x10",
    "mov x0, x19",
    "hvc #0",
    "ldr w11, [x21]",
    "stp q0, q31, [x22]",
    "stp q15, q16, [x22, #32]",
    "mrs x9, fpcr",
    "mrs x10, fpsr",
    "msr fpcr, xzr",
    "msr fpsr, xzr",
);

/// FP registers survive calls and emulated accesses.
fn fp_kept() -> Verdict {
    guard::activate()?;
    #[repr(align(16))]
    struct Block([u64; 8]);
    let input = Block(core::array::from_fn(|n| canary(n) ^ 0x1111));
    let output = Block([0; 8]);
    let result = probe::run(
        Machine::new(fp_around_calls)
            .with(19, guard::id(Call::Map))
            .with(1, hole(13))
            .with(20, &raw const input as u64)
            .with(21, tree::get().uart + 0x18)
            .with(22, &raw const output as u64),
    );
    result.completed(&[0, 1, 2, 3, 9, 10, 11])?;
    // SAFETY: the snippet has written it.
    let output = unsafe { core::ptr::read_volatile(&raw const output) };
    equal!(output.0, input.0, "vector registers");
    equal!(result.after.x[9], 0x0300_0000, "FPCR");
    equal!(result.after.x[10], 0x9f, "FPSR");
    guard::unmap(hole(13));
    Ok(())
}

/// A32 and T32 code at EL0: HVC and SMC are undefined there, and the return address is theirs.
fn calls_from_aarch32() -> Verdict {
    need!(features::aarch32_el0(), "no AArch32 at EL0");
    static WORDS: [u32; 4] = [
        0xe140_0070, // hvc #0
        0xe160_0070, // smc #0
        0x8000_f7e0, // T32: hvc #0
        0x8000_f7f0, // T32: smc #0
    ];
    for (n, state) in [pstate::A32, pstate::A32, pstate::T32, pstate::T32].into_iter().enumerate() {
        let address = &raw const WORDS as u64 + 4 * n as u64;
        let mut machine = Machine::new(hvc_0).with(0, guard::id(Call::Map)).with(1, hole(27));
        machine.pc = address;
        let mut machine = machine.at(state);
        let pc = machine.pc;
        let exit = machine::run(&mut machine);
        equal!(exit.esr >> 26, 0, "exception class of instruction {n}");
        equal!(exit.elr, pc, "ELR_EL1 of instruction {n}");
        equal!(exit.vector, 0x600, "vector of instruction {n}");
    }
    Ok(())
}
