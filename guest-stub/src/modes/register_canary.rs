// SPDX-License-Identifier: MIT OR Apache-2.0
//! I8: patterns in every register that EL1 and EL0 may write, which must stay, and of which no other VM
//! may see any. Run several VMs with different numbers, on shared CPUs above all.

use core::arch::asm;

use arrayvec::ArrayVec;

use crate::encoding::Encoding;
use crate::machine::{Machine, pstate};
use crate::{features, probe, scratch, time, tree};

/// The upper half of every pattern; below it the VM's number and the register's.
const MARK: u64 = 0xca9a_0000_0000_0000;
const MARK_MASK: u64 = 0xffff_0000_0000_0000;

/// A VM's pattern for a register, as it is (`turned` is 0) or with every bit turned (1). Which of the two it is changes
/// from round to round, so that between any two VMs each bit differs some of the time.
const fn pattern(number: u64, register: usize, turned: usize) -> u64 {
    let pattern =
        MARK | (number & 0xff) << 40 | (register as u64) << 32 | 0x5555_aaaa ^ (number & 0xff) << 8;
    if turned == 0 { pattern } else { !pattern }
}

/// Whether the patterns are turned in this round. VM `number` turns them every 2^(number % 4) rounds.
const fn turned(number: u64, round: u64) -> usize {
    (round >> (number & 3) & 1) as usize
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

/// Those that are not found by trying: the probes' own exceptions write them, or much else hangs on their other bits.
static REGISTERS: [Register; 7] = registers! {
    "far_el1" ALL;
    "esr_el1" 0x03ff_ffff;
    "elr_el1" ALL;
    "spsr_el1" 0xf000_03cf;
    "sp_el0" ALL;
    "cntv_cval_el0" ALL;
    "mdscr_el1" 1 << 12;
};

/// A register that was found to keep what is written: the patterns that it gets, and what is read of those.
struct Found {
    encoding: Encoding,
    patterns: [u64; 2],
    kept: [u64; 2],
}
static FOUND: scratch::Shared<ArrayVec<Found, 256>> = scratch::Shared::new(ArrayVec::new_const());

/// Registers that are not tried: the stub depends on them, or they do something else than keep a value.
fn not_tried(encoding: Encoding) -> bool {
    matches!(
        encoding.fields(),
        // SCTLR, CPACR; TTBR0, TCR; SPSR, ELR, SP_EL0 and PSTATE; ESR, FAR; MAIR; VBAR; TPIDR_EL1 and TPIDRRO_EL0.
        (3, 0, 1, 0, 0 | 2) | (3, 0, 2, 0, 0 | 2) | (3, 0, 4, 0..=2, _) | (3, 3, 4, 2, _)
            | (3, 0, 5, 2, 0) | (3, 0, 6, 0, 0) | (3, 0, 10, 2, 0) | (3, 0, 12, 0, 0) | (3, 0, 13, 0, 4) | (3, 3, 13, 0, 3)
            // MDSCR_EL1, of which single-stepping and breakpoints come alive; timers, which go on.
            | (2, 0, 0, 2, 2) | (3, 3, 14, ..)
            // Implementation defined.
            | (3, _, 11 | 15, ..)
    )
}

fn read(encoding: Encoding) -> Option<u64> {
    let result = probe::run(Machine::new(scratch::code(&[encoding.read(0)])).at(pstate::EL1H));
    result.exit.done().then_some(result.after.x[0])
}

/// Debug claim tags: one register clears bits and shows them, another sets bits.
const CLAIM_CLEAR: Encoding = Encoding::of(2, 0, 7, 9, 6);
const CLAIM_SET: Encoding = Encoding::of(2, 0, 7, 8, 6);

fn write(encoding: Encoding, value: u64) -> bool {
    if encoding.fields() == CLAIM_CLEAR.fields() {
        return write_one(CLAIM_CLEAR, u64::MAX) && write_one(CLAIM_SET, value);
    }
    write_one(encoding, value)
}

fn write_one(encoding: Encoding, value: u64) -> bool {
    let code = scratch::code(&[encoding.write(0)]);
    probe::run(Machine::new(code).with(0, value).at(pstate::EL1H)).exit.done()
}

/// Tries every encoding: what two written values can be told apart by is kept. Whatever a later CPU brings is found too.
fn discover(number: u64) {
    // SAFETY: the first vCPU alone does this, once.
    let found = unsafe { &mut *FOUND.get() };
    for n in 0..1 << 15 {
        let encoding = Encoding::register(n);
        if not_tried(encoding) || read(encoding).is_none() {
            continue;
        }
        let mut seen = [0; 2];
        for (seen, value) in
            seen.iter_mut().zip([MARK ^ 0x5555_aaaa_5555_aaaa, !MARK ^ 0x5555_aaaa_5555_aaaa])
        {
            if write(encoding, value) {
                *seen = read(encoding).unwrap_or(0);
            }
        }
        if seen[0] != seen[1] {
            let patterns = match encoding.fields() {
                // ICC_BPR1_EL1: QEMU lets a guest set less than the least, which does not survive (IHI 0069 12.2.6).
                (3, 0, 12, 12, 3) => [4 | number & 3, 4 | !number & 3],
                _ => [0, 1].map(|turned| pattern(number, 8 + found.len(), turned)),
            };
            let _ = found.try_push(Found { encoding, patterns, kept: [0; 2] });
        }
    }
    // One may decide what another takes and shows (ICC_CTLR_EL1.CBPR of ICC_BPR1_EL1), so all are written before they are
    // read, and twice.
    for turned in [1, 0] {
        for _ in 0..2 {
            for register in found.iter() {
                write(register.encoding, register.patterns[turned]);
            }
        }
        for register in found.iter_mut() {
            register.kept[turned] = read(register.encoding).unwrap_or(0);
        }
    }
}

#[repr(C, align(16))]
#[derive(Clone, Copy, PartialEq)]
struct Vectors([u64; 64]);

/// q0 to q31.
fn load_vectors(from: &Vectors) {
    // SAFETY: the stub is built without FP, so that no code uses these registers.
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
    let of_another = |value: u64| value & MARK_MASK == MARK && value >> 40 & 0xff != number & 0xff;
    of_another(value) || of_another(!value)
}

/// The first register that trying must find and has not: TPIDR_EL0, PAR, CONTEXTIDR, CNTKCTL, FPCR, FPSR, CSSELR, DBGBVR0,
/// DBGWCR1 and, where it is there, a key of pointer authentication.
fn missing(found: &[Found]) -> Option<Encoding> {
    let known = [
        Encoding::of(3, 3, 13, 0, 2),
        Encoding::of(3, 0, 7, 4, 0),
        Encoding::of(3, 0, 13, 0, 1),
        Encoding::of(3, 0, 14, 1, 0),
        Encoding::of(3, 3, 4, 4, 0),
        Encoding::of(3, 3, 4, 4, 1),
        Encoding::of(3, 2, 0, 0, 0),
        Encoding::of(2, 0, 0, 0, 4),
        Encoding::of(2, 0, 0, 1, 7),
        Encoding::of(3, 0, 2, 1, 0),
    ];
    let known = known.into_iter().take(if features::pauth() { 10 } else { 9 });
    known.into_iter().find(|one| found.iter().all(|found| found.encoding.fields() != one.fields()))
}

/// Writes, waits, reads, for `seconds`.
pub fn run(number: u64, seconds: u64) {
    crate::guard::declare_own();
    // What another VM left would be there before the first write.
    for register in &REGISTERS {
        let value = (register.read)();
        if foreign(value, 0) {
            say!("FAIL canary {number}: {} begins with {value:#x}", register.name);
            return;
        }
    }
    let mut seen = Vectors([0; 64]);
    store_vectors(&mut seen);
    if let Some(value) = seen.0.iter().find(|value| foreign(**value, 0)) {
        say!("FAIL canary {number}: a vector register begins with {value:#x}");
        return;
    }
    discover(number);
    // SAFETY: it is no longer written.
    let found: &[Found] = unsafe { &*FOUND.get() };
    if let Some(encoding) = missing(found) {
        say!("FAIL canary {number}: {:?} was not found", encoding.fields());
        return;
    }
    say!("canary {number}: {} registers found", found.len());
    let vectors =
        [0, 1].map(|turned| Vectors(core::array::from_fn(|n| pattern(number, 100 + n, turned))));
    let (ram, size) = tree::get().ram;
    let place = (ram + size - 4096) as *mut u64;
    let deadline = time::Deadline::after(seconds * 1000);
    let mut rounds = 0_u64;
    while !deadline.passed() {
        let turned = turned(number, rounds);
        load_vectors(&vectors[turned]);
        // SAFETY: the last page of RAM, which is unused.
        unsafe { place.write_volatile(pattern(number, 99, turned)) };
        // Twice, as in `discover`.
        for register in found.iter().chain(found) {
            write(register.encoding, register.patterns[turned]);
        }
        for (n, register) in REGISTERS.iter().enumerate() {
            (register.write)(pattern(number, n, turned) & register.mask);
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
        for (n, register) in REGISTERS.iter().enumerate() {
            let value = (register.read)();
            if value & register.mask != pattern(number, n, turned) & register.mask {
                say!("FAIL canary {number}: {} is {value:#x} in round {rounds}", register.name);
                return;
            }
            if register.mask == ALL && foreign(value, number) {
                say!("FAIL canary {number}: {} is another's {value:#x}", register.name);
                return;
            }
        }
        for register in found {
            let value = read(register.encoding).unwrap_or(0);
            let kept = register.kept[turned];
            if value != kept {
                let fields = register.encoding.fields();
                say!(
                    "FAIL canary {number}: {fields:?} is {value:#x} and was {kept:#x}, round {rounds}"
                );
                return;
            }
        }
        store_vectors(&mut seen);
        if seen != vectors[turned] {
            say!("FAIL canary {number}: the vector registers changed in round {rounds}");
            return;
        }
        // SAFETY: as above.
        if unsafe { place.read_volatile() } != pattern(number, 99, turned) {
            say!("FAIL canary {number}: memory changed in round {rounds}");
            return;
        }
        rounds += 1;
    }
    say!("canary {number}: kept {rounds} times");
}
