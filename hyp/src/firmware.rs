// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls to the firmware at EL3 (or to QEMU, which stands in for it): PSCI and TRNG.

use core::sync::atomic::{AtomicU8, Ordering};

use smccc::psci;
use smccc::{Call, Smc};

/// 0 none, 1 SMC.
static CONDUIT: AtomicU8 = AtomicU8::new(0);

/// Keeps the conduit that the tree names. HVC from EL2 is EL2's own vector, so only SMC reaches anybody.
pub fn init(psci: Option<&platform::Psci>) {
    if let Some(psci) = psci {
        CONDUIT.store(u8::from(psci.conduit == platform::Conduit::Smc), Ordering::Release);
    }
}

/// Whether firmware can be asked at all.
pub fn present() -> bool {
    CONDUIT.load(Ordering::Acquire) == 1
}

/// Turns the machine off; returns where there is no firmware to do it.
pub fn power_off() {
    crate::console::flush();
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

/// Entropy from the firmware's TRNG (DEN 0098), at most 192 bits.
pub fn random(bits: u32) -> Option<[u64; 3]> {
    if !present() || bits == 0 || bits > 192 {
        return None;
    }
    let mut args = [0; 17];
    args[0] = u64::from(bits);
    let r = Smc::call64(0xc400_0053, args);
    (r[0] == 0).then_some([r[1], r[2], r[3]])
}

const SMCCC_VERSION: u32 = 0x8000_0000;
const ARCH_FEATURES: u32 = 0x8000_0001;
const TRNG_VERSION: u32 = 0x8400_0050;
const WORKAROUNDS: [u32; 3] = [0x8000_8000, 0x8000_7fff, 0x8000_3fff];

fn call(function: u32, argument: u64) -> i64 {
    let mut args = [0; 17];
    args[0] = argument;
    // The low word is the result of a 32-bit call.
    i64::from(Smc::call64(function, args)[0] as i32)
}

/// Whether SMCCC 1.1 is there, which the calls below belong to (DEN 0028, 7.2; found by PSCI_FEATURES).
fn has_smccc_1_1() -> bool {
    present()
        && call(0x8400_000a, u64::from(SMCCC_VERSION)) >= 0
        && call(SMCCC_VERSION, 0) >= 0x1_0001
}

/// Whether the firmware has a TRNG.
pub fn has_trng() -> bool {
    has_smccc_1_1() && call(TRNG_VERSION, 0) >= 0x1_0000
}

/// What the firmware says of SMCCC_ARCH_WORKAROUND_1, 2 and 3: -1 unknown, 0 to be called, 1 not needed.
pub fn workarounds() -> [i8; 3] {
    if !has_smccc_1_1() {
        return [-1; 3];
    }
    WORKAROUNDS.map(|id| match call(ARCH_FEATURES, u64::from(id)) {
        0 => 0,
        1 => 1,
        _ => -1,
    })
}

/// Does SMCCC_ARCH_WORKAROUND_`number` for this CPU.
pub fn workaround(number: u8) {
    if let Some(id) = WORKAROUNDS.get(usize::from(number).wrapping_sub(1)) {
        call(*id, 0);
    }
}
