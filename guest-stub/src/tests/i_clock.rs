// SPDX-License-Identifier: MIT OR Apache-2.0
//! I: timers and counters as every guest uses them.

use crate::machine::Machine;
use crate::probe;
use crate::smp::need_vcpus;
use crate::tests::i_interrupts::{ready, take};
use crate::verdict::Verdict;
use crate::{gic, smp, time};

tests! {
    // bug: 70
    i06_timer: "I6", "", "" => timer;
    i06_timer_extremes: "I6", "", "" => timer_extremes;
    i06_counter_monotonic: "I6", "vm.cpus=2", "" => counter_monotonic;
    // bug: 69
    i07_physical_timer: "I7", "", "" => physical_timer;
    i07_physical_timer_interrupts: "I7", "", "" => physical_timer_interrupts;
    i07_timer_control: "I7", "", "" => timer_control;
}

/// Arms the virtual timer.
pub fn arm(value: u64) {
    msr!("cntv_cval_el0", value);
    msr!("cntv_ctl_el0", 1);
    plain!("isb");
}

/// Each expiry is one interrupt, not before its time and not much later.
fn timer() -> Verdict {
    ready()?;
    gic::unmask();
    let body = || -> Verdict {
        for n in 0..50 {
            let before = gic::count(0, gic::VTIMER);
            let due = time::now() + time::ticks(1) / 4 * (n % 5);
            arm(due);
            check!(
                time::wait_until(20_000, || gic::count(0, gic::VTIMER) > before),
                "expiry {n} did not come: CNTV_CTL_EL0 {:#x}, pending {:#x}, active {:#x}",
                mrs!("cntv_ctl_el0"),
                gic::pending(),
                gic::active()
            );
            check!(time::now() >= due, "expiry {n} came early");
            equal!(gic::count(0, gic::VTIMER), before + 1, "interrupts of expiry {n}");
        }
        Ok(())
    };
    let result = body();
    gic::mask();
    result
}

fn timer_extremes() -> Verdict {
    ready()?;
    let before = gic::count(0, gic::VTIMER);
    // The end of time does not come. (Nearly: `i06_timer_parked` has the rest.)
    arm(1 << 62);
    take();
    equal!(gic::count(0, gic::VTIMER), before, "interrupts at the end of time");
    equal!(mrs!("cntv_ctl_el0") & 7, 1, "CNTV_CTL_EL0: enabled, not expired");
    // Its beginning has been.
    arm(0);
    equal!(mrs!("cntv_ctl_el0") & 7, 5, "CNTV_CTL_EL0: enabled, expired");
    take();
    equal!(gic::count(0, gic::VTIMER), before + 1, "interrupts at the beginning of time");
    // Masked in the timer: no interrupt, though expired.
    msr!("cntv_ctl_el0", 3);
    plain!("isb");
    take();
    equal!(gic::count(0, gic::VTIMER), before + 1, "interrupts of a masked timer");
    // Disabled in the GIC: none, but pending.
    gic::disable(1 << gic::VTIMER);
    arm(0);
    time::sleep(2);
    check!(gic::pending() >> gic::VTIMER & 1 == 1, "an expired timer is not pending");
    take();
    equal!(gic::count(0, gic::VTIMER), before + 1, "interrupts of one that is disabled");
    gic::enable(1 << gic::VTIMER);
    take();
    equal!(gic::count(0, gic::VTIMER), before + 2, "interrupts after it was enabled");
    // TVAL is signed and 32 bits wide.
    msr!("cntv_tval_el0", 0xffff_ff00);
    plain!("isb");
    let value = mrs!("cntv_cval_el0");
    check!(value < time::now(), "TVAL -256: CNTV_CVAL_EL0 {value:#x}");
    Ok(())
}

fn read_counters(until: u64) -> u64 {
    let mut last = time::now();
    while last < until {
        let now = time::now();
        if now < last {
            return last - now;
        }
        last = now;
    }
    0
}

/// The counter never goes back, on any vCPU, and is the same on all.
fn counter_monotonic() -> Verdict {
    need_vcpus(2)?;
    let end = time::now() + time::ticks(50);
    smp::give(1, read_counters, end)?;
    equal!(read_counters(end), 0, "ticks back on vCPU 0");
    equal!(smp::finish(1, 60_000)?, 0, "ticks back on vCPU 1");
    fn now(_: u64) -> u64 {
        time::now()
    }
    for _ in 0..20 {
        let before = time::now();
        smp::give(1, now, 0)?;
        let between = smp::finish(1, 60_000)?;
        let after = time::now();
        check!(before <= between && between <= after, "{before} {between} {after}");
    }
    Ok(())
}

/// The physical timer is undefined or works; EL2 does not care.
fn physical_timer() -> Verdict {
    snippet!(
        touch,
        "mrs x2, cntp_ctl_el0",
        "msr cntp_cval_el0, x0",
        "mov x3, #3",
        "msr cntp_ctl_el0, x3",
        "msr cntp_ctl_el0, xzr",
        "mrs x4, cntpct_el0",
    );
    for value in [0, u64::MAX, 1 << 40] {
        let result = probe::run(Machine::new(touch).with(0, value));
        if result.exit.done() {
            result.unchanged(&[0, 2, 3, 4])?;
        } else {
            equal!(result.exit.esr, 0x0200_0000, "ESR_EL1");
        }
    }
    let before = time::now();
    time::sleep(1);
    check!(time::now() > before, "the virtual counter stands");
    Ok(())
}

/// Each expiry of the physical timer is one interrupt, not before its time; it ends a WFI too.
fn physical_timer_interrupts() -> Verdict {
    ready()?;
    gic::enable(1 << gic::PTIMER);
    let body = || -> Verdict {
        for n in 0..40 {
            let before = gic::count(0, gic::PTIMER);
            let due = mrs!("cntpct_el0") + time::ticks(1) / 4 * (n % 5);
            msr!("cntp_cval_el0", due);
            msr!("cntp_ctl_el0", 1);
            plain!("isb");
            if n % 2 == 0 {
                gic::unmask();
                let come = time::wait_until(1000, || gic::count(0, gic::PTIMER) > before);
                gic::mask();
                check!(come, "expiry {n} did not come: CNTP_CTL_EL0 {:#x}", mrs!("cntp_ctl_el0"));
            } else {
                let mut woken = 0;
                while mrs!("cntp_ctl_el0") & 4 == 0 && woken < 1_000_000 {
                    plain!("wfi");
                    woken += 1;
                }
                take();
            }
            check!(mrs!("cntpct_el0") >= due, "expiry {n} came early");
            equal!(gic::count(0, gic::PTIMER), before + 1, "interrupts of expiry {n}");
        }
        Ok(())
    };
    let result = body();
    msr!("cntp_ctl_el0", 0);
    gic::disable(1 << gic::PTIMER);
    result
}

/// CNTKCTL_EL1 decides what EL0 may do with timers.
fn timer_control() -> Verdict {
    snippet!(read, "mrs x0, cntvct_el0");
    let own = mrs!("cntkctl_el1");
    msr!("cntkctl_el1", 2); // EL0VCTEN
    plain!("isb");
    let allowed = probe::run(Machine::new(read).at(crate::machine::pstate::EL0));
    msr!("cntkctl_el1", 0);
    plain!("isb");
    let denied = probe::run(Machine::new(read).at(crate::machine::pstate::EL0));
    msr!("cntkctl_el1", own);
    plain!("isb");
    allowed.completed(&[0])?;
    equal!(denied.exit.class(), 0x18, "exception class where it is not allowed");
    Ok(())
}
