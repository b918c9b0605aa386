// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls to firmware at EL3, or to QEMU without EL3: PSCI, TRNG, and the SMCCC workarounds.

use core::sync::atomic::{AtomicBool, AtomicI8, AtomicU8, Ordering};

use smccc::arch::{SMCCC_ARCH_WORKAROUND_1, SMCCC_ARCH_WORKAROUND_3};
use smccc::{Call, Smc, psci};
use vm::Workarounds;

/// 0 none, 1 SMC.
static CONDUIT: AtomicU8 = AtomicU8::new(0);

/// Stores the conduit that the tree names. An HVC from EL2 goes to EL2 itself, so only SMC reaches firmware.
pub fn init(psci: Option<&platform::Psci>) {
    if let Some(psci) = psci {
        CONDUIT.store(u8::from(psci.conduit == platform::Conduit::Smc), Ordering::Release);
    }
}

/// Whether there is firmware to call.
pub fn present() -> bool {
    CONDUIT.load(Ordering::Acquire) == 1
}

/// Turns the machine off. Returns where no firmware can do it. Callers flush the console before.
pub fn power_off() {
    if present() {
        let _ = psci::system_off::<Smc>();
    }
}

/// Starts a CPU at `entry` with `context` in x0.
///
/// # Errors
/// What the firmware answers.
pub fn cpu_on(mpidr: u64, entry: u64, context: u64) -> Result<(), psci::Error> {
    psci::cpu_on::<Smc>(mpidr, entry, context)
}

/// TRNG_RND64 (DEN0098 2.5), which smccc lacks.
const TRNG_RND64: u32 = 0xc400_0053;

/// Entropy from the firmware's TRNG (DEN 0098), at most 192 bits.
pub fn random(bits: u32) -> Option<[u64; 3]> {
    if !present() || bits == 0 || bits > 192 {
        return None;
    }
    let mut args = [0; 17];
    args[0] = u64::from(bits);
    let [status, high, middle, low, ..] = Smc::call64(TRNG_RND64, args);
    (status == 0).then_some([high, middle, low])
}

/// The firmware of this CPU, by SMC.
struct Secure;

impl vm::Firmware for Secure {
    fn call(&mut self, function: u32, argument: u64) -> i64 {
        let mut args = [0; 17];
        args[0] = argument;
        // The low word is the result of a 32-bit call.
        i64::from(Smc::call64(function, args)[0] as i32)
    }
}

/// Whether the firmware has a TRNG.
pub fn has_trng() -> bool {
    present() && vm::has_trng(&mut Secure)
}

/// What firmware answered about SMCCC_ARCH_WORKAROUND_1, 2 and 3, on all CPUs that are up.
static ANSWERS: [AtomicI8; 3] = [const { AtomicI8::new(-1) }; 3];
/// Whether firmware has been asked on any CPU.
static ASKED: AtomicBool = AtomicBool::new(false);

/// Asks this CPU's firmware about the workarounds, and enables those that stay on. CPUs come up one at a time.
pub fn init_cpu() {
    let own = if present() { Workarounds::ask(&mut Secure) } else { Workarounds::default() };
    let all = if ASKED.swap(true, Ordering::AcqRel) { workarounds().union(own) } else { own };
    for (kept, answer) in ANSWERS.iter().zip(all.answers()) {
        kept.store(answer, Ordering::Release);
    }
}

/// Firmware's answers about SMCCC_ARCH_WORKAROUND_1, 2 and 3, for all CPUs that are up.
pub fn workarounds() -> Workarounds {
    Workarounds::new(ANSWERS.each_ref().map(|answer| answer.load(Ordering::Acquire)))
}

/// Does SMCCC_ARCH_WORKAROUND_`number` for this CPU.
pub fn workaround(number: u8) {
    let id = if number == 1 { SMCCC_ARCH_WORKAROUND_1 } else { SMCCC_ARCH_WORKAROUND_3 };
    vm::Firmware::call(&mut Secure, id, 0);
}
