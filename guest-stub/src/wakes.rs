// SPDX-License-Identifier: MIT OR Apache-2.0
//! How late a VM runs after its timer: it sleeps in WFI until a deadline, again and again, and reads the counter
//! once it has taken the interrupt.

use crate::rng::Rng;
use crate::tree::{self, Gic};
use crate::{gic, time};

/// Least and most between two deadlines, in microseconds: of no common measure with anything that another VM does.
const PAUSES: (u64, u64) = (50, 950);

/// From the deadline to the end of the handler, in ticks of the counter.
#[derive(Clone, Copy)]
pub struct Latency {
    /// The shortest.
    pub min: u64,
    /// The middle one.
    pub median: u64,
    /// The longest.
    pub max: u64,
}

/// Prepares the interrupt controller. `false`: there is none.
pub fn prepare() -> bool {
    if tree::get().gic == Gic::None {
        return false;
    }
    gic::init();
    gic::init_cpu();
    true
}

/// Sleeps once for each of `samples`, which it fills and sorts.
pub fn measure(rng: &mut Rng, samples: &mut [u64]) -> Latency {
    let (least, most) = PAUSES;
    for sample in &mut *samples {
        let pause = time::ticks_of_us(least + rng.next() % (most - least));
        let due = time::now() + pause;
        msr!("cntv_cval_el0", due);
        msr!("cntv_ctl_el0", 1);
        plain!("isb");
        let before = gic::count(0, gic::VTIMER);
        while gic::count(0, gic::VTIMER) == before {
            plain!("wfi");
            gic::unmask();
            plain!("isb");
            gic::mask();
        }
        *sample = time::now() - due;
    }
    samples.sort_unstable();
    let at = |n: usize| samples.get(n).copied().unwrap_or_default();
    Latency { min: at(0), median: at(samples.len() / 2), max: at(samples.len().saturating_sub(1)) }
}
