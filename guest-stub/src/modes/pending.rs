// SPDX-License-Identifier: MIT OR Apache-2.0
//! SGIs that are pending and masked while other VMs have the CPU: each comes once, afterwards.

use crate::psci::{self, id};
use crate::{gic, guard, time};

/// SGIs that there are.
const SGIS: usize = 16;

/// `rounds` times: an SGI to itself with interrupts masked, then the CPU is given away, sometimes with a second SGI sent in
/// between, sometimes after a look at the pending ones. Then interrupts are let in.
pub fn run(rounds: u64) {
    guard::declare_own();
    gic::init();
    gic::init_cpu();
    gic::mask();
    let counts = || core::array::from_fn::<u32, SGIS, _>(|id| gic::count(0, id as u32));
    let mut due = counts();
    for round in 0..rounds {
        let one = round as usize % SGIS;
        let other = (one + 5) % SGIS;
        let second = round % 3 == 1;
        due[one] += 1;
        due[other] += u32::from(second);
        gic::send(0, one as u32);
        give_away();
        if round % 4 == 3 && gic::pending() & 1 << one == 0 {
            say!("FAIL pending: SGI {one} is not pending in round {round}");
            return;
        }
        if second {
            gic::send(0, other as u32);
        }
        give_away();
        give_away();
        gic::unmask();
        time::wait_until(200, || counts() == due);
        gic::mask();
        // What is there twice comes in the next round, where it is one too many.
        let come = counts();
        if come != due {
            say!("FAIL pending: SGIs came {come:?} times and not {due:?}, round {round}");
            return;
        }
    }
    say!("pending: {rounds} rounds");
}

/// CPU_SUSPEND: others that share the CPU run.
fn give_away() {
    psci::call(id::CPU_SUSPEND, [0; 3]);
}
