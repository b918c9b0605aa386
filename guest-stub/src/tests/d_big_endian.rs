// SPDX-License-Identifier: MIT OR Apache-2.0
//! D: big-endian data.

use crate::machine::{Machine, pstate};
use crate::mmu::View;
use crate::probe::{self, mask};
use crate::verdict::Verdict;
use crate::{mmu, testdev};

tests! {
    d01_big_endian_el0: "D1", "vm.testdev=0x0b000000", "" => big_endian_el0;
    d01_big_endian_el1: "D1", "vm.testdev=0x0b000000", "" => big_endian_el1;
}

fn swapped(value: u64, width: u64) -> u64 {
    (value & mask(width)).swap_bytes() >> (64 - 8 * width)
}

/// A program at EL0 with big-endian data: what is loaded and stored is turned around on the way to a
/// little-endian device.
fn big_endian_el0() -> Verdict {
    need!(
        mrs!("id_aa64mmfr0_el1") >> 8 & 0xf != 0 || mrs!("id_aa64mmfr0_el1") >> 16 & 0xf != 0,
        "no big-endian data at EL0"
    );
    testdev::ready()?;
    let value = 0x0123_4567_89ab_cdef_u64;
    let sctlr = mrs!("sctlr_el1");
    msr!("sctlr_el1", sctlr | 1 << 24);
    plain!("isb");
    let body = || -> Verdict {
        let va = View::UserDevice.of(testdev::window());
        for (width, code) in probe::LOADS {
            testdev::set_value(value);
            let result = probe::access_at(code, va, pstate::EL0);
            equal!(result.loaded()?, swapped(value, width), "load of {width} bytes");
        }
        for (width, code) in probe::STORES {
            probe::run(Machine::new(code).with(0, value).with(1, va).at(pstate::EL0))
                .completed(&[])?;
            equal!(testdev::stored(), swapped(value, width), "store of {width} bytes");
        }
        // The sign is that of the value as the program sees it.
        snippet!(ldrsh, "ldrsh x0, [x1]");
        testdev::set_value(0x0080);
        let result = probe::access_at(ldrsh, va, pstate::EL0);
        equal!(result.loaded()?, 0xffff_ffff_ffff_8000, "ldrsh of 80 00");
        // RAM, for comparison: the hardware's own answer.
        static WORD: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);
        WORD.store(value, core::sync::atomic::Ordering::Relaxed);
        let result = probe::access_at(probe::ldr_x, mmu::user(&raw const WORD as u64), pstate::EL0);
        equal!(result.loaded()?, value.swap_bytes(), "ldr of RAM");
        Ok(())
    };
    let result = body();
    msr!("sctlr_el1", sctlr);
    plain!("isb");
    result
}

snippet!(
    el1_big_endian,
    "mrs x4, sctlr_el1",
    "orr x5, x4, #(1 << 25)",
    "msr sctlr_el1, x5",
    "isb",
    "ldr w0, [x1]",
    "ldrh w2, [x1]",
    "str w3, [x1]",
    "msr sctlr_el1, x4",
    "isb",
);

/// The same at EL1, with the MMU off, as SCTLR_EL1.EE turns table walks around as well.
fn big_endian_el1() -> Verdict {
    need!(mrs!("id_aa64mmfr0_el1") >> 8 & 0xf != 0, "no big-endian data at EL1");
    testdev::ready()?;
    testdev::set_value(0x1122_3344);
    mmu::disable();
    let result =
        probe::run(Machine::new(el1_big_endian).with(1, testdev::window()).with(3, 0xaabb_ccdd));
    mmu::enable();
    result.completed(&[0, 2, 4, 5])?;
    equal!(result.after.x[0], 0x4433_2211, "ldr");
    equal!(result.after.x[2], 0x4433, "ldrh");
    equal!(testdev::stored(), 0xddcc_bbaa, "str");
    Ok(())
}
