// SPDX-License-Identifier: MIT OR Apache-2.0
//! The registers that every exit saves and every entry restores.

/// General registers, return address and PSTATE of a vCPU, in the layout that the vectors use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct GuestRegs {
    /// X0 to X30.
    pub x: [u64; 31],
    /// ELR_EL2: where the guest goes on.
    pub elr: u64,
    /// SPSR_EL2: its PSTATE.
    pub spsr: u64,
}

impl GuestRegs {
    /// Reads Xn; 31 is XZR and reads 0 (an ISS never means SP: DDI 0487 D17.2.37, ISS.SRT).
    #[inline(always)]
    pub fn get(&self, n: u8) -> u64 {
        self.x.get(usize::from(n)).copied().unwrap_or(0)
    }

    /// Writes Xn; a write to 31, XZR, is discarded.
    #[inline(always)]
    pub fn set(&mut self, n: u8, value: u64) {
        if let Some(x) = self.x.get_mut(usize::from(n)) {
            *x = value;
        }
    }
}
