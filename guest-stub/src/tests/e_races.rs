// SPDX-License-Identifier: MIT OR Apache-2.0
//! E: vCPUs against each other.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

use crate::guard::{self, State, hole};
use crate::smp::need_vcpus;
use crate::verdict::Verdict;
use crate::{cpu, gic, probe, psci, smp, testdev, time, tree};

tests! {
    e01_unmap_against_loads: "E1,B7", "vm.cpus=2 vm.testdev=0x0b000000", "" => unmap_against_loads;
    e02_map_against_map: "E2", "vm.cpus=2", "" => map_against_map;
    e02_map_against_unmap: "E2", "vm.cpus=2", "" => map_against_unmap;
    e02_tables_against_tables: "E2,B10", "vm.cpus=2 vm.pool=16", "alone" => tables_against_tables;
    e04_cpu_on_twice: "E4", "vm.cpus=2", "" => cpu_on_twice;
    e04_cpu_on_by_three: "E4", "vm.cpus=4", "" => cpu_on_by_three;
    e05_cpu_on_against_off: "E5", "vm.cpus=2", "" => cpu_on_against_off;
    e05_pending_survives_off: "E5", "vm.cpus=2", "" => pending_survives_off;
    c09_share_by_two: "C9", "vm.cpus=2", "" => share_by_two;
    e10_sgi_storm: "E10", "vm.cpus=2", "" => sgi_storm;
    e10_ping_pong: "E10", "vm.cpus=2", "" => ping_pong;
}

/// Tells the other vCPU's loop to end.
static STOP: AtomicBool = AtomicBool::new(false);
/// Loads of the other vCPU that completed, and that were refused as they should.
static SERVED: AtomicU64 = AtomicU64::new(0);
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// Loads until told to stop. Returns the syndrome of anything that is neither served nor refused.
fn loads(address: u64) -> u64 {
    while !STOP.load(Acquire) {
        let result = probe::load(address);
        if result.exit.done() {
            SERVED.fetch_add(1, Relaxed);
        } else if result.refused(address).is_ok() {
            REFUSED.fetch_add(1, Relaxed);
        } else {
            return result.exit.esr;
        }
    }
    0
}

/// Twenty times: once UNMAP has returned, and the load that may have been on its way is over, none is
/// served any more.
fn unmap_against_loads() -> Verdict {
    need_vcpus(2)?;
    testdev::ready()?;
    STOP.store(false, Release);
    smp::give(1, loads, testdev::window())?;
    let body = || -> Verdict {
        for round in 0..20 {
            let before = SERVED.load(Relaxed);
            check!(
                time::wait_until(20_000, || SERVED.load(Relaxed) > before + 20),
                "round {round}: no load is served"
            );
            let refused = REFUSED.load(Relaxed);
            equal!(guard::unmap(testdev::base()), guard::done(), "UNMAP");
            check!(
                time::wait_until(20_000, || REFUSED.load(Relaxed) > refused),
                "round {round}: no load is refused after UNMAP"
            );
            let served = SERVED.load(Relaxed);
            check!(
                time::wait_until(20_000, || REFUSED.load(Relaxed) > refused + 50),
                "round {round}: the other vCPU stands"
            );
            equal!(SERVED.load(Relaxed), served, "round {round}: loads served after UNMAP");
            equal!(guard::map(testdev::base()), guard::done(), "MAP");
        }
        Ok(())
    };
    let result = body();
    STOP.store(true, Release);
    guard::map(testdev::base());
    let syndrome = smp::finish(1, 60_000)?;
    result?;
    equal!(syndrome, 0, "syndrome that was no refusal");
    Ok(())
}

/// Where the two meet before each round.
static MEET: AtomicU64 = AtomicU64::new(0);

/// Waits until both are at round `round`.
fn meet(round: u64) {
    MEET.fetch_add(1, AcqRel);
    while MEET.load(Acquire) < 2 * round {
        core::hint::spin_loop();
    }
}

const ROUNDS: u64 = 16;
const PAGES: u64 = 64;

/// 512 pages of its own for each round.
fn region(round: u64) -> u64 {
    0x1400_0000 + round * 0x20_0000
}

/// Declares every second page of each round's region, and then the others'.
fn map_all(own: u64) -> u64 {
    let mut failures = 0;
    for round in 0..ROUNDS {
        meet(round + 1);
        for page in 0..PAGES {
            let page = region(round) + (page ^ own) * 4096;
            failures += u64::from(guard::map(page) != guard::done());
        }
    }
    failures
}

/// Two vCPUs declare the same pages of the same new tables: all succeed, each page counts once.
fn map_against_map() -> Verdict {
    need_vcpus(2)?;
    guard::activate()?;
    let before = guard::counters().declared;
    MEET.store(0, Release);
    smp::give(1, map_all, 1)?;
    let own = map_all(0);
    equal!((own, smp::finish(1, 60_000)?), (0, 0), "MAPs that failed");
    equal!(guard::counters().declared, before + ROUNDS * PAGES, "declared pages");
    for round in 0..ROUNDS {
        for page in 0..PAGES {
            let page = region(round) + page * 4096;
            check!(guard::query(page) == State::Declared, "page {page:#x}");
            equal!(guard::unmap(page), guard::done(), "UNMAP");
        }
    }
    equal!(guard::counters().declared, before, "declared pages in the end");
    Ok(())
}

fn map_and_unmap(own: u64) -> u64 {
    let mut failures = 0;
    for round in 0..200 {
        for page in 0..8 {
            // Each has its own pages, in a table that both use.
            let page = hole(200 + 2 * page + own);
            failures += u64::from(guard::map(page) != guard::done());
            failures += u64::from(guard::query(page) != State::Declared);
            if round % 2 == 0 || own == 0 {
                failures += u64::from(guard::unmap(page) != guard::done());
                failures += u64::from(guard::query(page) != State::Undeclared);
            }
        }
    }
    failures
}

/// Neighbours in one table, one vCPU each: neither sees what the other does.
fn map_against_unmap() -> Verdict {
    need_vcpus(2)?;
    guard::activate()?;
    let before = guard::counters().declared;
    smp::give(1, map_and_unmap, 1)?;
    let own = map_and_unmap(0);
    equal!((own, smp::finish(1, 60_000)?), (0, 0), "calls with another answer");
    equal!(guard::counters().declared, before + 8, "declared pages: those that vCPU 1 kept");
    for page in 0..8 {
        equal!(guard::unmap(hole(201 + 2 * page)), guard::done(), "UNMAP");
    }
    Ok(())
}

/// One page in each of 16 new regions, by both at once, until the pool is empty.
fn grab(_: u64) -> u64 {
    let mut done = 0;
    for round in 0..ROUNDS {
        meet(round + 1);
        done |= u64::from(guard::map(region(round)) == guard::done()) << round;
    }
    done
}

/// When two vCPUs need the same new table, one is made: no table is lost in the race.
fn tables_against_tables() -> Verdict {
    need_vcpus(2)?;
    guard::activate()?;
    MEET.store(0, Release);
    smp::give(1, grab, 0)?;
    let own = grab(0);
    let other = smp::finish(1, 60_000)?;
    equal!(own, other, "what the two got");
    // The same number as one vCPU alone gets: tables are needed for each region, and the pool is what
    // `guard` says is left of it.
    equal!(u64::from(own.count_ones()), 16 - guard::tables_used(), "regions that got a table");
    equal!(own, (1 << own.count_ones()) - 1, "regions that got a table: the first ones");
    Ok(())
}

/// The same vCPU twice: one success.
fn cpu_on_twice() -> Verdict {
    need_vcpus(2)?;
    smp::start(1)?;
    equal!(smp::power_on(1), psci::result::ALREADY_ON, "CPU_ON of a vCPU that is on");
    equal!(smp::power_on(0), psci::result::ALREADY_ON, "CPU_ON of the calling vCPU");
    for _ in 0..10 {
        smp::stop(1)?;
        equal!(smp::power_on(1), psci::result::SUCCESS, "CPU_ON");
        let again = smp::power_on(1);
        check!(
            again == psci::result::ON_PENDING || again == psci::result::ALREADY_ON,
            "CPU_ON at once again: {again}"
        );
        smp::start(1)?;
    }
    smp::stop(1)
}

fn on_three(_: u64) -> u64 {
    meet_three();
    smp::power_on(3).cast_unsigned() & 0xff
}

fn meet_three() {
    MEET.fetch_add(1, AcqRel);
    while MEET.load(Acquire) < 3 {
        core::hint::spin_loop();
    }
}

/// Three vCPUs turn the same fourth on: one succeeds, two hear that it is on or about to be.
fn cpu_on_by_three() -> Verdict {
    need_vcpus(4)?;
    for round in 0..10 {
        smp::stop(3)?;
        MEET.store(0, Release);
        smp::give(1, on_three, 0)?;
        smp::give(2, on_three, 0)?;
        let answers = [on_three(0), smp::finish(1, 60_000)?, smp::finish(2, 2000)?];
        let successes = answers.iter().filter(|answer| **answer == 0).count();
        check!(successes == 1, "round {round}: answers {answers:x?}");
        for answer in answers {
            check!(matches!(answer, 0 | 0xfc | 0xfb), "round {round}: answers {answers:x?}");
        }
        smp::start(3)?;
    }
    for index in 1..4 {
        smp::stop(index)?;
    }
    Ok(())
}

/// CPU_ON is repeated while the target is about to turn itself off: it starts exactly once.
fn cpu_on_against_off() -> Verdict {
    need_vcpus(2)?;
    for round in 0..50 {
        smp::start(1)?;
        smp::leave(1);
        // No waiting for the target: CPU_ON until it is taken.
        let mut answer = 0;
        let taken = time::wait_until(20_000, || {
            answer = smp::power_on(1);
            answer != psci::result::ALREADY_ON
        });
        check!(taken && answer == psci::result::SUCCESS, "round {round}: CPU_ON: {answer}");
        check!(time::wait_until(20_000, || smp::idle(1)), "round {round}: vCPU 1 did not come up");
    }
    smp::stop(1)
}

fn count_sgis(expected: u64) -> u64 {
    gic::init_cpu();
    gic::unmask();
    let mine = cpu::index();
    let done = time::wait_until(60_000, || u64::from(gic::count(mine, 5)) >= expected);
    gic::mask();
    u64::from(done)
}

/// A storm of SGIs: both vCPUs make progress, and the last one is not lost.
fn sgi_storm() -> Verdict {
    need_vcpus(2)?;
    need!(tree::get().gic != tree::Gic::None, "no GIC");
    guard::activate_if_there()?;
    gic::init();
    let start = gic::count(1, 5);
    smp::give(1, count_sgis, u64::from(start) + 1)?;
    for _ in 0..20_000 {
        gic::send(1, 5);
    }
    equal!(smp::finish(1, 60_000)?, 1, "vCPU 1 has seen one");
    // Each that is sent when none is pending arrives.
    for n in 0..100 {
        let seen = gic::count(1, 5);
        smp::give(1, count_sgis, u64::from(seen) + 1)?;
        gic::send(1, 5);
        equal!(smp::finish(1, 60_000)?, 1, "SGI {n} arrived");
    }
    Ok(())
}

fn answer_pings(rounds: u64) -> u64 {
    gic::init_cpu();
    let first = gic::count(1, 6);
    for round in 0..rounds as u32 {
        gic::unmask();
        let come = time::wait_until(20_000, || gic::count(1, 6).wrapping_sub(first) > round);
        gic::mask();
        if !come {
            return u64::from(round);
        }
        gic::send(0, 7);
    }
    rounds
}

/// One SGI at a time, to and fro.
fn ping_pong() -> Verdict {
    need_vcpus(2)?;
    need!(tree::get().gic != tree::Gic::None, "no GIC");
    guard::activate_if_there()?;
    gic::init();
    gic::init_cpu();
    const ROUNDS: u64 = 500;
    let first = gic::count(0, 7);
    smp::give(1, answer_pings, ROUNDS)?;
    // Its first `init_cpu` must not lose a ping.
    time::sleep(5);
    for round in 0..ROUNDS as u32 {
        gic::send(1, 6);
        gic::unmask();
        let come = time::wait_until(20_000, || gic::count(0, 7).wrapping_sub(first) > round);
        gic::mask();
        check!(come, "no answer in round {round}");
    }
    equal!(smp::finish(1, 60_000)?, ROUNDS, "pings answered");
    Ok(())
}

/// Takes SGI 3; lets SGI 4 come and does not take it.
fn leave_pending(_: u64) -> u64 {
    let before = gic::count(1, 3);
    gic::init_cpu();
    gic::unmask();
    let taken = time::wait_until(20_000, || gic::count(1, 3) != before);
    gic::mask();
    // The other one is sent when this is seen.
    TAKEN.store(u64::from(taken), Release);
    u64::from(time::wait_until(20_000, || STOP.load(Acquire)))
}

/// Set once SGI 3 has been taken.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Takes what is pending: how many SGIs 3, and, above, how many 4 that were.
fn take_pending(_: u64) -> u64 {
    let before = [3, 4].map(|id| gic::count(1, id));
    gic::init_cpu();
    gic::unmask();
    time::wait_until(20_000, || gic::count(1, 4) != before[1]);
    gic::mask();
    let [three, four] = [3, 4].map(|id| u64::from(gic::count(1, id)));
    (three - u64::from(before[0])) | (four - u64::from(before[1])) << 32
}

/// What is pending for a vCPU waits while it is off; what it has taken before does not come again.
fn pending_survives_off() -> Verdict {
    need_vcpus(2)?;
    need!(tree::get().gic != tree::Gic::None, "no GIC");
    guard::activate_if_there()?;
    gic::init();
    for round in 0..5 {
        STOP.store(false, Release);
        TAKEN.store(0, Release);
        smp::give(1, leave_pending, 0)?;
        // Its first `init_cpu` must not lose it.
        time::sleep(5);
        gic::send(1, 3);
        let taken = time::wait_until(20_000, || TAKEN.load(Acquire) == 1);
        gic::send(1, 4);
        time::sleep(5);
        STOP.store(true, Release);
        equal!(smp::finish(1, 60_000)?, 1, "round {round}: the job");
        check!(taken, "round {round}: SGI 3 did not come");
        smp::stop(1)?;
        smp::give(1, take_pending, 0)?;
        equal!(
            smp::finish(1, 60_000)?,
            1 << 32,
            "round {round}: SGIs 4 and 3 after CPU_OFF and CPU_ON"
        );
    }
    smp::stop(1)
}

/// Unused pages of RAM.
fn free_page(n: u64) -> u64 {
    let (base, size) = tree::get().ram;
    base + size - 0x20_0000 + n * 4096
}

/// MEM_SHARE of each page, and later MEM_UNSHARE: how many this one did.
fn share_all(call: u64) -> u64 {
    let mut done = 0;
    for page in 0..PAGES {
        meet(page + 1);
        done += u64::from(crate::hvc::hvc(call, [free_page(page), 1, 0]) == [0, 1, 0, 0]);
    }
    done
}

/// Two vCPUs share the same page at once: one succeeds, the other hears that it is shared.
fn share_by_two() -> Verdict {
    need_vcpus(2)?;
    need!(guard::dialect().is_some() && !guard::series(), "no MEM_SHARE");
    for call in [0xc600_0003, 0xc600_0004, 0xc600_0003, 0xc600_0004] {
        MEET.store(0, Release);
        smp::give(1, share_all, call)?;
        let own = share_all(call);
        equal!(own + smp::finish(1, 60_000)?, PAGES, "successes of {call:#x}");
    }
    Ok(())
}
