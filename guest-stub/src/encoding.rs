// SPDX-License-Identifier: MIT OR Apache-2.0
//! Encodings of system registers and instructions.

/// An instruction of the space of system registers and instructions.
#[derive(Clone, Copy)]
pub struct Encoding(u32);

impl Encoding {
    /// `msr`/`mrs` number `n` of 2^15: op0 2 or 3, op1, CRn, CRm, op2.
    pub const fn register(n: u32) -> Self {
        Self(n << 5 | 2 << 19)
    }

    /// SYS or SYSL number `n` of 2^14: op0 1.
    pub const fn instruction(n: u32) -> Self {
        Self(n << 5 | 1 << 19)
    }

    /// By its fields.
    pub const fn of(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> Self {
        Self(op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5)
    }

    /// `mrs xRT, ..`
    pub const fn read(self, rt: u32) -> u32 {
        0xd520_0000 | self.0 | rt
    }

    /// `msr .., xRT`
    pub const fn write(self, rt: u32) -> u32 {
        0xd500_0000 | self.0 | rt
    }

    /// op0, op1, CRn, CRm, op2.
    pub const fn fields(self) -> (u32, u32, u32, u32, u32) {
        (self.0 >> 19 & 3, self.0 >> 16 & 7, self.0 >> 12 & 15, self.0 >> 8 & 15, self.0 >> 5 & 7)
    }
}
