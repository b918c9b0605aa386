// SPDX-License-Identifier: MIT OR Apache-2.0
//! Translation of a guest's VA when HPFAR_EL2 does not hold the IPA.

use core::arch::global_asm;

use aarch64_cpu::registers::{PAR_EL1, Readable, Writeable};
use arch::{Ipa, Va};

// Each instruction is a function of its own, so that the fault handler recognises it by address. An AT for a guest can fault
// at EL2, with an external abort on the walk.
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
    dmb     sy                          // Cortex-A77 1508412: a DMB on both sides of a read of PAR_EL1
    mrs     x0, par_el1
    dmb     sy
    ret
"#
);

unsafe extern "C" {
    fn at_s1e1r(va: u64) -> u64;
    fn at_s1e0r(va: u64) -> u64;
}

/// Mask of PAR_EL1.PA.
const PA: u64 = PAR_EL1::PA.mask << PAR_EL1::PA.shift;

/// Whether `elr` is one of the AT instructions. EL2 survives an exception there.
pub fn is_probe(elr: u64) -> bool {
    elr == at_s1e1r as *const () as u64 || elr == at_s1e0r as *const () as u64
}

/// Translates `va` through the loaded guest's stage 1, as a read from EL1 or EL0. Returns `None` if the translation faults:
/// the guest has changed its tables meanwhile, or they are outside its memory.
pub fn stage1(va: Va, from_el0: bool) -> Option<Ipa> {
    let kept = PAR_EL1.get();
    let cpu = crate::cpu::per_cpu::current();
    cpu.fault_seen.set(false);
    // SAFETY: AT changes only PAR_EL1, which is restored below; EL2 survives a fault of it (`is_probe`).
    let par = unsafe { if from_el0 { at_s1e0r(va.raw()) } else { at_s1e1r(va.raw()) } };
    PAR_EL1.set(kept);
    if cpu.fault_seen.replace(false) || PAR_EL1::F.is_set(par) {
        return None;
    }
    Some(Ipa::new(par & PA | va.page_offset()))
}
