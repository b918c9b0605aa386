// SPDX-License-Identifier: MIT OR Apache-2.0
//! A VM that measures its share of the CPU, and VMs that try to take more than theirs.

use mmio_guard::abi;

use crate::hvc::hvc;
use crate::rng::Rng;
use crate::tree::{self, Gic};
use crate::wakes::{self, Latency};
use crate::{gic, guard, mmio, psci, smp, time};

/// Rounds of a batch.
const ROUNDS: u64 = 100;
/// Batches that are measured together: one takes too few ticks.
const TOGETHER: u64 = 16;

/// Counts batches for so many seconds. As all take the same instructions, and as long as the fastest ones while no other
/// has the CPU, their number says which share of the time the VM had.
pub fn victim(seconds: u64) {
    guard::declare_own();
    // The neighbours begin.
    time::sleep(50);
    let (mut least, mut count, mut gap) = (u64::MAX, 0_u64, 0);
    let start = time::now();
    let (mut last, mut mark) = (start, start);
    let end = start + time::ticks(seconds * 1000);
    while last < end {
        for _ in 0..TOGETHER {
            for _ in 0..ROUNDS {
                core::hint::spin_loop();
            }
            let now = time::now();
            gap = gap.max(now - last);
            last = now;
        }
        least = least.min(last - mark);
        mark = last;
        count += 1;
    }
    let share = count * least * 1000 / (last - start);
    let gap = time::microseconds(gap);
    say!("victim: {share} of 1000, longest gap {gap} us");
}

/// How late the VM runs after its timer: says so after each thousand, `rounds` times or for ever.
pub fn wakes(rounds: Option<u64>) {
    guard::declare_own();
    if !wakes::prepare() {
        say!("FAIL wakes: no GIC");
        return;
    }
    let mut rng = Rng::new(1);
    let mut samples = [0; 1000];
    let mut round = 0;
    while rounds.is_none_or(|rounds| round < rounds) {
        let Latency { min, median, max } = wakes::measure(&mut rng, &mut samples);
        let [min, median, max] = [min, median, max].map(time::nanoseconds);
        say!("wakes: 1000, {min} ns at the least, {median} median, {max} at the most");
        round += 1;
    }
}

/// Does so for ever.
pub fn attack(kind: &str) {
    match kind {
        "steal" => naps(3680, 5),
        // A vCPU that has woken goes first for a quarter of its slice.
        "ahead" => naps(900, 5),
        "nap" => naps(5, 10),
        "reset" => psci::system_reset(),
        "tables" => {
            fill_tables();
            psci::system_reset();
        }
        "flood" => {
            guard::declare_own();
            loop {
                say!("flood: a line of some length that nobody has asked for");
            }
        }
        "share" => share_and_unshare(),
        "device" => device(),
        // vCPU 1 has a CPU of its own, vCPU 0 shares the victim's.
        "waiting" => from_another(|| {
            loop {
                plain!("wfi");
            }
        }),
        "ready" => from_another(|| {
            loop {
                core::hint::spin_loop();
            }
        }),
        "off" => from_another(|| {
            psci::call(psci::id::CPU_OFF, [0; 3]);
        }),
        "waking" => from_another(|| {
            loop {
                plain!("wfi");
                gic::unmask();
                plain!("isb");
                gic::mask();
            }
        }),
        _ => say!("FAIL attack: no such kind"),
    }
}

/// Leaves as much as it can for its reset to undo: all pages of its table pool in use, and shared pages.
fn fill_tables() {
    guard::declare_own();
    // Where nothing is.
    let mut page = 0x20_0000_0000;
    while guard::map(page) == guard::done() {
        page += 2 << 20;
    }
    let (base, size) = tree::get().ram;
    for page in (0..size).step_by(1 << 20) {
        hvc(u64::from(abi::pkvm::MEM_SHARE), [base + page, 1, 0]);
    }
}

/// Shares and unshares as many pages as a call takes.
fn share_and_unshare() {
    guard::declare_own();
    let (base, size) = tree::get().ram;
    let pages = [base + size / 2, 128, 0];
    loop {
        hvc(u64::from(abi::pkvm::MEM_SHARE), pages);
        hvc(u64::from(abi::pkvm::MEM_UNSHARE), pages);
    }
}

fn prepare() -> bool {
    guard::declare_own();
    if tree::get().gic == Gic::None {
        say!("FAIL attack: no GIC");
        return false;
    }
    gic::init();
    gic::init_cpu();
    true
}

/// Lets the PL031 it has been given alarm, and never silences it: its interrupt comes again with each end.
fn device() {
    const CLOCK: u64 = 0x0901_0000;
    /// Registers of the PL031 (DDI 0224): data, match, interrupt mask.
    const DR: u64 = CLOCK;
    const MR: u64 = CLOCK + 0x4;
    const IMSC: u64 = CLOCK + 0x10;
    /// The first interrupt of the devices of a VM.
    const INTERRUPT: u32 = 34;
    const MANY: u32 = 1000;
    if !prepare() {
        return;
    }
    gic::give_spi(INTERRUPT, 0);
    mmio::write32(IMSC, 1);
    mmio::write32(MR, mmio::read32(DR));
    // Taken as exceptions they would come back to back, and nothing else would run.
    let mut count = 0_u32;
    loop {
        let value = gic::acknowledge();
        if value & 0x3ff == INTERRUPT {
            gic::end(value);
            count = count.wrapping_add(1);
            if count == MANY {
                say!("device: {MANY} interrupts");
            }
        }
    }
}

/// Runs and sleeps by turns, in microseconds.
fn naps(run: u64, sleep: u64) {
    if !prepare() {
        return;
    }
    loop {
        let end = time::now() + time::ticks_of_us(run);
        while time::now() < end {}
        doze(sleep);
    }
}

/// Ticks in `count` microseconds.
/// Sleeps for so many microseconds.
fn doze(count: u64) {
    msr!("cntv_cval_el0", time::now() + time::ticks_of_us(count));
    msr!("cntv_ctl_el0", 1);
    plain!("isb");
    plain!("wfi");
    gic::unmask();
    plain!("isb");
    gic::mask();
}

/// vCPU 1 sends SGIs to vCPU 0 without end, which does `what`.
fn from_another(what: impl FnOnce()) {
    if !prepare() {
        return;
    }
    // It sleeps between: QEMU counts the instructions of all CPUs as time of each.
    let send = |_| {
        gic::init_cpu();
        loop {
            for sgi in 0..8 {
                gic::send(0, sgi);
            }
            doze(20);
        }
    };
    if smp::give(1, send, 0).is_err() {
        say!("FAIL attack: vCPU 1 does not come");
        return;
    }
    what();
}
