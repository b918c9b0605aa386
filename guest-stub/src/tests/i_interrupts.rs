// SPDX-License-Identifier: MIT OR Apache-2.0
//! I: interrupt controller, timer, waiting.

use crate::machine::Machine;
use crate::probe;
use crate::rng::Rng;
use crate::smp::need_vcpus;
use crate::tree::Gic;
use crate::verdict::Verdict;
use crate::{gic, guard, mmio, smp, time, tree};

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
}

/// Sets the GIC up and takes what is pending.
pub fn ready() -> Verdict {
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
fn sweep(base: u64, bytes: u64, rng: &mut Rng) -> Verdict {
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
    for value in [0, u64::MAX, rng.next()] {
        for offset in (0..bytes).step_by(8) {
            for (width, code) in probe::STORES {
                let va = base + offset + if width < 4 { rng.next() & 7 & !(width - 1) } else { 0 };
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
    sweep(base, bytes, &mut Rng::new(0x1234_5678_9abc_def1))?;
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
    sweep(base, size.min(0x2_0000), &mut Rng::new(0xfeed_beef_0bad_cafe))?;
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
        u64::from(sweep(base, bytes.min(0x1000), &mut Rng::new(0x77)).is_err())
    }
    smp::give(1, job, 0)?;
    let (base, bytes) = distributor();
    sweep(base, bytes.min(0x1000), &mut Rng::new(0x99))?;
    equal!(smp::finish(1, 60_000)?, 0, "the other vCPU's sweep");
    Ok(())
}

/// Takes what is pending for a moment.
pub fn take() {
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
                0,           // no target
                0xfffe,      // vCPUs that do not exist
                1 << 16 | 1, // another Aff1
                1 << 32 | 1, // another Aff2
                1 << 48 | 1, // another Aff3
                0xff << 48 | 0xff << 32 | 0xff << 16 | 0xffff,
                1 << 44 | 1, // RS: targets 16 to 31
                0xf << 44 | 0xffff,
                1 << 40, // all but itself, alone
                1 << 40 | 0xffff,
                0xf << 24, // SGI 15 without a target
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
