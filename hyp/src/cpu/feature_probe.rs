// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registers that a CPU can lack although its ID registers do not say so.

use core::arch::global_asm;

// Instructions that can fault at EL2. The fault handler knows their range, and skips the one that faults.
global_asm!(
    r#"
    .section .text.probe, "ax"
    .global probe_claim_tags
probe_claim_tags:
    mrs     x0, dbgclaimclr_el1
    mrs     x0, osdtrrx_el1
    mrs     x0, osdtrtx_el1
    .global probe_claim_tags_end
probe_claim_tags_end:
    ret
"#
);

unsafe extern "C" {
    fn probe_claim_tags() -> u64;
    fn probe_claim_tags_end();
}

/// Whether a synchronous exception of EL2 at `elr` is expected. The handler then skips the instruction.
pub fn is_expected(elr: u64) -> bool {
    let range = probe_claim_tags as *const () as u64..probe_claim_tags_end as *const () as u64;
    range.contains(&elr)
}

/// Whether this CPU has claim tags and the debug channel's registers. The architecture requires them, but they are UNDEFINED
/// in QEMU before 8.0.
pub fn has_claim_tags() -> bool {
    let seen = &crate::cpu::per_cpu::current().fault_seen;
    seen.set(false);
    // SAFETY: reads registers without side effects; EL2 survives a fault (`is_expected`).
    unsafe { probe_claim_tags() };
    !seen.replace(false)
}
