// SPDX-License-Identifier: MIT OR Apache-2.0
//! Several vCPUs, or several VMs.

use super::clock::{BATCHES, LENGTH, LOOP, PER_TICK, batches, each, figure};
use super::results::{Figure, note};
use super::vectors;
use crate::rng::Rng;
use crate::tree::Gic;
use crate::{cpu, gic, guard, psci, smp, tree, wakes};

timed!(
    /// Sends, and sleeps until the other has sent back.
    ping,
    "mov x16, xzr",
    "msr S3_0_C12_C11_5, x9",
    "isb",
    "3:",
    "wfi",
    "msr daifclr, #2",
    "isb",
    "msr daifset, #2",
    "cbz x16, 3b",
);

timed!(
    /// Sleeps until the other has sent, and sends back.
    pong,
    "mov x16, xzr",
    "3:",
    "wfi",
    "msr daifclr, #2",
    "isb",
    "msr daifset, #2",
    "cbz x16, 3b",
    "msr S3_0_C12_C11_5, x9",
    "isb",
);

/// The vCPU's interrupts work, masked.
fn prepare() {
    gic::init_cpu();
}

/// ICC_SGI1R_EL1 for SGI `id` to vCPU `index`.
fn sgi(index: usize, id: u64) -> u64 {
    gic::sgi_to(cpu::of(index).mpidr) | id << 24
}

/// Two vCPUs wake each other.
pub fn ping_pong() {
    gic::init();
    prepare();
    let other = smp::give(
        1,
        |rounds| {
            prepare();
            vectors::with(|| pong(rounds, [sgi(0, 1), 0, 0]));
            0
        },
        // More than are asked for: one that has done its work would not sleep.
        (BATCHES as u64 + 2) * LENGTH,
    );
    if other.is_err() {
        say!("FAIL bench: vCPU 1 does not come");
        return;
    }
    crate::time::sleep(20);
    let figure = vectors::with(|| batches(LENGTH, 2 * LOOP, |_| ping(LENGTH, [sgi(1, 1), 0, 0]).0));
    note(format_args!("two vCPUs in WFI, SGI there and back"), figure);
}

timed!(
    /// A load that lets the other CPUs go first.
    load_in_turn,
    "ldr w0, [x9]",
    "yield",
);

timed!(
    /// Sleeps until x10 interrupts have come.
    sleep_until,
    "3:",
    "cmp x16, x10",
    "b.hs 4f",
    "wfi",
    "msr daifclr, #2",
    "isb",
    "msr daifset, #2",
    "b 3b",
    "4:",
);

/// Accesses of each vCPU in a round.
const ACCESSES: u64 = 512;

/// Accesses of more and more vCPUs at once, in instructions of all of them per access.
pub fn at_once() {
    let Gic::V3(distributor, ..) = tree::get().gic else { return };
    gic::init();
    prepare();
    for index in 1..tree::get().vcpus {
        let given = smp::give(
            index,
            |index| {
                let Gic::V3(distributor, ..) = tree::get().gic else { return 0 };
                prepare();
                vectors::with(|| {
                    loop {
                        sleep_until(1, [0, 1, 0]);
                        load_in_turn(ACCESSES, [distributor + 4, 0, 0]);
                        gic::sgi1r(sgi(0, index));
                    }
                })
            },
            index as u64,
        );
        if given.is_err() {
            say!("FAIL bench: vCPU {index} does not come");
            return;
        }
    }
    crate::time::sleep(5);
    for count in [1, 2, 4, 8] {
        if count > tree::get().vcpus {
            break;
        }
        let others = (1..count).fold(0, |list, index| list | sgi(index, 8));
        let round = || {
            let start = crate::time::now();
            if others != 0 {
                gic::sgi1r(others);
            }
            load_in_turn(ACCESSES, [distributor + 4, 0, 0]);
            vectors::with(|| sleep_until(1, [0, count as u64 - 1, 0]));
            crate::time::now() - start
        };
        let mut samples = [0; 5];
        round();
        for sample in &mut samples {
            *sample = each(round(), count as u64 * ACCESSES, LOOP + 1);
        }
        note(format_args!("access by {count} vCPUs at once"), figure(&mut samples));
    }
}

/// The latest of many wake-ups.
pub fn latest_wake() {
    if !wakes::prepare() {
        say!("FAIL bench: no GIC");
        return;
    }
    let mut rng = Rng::new(1);
    let mut samples = [0; 200];
    // What it has used of its quantum until now comes back with the next one.
    let _ = wakes::measure(&mut rng, &mut samples[..30]);
    let latency = wakes::measure(&mut rng, &mut samples);
    note(format_args!("latest wake-up"), Figure::exact(latency.max * PER_TICK));
}

/// Some pages declared, and sleep.
pub fn quiet() {
    guard::range_map(super::operations::VOID, 512);
    loop {
        plain!("wfi");
    }
}

timed!(
    /// Gives the CPU up with an interrupt pending, so that it comes back at once; x16 counts what FP/SIMD did not keep.
    give_up,
    "fmov d0, x12",
    "mov x0, x9",
    "mov x1, xzr",
    "hvc #0",
    "fmov x1, d0",
    "cmp x1, x12",
    "cinc x16, x16, ne",
);

/// From one VM's vCPU to another's on one CPU, FP/SIMD in use, by CPU_SUSPEND.
pub fn switch() {
    gic::init();
    prepare();
    // Pending, and never taken.
    gic::sgi1r(gic::to_own() | 1 << 24);
    crate::time::sleep(40);
    // There and back are two, with the other's instructions.
    let own = 2 * (LOOP + 4);
    let mut lost = 0;
    let mut both = batches(LENGTH, own, |_| {
        let (took, broken) = give_up(LENGTH, [psci::id::CPU_SUSPEND, 0, 0]);
        lost += broken;
        took
    });
    if lost != 0 {
        say!("FAIL bench: FP/SIMD registers changed {lost} times");
    }
    // The other one is to be there until the end.
    give_up(4 * LENGTH, [psci::id::CPU_SUSPEND, 0, 0]);
    (both.median, both.min, both.max) = (both.median / 2, both.min / 2, both.max / 2);
    note(format_args!("vCPU switch between two VMs"), both);
}
