// SPDX-License-Identifier: MIT OR Apache-2.0
//! I: WFI and WFE.

use crate::machine::Machine;
use crate::probe;
use crate::smp::need_vcpus;
use crate::tests::i_clock::arm;
use crate::tests::i_interrupts::{ready, take};
use crate::verdict::Verdict;
use crate::{cpu, gic, smp, time};

tests! {
    i12_wait_for_interrupt: "I12", "", "" => wait_for_interrupt;
    i12_wait_for_event: "I12", "", "" => wait_for_event;
    i12_wait_at_el0: "I12", "", "" => wait_at_el0;
    i12_wait_for_sgi: "I12,E10", "vm.cpus=2", "" => wait_for_sgi;
    i12_wait_for_shared: "I12", "vm.cpus=2", "" => wait_for_shared;
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
