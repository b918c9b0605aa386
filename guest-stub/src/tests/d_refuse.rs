// SPDX-License-Identifier: MIT OR Apache-2.0
//! D: accesses that cannot be emulated, as their syndrome does not tell what they do. Each aborts, on a
//! declared page as on an undeclared one, with no register changed and nothing seen by the device.

use crate::cpu_state::everywhere;
use crate::guard::{self, hole};
use crate::machine::{Code, Machine, pstate};
use crate::mmu::View;
use crate::probe;
use crate::scratch::Shared;
use crate::verdict::{Verdict, Why, failed};
use crate::{features, testdev};

tests! {
    // bug: 43
    d04_write_back: "D4", "vm.testdev=0x0b000000", "" => write_back;
    // bug: 43
    d05_pairs: "D5", "vm.testdev=0x0b000000", "" => pairs;
    // bug: 43
    d06_vectors: "D6", "vm.testdev=0x0b000000", "" => vectors;
    d07_exclusives: "D7", "vm.testdev=0x0b000000", "" => exclusives;
    // bug: 43
    d07_atomics: "D7", "vm.testdev=0x0b000000", "" => atomics;
    d09_zero_block: "D9", "vm.testdev=0x0b000000", "" => zero_block;
    d17_recursion: "D17", "", "" => recursion;
    d18_vectors_in_the_void: "D18", "vm.cpus=2", "alone" => vectors_in_the_void;
}

/// An instruction with its base in x1: its name, and how far from the base it begins.
struct Form {
    name: &'static str,
    code: Code,
    offset: i64,
}

macro_rules! forms {
    ($($name:literal $offset:expr;)+) => {
        [$({
            snippet!(code, $name);
            Form { name: $name, code, offset: $offset }
        }),+]
    };
}

/// Every form, in every state, on a page that is declared and on one that is not.
fn none_is_served(forms: &[Form]) -> Verdict {
    testdev::ready()?;
    let before = testdev::counts();
    let refused = guard::counters().refused;
    let tried = Shared::new(0_u64);
    everywhere(|state| {
        for form in forms {
            let named = |verdict: Verdict, page: &str| {
                verdict.map_err(|why| match why {
                    Why::Failed(text) => failed(format_args!("{} {page}: {text}", form.name)),
                    skipped => skipped,
                })
            };
            for (ipa, page) in
                [(testdev::window() + 0x100, "declared"), (hole(73) + 0x100, "undeclared")]
            {
                let va = state.device(ipa);
                let result = probe::access_at(form.code, va, state.pstate);
                named(result.refused(va.wrapping_add_signed(form.offset)), page)?;
            }
            // SAFETY: this vCPU alone counts.
            unsafe { *(tried.address() as *mut u64) += 1 };
        }
        Ok(())
    })?;
    equal!(testdev::counts(), before, "what reached the device");
    // SAFETY: as above.
    let tried = unsafe { *(tried.address() as *const u64) };
    equal!(guard::counters().refused, refused + tried, "refusals: those of the undeclared page");
    Ok(())
}

fn write_back() -> Verdict {
    none_is_served(&forms! {
        "ldr x0, [x1], #8" 0;
        "ldr w0, [x1, #16]!" 16;
        "ldrb w0, [x1], #1" 0;
        "ldrh w0, [x1, #-2]!" -2;
        "ldrsb x0, [x1], #1" 0;
        "ldrsw x0, [x1, #4]!" 4;
        "str x0, [x1], #8" 0;
        "str w0, [x1, #-16]!" -16;
        "strb w0, [x1], #-1" 0;
        "strh w0, [x1, #2]!" 2;
        "str xzr, [x1], #8" 0;
    })
}

fn pairs() -> Verdict {
    none_is_served(&forms! {
        "ldp x2, x3, [x1]" 0;
        "ldp w2, w3, [x1]" 0;
        "ldpsw x2, x3, [x1]" 0;
        "ldnp x2, x3, [x1]" 0;
        "ldp x2, x3, [x1, #16]!" 16;
        "ldp x2, x3, [x1], #16" 0;
        "stp x2, x3, [x1]" 0;
        "stp w2, w3, [x1]" 0;
        "stnp x2, x3, [x1]" 0;
        "stp xzr, xzr, [x1]" 0;
        "stp x2, x3, [x1, #-16]!" -16;
        "stp x2, x3, [x1], #16" 0;
    })
}

fn vectors() -> Verdict {
    none_is_served(&forms! {
        "ldr q0, [x1]" 0;
        "ldr d0, [x1]" 0;
        "ldr s0, [x1]" 0;
        "ldr h0, [x1]" 0;
        "ldr b0, [x1]" 0;
        "str q0, [x1]" 0;
        "str d0, [x1]" 0;
        "str s0, [x1]" 0;
        "str b0, [x1]" 0;
        "ldp d0, d1, [x1]" 0;
        "stp q0, q1, [x1]" 0;
        "ld1 {{v0.16b}}, [x1]" 0;
        "ld1 {{v0.b}}[3], [x1]" 0;
        "ld1r {{v0.4s}}, [x1]" 0;
        "ld4 {{v0.4s, v1.4s, v2.4s, v3.4s}}, [x1]" 0;
        "st1 {{v0.16b}}, [x1]" 0;
        "st1 {{v0.d}}[1], [x1]" 0;
    })
}

fn exclusives() -> Verdict {
    none_is_served(&forms! {
        "ldxr x0, [x1]" 0;
        "ldxrb w0, [x1]" 0;
        "ldaxr w0, [x1]" 0;
        "ldxp x2, x3, [x1]" 0;
        "ldaxp x2, x3, [x1]" 0;
    })
}

fn atomics() -> Verdict {
    need!(features::atomics(), "no LSE atomics");
    // In words, so that no assembler has to be told of LSE: x2 is the operand, x0 the result, x1 the
    // address.
    const WORDS: [(&str, u32); 10] = [
        ("ldadd x2, x0, [x1]", 0xf822_0020),
        ("ldaddal w2, w0, [x1]", 0xb8e2_0020),
        ("stadd x2, [x1]", 0xf822_003f),
        ("ldclrb w2, w0, [x1]", 0x3822_1020),
        ("ldset x2, x0, [x1]", 0xf822_3020),
        ("ldsmax x2, x0, [x1]", 0xf822_4020),
        ("swp x2, x0, [x1]", 0xf822_8020),
        ("swpb w2, w0, [x1]", 0x3822_8020),
        ("cas x2, x0, [x1]", 0xc8a2_7c20),
        ("casp x2, x3, x4, x5, [x1]", 0x4822_7c24),
    ];
    let forms =
        WORDS.map(|(name, word)| Form { name, code: crate::scratch::code(&[word]), offset: 0 });
    none_is_served(&forms)
}

/// DC ZVA is a store of a block, without a syndrome.
fn zero_block() -> Verdict {
    testdev::ready()?;
    need!(mrs!("dczid_el0") & 0x10 == 0, "DC ZVA is prohibited");
    snippet!(zva, "dc zva, x1");
    let before = testdev::counts();
    let refused = guard::counters().refused;
    let sctlr = mrs!("sctlr_el1");
    msr!("sctlr_el1", sctlr | 1 << 14); // DZE: at EL0 too
    plain!("isb");
    let body = || -> Verdict {
        for (view, state) in [
            (View::Normal, pstate::EL1H),
            (View::Normal, pstate::EL1T),
            (View::UserNormal, pstate::EL0),
        ] {
            for ipa in [testdev::window(), hole(74)] {
                let va = view.of(ipa);
                let result = probe::access_at(zva, va, state);
                result.refused(va)?;
            }
        }
        Ok(())
    };
    let result = body();
    msr!("sctlr_el1", sctlr);
    plain!("isb");
    result?;
    equal!(testdev::counts(), before, "what reached the device");
    equal!(guard::counters().refused, refused + 3, "refusals");
    Ok(())
}

core::arch::global_asm!(
    r#"
    // Vectors whose handler of an abort makes the next one, x19 times; x1 is the undeclared address.
    .section .text.recursion, "ax"
    .balign 0x800
recursion_vectors:
    .rept 4
    b       .
    .balign 0x80
    .endr
    // Current level with SP_EL1: synchronous.
    mrs     x2, esr_el1
    cmp     x2, x3                  // each one is the same abort
    b.ne    1f
    mrs     x2, far_el1
    cmp     x2, x1
    b.ne    1f
    add     x20, x20, #1
    cmp     x20, x19
    b.lo    2f
1:  msr     vbar_el1, x21           // the stub's vectors again, and out
    isb
    svc     #0
2:  ldr     x0, [x1]                // recursion
    b       .
    .balign 0x800
    .previous
    "#
);

unsafe extern "C" {
    fn recursion_vectors();
}

snippet!(recurse, "mrs x21, vbar_el1", "msr vbar_el1, x22", "isb", "ldr x0, [x1]", "b .",);

/// A handler that aborts itself gets one abort each time: the guest's problem alone.
fn recursion() -> Verdict {
    guard::activate()?;
    const DEPTH: u64 = 1000;
    let refused = guard::counters().refused;
    let result = probe::run(
        Machine::new(recurse)
            .with(1, hole(75))
            .with(3, 0x9600_0010)
            .with(19, DEPTH)
            .with(20, 0)
            .with(22, recursion_vectors as *const () as usize as u64),
    );
    check!(result.exit.done(), "ESR {:#x}", result.exit.esr);
    equal!(result.after.x[20], DEPTH, "aborts of the expected kind");
    equal!(guard::counters().refused, refused + DEPTH, "refusals");
    Ok(())
}

/// One vCPU sends itself into the void for ever; the other goes on and ends the VM.
fn vectors_in_the_void() -> Verdict {
    crate::smp::need_vcpus(2)?;
    guard::activate()?;
    static HERE: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);
    fn jump(address: u64) -> u64 {
        HERE.store(1, core::sync::atomic::Ordering::Release);
        msr!("vbar_el1", View::Executable.of(address));
        plain!("isb");
        // Never comes back: the vector cannot be fetched, again and again.
        plain!("svc #0");
        0
    }
    crate::smp::give(1, jump, hole(76) & !0x7ff)?;
    check!(
        crate::time::wait_until(20_000, || HERE.load(core::sync::atomic::Ordering::Acquire) == 1),
        "vCPU 1 did not start"
    );
    crate::time::sleep(20);
    // EL2 serves this vCPU as ever.
    let start = crate::time::now();
    for n in 0..200 {
        let page = hole(77 + n % 8);
        equal!(guard::map(page), guard::done(), "MAP");
        equal!(guard::unmap(page), guard::done(), "UNMAP");
        probe::load(page).refused(page)?;
    }
    let took = crate::time::microseconds(crate::time::now() - start);
    check!(took < 60_000_000, "600 traps took {took} us");
    check!(crate::smp::busy(1), "vCPU 1 came back from the void");
    Ok(())
}
