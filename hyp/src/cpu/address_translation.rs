// SPDX-License-Identifier: MIT OR Apache-2.0
//! Address translation for a guest's VA, where HPFAR_EL2 does not say the IPA.

use core::arch::global_asm;

use aarch64_cpu::registers::{PAR_EL1, Readable, Writeable};
use arch::{Ipa, Va};

// The instructions, each alone in a function, so that the fault handler knows them by address: AT may fault at EL2
// (an external abort on the walk) although it was asked by a guest.
global_asm!(
    r#"
    .section .text.at, "ax"
    .global at_s1e1r
at_s1e1r:
    at      s1e1r, x0
    b       at_done
    .global at_s1e0r
at_s1e0r:
    at      s1e0r, x0
at_done:
    isb
    dmb     sy                          // Cortex-A77 1508412 wants both around a read of PAR_EL1
    mrs     x0, par_el1
    dmb     sy
    ret
"#
);

unsafe extern "C" {
    fn at_s1e1r(va: u64) -> u64;
    fn at_s1e0r(va: u64) -> u64;
}

/// PAR_EL1.PA, where it stands in the register.
const PA: u64 = PAR_EL1::PA.mask << PAR_EL1::PA.shift;

/// Whether an exception of EL2 at `elr` was one of the AT instructions: then it is survived.
pub fn is_probe(elr: u64) -> bool {
    elr == at_s1e1r as *const () as u64 || elr == at_s1e0r as *const () as u64
}

/// Translates `va` through the loaded guest's stage 1, as a read from EL1 or EL0. `None` where that fails: the guest
/// has changed its tables meanwhile, or they lie outside its memory.
pub fn stage1(va: Va, from_el0: bool) -> Option<Ipa> {
    let kept = PAR_EL1.get();
    let cpu = crate::cpu::per_cpu::current();
    cpu.fault_seen.set(false);
    // SAFETY: AT only changes PAR_EL1, which is restored below; a fault of it is survived (`is_probe`).
    let par = unsafe { if from_el0 { at_s1e0r(va.raw()) } else { at_s1e1r(va.raw()) } };
    PAR_EL1.set(kept);
    if cpu.fault_seen.replace(false) || PAR_EL1::F.is_set(par) {
        return None;
    }
    Some(Ipa::new(par & PA | va.page_offset()))
}
