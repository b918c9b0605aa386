// SPDX-License-Identifier: MIT OR Apache-2.0
//! D16: AArch32 programs at EL0, in instruction words: r1 is the address, r0 the data.

use crate::guard::{self, hole};
use crate::machine::{self, Exit, Machine, canary, pstate};
use crate::probe::handler_pstate;
use crate::scratch::Shared;
use crate::verdict::{Verdict, Why, failed};
use crate::{features, mmu, testdev};

tests! {
    d16_a32_emulated: "D16", "vm.testdev=0x0b000000", "" => a32_emulated;
    d16_t32_emulated: "D16", "vm.testdev=0x0b000000", "" => t32_emulated;
    d16_t32_it_block: "D16", "vm.testdev=0x0b000000", "" => t32_it_block;
    // bug: 50
    d16_a32_refused: "D16", "vm.testdev=0x0b000000", "" => a32_refused;
    d16_t32_refused: "D16", "vm.testdev=0x0b000000", "" => t32_refused;
    d16_fetch: "D16,C13", "", "" => fetch;
}

/// `svc #0` of A32.
const A32_SVC: u32 = 0xef00_0000;
/// `svc #0` of T32.
const T32_SVC: u16 = 0xdf00;

#[repr(align(64))]
struct Words {
    _bytes: [u8; 64],
}
static CODE: Shared<Words> = Shared::new(Words { _bytes: [0; 64] });

/// Where the code of the next run is, for EL0.
fn place(bytes: impl Iterator<Item = u8>) -> u64 {
    let at = CODE.address();
    for (n, byte) in bytes.take(64).enumerate() {
        // SAFETY: within the static, which no vCPU executes now.
        unsafe { (at as *mut u8).add(n).write_volatile(byte) };
    }
    // SAFETY: one line of code made visible to fetches.
    unsafe {
        core::arch::asm!(
            "dc cvau, {0}", "dsb ish", "ic ivau, {0}", "dsb ish", "isb",
            in(reg) at, options(nostack)
        );
    }
    mmu::user(at)
}

fn a32(word: u32) -> u64 {
    place([word, A32_SVC].into_iter().flat_map(u32::to_le_bytes))
}

fn t32(halves: &[u16]) -> u64 {
    place(halves.iter().chain([&T32_SVC]).flat_map(|half| half.to_le_bytes()))
}

/// One run: registers before and after (their low halves count), and the end.
struct Run {
    before: Machine,
    after: Machine,
    exit: Exit,
}

fn run(pc: u64, address: u64, state: u64) -> Run {
    let mut before = Machine::new(crate::probe::ldr_w).with(1, address);
    before.pc = pc;
    before.pstate = state;
    let mut after = before.clone();
    let exit = machine::run(&mut after);
    Run { before, after, exit }
}

impl Run {
    /// r0 to r14 are what they were, but for `except`.
    fn unchanged(&self, except: &[usize]) -> Verdict {
        for n in 0..15 {
            let (before, after) = (self.before.x[n] as u32, self.after.x[n] as u32);
            check!(
                before == after || except.contains(&n),
                "r{n} became {after:#x}, was {before:#x}"
            );
        }
        Ok(())
    }

    /// Came to the `svc` behind `bytes` of code.
    fn completed(&self, bytes: u64, except: &[usize]) -> Verdict {
        equal!(
            self.exit.class(),
            0x11,
            "exception class (FAR {:#x}, +{:#x})",
            self.exit.far,
            self.exit.elr.wrapping_sub(self.before.pc)
        );
        let svc = if self.before.pstate & 0x20 != 0 { 2 } else { 4 };
        equal!(self.exit.elr, self.before.pc + bytes + svc, "ELR_EL1");
        equal!(self.exit.vector, 0x600, "vector");
        self.unchanged(except)
    }

    /// The abort of EL0, exact.
    fn refused(&self, va: u64, esr: u64) -> Verdict {
        equal!(self.exit.esr, esr, "ESR_EL1");
        equal!(self.exit.far, va, "FAR_EL1");
        equal!(self.exit.elr, self.before.pc, "ELR_EL1");
        equal!(self.exit.spsr, self.before.pstate, "SPSR_EL1");
        equal!(self.exit.vector, 0x600, "vector");
        let handler = handler_pstate(self.before.pstate, mrs!("sctlr_el1"));
        equal!(self.exit.handler, handler, "PSTATE of the handler");
        self.unchanged(&[])
    }
}

fn ready() -> Verdict {
    need!(features::aarch32_el0(), "no AArch32 at EL0");
    testdev::ready()
}

fn named(name: &str, verdict: Verdict) -> Verdict {
    verdict.map_err(|why| match why {
        Why::Failed(text) => failed(format_args!("{name}: {text}")),
        skipped => skipped,
    })
}

/// A32 single loads and stores.
fn a32_emulated() -> Verdict {
    ready()?;
    let va = mmu::user(testdev::window());
    let value = 0xfedc_ba98_8765_8381_u64;
    testdev::set_value(value);
    for (name, word, width, expected) in [
        ("ldr r0, [r1]", 0xe591_0000, 4, 0x8765_8381_u32),
        ("ldrb r0, [r1]", 0xe5d1_0000, 1, 0x81),
        ("ldrh r0, [r1]", 0xe1d1_00b0, 2, 0x8381),
        ("ldrsb r0, [r1]", 0xe1d1_00d0, 1, 0xffff_ff81),
        ("ldrsh r0, [r1]", 0xe1d1_00f0, 2, 0xffff_8381),
    ] {
        let before = testdev::counts();
        let run = run(a32(word), va, pstate::A32);
        named(name, run.completed(4, &[0]))?;
        equal!(run.after.x[0] as u32, expected, "{name}");
        equal!(testdev::last(), (0x800, width, false), "{name}");
        equal!(testdev::counts().loads, before.loads + 1, "{name}: loads");
    }
    for (name, word, width) in [
        ("str r0, [r1]", 0xe581_0000, 4),
        ("strb r0, [r1]", 0xe5c1_0000, 1),
        ("strh r0, [r1]", 0xe1c1_00b0, 2),
    ] {
        let run = run(a32(word), va, pstate::A32);
        named(name, run.completed(4, &[]))?;
        equal!(testdev::last(), (0x800, width, true), "{name}");
        equal!(testdev::stored(), canary(0) & crate::probe::mask(width), "{name}");
    }
    // A condition that fails is no access; one that holds is one.
    let before = testdev::counts();
    run(a32(0x0591_0000), va, pstate::A32).completed(4, &[])?; // ldreq, Z clear
    equal!(testdev::counts(), before, "ldreq with Z clear");
    run(a32(0x0591_0000), va, pstate::A32 | 1 << 30).completed(4, &[0])?;
    equal!(testdev::counts().loads, before.loads + 1, "ldreq with Z set");
    Ok(())
}

/// T32: 16-bit instructions advance by two, 32-bit ones by four.
fn t32_emulated() -> Verdict {
    ready()?;
    let va = mmu::user(testdev::window());
    testdev::set_value(0x8765_8381);
    for (name, halves, expected) in [
        ("ldr r0, [r1]", &[0x6808_u16] as &[u16], 0x8765_8381_u32),
        ("ldrb r0, [r1]", &[0x7808], 0x81),
        ("ldrh r0, [r1]", &[0x8808], 0x8381),
        ("ldr.w r0, [r1]", &[0xf8d1, 0x0000], 0x8765_8381),
        ("ldrsb.w r0, [r1]", &[0xf991, 0x0000], 0xffff_ff81),
        ("ldrsh.w r0, [r1]", &[0xf9b1, 0x0000], 0xffff_8381),
    ] {
        let run = run(t32(halves), va, pstate::T32);
        named(name, run.completed(halves.len() as u64 * 2, &[0]))?;
        equal!(run.after.x[0] as u32, expected, "{name}");
    }
    for (name, halves, width) in [
        ("str r0, [r1]", &[0x6008_u16] as &[u16], 4),
        ("strb r0, [r1]", &[0x7008], 1),
        ("strh r0, [r1]", &[0x8008], 2),
        ("str.w r0, [r1]", &[0xf8c1, 0x0000], 4),
    ] {
        let run = run(t32(halves), va, pstate::T32);
        named(name, run.completed(halves.len() as u64 * 2, &[]))?;
        equal!(testdev::last(), (0x800, width, true), "{name}");
    }
    Ok(())
}

/// An emulated load in an IT block moves the block on: the next instruction has the other condition.
fn t32_it_block() -> Verdict {
    ready()?;
    let va = mmu::user(testdev::window());
    testdev::set_value(0x55);
    let zero = pstate::T32 | 1 << 30;
    // ite eq; ldreq r0, [r1]; movne r2, #7
    let code = t32(&[0xbf0c, 0x6808, 0x2207]);
    let then = run(code, va, zero);
    then.completed(6, &[0])?;
    equal!(then.after.x[0] as u32, 0x55, "r0");
    let it = then.exit.spsr >> 25 & 3 | (then.exit.spsr >> 10 & 0x3f) << 2;
    equal!(it, 0, "ITSTATE behind the block");
    // itt eq; ldreq r0, [r1]; moveq r2, #7
    let both = run(t32(&[0xbf04, 0x6808, 0x2207]), va, zero);
    both.completed(6, &[0, 2])?;
    equal!(both.after.x[2] as u32, 7, "r2");
    // ite ne; ldrne r0, [r1] (not executed); moveq r2, #7
    let before = testdev::counts();
    let other = run(t32(&[0xbf14, 0x6808, 0x2207]), va, zero);
    other.completed(6, &[2])?;
    equal!(testdev::counts(), before, "a load whose condition fails");
    // A refused access leaves ITSTATE where it was, so that it can be repeated.
    let bad = mmu::user(hole(81));
    let refused = run(t32(&[0xbf0c, 0x6808, 0x2207]), bad, zero);
    equal!(refused.exit.esr, 0x9200_0010, "ESR_EL1");
    equal!(refused.exit.elr, refused.before.pc + 2, "ELR_EL1");
    let it = refused.exit.spsr >> 25 & 3 | (refused.exit.spsr >> 10 & 0x3f) << 2;
    equal!(it, 0x0c, "ITSTATE of the refused load");
    Ok(())
}

/// Takes the test device's declaration away for the time of `body`, which makes `accesses` accesses: each
/// is a refusal, and none reaches the device.
fn undeclared(accesses: u64, body: impl Fn() -> Verdict) -> Verdict {
    let before = testdev::counts();
    equal!(guard::unmap(testdev::base()), guard::done(), "UNMAP");
    let refused = guard::counters().refused;
    let result = body();
    let after = guard::counters().refused;
    guard::map(testdev::base());
    result?;
    equal!(after, refused + accesses, "refusals");
    equal!(testdev::counts(), before, "what reached the device");
    Ok(())
}

/// What A32 has without a syndrome aborts although the page is declared; undeclared, everything does.
fn a32_refused() -> Verdict {
    ready()?;
    let before = testdev::counts();
    let va = mmu::user(testdev::window());
    let none = [
        ("ldm r1, {r2, r3}", 0xe891_000c),
        ("stm r1, {r2, r3}", 0xe881_000c),
        ("ldrd r2, r3, [r1]", 0xe1c1_20d0),
        ("strd r2, r3, [r1]", 0xe1c1_20f0),
        ("ldr r0, [r1], #4", 0xe491_0004),
        ("str r0, [r1, #0]!", 0xe5a1_0000),
        ("ldrex r0, [r1]", 0xe191_0f9f),
    ];
    let single = [
        ("ldr r0, [r1]", 0xe591_0000),
        ("str r0, [r1]", 0xe581_0000),
        ("ldrsh r0, [r1]", 0xe1d1_00f0),
        ("strb r0, [r1]", 0xe5c1_0000),
    ];
    for (name, word) in none {
        named(name, run(a32(word), va, pstate::A32).refused(va, 0x9200_0010))?;
    }
    equal!(testdev::counts(), before, "what reached the device");
    let all = || none.into_iter().chain(single);
    undeclared(all().count() as u64, || {
        for (name, word) in all() {
            let state = pstate::A32 | 0x9000_0000;
            named(name, run(a32(word), va, state).refused(va, 0x9200_0010))?;
        }
        Ok(())
    })
}

/// The injected syndrome has IL set whatever the size of the instruction.
fn t32_refused() -> Verdict {
    ready()?;
    let before = testdev::counts();
    let va = mmu::user(testdev::window());
    let none: [(&str, &[u16]); 3] = [
        ("ldm r1!, {r2, r3}", &[0xc90c]),
        ("stm r1!, {r2, r3}", &[0xc10c]),
        ("ldrd r2, r3, [r1]", &[0xe9d1, 0x2300]),
    ];
    let single: [(&str, &[u16]); 4] = [
        ("ldr r0, [r1]", &[0x6808]),
        ("str r0, [r1]", &[0x6008]),
        ("ldr.w r0, [r1]", &[0xf8d1, 0x0000]),
        ("ldrsb.w r0, [r1]", &[0xf991, 0x0000]),
    ];
    for (name, halves) in none {
        named(name, run(t32(halves), va, pstate::T32).refused(va, 0x9200_0010))?;
    }
    equal!(testdev::counts(), before, "what reached the device");
    let all = || none.into_iter().chain(single);
    undeclared(all().count() as u64, || {
        for (name, halves) in all() {
            named(name, run(t32(halves), va, pstate::T32).refused(va, 0x9200_0010))?;
        }
        Ok(())
    })
}

/// A branch to a device page. EL0 reaches the device window as execute-never, so stage 1 is off.
fn fetch() -> Verdict {
    need!(features::aarch32_el0(), "no AArch32 at EL0");
    guard::activate()?;
    mmu::disable();
    let results = [pstate::A32, pstate::T32]
        .map(|state| run(hole(81), 0, state).refused(hole(81), 0x8200_0010));
    mmu::enable();
    let [first, second] = results;
    first.and(second)
}
