// SPDX-License-Identifier: MIT OR Apache-2.0
//! Modes that only take time, or work hard and honestly.

use crate::guard::{self, hole};
use crate::tree::Gic;
use crate::{gic, mmio, probe, psci, smp, testdev, time, tree};

/// Takes the CPU, for some seconds or for ever.
pub fn spin(seconds: Option<u64>) {
    say!("spin: spinning");
    let others = |job: smp::Job| {
        for index in 1..tree::get().vcpus {
            // A vCPU that does not start spins all the less.
            let _ = smp::give(index, job, 0);
        }
    };
    others(|_| {
        loop {
            core::hint::spin_loop();
        }
    });
    match seconds {
        Some(seconds) => {
            time::wait_until(seconds * 1000, || false);
            say!("spin: done");
        }
        None => loop {
            core::hint::spin_loop();
        },
    }
}

/// Sleeps and is woken by its timer.
pub fn idle(seconds: u64) {
    guard::declare_own();
    if tree::get().gic == Gic::None {
        say!("FAIL idle: no GIC");
        return;
    }
    gic::init();
    gic::init_cpu();
    let mut wakes = 0;
    while wakes < seconds * 10 {
        let due = time::now() + time::ticks(100);
        msr!("cntv_cval_el0", due);
        msr!("cntv_ctl_el0", 1);
        plain!("isb");
        let before = gic::count(0, gic::VTIMER);
        let deadline = time::Deadline::after(60_000);
        while gic::count(0, gic::VTIMER) == before {
            plain!("wfi");
            gic::unmask();
            plain!("isb");
            gic::mask();
            if deadline.passed() {
                say!("FAIL idle: no timer interrupt within 60 s");
                return;
            }
        }
        if time::now() < due {
            say!("FAIL idle: the timer came early");
            return;
        }
        wakes += 1;
    }
    say!("idle: {wakes} wakes");
}

/// One round: what a busy guest asks of a hypervisor, each with its answer checked.
fn round(n: u64) -> crate::harness::Verdict {
    let page = hole(300 + n % 64);
    equal!(guard::map(page), guard::done(), "MAP");
    equal!(guard::unmap(page), guard::done(), "UNMAP");
    probe::load(page).refused(page)?;
    probe::access(probe::str_x, page).refused(page)?;
    let uart = tree::get().uart + 0xfe0;
    equal!(mmio::read32(uart) & 0xff, 0x11, "PL011 PeriphID0");
    equal!(psci::call(psci::id::VERSION, [0; 3]), 0x1_0001, "PSCI_VERSION");
    Ok(())
}

/// Rounds without end, or so many.
pub fn hammer(rounds: Option<u64>) {
    guard::declare_own();
    if guard::activate().is_err() {
        say!("FAIL hammer: no guard");
        return;
    }
    let mut next = time::Deadline::after(1000);
    let mut n = 0;
    while rounds.is_none_or(|rounds| n < rounds) {
        if let Err(crate::harness::Why::Failed(reason)) = round(n) {
            say!("FAIL hammer: round {n}: {reason}");
            return;
        }
        n += 1;
        if next.passed() {
            say!("hammer: {n} rounds");
            next = time::Deadline::after(1000);
        }
    }
    say!("hammer: {n} rounds");
}

/// One life after the other.
pub fn reboot(count: u64) {
    guard::declare_own();
    if testdev::need_keeping().is_err() {
        say!("FAIL reboot: no test device that keeps a word");
        return;
    }
    let life = testdev::kept() + 1;
    say!("reboot: life {life} of {count}");
    if life >= count {
        say!("reboot: {count} lives");
        return;
    }
    testdev::keep(life);
    psci::system_reset()
}
