// SPDX-License-Identifier: MIT OR Apache-2.0
//! D: accesses that are emulated: every form whose syndrome tells all about it.

use crate::cpu_state::{CpuState, everywhere};
use crate::guard::{self, hole};
use crate::machine::{Code, Machine, canary, pstate};
use crate::mmu::View;
use crate::probe::{self, mask};
use crate::scratch::Shared;
use crate::verdict::{Verdict, Why, failed};
use crate::{features, mmio, testdev, tree};

tests! {
    // bug: 40
    d01_loads: "D1,D14", "vm.testdev=0x0b000000", "" => loads;
    d01_stores: "D1", "vm.testdev=0x0b000000", "" => stores;
    d01_every_form_refused: "D1,B2", "vm.testdev=0x0b000000", "" => every_form_refused;
    d01_registers: "D1", "vm.testdev=0x0b000000", "" => every_register;
    d01_offsets: "D1", "vm.testdev=0x0b000000", "" => offsets;
    d01_interrupt_controller: "D1,D2", "", "" => interrupt_controller;
    d01_console_flags: "D1,D2", "", "" => console_flags;
    // bug: 39
    d02_zero_register: "D2", "vm.testdev=0x0b000000", "" => zero_register;
    d03_stack_pointer_base: "D3", "vm.testdev=0x0b000000", "" => stack_pointer_base;
    d08_acquire_release: "D8", "vm.testdev=0x0b000000", "" => acquire_release;
    d08_unprivileged: "D8", "vm.testdev=0x0b000000", "" => unprivileged;
    d11_prefetch: "D11", "vm.testdev=0x0b000000", "" => prefetch;
    // bug: 41
    d21_device_error: "D21", "vm.testdev=0x0b000000", "" => device_error;
}

/// One kind of load: its width in bytes, whether it extends the sign and to how many bits.
struct Load {
    name: &'static str,
    code: Code,
    width: u64,
    sign: Option<u32>,
}

macro_rules! loads {
    ($($name:literal $width:literal $sign:expr;)+) => {
        [$({
            snippet!(code, $name);
            Load { name: $name, code, width: $width, sign: $sign }
        }),+]
    };
}

const ALL_LOADS: [Load; 12] = loads! {
    "ldrb w0, [x1]" 1 None;
    "ldrh w0, [x1]" 2 None;
    "ldr w0, [x1]" 4 None;
    "ldr x0, [x1]" 8 None;
    "ldrsb w0, [x1]" 1 Some(32);
    "ldrsb x0, [x1]" 1 Some(64);
    "ldrsh w0, [x1]" 2 Some(32);
    "ldrsh x0, [x1]" 2 Some(64);
    "ldrsw x0, [x1]" 4 Some(64);
    "ldurb w0, [x1, #0]" 1 None;
    "ldursh w0, [x1, #0]" 2 Some(32);
    "ldur x0, [x1, #0]" 8 None;
};

/// What the register holds after a load of `raw`.
fn extended(raw: u64, width: u64, sign: Option<u32>) -> u64 {
    let value = raw & mask(width);
    let Some(bits) = sign else { return value };
    let shift = 64 - 8 * width as u32;
    let full = ((value << shift).cast_signed() >> shift).cast_unsigned();
    if bits == 32 { full & 0xffff_ffff } else { full }
}

/// Raw values around every sign bit.
const VALUES: [u64; 9] = [
    0,
    u64::MAX,
    0x7f7f_7f7f_7f7f_7f7f,
    0x8080_8080_8080_8080,
    0x0123_4567_89ab_cdef,
    0x1111_1111_1111_7fff,
    0x2222_2222_2222_8000,
    0x3333_3333_7fff_ffff,
    0x4444_4444_8000_0000,
];

/// Adds the name of the form to a failure.
fn of(name: &str, verdict: Verdict) -> Verdict {
    verdict.map_err(|why| match why {
        Why::Failed(text) => failed(format_args!("{name}: {text}")),
        skipped => skipped,
    })
}

/// Every load, every sign: the value, and nothing but the value.
fn loads() -> Verdict {
    testdev::ready()?;
    everywhere(|state| {
        let va = state.device(testdev::window());
        for value in VALUES {
            testdev::set_value(value);
            for load in &ALL_LOADS {
                let before = testdev::counts();
                let result = probe::access_at(load.code, va, state.pstate);
                of(load.name, result.completed(&[0]))?;
                let expected = extended(value, load.width, load.sign);
                equal!(result.after.x[0], expected, "{} of {value:#x}", load.name);
                equal!(testdev::counts().loads, before.loads + 1, "{}: loads", load.name);
                equal!(testdev::last(), (0x800, load.width, false), "{}", load.name);
            }
        }
        Ok(())
    })
}

/// Every store: its bytes, and no more of the register.
fn stores() -> Verdict {
    testdev::ready()?;
    snippet!(sturb, "sturb w0, [x1, #0]");
    snippet!(stur, "stur x0, [x1, #0]");
    everywhere(|state| {
        let va = state.device(testdev::window());
        for value in VALUES {
            for (width, code) in probe::STORES.into_iter().chain([(1, sturb), (8, stur)]) {
                let before = testdev::counts();
                let machine = Machine::new(code).with(0, value).with(1, va).at(state.pstate);
                probe::run(machine).completed(&[])?;
                equal!(testdev::stored(), value & mask(width), "{width} bytes of {value:#x}");
                equal!(testdev::last(), (0x800, width, true), "{width} bytes");
                equal!(testdev::counts().stores, before.stores + 1, "stores");
            }
        }
        Ok(())
    })
}

/// A device that is there and not declared: no form of access comes through, at the ends of its page as in
/// the middle, whichever way the hypervisor judges it.
fn every_form_refused() -> Verdict {
    testdev::ready()?;
    let base = testdev::base();
    let before = testdev::counts();
    equal!(guard::unmap(base), guard::done(), "UNMAP");
    let refused = guard::counters().refused;
    let tried = Shared::new(0_u64);
    snippet!(ldar, "ldar w0, [x1]");
    snippet!(stlr, "stlr x0, [x1]");
    snippet!(str_xzr, "str xzr, [x1]");
    let loads = ALL_LOADS.iter().map(|load| (load.name, load.code, load.width));
    let stores = probe::STORES.into_iter().map(|(width, code)| ("a store", code, width));
    let others = [("ldar", ldar, 4), ("stlr", stlr, 8), ("str xzr", str_xzr, 8)];
    let forms = || loads.clone().chain(stores.clone()).chain(others);
    let body = || {
        everywhere(|state| {
            for (name, code, width) in forms() {
                for offset in [0, 0x30, testdev::ERROR, testdev::WINDOW, 0x1000 - width] {
                    let va = state.device(base + offset);
                    of(name, probe::access_at(code, va, state.pstate).refused(va))?;
                    // SAFETY: this vCPU alone counts.
                    unsafe { *tried.get() += 1 };
                }
            }
            Ok(())
        })
    };
    let result = body();
    let after = guard::counters().refused;
    guard::map(base);
    result?;
    // SAFETY: as above.
    equal!(after, refused + unsafe { *tried.get() }, "refusals");
    equal!(testdev::counts(), before, "what reached the device");
    Ok(())
}

/// Every register as target, source and base.
fn every_register() -> Verdict {
    testdev::ready()?;
    /// `ldr x0, [x0]` and `str x0, [x0]`, to put register numbers into.
    const LDR: u32 = 0xf940_0000;
    const STR: u32 = 0xf900_0000;
    for n in 0..31_usize {
        let base = (n + 7) % 31;
        let fields = (n as u32) | (base as u32) << 5;
        testdev::set_value(0x5555_0000_0000_0000 | n as u64);
        let load = crate::scratch::code(&[LDR | fields]);
        let result = probe::run(Machine::new(load).with(base, testdev::window()));
        result.completed(&[n])?;
        equal!(result.after.x[n], 0x5555_0000_0000_0000 | n as u64, "x{n} loaded");
        let store = crate::scratch::code(&[STR | fields]);
        let machine = Machine::new(store).with(base, testdev::window());
        let value = machine.x[n];
        probe::run(machine).completed(&[])?;
        equal!(testdev::stored(), value, "x{n} stored");
    }
    // The target is its own base.
    testdev::set_value(99);
    let result = probe::run(
        Machine::new(crate::scratch::code(&[LDR | 5 << 5 | 5])).with(5, testdev::window()),
    );
    result.completed(&[5])?;
    equal!(result.after.x[5], 99, "x5 through itself");
    Ok(())
}

/// Addressing forms without write-back: immediate, register, extended register.
fn offsets() -> Verdict {
    testdev::ready()?;
    snippet!(immediate, "ldr w0, [x1, #0x20]");
    snippet!(negative, "ldur w0, [x1, #-16]");
    snippet!(register, "ldr w0, [x1, x2]");
    snippet!(shifted, "ldr w0, [x1, x2, lsl #2]");
    snippet!(extended_word, "ldr w0, [x1, w2, sxtw #2]");
    let at = testdev::window() + 0x80;
    for (code, x2, offset) in [
        (immediate, 0, 0x20),
        (negative, 0, -16_i64),
        (register, 0x1c, 0x1c),
        (shifted, 9, 36),
        (extended_word, 0xffff_ffff, -4),
    ] {
        let result = probe::run(Machine::new(code).with(1, at).with(2, x2));
        result.completed(&[0])?;
        equal!(testdev::last(), ((0x880 + offset).cast_unsigned(), 4, false), "offset");
    }
    Ok(())
}

/// The interrupt controller takes a shorter way through the hypervisor: every form, register and level there
/// as well, on four
/// priorities of shared interrupts, which may be accessed as bytes and words.
fn interrupt_controller() -> Verdict {
    guard::activate()?;
    let distributor = match tree::get().gic {
        tree::Gic::V2(distributor, _) | tree::Gic::V3(distributor, ..) => distributor,
        tree::Gic::None => return Err(Why::Skipped("no GIC")),
    };
    let at = distributor + 0x400 + 32;
    snippet!(ldrsb, "ldrsb w0, [x1, #3]");
    snippet!(ldrsw, "ldrsw x0, [x1]");
    snippet!(str_wzr, "str wzr, [x1]");
    snippet!(ldr_wzr, "ldr wzr, [x1]");
    snippet!(ldr_base, "ldr w1, [x1]");
    let value = 0xf8d0_a880_u64;
    let result = everywhere(|state| {
        let va = state.device(at);
        let state = state.pstate;
        let store = |value: u64| {
            probe::run(Machine::new(probe::str_w).with(0, value).with(1, va).at(state))
                .completed(&[])
        };
        store(0xdead_beef << 32 | value)?;
        for (code, expected) in [
            (probe::ldrb, 0x80),
            (probe::ldr_w, value),
            (ldrsb, 0xffff_fff8),
            (ldrsw, 0xffff_ffff_f8d0_a880),
        ] {
            equal!(probe::access_at(code, va, state).loaded()?, expected, "x0");
        }
        probe::access_at(ldr_wzr, va, state).completed(&[])?;
        let result = probe::access_at(ldr_base, va, state);
        result.completed(&[1])?;
        equal!(result.after.x[1], value, "x1 through itself");
        probe::access_at(str_wzr, va, state).completed(&[])?;
        equal!(probe::access_at(probe::ldr_w, va, state).loaded()?, 0, "after wzr");
        // A byte is a byte.
        store(value)?;
        let byte = Machine::new(probe::strb).with(0, 0xff40).with(1, va + 1).at(state);
        probe::run(byte).completed(&[])?;
        equal!(probe::access_at(probe::ldr_w, va, state).loaded()?, 0xf8d0_4080, "after strb");
        Ok(())
    });
    let sctlr = mrs!("sctlr_el1");
    msr!("sctlr_el1", sctlr | 1 << 24);
    plain!("isb");
    mmio::write32(at, value as u32);
    let big = probe::access_at(probe::ldr_w, View::UserDevice.of(at), pstate::EL0).loaded();
    msr!("sctlr_el1", sctlr);
    plain!("isb");
    mmio::write32(at, 0);
    result?;
    equal!(big?, value.swap_bytes() >> 32, "a big-endian load at EL0");
    Ok(())
}

/// The console's flags, which take the shortest way.
fn console_flags() -> Verdict {
    guard::activate()?;
    let flags = tree::get().uart + 0x18;
    snippet!(ldr_wzr, "ldr wzr, [x1]");
    snippet!(ldr_base, "ldr w1, [x1]");
    everywhere(|state| {
        let va = state.device(flags);
        for code in [probe::ldrb, probe::ldrh, probe::ldr_w] {
            let value = probe::access_at(code, va, state.pstate).loaded()?;
            // Nothing to receive (RXFE), nothing reserved.
            check!(value & 0x10 != 0 && value & !0x1ff == 0, "UARTFR {value:#x}");
        }
        probe::access_at(ldr_wzr, va, state.pstate).completed(&[])?;
        let result = probe::access_at(ldr_base, va, state.pstate);
        result.completed(&[1])?;
        check!(result.after.x[1] & !0x1ff == 0, "x1 {:#x}", result.after.x[1]);
        // No register of a PL011 is 64 bits wide.
        probe::access_at(probe::ldr_x, va, state.pstate).refused(va)
    })
}

/// Register 31 of a load or store is zero, never SP.
fn zero_register() -> Verdict {
    testdev::ready()?;
    snippet!(str_xzr, "str xzr, [x1]");
    snippet!(str_wzr, "str wzr, [x1]");
    snippet!(strb_wzr, "strb wzr, [x1]");
    snippet!(ldr_xzr, "ldr xzr, [x1]");
    snippet!(ldrsw_xzr, "ldrsw xzr, [x1]");
    snippet!(ldrb_wzr, "ldrb wzr, [x1]");
    everywhere(|state| {
        let va = state.device(testdev::window());
        for (code, width) in [(str_xzr, 8), (str_wzr, 4), (strb_wzr, 1)] {
            // Something else is stored first.
            mmio::write64(testdev::window(), u64::MAX);
            probe::access_at(code, va, state.pstate).completed(&[])?;
            equal!(testdev::stored(), 0, "{width} bytes stored");
            equal!(testdev::last(), (0x800, width, true), "the store");
        }
        testdev::set_value(u64::MAX);
        for code in [ldr_xzr, ldrsw_xzr, ldrb_wzr] {
            let before = testdev::counts();
            // Nothing at all changes, SP included.
            probe::access_at(code, va, state.pstate).completed(&[])?;
            equal!(testdev::counts().loads, before.loads + 1, "loads");
        }
        Ok(())
    })
}

/// SP as the base register.
fn stack_pointer_base() -> Verdict {
    testdev::ready()?;
    snippet!(load, "ldr x0, [sp]");
    snippet!(load_offset, "ldr w0, [sp, #8]");
    snippet!(store, "str x0, [sp, #16]");
    testdev::set_value(0x1234_5678_9abc_def0);
    everywhere(|state| {
        for (code, offset, width, stores) in
            [(load, 0, 8, false), (load_offset, 8, 4, false), (store, 16, 8, true)]
        {
            let mut machine = Machine::new(code).at(state.pstate);
            machine.sp = state.device(testdev::window());
            let result = probe::run(machine);
            result.completed(if stores { &[] } else { &[0] })?;
            equal!(testdev::last(), (0x800 + offset, width, stores), "what the device saw");
            let expected = if stores { canary(0) } else { 0x1234_5678_9abc_def0 & mask(width) };
            equal!(result.after.x[0], expected, "x0");
        }
        // And refused, it is still exact, although SP is no stack.
        let mut machine = Machine::new(load).at(state.pstate);
        let va = state.device(hole(70));
        machine.sp = va;
        probe::run(machine).refused(va)
    })
}

/// Acquire and release forms have a syndrome, so they are emulated.
fn acquire_release() -> Verdict {
    testdev::ready()?;
    snippet!(ldarb, "ldarb w0, [x1]");
    snippet!(ldarh, "ldarh w0, [x1]");
    snippet!(ldar_w, "ldar w0, [x1]");
    snippet!(ldar_x, "ldar x0, [x1]");
    snippet!(stlrb, "stlrb w0, [x1]");
    snippet!(stlrh, "stlrh w0, [x1]");
    snippet!(stlr_w, "stlr w0, [x1]");
    snippet!(stlr_x, "stlr x0, [x1]");
    const LDAPR_X: u32 = 0xf8bf_c020;
    let ldapr = crate::scratch::code(&[LDAPR_X]);
    testdev::set_value(0xfedc_ba98_7654_3210);
    let rcpc = features::rcpc();
    everywhere(|state: &CpuState| {
        let va = state.device(testdev::window());
        let mut loads = [(ldarb, 1), (ldarh, 2), (ldar_w, 4), (ldar_x, 8), (ldapr, 8)].into_iter();
        if !rcpc {
            loads.next_back();
        }
        for (code, width) in loads {
            let result = probe::access_at(code, va, state.pstate);
            equal!(result.loaded()?, 0xfedc_ba98_7654_3210 & mask(width), "load of {width}");
            equal!(testdev::last(), (0x800, width, false), "load");
        }
        for (code, width) in [(stlrb, 1), (stlrh, 2), (stlr_w, 4), (stlr_x, 8)] {
            probe::access_at(code, va, state.pstate).completed(&[])?;
            equal!(testdev::stored(), canary(0) & mask(width), "store of {width}");
            equal!(testdev::last(), (0x800, width, true), "store");
        }
        let bad = state.device(hole(70));
        probe::access_at(ldar_w, bad, state.pstate).refused(bad)?;
        probe::access_at(stlr_x, bad, state.pstate).refused(bad)
    })
}

/// LDTR and STTR: EL1 with the rights of EL0.
fn unprivileged() -> Verdict {
    testdev::ready()?;
    snippet!(ldtr, "ldtr x0, [x1]");
    snippet!(ldtrb, "ldtrb w0, [x1]");
    snippet!(ldtrsw, "ldtrsw x0, [x1]");
    snippet!(sttr, "sttr w0, [x1]");
    let va = View::UserDevice.of(testdev::window());
    testdev::set_value(0x8765_4321_8765_4321);
    for (state, bad) in [
        (pstate::EL1H, View::UserDevice.of(hole(70))),
        (pstate::EL1T, View::UserDevice.of(hole(70))),
        (pstate::EL0, View::UserDevice.of(hole(70))),
    ] {
        for (code, expected) in
            [(ldtr, 0x8765_4321_8765_4321), (ldtrb, 0x21), (ldtrsw, 0xffff_ffff_8765_4321)]
        {
            equal!(probe::access_at(code, va, state).loaded()?, expected, "x0");
        }
        probe::access_at(sttr, va, state).completed(&[])?;
        equal!(testdev::stored(), canary(0) & 0xffff_ffff, "store");
        // An abort at EL1 with EL0's rights is still one from EL1.
        probe::access_at(ldtr, bad, state).refused(bad)?;
        probe::access_at(sttr, bad, state).refused(bad)?;
    }
    Ok(())
}

/// A device that says no: the abort is at this instruction, not at the next, and nothing is loaded.
fn device_error() -> Verdict {
    testdev::ready()?;
    let refused = guard::counters().refused;
    everywhere(|state| {
        let va = state.device(testdev::base() + testdev::ERROR);
        for (_, code) in probe::LOADS.into_iter().chain(probe::STORES) {
            let before = testdev::counts();
            probe::access_at(code, va, state.pstate).refused(va)?;
            let after = testdev::counts();
            equal!(after.errors, before.errors + 1, "errors");
            equal!((after.loads, after.stores), (before.loads, before.stores), "accesses");
        }
        Ok(())
    })?;
    equal!(guard::counters().refused, refused, "refusals: the device said no, not the guard");
    Ok(())
}

/// A prefetch is a hint: of whatever address, it gives no abort, and no device sees it.
fn prefetch() -> Verdict {
    snippet!(
        prefetch,
        "prfm pldl1keep, [x1]",
        "prfm pstl2strm, [x1]",
        "prfm plil1keep, [x1]",
        "mov x2, #1"
    );
    testdev::ready()?;
    let counters = guard::counters();
    let counts = testdev::counts();
    for address in [hole(20), testdev::window(), testdev::base(), 0x40_0000_0000, tree::get().ram.0]
    {
        let result = probe::access(prefetch, address);
        result.completed(&[2])?;
        equal!(result.after.x[2], 1, "x2");
    }
    equal!(guard::counters().refused, counters.refused, "refusals");
    let after = testdev::counts();
    equal!((after.loads, after.stores), (counts.loads, counts.stores), "what the device saw");
    Ok(())
}
