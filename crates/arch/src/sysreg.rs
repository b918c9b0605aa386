// SPDX-License-Identifier: MIT OR Apache-2.0
//! Encodings of the system registers and instructions that EL2 traps, as [`crate::SysRegAccess::reg`].

/// Packs an encoding: op0<<14 | op1<<11 | CRn<<7 | CRm<<3 | op2.
pub const fn sys(op0: u16, op1: u16, crn: u16, crm: u16, op2: u16) -> u16 {
    (op0 & 3) << 14 | (op1 & 7) << 11 | (crn & 15) << 7 | (crm & 15) << 3 | (op2 & 7)
}

/// Sends group-1 SGIs.
pub const ICC_SGI1R_EL1: u16 = sys(3, 0, 12, 11, 5);
/// Sends group-1 SGIs of the other security state.
pub const ICC_ASGI1R_EL1: u16 = sys(3, 0, 12, 11, 6);
/// Sends group-0 SGIs.
pub const ICC_SGI0R_EL1: u16 = sys(3, 0, 12, 11, 7);
/// Selects the system register interface.
pub const ICC_SRE_EL1: u16 = sys(3, 0, 12, 12, 5);
