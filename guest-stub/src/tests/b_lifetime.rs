// SPDX-License-Identifier: MIT OR Apache-2.0
//! B: the guard over the lifetime of a VM: enrolment against an access, vCPUs off and on, reset, a second kernel.

use mmio_guard::abi;

use crate::guard::{self, State, hole};
use crate::hvc::hvc;
use crate::smp::need_vcpus;
use crate::verdict::Verdict;
use crate::{mmio, mmu, probe, psci, smp, testdev, time, tree, verdict};

tests! {
    b12_enrol_against_access: "B12", "vm.cpus=2 vm.testdev=0x0b000000", "alone" => enrol_against_access;
    b13_reset: "B13", "vm.testdev=0x0b000000", "alone" => reset;
    b13_reset_series: "B13", "vm.testdev=0x0b000000 vm.dialect=series", "alone" => reset;
    b13_reset_enforce: "B13", "vm.testdev=0x0b000000 vm.guard=enforce vm.preset=0x0b000000+0x1000", "alone" => reset_enforce;
    b14_cpu_off_and_on: "B14", "vm.cpus=2", "" => cpu_off_and_on;
    b16_second_kernel: "B16", "", "" => second_kernel;
    b17_preset: "B15,B7", "vm.guard=enforce vm.preset=0x09000000+0x1000:0x10000000+0x2000", "alone" => preset;
}

/// Loads from the test device without a pause until told to stop; counts what it got.
mod hammer {
    use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

    use crate::probe;

    /// Tells the other vCPU to stop.
    pub static STOP: AtomicBool = AtomicBool::new(false);
    /// Loads that completed.
    pub static SERVED: AtomicU64 = AtomicU64::new(0);
    /// Loads that were aborted as they should.
    pub static REFUSED: AtomicU64 = AtomicU64::new(0);

    /// The job.
    pub fn loads(address: u64) -> u64 {
        loop {
            let result = probe::load(address);
            if result.exit.done() {
                SERVED.fetch_add(1, Relaxed);
            } else if result.refused(address).is_ok() {
                REFUSED.fetch_add(1, Relaxed);
            } else {
                return result.exit.esr;
            }
            if STOP.load(Acquire) {
                return 0;
            }
        }
    }

    /// Both counters.
    pub fn seen() -> (u64, u64) {
        (SERVED.load(Relaxed), REFUSED.load(Relaxed))
    }
}

/// One vCPU enrols while the other loads from an undeclared page: whatever is served before, nothing is
/// after ENROLL has returned.
fn enrol_against_access() -> Verdict {
    need_vcpus(2)?;
    need!(guard::dialect().is_some(), "no MMIO guard");
    testdev::need()?;
    smp::give(1, hammer::loads, testdev::window())?;
    check!(time::wait_until(20_000, || hammer::seen().0 > 50), "no load is served before ENROLL");
    guard::activate()?;
    // The load in flight when ENROLL returned may be counted still: that one is done by now.
    check!(time::wait_until(20_000, || hammer::seen().1 > 0), "no load is refused after ENROLL");
    let (served, refused) = hammer::seen();
    check!(time::wait_until(20_000, || hammer::seen().1 > refused + 200), "the other vCPU stands");
    let (later, _) = hammer::seen();
    hammer::STOP.store(true, core::sync::atomic::Ordering::Release);
    equal!(smp::finish(1, 60_000)?, 0, "syndrome that was no refusal");
    equal!(later, served, "loads served after ENROLL");
    Ok(())
}

/// First boot: enrols, declares, resets. Second boot: nothing of it is left.
fn reset() -> Verdict {
    need!(guard::dialect().is_some(), "no MMIO guard");
    if testdev::need().is_err() {
        return Err(verdict::failed(format_args!("the device does not answer: still enrolled?")));
    }
    testdev::need_keeping()?;
    match testdev::kept() {
        0 => {
            guard::activate()?;
            testdev::ready()?;
            equal!(guard::map(hole(50)), guard::done(), "MAP");
            equal!(guard::map(0x3000_0000), guard::done(), "MAP");
            if !guard::series() {
                equal!(guard::range_map(0x2_0000_0000, 1 << 18), [0, 1 << 18, 0, 0], "RGUARD_MAP");
            }
            testdev::keep(guard::counters().declared << 8 | 1);
            psci::system_reset()
        }
        kept => {
            equal!(kept & 0xff, 1, "the word that outlives a reset");
            // Not enrolled any more: an undeclared device is served, which `need` has shown.
            let refused = guard::counters().refused;
            probe::load(hole(50)).refused(hole(50))?;
            equal!(guard::counters().refused, refused, "refusals: the guard is still active");
            for page in [hole(50), 0x3000_0000, 0x2_0000_0000, testdev::base()] {
                equal!(guard::query(page), State::Undeclared, "page {page:#x}");
            }
            // After ENROLL, which the series had kept the notes for, still nothing.
            guard::activate()?;
            probe::load(hole(50)).refused(hole(50))?;
            equal!(guard::counters().refused, refused + 1, "refusals after ENROLL");
            equal!(guard::query(hole(50)), State::Undeclared, "the page after ENROLL");
            Ok(())
        }
    }
}

/// Under `enforce` the guard is active in every boot, and the owner's pages are declared in each.
fn reset_enforce() -> Verdict {
    need!(guard::dialect().is_some(), "no MMIO guard");
    testdev::need_keeping()?;
    match testdev::kept() {
        0 => {
            equal!(guard::map(hole(50)), guard::done(), "MAP");
            equal!(guard::unmap(testdev::base() + 0x1000), guard::done(), "UNMAP of nothing");
            testdev::keep(1);
            equal!(guard::unmap(testdev::base()), guard::done(), "UNMAP of the preset page");
            psci::system_reset()
        }
        _ => {
            equal!(guard::query(testdev::base()), State::Declared, "the preset page");
            equal!(guard::query(hole(50)), State::Undeclared, "the page");
            let refused = guard::counters().refused;
            probe::load(hole(50)).refused(hole(50))?;
            equal!(guard::counters().refused, refused + 1, "refusals");
            Ok(())
        }
    }
}

/// The guard belongs to the VM: a vCPU that goes and comes changes nothing.
fn cpu_off_and_on() -> Verdict {
    need_vcpus(2)?;
    guard::activate()?;
    equal!(guard::map(hole(51)), guard::done(), "MAP");
    fn look(page: u64) -> u64 {
        let refused = probe::load(page + 4096).refused(page + 4096).is_ok();
        u64::from(refused && guard::query(page) == State::Declared)
    }
    for life in 0..3 {
        smp::give(1, look, hole(51))?;
        equal!(smp::finish(1, 60_000)?, 1, "life {life}: what vCPU 1 sees");
        smp::stop(1)?;
        equal!(guard::query(hole(51)), State::Declared, "the page after CPU_OFF");
        probe::load(hole(52)).refused(hole(52))?;
    }
    guard::unmap(hole(51));
    Ok(())
}

/// A second kernel that knows nothing of the guard, with the MMU off as at boot, is bound all the same.
fn second_kernel() -> Verdict {
    guard::activate()?;
    let refused = guard::counters().refused;
    mmu::disable();
    msr!("vbar_el1", crate::exception::vectors as *const () as usize as u64);
    plain!("ic iallu", "dsb sy", "isb");
    let result = probe::load(hole(53));
    mmu::enable();
    result.refused(hole(53))?;
    equal!(guard::counters().refused, refused + 1, "refusals");
    Ok(())
}

/// `vm.preset`: declared by the owner of the VM before the first instruction.
fn preset() -> Verdict {
    need!(guard::dialect().is_some(), "no MMIO guard");
    for page in [hole(0), hole(1)] {
        let [x0, x1, hint, _] = hvc(u64::from(abi::own::QUERY_PAGE), [page, 0, 0]);
        equal!([x0, x1], [0, 3], "page {page:#x}");
        equal!(hint >> 16 & 1, 1, "the preset flag of {page:#x}");
    }
    equal!(guard::query(hole(2)), State::Undeclared, "the page behind");
    let refused = guard::counters().refused;
    probe::load(hole(1)).refused(hole(1))?;
    equal!(guard::counters().refused, refused, "declared, but empty: no refusal");
    // The guest may give it up.
    equal!(guard::unmap(hole(1)), guard::done(), "UNMAP");
    equal!(guard::query(hole(1)), State::Undeclared, "the page");
    let uart = mmio::read32(tree::get().uart + 0x18);
    check!(uart & 0x80 != 0 || uart & 0x10 != 0 || uart == 0, "PL011 flags {uart:#x}");
    Ok(())
}
