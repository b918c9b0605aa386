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

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{offset_of, size_of};

    // bug: 39
    #[test]
    fn register_31_is_zero_and_swallows_writes() {
        let mut regs = GuestRegs { x: [7; 31], elr: 8, spsr: 9 };
        let before = regs.clone();
        assert_eq!(regs.get(31), 0);
        regs.set(31, 0xdead);
        assert_eq!(regs, before);
    }

    #[test]
    fn each_other_register_is_its_own() {
        let mut regs = GuestRegs::default();
        for n in 0..31_u8 {
            regs.set(n, 0x100 + u64::from(n));
        }
        for n in 0..31_u8 {
            assert_eq!(regs.get(n), 0x100 + u64::from(n));
            assert_eq!(regs.x[usize::from(n)], 0x100 + u64::from(n));
        }
    }

    #[test]
    fn numbers_beyond_the_file_do_no_harm() {
        let mut regs = GuestRegs::default();
        for n in 32..=255 {
            regs.set(n, 1);
            assert_eq!(regs.get(n), 0);
        }
        assert_eq!(regs, GuestRegs::default());
    }

    #[test]
    fn the_layout_is_what_the_vectors_store() {
        assert_eq!(offset_of!(GuestRegs, x), 0);
        assert_eq!(offset_of!(GuestRegs, elr), 31 * 8);
        assert_eq!(offset_of!(GuestRegs, spsr), 32 * 8);
        assert_eq!(size_of::<GuestRegs>(), 33 * 8);
    }
}
