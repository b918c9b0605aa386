// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU before 8.2: no guest may stop the whole emulator with its timer.
//!
//! Those versions compute when a virtual timer expires as CNTV_CVAL_EL0 + CNTVOFF_EL2 modulo 2^64.
//! A guest that parks its timer at 2^64 - 1, as many RTOSes do, makes that sum wrap to a time in the
//! past: QEMU's main loop then runs the timer's callback for ever. Guests write CNTV_CVAL_EL0
//! without a trap, so EL2 can only choose the offset. No offset above 0 is safe. All others are,
//! since an unexpired compare value is then larger than the offset's absolute value. So on such a
//! QEMU every VM's counter begins ahead of the machine's, at [`AHEAD`].
//!
//! Later versions handle the wrap, and raise no interrupt at all under an offset below 0.

use core::sync::atomic::{AtomicBool, Ordering};

use aarch64_cpu::registers::{
    CNTV_CTL_EL0, CNTV_CVAL_EL0, CNTVOFF_EL2, Readable as _, Writeable as _,
};
use arch::counter::CounterOffset;

use crate::cpu::{barrier, timer};

/// Where VMs' counters begin: more than three days at QEMU's 62.5 MHz.
const AHEAD: u64 = 1 << 44;
/// First `model` or `compatible` of QEMU's virt machine.
const VIRT: &str = "linux,dummy-virt";
/// How often both questions are asked. Each round waits twice as long.
const ROUNDS: u32 = 8;

/// Whether this QEMU's timers wrap.
static WRAPS: AtomicBool = AtomicBool::new(false);

/// Where a VM's counter begins after each reset.
pub fn first_count() -> u64 {
    if WRAPS.load(Ordering::Relaxed) { AHEAD } else { 0 }
}

/// The offset under which a VM's counter reads `count` at CNTPCT_EL0 `now`. Where QEMU's timers
/// wrap it is not above 0: the counter then jumps ahead to `now`.
pub fn offset(count: u64, now: u64) -> CounterOffset {
    let least = if WRAPS.load(Ordering::Relaxed) { now } else { 0 };
    CounterOffset::with_count(count.max(least), now)
}

/// Finds out which QEMU this is, if it is one. Boot CPU, before there is a VM.
///
/// Both questions end with a change of ISTATUS that only a callback of QEMU's timer makes, so that
/// neither an interrupted nor a slow emulator gives a wrong answer. One that is too slow for both
/// counts as a later version.
#[inline(never)]
pub fn probe(model: &str) {
    if model != VIRT {
        return;
    }
    for round in 0..ROUNDS {
        if changes(round, true) {
            WRAPS.store(true, Ordering::Relaxed);
            log::info!(
                "this QEMU is older than 8.2: a timer at 2^64 - 1 would stop it if VMs' counters began at 0; \
                 they begin at {AHEAD:#x}"
            );
            break;
        }
        if changes(round, false) {
            break;
        }
    }
    CNTVOFF_EL2.set(0);
    CNTV_CVAL_EL0.set(0);
}

/// Whether ISTATUS changes in time.
///
/// `expires`: the counter is ahead of the machine's, and the timer expires soon. A version before
/// 8.2 sees it. Otherwise: the counter passes from 2^64 - 1 to 0 soon, and the timer, which had
/// expired, has not. A later version sees that.
fn changes(round: u32, expires: bool) -> bool {
    let distance = 128_u64 << round;
    let now = timer::now();
    let (count, compare) = if expires {
        (AHEAD, AHEAD.wrapping_add(distance))
    } else {
        (distance.wrapping_neg(), 1 << 62)
    };
    CNTV_CTL_EL0.set(0);
    CNTVOFF_EL2.set(CounterOffset::with_count(count, now).raw());
    CNTV_CVAL_EL0.set(compare);
    CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET + CNTV_CTL_EL0::IMASK::SET);
    barrier::isb();
    let first = CNTV_CTL_EL0.is_set(CNTV_CTL_EL0::ISTATUS);
    // If not, the time had come before the timer was on.
    let in_time = first != expires;
    let end = now.saturating_add((timer::frequency() / 1000) << round);
    let mut changed = false;
    while in_time && !changed && timer::now() < end {
        changed = CNTV_CTL_EL0.is_set(CNTV_CTL_EL0::ISTATUS) != first;
    }
    CNTV_CTL_EL0.set(0);
    barrier::isb();
    changed
}
