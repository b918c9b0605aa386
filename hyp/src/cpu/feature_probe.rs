// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registers that a CPU may lack although its ID registers do not say so.

use core::arch::global_asm;

// Instructions that may fault at EL2, in a range that the fault handler knows. A fault skips one instruction.
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

/// Whether a synchronous exception of EL2 at `elr` is expected: the instruction is to be skipped.
pub fn is_expected(elr: u64) -> bool {
    let range = probe_claim_tags as *const () as u64..probe_claim_tags_end as *const () as u64;
    range.contains(&elr)
}

/// Whether this CPU has claim tags and the debug channel's registers. The architecture always has them; QEMU has them
/// from version 8.0 on, and makes them UNDEFINED before.
pub fn has_claim_tags() -> bool {
    let seen = &crate::cpu::per_cpu::current().fault_seen;
    seen.set(false);
    // SAFETY: reads registers without side effects; a fault is survived (`is_expected`).
    unsafe { probe_claim_tags() };
    !seen.replace(false)
}
