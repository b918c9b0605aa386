// SPDX-License-Identifier: MIT OR Apache-2.0
//! The counter, and EL2's own timer.

use core::sync::atomic::{AtomicU32, Ordering};

use aarch64_cpu::registers::{
    CNTFRQ_EL0, CNTHP_CTL_EL2, CNTPCT_EL0, CNTV_CTL_EL0, CNTVOFF_EL2, Readable, Writeable,
};

use crate::cpu::sysreg::CNTHP_CVAL_EL2;

/// The virtual timer's interrupt as guests know it, whatever the machine's.
pub const GUEST_VIRTUAL: u32 = 27;
/// Interrupt of the virtual timer (PPI 27 unless the tree says otherwise).
static VIRTUAL: AtomicU32 = AtomicU32::new(27);
/// Interrupt of EL2's physical timer.
static HYPERVISOR: AtomicU32 = AtomicU32::new(26);

/// Stores the interrupts that the tree names.
pub fn init(timer: &platform::Timer) {
    VIRTUAL.store(timer.virt, Ordering::Relaxed);
    HYPERVISOR.store(timer.hypervisor, Ordering::Relaxed);
    if CNTFRQ_EL0.get() == 0
        && let Some(frequency) = timer.frequency
    {
        // Only the highest exception level can write it: firmware's task, unless there is no EL3.
        log::warn!("firmware left CNTFRQ_EL0 at 0; the tree says {frequency} Hz");
    }
}

/// Turns EL2's timer off on this CPU. `arch::trap_controls` decides which timers EL1 reads.
pub fn init_cpu() {
    CNTVOFF_EL2.set(0);
    CNTHP_CTL_EL2.set(0);
}

/// The virtual timer's interrupt id.
#[inline(always)]
pub fn virtual_timer() -> u32 {
    VIRTUAL.load(Ordering::Relaxed)
}

/// Whether the line of the loaded vCPU's virtual timer is high.
pub fn virtual_line() -> bool {
    CNTV_CTL_EL0.matches_all(
        CNTV_CTL_EL0::ENABLE::SET + CNTV_CTL_EL0::IMASK::CLEAR + CNTV_CTL_EL0::ISTATUS::SET,
    )
}

/// EL2's timer's interrupt id.
#[inline(always)]
pub fn hypervisor_timer() -> u32 {
    HYPERVISOR.load(Ordering::Relaxed)
}

/// CNTPCT_EL0.
#[inline(always)]
pub fn now() -> u64 {
    crate::cpu::barrier::isb();
    CNTPCT_EL0.get()
}

/// CNTFRQ_EL0, in Hz; never 0.
#[inline(always)]
pub fn frequency() -> u64 {
    CNTFRQ_EL0.get().max(1)
}

/// Whole seconds of `ticks`.
pub fn seconds(ticks: u64) -> u64 {
    ticks.checked_div(frequency()).unwrap_or(0)
}

/// Ticks of `us` microseconds.
pub fn ticks(us: u64) -> u64 {
    frequency().saturating_mul(us) / 1_000_000
}

/// Ticks of 50 us: the least time between two switches among vCPUs of equal claim.
pub fn turn() -> u64 {
    ticks(50)
}

/// Interrupts this CPU when CNTPCT_EL0 reaches `at`, or never if `at` is `u64::MAX`.
#[inline(always)]
pub fn wake_at(at: u64) {
    if at == u64::MAX {
        disarm();
    } else {
        CNTHP_CVAL_EL2.set(at);
        CNTHP_CTL_EL2.write(CNTHP_CTL_EL2::ENABLE::SET);
    }
}

/// Interrupts this CPU in a millisecond, or earlier if an earlier time is set.
pub fn wake_soon() {
    let soon = now().saturating_add(frequency() / 1000);
    if !CNTHP_CTL_EL2.is_set(CNTHP_CTL_EL2::ENABLE) || CNTHP_CVAL_EL2.get() > soon {
        wake_at(soon);
    }
}

/// Turns EL2's timer off.
#[inline(always)]
pub fn disarm() {
    CNTHP_CTL_EL2.set(0);
}
