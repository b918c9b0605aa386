// SPDX-License-Identifier: MIT OR Apache-2.0
//! G: one boot after the other. The test device keeps a word that tells them apart.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::guard::{self, State, hole};
use crate::hvc::hvc;
use crate::smp::need_vcpus;
use crate::tests::psci::dirty_registers;
use crate::verdict::Verdict;
use crate::{boot, gic, image_layout, mmu, probe, psci, smp, testdev, time, tree};

tests! {
    g01_reboots: "G1", "vm.testdev=0x0b000000 vm.pool=12", "alone" => reboots;
    g01_reboots_series: "G1", "vm.testdev=0x0b000000 vm.pool=12 vm.dialect=series", "alone" => reboots;
    g01_thousand_reboots: "G1", "vm.testdev=0x0b000000 vm.pool=12 vm.mem=32M", "alone slow" => thousand_reboots;
    // bug: 67
    g02_clean_registers: "G2", "vm.testdev=0x0b000000", "alone" => clean_registers;
    g02_clean_memory: "G2", "vm.testdev=0x0b000000", "alone" => clean_memory;
    // bug: 70
    g02_clean_interrupts: "G2", "vm.testdev=0x0b000000", "alone" => clean_interrupts;
    // bug: 67
    g02_clean_vcpus: "G2,E3", "vm.testdev=0x0b000000 vm.cpus=2", "alone" => clean_vcpus;
    g02_clean_shares: "G2,A21", "vm.testdev=0x0b000000", "alone" => clean_shares;
    g02_counter_begins_anew: "G2", "vm.testdev=0x0b000000", "alone" => counter_begins_anew;
    g02_reset2: "G2", "vm.testdev=0x0b000000", "alone" => reset2;
    e06_reset_under_load: "E6,E3", "vm.testdev=0x0b000000 vm.cpus=2", "alone" => reset_under_load;
}

/// A word that a reset must wipe: it is not part of the image.
static WORD: AtomicU64 = AtomicU64::new(0);

/// Declares one page in each 2 MiB of a GiB until the pool is empty; how many that were.
fn fill() -> u64 {
    let mut count = 0;
    while count < 512 && guard::map(0x4_0000_0000 + count * 0x20_0000) == guard::done() {
        count += 1;
    }
    count
}

/// Each life finds nothing of the one before: not enrolled, nothing declared, all tables back.
fn lives(count: u64) -> Verdict {
    need!(guard::dialect().is_some(), "no MMIO guard");
    testdev::need_keeping()?;
    let kept = testdev::kept();
    let (life, tables) = (kept & 0xffff, kept >> 16);
    let refused = guard::counters().refused;
    probe::load(testdev::window()).completed(&[0])?;
    for page in [hole(0), 0x4_0000_0000, testdev::base()] {
        equal!(guard::query(page), State::Undeclared, "page {page:#x} in life {life}");
    }
    equal!(guard::counters().refused, refused, "refusals: the guard is active in life {life}");
    guard::activate()?;
    guard::map(testdev::base());
    guard::map(hole(0));
    let filled = fill();
    check!(filled > 0, "no table is left in life {life}");
    check!(life == 0 || filled == tables, "life {life}: {filled} tables, there were {tables}");
    if life == count {
        return Ok(());
    }
    testdev::keep(filled << 16 | (life + 1));
    psci::system_reset()
}

fn reboots() -> Verdict {
    lives(20)
}

fn thousand_reboots() -> Verdict {
    lives(1000)
}

/// Whether this is the first boot; if so it is the last time that this is said.
fn first_life() -> Result<bool, crate::verdict::Why> {
    need!(guard::dialect().is_some(), "no MMIO guard");
    testdev::need_keeping()?;
    let first = testdev::kept() == 0;
    testdev::keep(1);
    Ok(first)
}

fn clean_registers() -> Verdict {
    if first_life()? {
        dirty_registers(0);
        psci::system_reset()
    }
    let entry = boot::entry();
    let pattern = 0x5ec2_e7ed;
    equal!(entry.sctlr & 0x0200_1005, 0, "SCTLR_EL1 EE, I, C, M");
    equal!(entry.cntv_ctl & 1, 0, "CNTV_CTL_EL0.ENABLE");
    for (n, x) in entry.x.iter().enumerate().skip(1) {
        check!(*x == 0 || n > 3, "x{n}: {x:#x}");
        check!(x & 0xffff_ffff != pattern, "x{n} is of the former life");
    }
    for value in entry.tpidr.iter().chain(&entry.fp) {
        check!(value & 0xffff_ffff != pattern, "{value:#x} is of the former life");
    }
    check!(mrs!("contextidr_el1") != pattern, "CONTEXTIDR_EL1 is of the former life");
    check!(mrs!("par_el1") & 0xffff_f000 != pattern & 0xffff_f000, "PAR_EL1 is of the former life");
    Ok(())
}

/// Where CNTVCT_EL0 may begin: 2^44 on a QEMU before 8.2 (docs/vm.md).
const FIRST_COUNTS: [u64; 2] = [0, 1 << 44];

/// CNTVCT_EL0 begins anew in each boot: since then no more ticks have passed than since the reset.
fn counter_begins_anew() -> Verdict {
    const LIVES: u64 = 3;
    need!(guard::dialect().is_some(), "no MMIO guard");
    testdev::need_keeping()?;
    let [count, physical] = boot::counters_at_entry();
    // Life in 3:0, CNTPCT_EL0 at the reset above that, to 16 ticks.
    let kept = testdev::kept();
    let (life, reset) = (kept & 0xf, kept & !0xf);
    let first = FIRST_COUNTS.into_iter().rev().find(|first| count >= *first).unwrap_or(0);
    let (since_begin, since_reset) = (count - first, physical - reset);
    check!(
        since_begin <= since_reset,
        "life {life}: CNTVCT_EL0 is {count:#x}, {since_reset:#x} ticks after the reset"
    );
    if life == LIVES {
        return Ok(());
    }
    time::sleep(20);
    testdev::keep(mrs!("cntpct_el0") & !0xf | (life + 1));
    psci::system_reset()
}

/// RAM: what is not image, tree or ramdisk is zero, what is image is pristine.
fn clean_memory() -> Verdict {
    let (base, size) = tree::get().ram;
    // Behind the image, at the end of RAM, and over the device tree's place and the image's data.
    let places = [image_layout::footprint().end + 0x10_0000, base + size / 2, base + size - 8];
    static mut DATA: u64 = 0x1234;
    let data = &raw mut DATA;
    if first_life()? {
        for place in places {
            // SAFETY: RAM that nothing uses.
            unsafe { (place as *mut u64).write_volatile(0x5ec2_e7ed) };
        }
        // SAFETY: this vCPU alone uses it.
        unsafe { data.write_volatile(0x5ec2_e7ed) };
        WORD.store(0x5ec2_e7ed, Relaxed);
        psci::system_reset()
    }
    for place in places {
        // SAFETY: as above.
        equal!(unsafe { (place as *const u64).read_volatile() }, 0, "RAM at {place:#x}");
    }
    // SAFETY: as above.
    equal!(unsafe { data.read_volatile() }, 0x1234, "data of the image");
    equal!(WORD.load(Relaxed), 0, "zeroed data of the image");
    Ok(())
}

/// Pending SGIs, an armed timer, enabled interrupts, and one that is active.
fn clean_interrupts() -> Verdict {
    let first = first_life()?;
    guard::activate()?;
    gic::init();
    if first {
        gic::init_cpu();
        for id in [1, 3, 9] {
            gic::set_pending(id);
        }
        msr!("cntv_cval_el0", 0);
        msr!("cntv_ctl_el0", 1);
        plain!("isb");
        // One is active: acknowledged and never ended.
        let active = gic::acknowledge();
        check!(active < 32, "nothing to acknowledge: {active}");
        psci::system_reset()
    }
    equal!(gic::pending(), 0, "pending interrupts");
    equal!(gic::active(), 0, "active interrupts");
    equal!(gic::enabled() & 0xffff_0000, 0, "enabled PPIs");
    gic::init_cpu();
    gic::unmask();
    crate::time::sleep(20);
    gic::mask();
    for id in 0..32 {
        equal!(gic::count(0, id), 0, "interrupt {id} of the former life");
    }
    Ok(())
}

/// The second vCPU is off again after a reset, wherever it was.
fn clean_vcpus() -> Verdict {
    need_vcpus(2)?;
    if first_life()? {
        fn work(_: u64) -> u64 {
            loop {
                probe::load(hole(0));
            }
        }
        smp::give(1, work, 0)?;
        crate::time::sleep(10);
        psci::system_reset()
    }
    let info = psci::call(psci::id::AFFINITY_INFO, [crate::cpu::of(1).mpidr, 0, 0]);
    equal!(info, 1, "AFFINITY_INFO of vCPU 1");
    crate::time::sleep(10);
    check!(!smp::busy(1), "vCPU 1 runs");
    smp::start(1)?;
    smp::stop(1)
}

fn clean_shares() -> Verdict {
    let page = 0x4010_0000;
    let share = |page| hvc(0xc600_0003, [page, 1, 0]);
    if first_life()? {
        equal!(share(page), [0, 1, 0, 0], "MEM_SHARE");
        psci::system_reset()
    }
    equal!(share(page), [0, 1, 0, 0], "MEM_SHARE in the next life");
    equal!(hvc(0xc600_0004, [page, 1, 0]), [0, 1, 0, 0], "MEM_UNSHARE");
    Ok(())
}

/// SYSTEM_RESET2 of type 0 is a reset.
fn reset2() -> Verdict {
    if first_life()? {
        guard::activate()?;
        guard::map(testdev::base());
        guard::map(hole(0));
        psci::call(psci::id::SYSTEM_RESET2, [0, 0x1234, 0]);
        return Err(crate::verdict::failed(format_args!("SYSTEM_RESET2 came back")));
    }
    equal!(guard::query(hole(0)), State::Undeclared, "the page");
    Ok(())
}

/// Resets while the other vCPU hammers the device, calls and aborts.
fn reset_under_load() -> Verdict {
    need_vcpus(2)?;
    need!(guard::dialect().is_some(), "no MMIO guard");
    testdev::need_keeping()?;
    fn load(_: u64) -> u64 {
        loop {
            probe::load(testdev::window());
            guard::map(hole(1));
            probe::load(hole(2));
            guard::unmap(hole(1));
        }
    }
    let life = testdev::kept();
    equal!(guard::query(hole(1)), State::Undeclared, "the page in life {life}");
    let counts = testdev::counts();
    equal!(counts.loads, 0, "loads that reached the device in this life");
    equal!(mmu::enabled(), true, "the MMU");
    if life == 20 {
        return Ok(());
    }
    testdev::keep(life + 1);
    smp::give(1, load, 0)?;
    crate::time::sleep(3 + life % 4);
    psci::system_reset()
}
