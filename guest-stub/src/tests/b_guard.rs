// SPDX-License-Identifier: MIT OR Apache-2.0
//! B: the state machine of the guard, and what an access meets in each state.

use mmio_guard::Call;

use crate::guard::{self, State, hole};
use crate::hvc::hvc;
use crate::machine::canary;
use crate::verdict::Verdict;
use crate::{mmu, probe, psci, testdev, tree};

tests! {
    b01_before_enrol: "B1", "vm.testdev=0x0b000000", "alone" => before_enrol;
    b01_before_enrol_series: "B1", "vm.testdev=0x0b000000 vm.dialect=series", "alone" => before_enrol;
    // bug: 32 42
    b02_after_enrol: "B2", "vm.testdev=0x0b000000", "alone" => after_enrol;
    b02_after_enrol_series: "B2", "vm.testdev=0x0b000000 vm.dialect=series", "alone" => after_enrol;
    b02_refused_everywhere: "B2", "", "" => refused_everywhere;
    b02_console_refused: "B2", "", "" => console_refused;
    b02_console_refused_series: "B2", "vm.dialect=series", "" => console_refused;
    b02_enforce: "B2", "vm.guard=enforce", "alone" => enforce;
    b02_enforce_series: "B2", "vm.guard=enforce vm.dialect=series", "alone" => enforce;
    b03_enrol_twice: "B3", "", "" => enrol_twice;
    b03_enrol_twice_series: "B3", "vm.dialect=series", "" => enrol_twice;
    b04_no_way_back: "B4", "", "" => no_way_back;
    b05_map_before_enrol: "B5", "", "alone" => map_before_enrol;
    b05_map_before_enrol_series: "B5", "vm.dialect=series", "alone" => map_before_enrol_series;
    b05_unmap_before_enrol: "B5", "", "alone" => unmap_before_enrol;
    b06_declared_once: "B6", "vm.testdev=0x0b000000", "" => declared_once;
    b07_unmap_then_access: "B7", "vm.testdev=0x0b000000", "" => unmap_then_access;
    b07_unmap_then_access_series: "B7", "vm.testdev=0x0b000000 vm.dialect=series", "" => unmap_then_access;
    b10_fill_the_pool: "B10", "vm.pool=12", "alone" => fill_the_pool;
    b11_map_unmap: "B11", "", "" => map_unmap;
    b11_map_unmap_million: "B11", "", "alone slow" => map_unmap_million;
    b15_first_and_last_page: "B15", "", "" => first_and_last_page;
    b15_first_and_last_page_series: "B15", "vm.dialect=series", "" => first_and_last_page;
}

/// Not active: the device is served undeclared, and a hole aborts without being a refusal.
fn before_enrol() -> Verdict {
    need!(guard::dialect().is_some(), "no MMIO guard");
    testdev::need()?;
    let before = guard::counters();
    let counts = testdev::counts();
    probe::access(probe::str_w, testdev::window()).completed(&[])?;
    probe::load(testdev::window()).loaded()?;
    let after = testdev::counts();
    equal!((after.loads, after.stores), (counts.loads + 1, counts.stores + 1), "accesses");
    probe::load(hole(40)).refused(hole(40))?;
    probe::access(probe::str_x, hole(40)).refused(hole(40))?;
    equal!(guard::counters().refused, before.refused, "refusals");
    Ok(())
}

/// The very same accesses, a moment later.
fn after_enrol() -> Verdict {
    need!(guard::dialect().is_some(), "no MMIO guard");
    testdev::need()?;
    guard::activate()?;
    let base = testdev::window();
    let before = guard::counters();
    probe::access(probe::str_w, base).refused(base)?;
    probe::load(base).refused(base)?;
    probe::load(hole(40)).refused(hole(40))?;
    equal!(guard::counters().refused, before.refused + 3, "refusals");
    testdev::ready()?;
    let counts = testdev::counts();
    equal!((counts.loads, counts.stores), (0, 0), "what reached the device");
    // Nothing behind a declared page: an abort, but no refusal.
    equal!(guard::map(hole(40)), guard::done(), "MAP");
    probe::load(hole(40)).refused(hole(40))?;
    equal!(guard::counters().refused, before.refused + 3, "refusals");
    guard::unmap(hole(40));
    Ok(())
}

/// The hypervisor's own devices are behind the guard as well, and every place outside RAM.
fn refused_everywhere() -> Verdict {
    guard::activate()?;
    let distributor = match tree::get().gic {
        tree::Gic::V2(distributor, _) | tree::Gic::V3(distributor, ..) => distributor,
        tree::Gic::None => return Ok(()),
    };
    guard::undeclare_own_gic()?;
    let before = guard::counters().refused;
    let result = probe::load(distributor + 4).refused(distributor + 4);
    let refused = guard::counters().refused;
    guard::declare_own();
    result?;
    equal!(refused, before + 1, "refusals");
    probe::load(distributor + 4).loaded()?;
    let (base, size) = tree::get().ram;
    let end = 1_u64 << guard::ipa_bits().min(39);
    for ipa in [0, 0x0800_0000 - 8, 0x0a00_0000, base - 8, base + size, end - 8] {
        if guard::query(ipa) == State::Undeclared {
            probe::load(ipa).refused(ipa)?;
            probe::access(probe::str_x, ipa & !7).refused(ipa & !7)?;
        }
    }
    Ok(())
}

/// The console, undeclared for a moment: no register answers and no character comes out.
fn console_refused() -> Verdict {
    guard::activate()?;
    let uart = tree::get().uart;
    equal!(guard::unmap(uart), guard::done(), "UNMAP");
    let refused = guard::counters().refused;
    let results = [
        probe::load(uart + 0x18).refused(uart + 0x18),
        probe::access(probe::ldrh, uart + 0x30).refused(uart + 0x30),
        probe::access(probe::strb, uart).refused(uart),
        probe::load(uart + 0xfe0).refused(uart + 0xfe0),
    ];
    let after = guard::counters().refused;
    equal!(guard::map(uart), guard::done(), "MAP");
    for result in results {
        result?;
    }
    equal!(after, refused + 4, "refusals");
    Ok(())
}

/// Enforced from the first instruction: this test runs after the stub has declared its own devices, and
/// has never enrolled.
fn enforce() -> Verdict {
    need!(guard::dialect().is_some(), "no MMIO guard");
    let before = guard::counters();
    probe::load(hole(40)).refused(hole(40))?;
    equal!(guard::counters().refused, before.refused + 1, "refusals");
    equal!(hvc(guard::id(Call::Enroll), [0; 3]), [0; 4], "ENROLL");
    equal!(guard::map(hole(40)), guard::done(), "MAP");
    equal!(guard::unmap(hole(40)), guard::done(), "UNMAP");
    probe::load(hole(40)).refused(hole(40))
}

fn enrol_twice() -> Verdict {
    guard::activate()?;
    equal!(guard::map(hole(41)), guard::done(), "MAP");
    for _ in 0..3 {
        equal!(hvc(guard::id(Call::Enroll), [0; 3]), [0; 4], "ENROLL again");
    }
    equal!(guard::query(hole(41)), State::Declared, "the page");
    probe::load(hole(42)).refused(hole(42))?;
    guard::unmap(hole(41));
    Ok(())
}

/// No call switches the guard off: the neighbours of ENROLL, its 32-bit form, arguments.
fn no_way_back() -> Verdict {
    guard::activate()?;
    let refused = guard::counters().refused;
    for args in [[0; 3], [1, 0, 0], [u64::MAX; 3]] {
        for id in [guard::id(Call::Enroll), guard::id(Call::Info), 0xc600_000c, 0xc600_003f] {
            hvc(id, args);
            hvc(id & !(1 << 30), args);
        }
    }
    equal!(psci::call(psci::id::FEATURES, [guard::id(Call::Enroll), 0, 0]), -1, "PSCI_FEATURES");
    probe::load(hole(42)).refused(hole(42))?;
    equal!(guard::counters().refused, refused + 1, "refusals");
    Ok(())
}

/// pkvm: recorded, and in force from ENROLL on.
fn map_before_enrol() -> Verdict {
    need!(guard::dialect().is_some(), "no MMIO guard");
    let before = guard::counters().declared;
    equal!(guard::map(hole(43)), [0, 1, 0, 0], "MAP before ENROLL");
    equal!(guard::query(hole(43)), State::Declared, "the page");
    equal!(guard::range_map(hole(44), 3), [0, 3, 0, 0], "RGUARD_MAP before ENROLL");
    equal!(guard::counters().declared, before + 4, "declared pages");
    equal!(guard::map(hole(43) + 1), guard::refused(), "MAP unaligned before ENROLL");
    equal!(guard::map(tree::get().ram.0), guard::refused(), "MAP of RAM before ENROLL");
    guard::activate()?;
    equal!(guard::query(hole(43)), State::Declared, "the page after ENROLL");
    let refused = guard::counters().refused;
    probe::load(hole(43)).refused(hole(43))?;
    probe::load(hole(46)).refused(hole(46))?;
    equal!(guard::counters().refused, refused, "refusals: these pages are declared, but empty");
    probe::load(hole(47)).refused(hole(47))?;
    equal!(guard::counters().refused, refused + 1, "refusals");
    Ok(())
}

/// series: nothing before ENROLL.
fn map_before_enrol_series() -> Verdict {
    need!(guard::dialect().is_some(), "no MMIO guard");
    let before = guard::counters().declared;
    equal!(guard::map(hole(43)), guard::UNKNOWN, "MAP before ENROLL");
    equal!(guard::unmap(hole(43)), guard::UNKNOWN, "UNMAP before ENROLL");
    equal!(guard::query(hole(43)), State::Undeclared, "the page");
    equal!(guard::counters().declared, before, "declared pages");
    guard::activate()?;
    equal!(guard::query(hole(43)), State::Undeclared, "the page after ENROLL");
    let refused = guard::counters().refused;
    probe::load(hole(43)).refused(hole(43))?;
    equal!(guard::counters().refused, refused + 1, "refusals");
    Ok(())
}

/// pkvm: UNMAP before ENROLL undoes a MAP before ENROLL.
fn unmap_before_enrol() -> Verdict {
    need!(guard::dialect().is_some(), "no MMIO guard");
    equal!(guard::map(hole(43)), guard::done(), "MAP before ENROLL");
    equal!(guard::unmap(hole(43)), guard::done(), "UNMAP before ENROLL");
    guard::activate()?;
    equal!(guard::query(hole(43)), State::Undeclared, "the page after ENROLL");
    let refused = guard::counters().refused;
    probe::load(hole(43)).refused(hole(43))?;
    equal!(guard::counters().refused, refused + 1, "refusals");
    Ok(())
}

/// Each access to a declared page reaches the device exactly once, with its width and value.
fn declared_once() -> Verdict {
    testdev::ready()?;
    let at = testdev::window() + 0x40;
    for (width, code) in probe::STORES {
        let before = testdev::counts();
        probe::access(code, at).completed(&[])?;
        let after = testdev::counts();
        equal!(after.stores, before.stores + 1, "stores of {width} bytes");
        equal!(after.loads, before.loads, "loads");
        equal!(testdev::last(), (0x840, width, true), "what the device saw");
        equal!(testdev::stored(), canary(0) & probe::mask(width), "the value");
    }
    testdev::set_value(0x8899_aabb_ccdd_eeff);
    for (width, code) in probe::LOADS {
        let before = testdev::counts();
        let value = probe::access(code, at).loaded()?;
        equal!(value, 0x8899_aabb_ccdd_eeff & probe::mask(width), "x0");
        let after = testdev::counts();
        equal!(after.loads, before.loads + 1, "loads of {width} bytes");
        equal!(after.stores, before.stores, "stores");
        equal!(testdev::last(), (0x840, width, false), "what the device saw");
    }
    Ok(())
}

/// UNMAP is real: nothing reaches the device any more.
fn unmap_then_access() -> Verdict {
    testdev::ready()?;
    let base = testdev::base();
    let at = testdev::window();
    let before = testdev::counts();
    equal!(guard::unmap(base), guard::done(), "UNMAP");
    let refused = guard::counters().refused;
    probe::access(probe::str_w, at).refused(at)?;
    probe::access(probe::ldr_x, at).refused(at)?;
    equal!(guard::counters().refused, refused + 2, "refusals");
    equal!(guard::map(base), guard::done(), "MAP again");
    equal!(testdev::counts(), before, "what reached the device");
    Ok(())
}

/// Tables are what declarations cost; when the VM's are used up, that is an error to this call, and all
/// earlier declarations hold.
fn fill_the_pool() -> Verdict {
    guard::activate()?;
    need!(guard::ipa_bits() >= 36, "needs an IPA space of 36 bits");
    const POOL: u64 = 12;
    let start = 0x4_0000_0000_u64;
    let place = |n: u64| start + n * 0x20_0000;
    // One page in each 2 MiB of one GiB: a table for the GiB, and one for each.
    let mut count = 0;
    while count < 512 && guard::map(place(count)) == guard::done() {
        count += 1;
    }
    equal!(count + 1 + guard::tables_used(), POOL, "tables used in all");
    let before = guard::counters();
    equal!(guard::map(place(count)), guard::refused(), "MAP without a table");
    equal!(guard::map(place(100)), guard::refused(), "MAP without a table");
    equal!(guard::query(place(count)), State::Undeclared, "the page that failed");
    equal!(guard::counters(), before, "counters");
    for n in 0..count {
        equal!(guard::query(place(n)), State::Declared, "page {n}");
        equal!(guard::query(place(n) + 4096), State::Undeclared, "page {n}'s neighbour");
    }
    // What needs no table still works.
    equal!(guard::map(place(0) + 4096), guard::done(), "MAP in an existing table");
    equal!(guard::unmap(place(0) + 4096), guard::done(), "UNMAP");
    probe::load(place(count)).refused(place(count))?;
    check!(probe::load(tree::get().uart + 0x18).exit.done(), "the UART");
    // Tables stay where they are until a reset: the same places can be declared again.
    for n in 0..count {
        equal!(guard::unmap(place(n)), guard::done(), "UNMAP {n}");
    }
    for n in 0..count {
        equal!(guard::map(place(n)), guard::done(), "MAP {n} again");
        equal!(guard::unmap(place(n)), guard::done(), "UNMAP {n} again");
    }
    Ok(())
}

fn alternate(times: u64) -> Verdict {
    guard::activate()?;
    let before = guard::counters().declared;
    for n in 0..times {
        let page = 0x3000_0000 + (n % 8) * 0x20_0000 + (n % 512) * 4096;
        check!(guard::map(page) == guard::done(), "MAP number {n}");
        check!(guard::unmap(page) == guard::done(), "UNMAP number {n}");
    }
    equal!(guard::counters().declared, before, "declared pages");
    // The pool has not shrunk by more than these eight tables.
    for n in 0..32 {
        let page = 0x3400_0000 + n * 0x20_0000;
        equal!(guard::map(page), guard::done(), "MAP of fresh place {n}");
        equal!(guard::unmap(page), guard::done(), "UNMAP of fresh place {n}");
    }
    Ok(())
}

fn map_unmap() -> Verdict {
    alternate(20_000)
}

fn map_unmap_million() -> Verdict {
    alternate(1_000_000)
}

fn first_and_last_page() -> Verdict {
    guard::activate()?;
    let last = (1 << guard::ipa_bits()) - 4096;
    for page in [0, last] {
        equal!(guard::query(page), State::Undeclared, "page {page:#x}");
        equal!(guard::map(page), guard::done(), "MAP of {page:#x}");
        equal!(guard::query(page), State::Declared, "page {page:#x}");
        let refused = guard::counters().refused;
        let va = if page == 0 { 0 } else { mmu::window(0, page, mmu::attribute::DEVICE) };
        probe::load(va).refused(va)?;
        equal!(guard::counters().refused, refused, "declared, but empty: no refusal");
        equal!(guard::unmap(page), guard::done(), "UNMAP of {page:#x}");
        probe::load(va).refused(va)?;
        equal!(guard::counters().refused, refused + 1, "refusals");
    }
    Ok(())
}
