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
    let (mut wakes, mut latest) = (0, 0);
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
        let now = time::now();
        if now < due {
            say!("FAIL idle: the timer came early");
            return;
        }
        latest = latest.max(now - due);
        wakes += 1;
    }
    say!("idle: {wakes} wakes, the latest by {} us", time::microseconds(latest));
}

/// One round: what a busy guest asks of a hypervisor, each with its answer checked.
fn round(n: u64) -> crate::verdict::Verdict {
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
        if let Err(crate::verdict::Why::Failed(reason)) = round(n) {
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

/// Interrupts without end: SGIs to itself and to all others, and a timer that is always due.
pub fn storm(seconds: Option<u64>) {
    guard::declare_own();
    if tree::get().gic == Gic::None {
        say!("FAIL storm: no GIC");
        return;
    }
    gic::init();
    say!("storm: begins");
    let seconds = seconds.unwrap_or(3600);
    for index in 1..tree::get().vcpus {
        // A vCPU that does not start storms all the less.
        let _ = smp::give(index, blow, seconds);
    }
    let taken = blow(seconds);
    say!("storm: {taken} interrupts");
}

/// For so many seconds; how many interrupts were taken here.
fn blow(seconds: u64) -> u64 {
    gic::init_cpu();
    let mine = crate::cpu::index();
    let deadline = time::Deadline::after(seconds * 1000);
    while !deadline.passed() {
        for target in 0..tree::get().vcpus {
            for sgi in 0..8 {
                gic::send(target, sgi);
            }
        }
        // In the past: due at once, whenever the handler has silenced it.
        msr!("cntv_cval_el0", 0);
        msr!("cntv_ctl_el0", 1);
        gic::unmask();
        plain!("isb");
        gic::mask();
    }
    let taken = |id| u64::from(gic::count(mine, id));
    (0..8).map(taken).sum::<u64>() + taken(gic::VTIMER)
}

/// Bytes of a page that tell whose it is.
const WORD: usize = 8;

/// Whether every free page of RAM holds the word in each place that is looked at.
fn all_pages(word: u64) -> Result<u64, (u64, u64)> {
    let mut pages = 0;
    for page in free_pages() {
        for at in (page..page + 4096).step_by(4096 / WORD) {
            // SAFETY: RAM that nothing of the stub is in.
            let seen = unsafe { (at as *const u64).read_volatile() };
            if seen != word {
                return Err((at, seen));
            }
        }
        pages += 1;
    }
    Ok(pages)
}

/// RAM behind the image and what lies with it.
fn free_pages() -> impl Iterator<Item = u64> {
    let (base, size) = tree::get().ram;
    let first = (crate::image_layout::footprint().end + 0xfff) & !0xfff;
    (first..base + size).step_by(4096)
}

/// All of its RAM is zero at first, can be filled, and keeps what was written: no other VM has it.
pub fn tenant(number: u64, seconds: u64) {
    guard::declare_own();
    let word = 0x7e4a_4700_0000_0000 | number;
    let complain = |when: &str, (at, seen): (u64, u64)| {
        say!("FAIL tenant {number}: {when}, {at:#x} holds {seen:#x}");
    };
    let pages = match all_pages(0) {
        Ok(pages) => pages,
        Err(other) => return complain("at first", other),
    };
    for page in free_pages() {
        for at in (page..page + 4096).step_by(4096 / WORD) {
            // SAFETY: as in `all_pages`.
            unsafe { (at as *mut u64).write_volatile(word) };
        }
    }
    say!("tenant {number}: moved in");
    let deadline = time::Deadline::after(seconds * 1000);
    loop {
        if let Err(other) = all_pages(word) {
            return complain("later", other);
        }
        if deadline.passed() {
            break;
        }
    }
    say!("tenant {number}: {pages} pages of its own");
}

/// What ARCH_FEATURES answers about SMCCC_ARCH_WORKAROUND_1, 2 and 3.
pub fn workarounds() {
    let [first, second, third] = [0x8000_8000, 0x8000_7fff, 0x8000_3fff]
        .map(|id| crate::hvc::hvc(0x8000_0001, [id, 0, 0])[0].cast_signed());
    say!("workarounds: {first} {second} {third}");
}
