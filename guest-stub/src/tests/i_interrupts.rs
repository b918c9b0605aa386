// SPDX-License-Identifier: MIT OR Apache-2.0
//! I: interrupt controller, timer, waiting.

use crate::machine::Machine;
use crate::noise::Noise;
use crate::probe;
use crate::smp::need_vcpus;
use crate::tree::Gic;
use crate::verdict::Verdict;
use crate::{cpu, gic, guard, mmio, smp, time, tree};

tests! {
    // bug: 55
    i01_distributor_sweep: "I1", "", "alone" => distributor_sweep;
    i01_redistributor_sweep: "I1", "", "alone" => redistributor_sweep;
    i01_sweep_from_two: "I1", "vm.cpus=2", "alone" => sweep_from_two;
    i02_sgi_to_nobody: "I2", "", "" => sgi_to_nobody;
    i02_sgi_filters: "I2", "vm.cpus=2", "" => sgi_filters;
    // bug: 57
    i03_all_pending: "I3", "", "" => all_pending;
    i04_end_of_nothing: "I4", "", "" => end_of_nothing;
    i05_priorities: "I5", "", "" => priorities;
    // bug: 70
    i06_timer: "I6", "", "" => timer;
    i06_timer_extremes: "I6", "", "" => timer_extremes;
    i06_counter_monotonic: "I6", "vm.cpus=2", "" => counter_monotonic;
    // bug: 69
    i07_physical_timer: "I7", "", "" => physical_timer;
    i07_physical_timer_interrupts: "I7", "", "" => physical_timer_interrupts;
    i07_timer_control: "I7", "", "" => timer_control;
    i12_wait_for_interrupt: "I12", "", "" => wait_for_interrupt;
    i12_wait_for_event: "I12", "", "" => wait_for_event;
    i12_wait_at_el0: "I12", "", "" => wait_at_el0;
    i12_wait_for_sgi: "I12,E10", "vm.cpus=2", "" => wait_for_sgi;
    i12_wait_for_shared: "I12", "vm.cpus=2", "" => wait_for_shared;
}

fn ready() -> Verdict {
    need!(tree::get().gic != Gic::None, "no GIC");
    guard::activate_if_there()?;
    gic::init();
    gic::init_cpu();
    gic::clear();
    Ok(())
}

/// The distributor's address and bytes.
fn distributor() -> (u64, u64) {
    match tree::get().gic {
        Gic::V2(distributor, _) => (distributor, 0x1000),
        Gic::V3(distributor, ..) => (distributor, 0x1_0000),
        Gic::None => (0, 0),
    }
}

/// Every offset in every width: served or aborted exactly, never anything else.
fn sweep(base: u64, bytes: u64, noise: &mut Noise) -> Verdict {
    for offset in (0..bytes).step_by(4) {
        for (width, code) in probe::LOADS {
            if offset % width == 0 || width < 4 {
                let va = base + offset;
                let result = probe::access(code, va);
                if !result.exit.done() {
                    result.refused(va)?;
                }
            }
        }
    }
    for value in [0, u64::MAX, noise.next()] {
        for offset in (0..bytes).step_by(8) {
            for (width, code) in probe::STORES {
                let va =
                    base + offset + if width < 4 { noise.next() & 7 & !(width - 1) } else { 0 };
                let result = probe::run(Machine::new(code).with(0, value).with(1, va));
                if !result.exit.done() {
                    result.refused(va)?;
                }
            }
        }
    }
    Ok(())
}

/// After it, the controller still works.
fn distributor_sweep() -> Verdict {
    ready()?;
    let (base, bytes) = distributor();
    sweep(base, bytes, &mut Noise::new(0x1234_5678_9abc_def1))?;
    // What was written by the sweep is put back as far as it matters.
    gic::init();
    gic::init_cpu();
    gic::clear();
    check!(probe::load(base + 4).exit.done(), "GICD_TYPER is not served");
    Ok(())
}

fn redistributor_sweep() -> Verdict {
    ready()?;
    let Gic::V3(_, base, size) = tree::get().gic else {
        return Err(crate::verdict::Why::Skipped("GICv2 has no redistributors"));
    };
    sweep(base, size.min(0x2_0000), &mut Noise::new(0xfeed_beef_0bad_cafe))?;
    // Beyond the last frame there is nothing.
    let end = base + 0x2_0000 * tree::get().vcpus as u64;
    probe::load(end).refused(end)?;
    gic::init_cpu();
    gic::clear();
    Ok(())
}

/// Two vCPUs sweep at once; both must come through.
fn sweep_from_two() -> Verdict {
    need_vcpus(2)?;
    ready()?;
    fn job(_: u64) -> u64 {
        let (base, bytes) = distributor();
        u64::from(sweep(base, bytes.min(0x1000), &mut Noise::new(0x77)).is_err())
    }
    smp::give(1, job, 0)?;
    let (base, bytes) = distributor();
    sweep(base, bytes.min(0x1000), &mut Noise::new(0x99))?;
    equal!(smp::finish(1, 60_000)?, 0, "the other vCPU's sweep");
    Ok(())
}

/// Takes what is pending for a moment.
fn take() {
    gic::unmask();
    time::sleep(2);
    gic::mask();
}

/// Interrupts that came to vCPU 0 so far.
fn total() -> u32 {
    (0..32).map(|id| gic::count(0, id)).sum()
}

/// Targets that do not exist, reserved filters: nothing happens.
fn sgi_to_nobody() -> Verdict {
    ready()?;
    let before = total();
    match tree::get().gic {
        Gic::V2(distributor, _) => {
            for filter in [3_u32, 0] {
                for targets in [0_u32, 0xfe, 0x80] {
                    for id in 0..16 {
                        let targets = if filter == 3 { 0xff } else { targets };
                        mmio::write32(distributor + 0xf00, filter << 24 | targets << 16 | id);
                    }
                }
            }
            // To all but itself, alone.
            mmio::write32(distributor + 0xf00, 1 << 24);
        }
        Gic::V3(..) => {
            for value in [
                0,           // nobody
                0xfffe,      // vCPUs that do not exist
                1 << 16 | 1, // another Aff1
                1 << 32 | 1, // another Aff2
                1 << 48 | 1, // another Aff3
                0xff << 48 | 0xff << 32 | 0xff << 16 | 0xffff,
                1 << 44 | 1, // RS: targets 16 to 31
                0xf << 44 | 0xffff,
                1 << 40, // all but itself, alone
                1 << 40 | 0xffff,
                0xf << 24, // SGI 15 to nobody
            ] {
                gic::sgi1r(value);
            }
        }
        Gic::None => {}
    }
    equal!(gic::pending() & 0xffff, 0, "pending SGIs");
    take();
    equal!(total(), before, "interrupts");
    // One to itself does come.
    let own = gic::count(0, 4);
    gic::send(0, 4);
    take();
    equal!((gic::count(0, 4), total()), (own + 1, before + 1), "SGI 4 to itself");
    Ok(())
}

fn wait_with_interrupts(until: u64) -> u64 {
    gic::init_cpu();
    gic::unmask();
    let done = time::wait_until(20_000, || u64::from(gic::count(1, 8)) >= until);
    time::sleep(5);
    gic::mask();
    u64::from(done)
}

/// Broadcasts reach the others and not the sender, lists reach whom they name.
fn sgi_filters() -> Verdict {
    need_vcpus(2)?;
    ready()?;
    let (own, other) = (gic::count(0, 8), gic::count(1, 8));
    smp::give(1, wait_with_interrupts, u64::from(other) + 1)?;
    time::sleep(5);
    gic::broadcast(8);
    equal!(smp::finish(1, 60_000)?, 1, "a broadcast to the other vCPU");
    take();
    equal!(gic::count(0, 8), own, "a broadcast came to its sender");
    smp::give(1, wait_with_interrupts, u64::from(other) + 2)?;
    time::sleep(5);
    gic::send(1, 8);
    equal!(smp::finish(1, 60_000)?, 1, "an SGI to the other vCPU");
    take();
    equal!(gic::count(0, 8), own, "that SGI came to its sender");
    gic::send(0, 8);
    take();
    equal!(gic::count(0, 8), own + 1, "an SGI to itself");
    equal!(gic::count(1, 8), other + 2, "that SGI came to the other vCPU");
    Ok(())
}

/// More interrupts pending than any CPU has list registers: each comes exactly once.
fn all_pending() -> Verdict {
    ready()?;
    for round in 0..10 {
        let before: [u32; 32] = core::array::from_fn(|id| gic::count(0, id as u32));
        for id in 0..16 {
            gic::set_pending(id);
        }
        msr!("cntv_cval_el0", 0);
        msr!("cntv_ctl_el0", 1);
        plain!("isb");
        equal!(gic::pending() & 0xffff, 0xffff, "pending SGIs in round {round}");
        gic::unmask();
        let all = time::wait_until(20_000, || {
            (0..16).chain([gic::VTIMER]).all(|id| gic::count(0, id) > before[id as usize])
        });
        gic::mask();
        check!(all, "round {round}: not all came: pending {:#x}", gic::pending());
        for id in (0..16).chain([gic::VTIMER]) {
            let count = gic::count(0, id) - before[id as usize];
            check!(count == 1, "round {round}: interrupt {id} came {count} times");
        }
        equal!(gic::pending() & 0xffff, 0, "pending SGIs after round {round}");
        equal!(gic::active(), 0, "active interrupts after round {round}");
    }
    Ok(())
}

/// Ends of interrupts that are not active, and of those that do not exist.
fn end_of_nothing() -> Verdict {
    ready()?;
    for id in [0, 5, 27, 31, 32, 100, 1019, 1020, 1023, 0x3ff] {
        gic::end(id);
    }
    match tree::get().gic {
        Gic::V2(_, interface) => {
            for id in [0, 5, 27, 100, 1023] {
                mmio::write32(interface + 0x1000, id); // GICC_DIR
            }
        }
        _ => {
            for id in [0_u64, 5, 27, 100, 1023, 8192, 0xff_ffff] {
                msr!("s3_0_c12_c11_1", id); // ICC_DIR_EL1
                msr!("s3_0_c12_c8_1", id); // ICC_EOIR0_EL1
            }
        }
    }
    equal!(gic::pending() & 0xffff, 0, "pending SGIs");
    equal!(gic::active(), 0, "active interrupts");
    let before = gic::count(0, 2);
    gic::send(0, 2);
    take();
    equal!(gic::count(0, 2), before + 1, "an SGI afterwards");
    // An interrupt that is acknowledged is active until it is ended, and is not taken meanwhile.
    gic::send(0, 2);
    let value = gic::acknowledge();
    equal!(value & 0x3ff, 2, "the interrupt acknowledged");
    equal!(gic::active(), 1 << 2, "active interrupts");
    gic::end(value & !0x3ff | 3);
    equal!(gic::acknowledge() & 0x3ff, 1023, "while it is active");
    gic::end(value);
    Ok(())
}

/// The mask of priorities holds interrupts back, and the highest comes first.
fn priorities() -> Verdict {
    ready()?;
    let base = match tree::get().gic {
        Gic::V2(distributor, _) => distributor,
        _ => gic::redistributor() + 0x1_0000,
    };
    let mask = |priority: u64| match tree::get().gic {
        Gic::V2(_, interface) => mmio::write32(interface + 4, priority as u32),
        _ => {
            msr!("s3_0_c4_c6_0", priority);
            plain!("isb");
        }
    };
    for (id, priority) in [(1_u64, 0xc0), (2, 0x40), (3, 0x80)] {
        mmio::write8(base + 0x400 + id, priority);
        equal!(mmio::read8(base + 0x400 + id), priority, "priority of SGI {id}");
    }
    mask(0);
    for id in [1, 2, 3] {
        gic::set_pending(id);
    }
    let before = total();
    take();
    equal!(total(), before, "interrupts while all are masked");
    mask(0x60);
    let first = gic::acknowledge();
    equal!(first & 0x3ff, 2, "the one above the mask");
    gic::end(first);
    equal!(gic::acknowledge() & 0x3ff, 1023, "the rest is below the mask");
    mask(0xff);
    let (second, third) = {
        let second = gic::acknowledge();
        gic::end(second);
        let third = gic::acknowledge();
        gic::end(third);
        (second & 0x3ff, third & 0x3ff)
    };
    for id in [1_u64, 2, 3] {
        mmio::write8(base + 0x400 + id, 0x80);
    }
    equal!((second, third), (3, 1), "the others by priority");
    Ok(())
}

/// Arms the virtual timer.
fn arm(value: u64) {
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

/// WFI ends with an interrupt, masked in PSTATE or not.
fn wait_for_interrupt() -> Verdict {
    ready()?;
    for n in 0..20 {
        let before = gic::count(0, gic::VTIMER);
        let due = time::now() + time::ticks(2);
        arm(due);
        let mut woken = 0;
        while gic::count(0, gic::VTIMER) == before && woken < 1_000_000 {
            plain!("wfi");
            woken += 1;
            if time::now() >= due {
                take();
            }
        }
        equal!(gic::count(0, gic::VTIMER), before + 1, "interrupts of round {n}");
    }
    // With nothing enabled but something pending it must not sleep for ever either.
    gic::set_pending(3);
    plain!("wfi");
    take();
    Ok(())
}

/// WFE, SEV and YIELD: no hint stops a vCPU for good.
fn wait_for_event() -> Verdict {
    plain!("sevl", "wfe");
    plain!("sev", "wfe");
    for _ in 0..1000 {
        plain!("yield");
    }
    snippet!(hints, "sevl", "wfe", "yield", "sevl", "wfe", "hint #16", "hint #0x7f", "mov x0, #1");
    for state in [crate::machine::pstate::EL1H, crate::machine::pstate::EL1T] {
        let result = probe::run(Machine::new(hints).at(state));
        result.completed(&[0])?;
        equal!(result.after.x[0], 1, "x0");
    }
    Ok(())
}

/// WFI and WFE of a program: allowed or trapped to EL1, as SCTLR_EL1 says.
fn wait_at_el0() -> Verdict {
    snippet!(waits, "sevl", "wfe", "mov x0, #1");
    snippet!(wfi, "wfi", "mov x0, #1");
    let sctlr = mrs!("sctlr_el1");
    msr!("sctlr_el1", sctlr | 1 << 18 | 1 << 16); // nTWE, nTWI
    plain!("isb");
    let allowed = probe::run(Machine::new(waits).at(crate::machine::pstate::EL0));
    msr!("sctlr_el1", sctlr & !(1 << 18 | 1 << 16));
    plain!("isb");
    let denied = probe::run(Machine::new(wfi).at(crate::machine::pstate::EL0));
    msr!("sctlr_el1", sctlr);
    plain!("isb");
    allowed.completed(&[0])?;
    // A trapped WFI, or one that had nothing to wait for.
    check!(denied.exit.done() || denied.exit.class() == 1, "ESR_EL1 {:#x}", denied.exit.esr);
    if !denied.exit.done() {
        equal!(denied.exit.elr, denied.before.pc, "ELR_EL1");
    }
    Ok(())
}

/// Sleeps until so many shared interrupts and SGIs 9 have come together; says how many have.
fn sleep_until_both(number: u64) -> u64 {
    gic::init_cpu();
    let came = || u64::from(gic::count_shared(1)) + u64::from(gic::count(1, 9));
    let deadline = time::Deadline::after(20_000);
    while came() < number && !deadline.passed() {
        plain!("wfi");
        gic::unmask();
        plain!("isb");
        gic::mask();
    }
    came()
}

/// A vCPU in WFI is woken by a shared interrupt that another makes pending for it, alone or with an SGI right behind.
fn wait_for_shared() -> Verdict {
    const SPI: u32 = 40;
    need_vcpus(2)?;
    ready()?;
    gic::give_spi(SPI, 1);
    let (own, sgis) = (gic::count_shared(0), gic::count(1, 9));
    let start = u64::from(gic::count_shared(1)) + u64::from(sgis);
    let mut sent = 0;
    for n in 0..50 {
        let with_sgi = n % 3 == 0;
        sent += 1 + u64::from(with_sgi);
        smp::give(1, sleep_until_both, start + sent)?;
        if n % 2 == 0 {
            time::sleep(1);
        }
        gic::set_spi_pending(SPI);
        if with_sgi {
            gic::send(1, 9);
        }
        equal!(smp::finish(1, 60_000)?, start + sent, "interrupts after round {n}");
    }
    equal!(gic::count(1, 9), sgis + 17, "SGIs among them");
    equal!(gic::count_shared(0), own, "a shared interrupt came to the vCPU that raised it");
    Ok(())
}

fn sleep_until_sgi(number: u64) -> u64 {
    gic::init_cpu();
    let mine = cpu::index();
    let deadline = time::Deadline::after(20_000);
    while u64::from(gic::count(mine, 9)) < number && !deadline.passed() {
        plain!("wfi");
        gic::unmask();
        plain!("isb");
        gic::mask();
    }
    u64::from(gic::count(mine, 9))
}

/// A vCPU in WFI is woken by another's SGI.
fn wait_for_sgi() -> Verdict {
    need_vcpus(2)?;
    ready()?;
    for n in 0..50 {
        let number = u64::from(gic::count(1, 9)) + 1;
        smp::give(1, sleep_until_sgi, number)?;
        if n % 2 == 0 {
            time::sleep(1);
        }
        gic::send(1, 9);
        equal!(smp::finish(1, 60_000)?, number, "SGIs in round {n}");
    }
    Ok(())
}
