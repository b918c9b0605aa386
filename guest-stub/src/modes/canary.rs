// SPDX-License-Identifier: MIT OR Apache-2.0
//! I8: patterns in every register that EL1 and EL0 may write, which must stay, and of which no other VM
//! may see any. Run several VMs with different numbers, on shared CPUs above all.

use core::arch::asm;

use crate::{features, time, tree};

/// The upper half of every pattern; below it the VM's number and the register's.
const MARK: u64 = 0xca9a_0000_0000_0000;
const MARK_MASK: u64 = 0xffff_0000_0000_0000;

const fn pattern(number: u64, register: usize) -> u64 {
    MARK | (number & 0xff) << 40 | (register as u64) << 32 | 0x5555_aaaa ^ (number & 0xff) << 8
}

/// A register with the bits of it that keep what is written, and how to reach it.
struct Register {
    name: &'static str,
    /// Bits that the test uses.
    mask: u64,
    read: fn() -> u64,
    write: fn(u64),
}

macro_rules! registers {
    ($($name:literal $mask:expr;)+) => {
        [$(Register {
            name: $name,
            mask: $mask,
            read: || mrs!($name),
            write: |value| msr!($name, value),
        }),+]
    };
}

const ALL: u64 = u64::MAX;
const LOW: u64 = 0xffff_ffff;

/// Those that every Armv8.0 CPU has and that the stub can do without for a while.
static REGISTERS: [Register; 22] = registers! {
    "tpidr_el0" ALL;
    "contextidr_el1" LOW;
    "par_el1" 0x0000_ffff_ffff_f000;
    "far_el1" ALL;
    "esr_el1" 0x03ff_ffff;
    "elr_el1" ALL;
    "spsr_el1" 0xf000_03cf;
    "sp_el0" ALL;
    "ttbr1_el1" 0xffff_0000_ffff_f000;
    "cntv_cval_el0" ALL;
    "cntkctl_el1" 0x2;
    "csselr_el1" 0x2;
    "dbgbvr0_el1" 0x0000_ffff_ffff_fffc;
    "dbgbvr1_el1" 0x0000_ffff_ffff_fffc;
    "dbgwvr0_el1" 0x0000_ffff_ffff_fffc;
    "dbgwvr1_el1" 0x0000_ffff_ffff_fffc;
    "mdscr_el1" 1 << 12;
    "s3_3_c4_c4_0" 0x03c0_0000; // FPCR
    "s3_3_c4_c4_1" 0x0000_009f; // FPSR
    "afsr0_el1" 0;
    "afsr1_el1" 0;
    "amair_el1" 0;
};

/// Keys of pointer authentication.
static KEYS: [Register; 10] = registers! {
    "s3_0_c2_c1_0" ALL;
    "s3_0_c2_c1_1" ALL;
    "s3_0_c2_c1_2" ALL;
    "s3_0_c2_c1_3" ALL;
    "s3_0_c2_c2_0" ALL;
    "s3_0_c2_c2_1" ALL;
    "s3_0_c2_c2_2" ALL;
    "s3_0_c2_c2_3" ALL;
    "s3_0_c2_c3_0" ALL;
    "s3_0_c2_c3_1" ALL;
};

#[repr(C, align(16))]
#[derive(Clone, Copy, PartialEq)]
struct Vectors([u64; 64]);

/// q0 to q31.
fn load_vectors(from: &Vectors) {
    // SAFETY: the stub is built without FP, so that nobody has anything in these registers.
    unsafe {
        asm!(
            ".arch_extension fp", ".arch_extension simd",
            "ldp q0, q1, [{0}]", "ldp q2, q3, [{0}, #32]", "ldp q4, q5, [{0}, #64]",
            "ldp q6, q7, [{0}, #96]", "ldp q8, q9, [{0}, #128]", "ldp q10, q11, [{0}, #160]",
            "ldp q12, q13, [{0}, #192]", "ldp q14, q15, [{0}, #224]", "ldp q16, q17, [{0}, #256]",
            "ldp q18, q19, [{0}, #288]", "ldp q20, q21, [{0}, #320]", "ldp q22, q23, [{0}, #352]",
            "ldp q24, q25, [{0}, #384]", "ldp q26, q27, [{0}, #416]", "ldp q28, q29, [{0}, #448]",
            "ldp q30, q31, [{0}, #480]",
            ".arch_extension nosimd", ".arch_extension nofp",
            in(reg) from, options(nostack, readonly)
        );
    }
}

fn store_vectors(to: &mut Vectors) {
    // SAFETY: fills the array.
    unsafe {
        asm!(
            ".arch_extension fp", ".arch_extension simd",
            "stp q0, q1, [{0}]", "stp q2, q3, [{0}, #32]", "stp q4, q5, [{0}, #64]",
            "stp q6, q7, [{0}, #96]", "stp q8, q9, [{0}, #128]", "stp q10, q11, [{0}, #160]",
            "stp q12, q13, [{0}, #192]", "stp q14, q15, [{0}, #224]", "stp q16, q17, [{0}, #256]",
            "stp q18, q19, [{0}, #288]", "stp q20, q21, [{0}, #320]", "stp q22, q23, [{0}, #352]",
            "stp q24, q25, [{0}, #384]", "stp q26, q27, [{0}, #416]", "stp q28, q29, [{0}, #448]",
            "stp q30, q31, [{0}, #480]",
            ".arch_extension nosimd", ".arch_extension nofp",
            in(reg) to, options(nostack)
        );
    }
}

/// Whether a value is a pattern of another VM than `number`.
fn foreign(value: u64, number: u64) -> bool {
    value & MARK_MASK == MARK && value >> 40 & 0xff != number & 0xff
}

fn registers() -> impl Iterator<Item = (usize, &'static Register)> {
    let keys = if features::pauth() { KEYS.as_slice() } else { &[] };
    REGISTERS.iter().chain(keys).enumerate()
}

/// Writes, waits, reads, for `seconds`.
pub fn run(number: u64, seconds: u64) {
    crate::guard::declare_own();
    // What somebody else has left would be there before the first write.
    for (_, register) in registers() {
        let value = (register.read)();
        if value & MARK_MASK == MARK {
            say!("FAIL canary {number}: {} begins with {value:#x}", register.name);
            return;
        }
    }
    let mut seen = Vectors([0; 64]);
    store_vectors(&mut seen);
    if let Some(value) = seen.0.iter().find(|value| **value & MARK_MASK == MARK) {
        say!("FAIL canary {number}: a vector register begins with {value:#x}");
        return;
    }
    let vectors = Vectors(core::array::from_fn(|n| pattern(number, 100 + n)));
    let (ram, size) = tree::get().ram;
    let place = (ram + size - 4096) as *mut u64;
    let deadline = time::Deadline::after(seconds * 1000);
    let mut rounds = 0_u64;
    while !deadline.passed() {
        load_vectors(&vectors);
        // SAFETY: the last page of RAM, which nobody uses.
        unsafe { place.write_volatile(pattern(number, 99)) };
        for (n, register) in registers() {
            (register.write)(pattern(number, n) & register.mask);
        }
        plain!("isb");
        // Others may run meanwhile: for a time slice or two, and where this one sleeps.
        if rounds.is_multiple_of(2) {
            time::wait_until(7, || false);
        } else {
            crate::hvc::hvc(crate::psci::id::VERSION, [0; 3]);
            plain!("sevl", "wfe", "yield");
            time::wait_until(1, || false);
        }
        for (n, register) in registers() {
            let value = (register.read)();
            if value & register.mask != pattern(number, n) & register.mask {
                say!("FAIL canary {number}: {} is {value:#x} in round {rounds}", register.name);
                return;
            }
            if register.mask == ALL && foreign(value, number) {
                say!("FAIL canary {number}: {} is another's {value:#x}", register.name);
                return;
            }
        }
        store_vectors(&mut seen);
        if seen != vectors {
            say!("FAIL canary {number}: the vector registers changed in round {rounds}");
            return;
        }
        // SAFETY: as above.
        if unsafe { place.read_volatile() } != pattern(number, 99) {
            say!("FAIL canary {number}: memory changed in round {rounds}");
            return;
        }
        rounds += 1;
    }
    say!("canary {number}: kept {rounds} times");
}
