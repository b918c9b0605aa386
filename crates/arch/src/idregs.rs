// SPDX-License-Identifier: MIT OR Apache-2.0
//! What guests see of the ID registers.

/// The parts of a VM that its ID registers report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VisibleCpu {
    /// Bits of IPA: the guest's PARange.
    pub ipa_bits: u8,
    /// The VM's GIC is a GICv3: the CPU interface's system registers are usable.
    pub gicv3: bool,
}

/// What a guest reads from an ID register whose value on this CPU is `raw`; `None` if `reg` (packed as
/// [`crate::SysRegAccess::reg`]) is none that this code knows: it reads as zero then, if it lies in the
/// ID space (op0 = 3, op1 = 0, CRn = 0, CRm = 1 to 7).
pub const fn visible_id_register(reg: u16, raw: u64, cpu: &VisibleCpu) -> Option<u64> {
    let _ = (reg, raw, cpu);
    None
}
