// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an emulated access carries: widths, masking, sign extension.

use crate::{Access, Width};

impl Width {
    /// Number of bytes: 1, 2, 4 or 8.
    #[inline(always)]
    pub const fn bytes(self) -> u64 {
        1_u64.wrapping_shl(self as u32)
    }

    /// Number of bits: 8, 16, 32 or 64.
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        8_u32.wrapping_shl(self as u32)
    }

    /// The bits that an access of this width carries.
    #[inline(always)]
    pub const fn mask(self) -> u64 {
        u64::MAX.wrapping_shr(self.unused_bits())
    }

    /// 64 less the width: 56, 48, 32 or 0.
    #[inline(always)]
    const fn unused_bits(self) -> u32 {
        64_u32.wrapping_sub(self.bits())
    }
}

impl Access {
    /// What a load leaves in its register, given what the device answered: cut to the width of the
    /// access, sign-extended where SSE asks for it, and with bits 63:32 clear for a W register
    /// (DDI 0487 D17.2.37, ISS.SAS, SSE and SF).
    #[inline(always)]
    pub const fn loaded(&self, raw: u64) -> u64 {
        let unused = self.width.unused_bits();
        let top = raw.wrapping_shl(unused);
        let value = if self.sign_extend {
            (top as i64).wrapping_shr(unused) as u64
        } else {
            top.wrapping_shr(unused)
        };
        if self.sixty_four { value } else { value & 0xffff_ffff }
    }

    /// What a store hands to the device: its register's value cut to the width of the access.
    #[inline(always)]
    pub const fn stored(&self, reg_value: u64) -> u64 {
        reg_value & self.width.mask()
    }
}
