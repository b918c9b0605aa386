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

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;

    fn access(width: Width, sign_extend: bool, sixty_four: bool) -> Access {
        Access { width, sign_extend, reg: 0, sixty_four, acquire_release: false }
    }

    const WIDTHS: [Width; 4] = [Width::B1, Width::B2, Width::B4, Width::B8];

    /// What a load leaves, worked out bit by bit.
    fn loaded_bitwise(a: &Access, raw: u64) -> u64 {
        let bits = 8 * a.width.bytes() as usize;
        let sign = raw & (1 << (bits - 1)) != 0;
        let mut value = 0;
        for bit in 0..64 {
            let set = if bit < bits { raw & (1 << bit) != 0 } else { sign && a.sign_extend };
            if set && (bit < 32 || a.sixty_four) {
                value |= 1 << bit;
            }
        }
        value
    }

    #[test]
    fn widths_are_powers_of_two() {
        assert_eq!(WIDTHS.map(Width::bytes), [1, 2, 4, 8]);
        assert_eq!(WIDTHS.map(Width::bits), [8, 16, 32, 64]);
        assert_eq!(WIDTHS.map(Width::mask), [0xff, 0xffff, 0xffff_ffff, u64::MAX]);
    }

    #[test]
    fn ldrb_takes_the_low_byte_alone() {
        let a = access(Width::B1, false, false);
        assert_eq!(a.loaded(0xffff_ffff_ffff_ff80), 0x80);
        assert_eq!(a.loaded(0x7f), 0x7f);
    }

    // bug: 40
    #[test]
    fn ldrsb_to_w_clears_the_upper_half() {
        let a = access(Width::B1, true, false);
        assert_eq!(a.loaded(0x80), 0xffff_ff80);
        assert_eq!(a.loaded(0x7f), 0x7f);
    }

    #[test]
    fn ldrsb_to_x_fills_the_upper_half() {
        assert_eq!(access(Width::B1, true, true).loaded(0x80), 0xffff_ffff_ffff_ff80);
    }

    // bug: 40
    #[test]
    fn ldrsh_and_ldrsw_extend_from_their_own_top_bit() {
        assert_eq!(access(Width::B2, true, false).loaded(0x8000), 0xffff_8000);
        assert_eq!(access(Width::B2, true, true).loaded(0x8000), 0xffff_ffff_ffff_8000);
        assert_eq!(access(Width::B2, true, true).loaded(0x0080), 0x80);
        assert_eq!(access(Width::B4, true, true).loaded(0x8000_0000), 0xffff_ffff_8000_0000);
        assert_eq!(access(Width::B4, true, true).loaded(0x7fff_ffff), 0x7fff_ffff);
    }

    #[test]
    fn ldr_w_zeroes_what_a_device_says_beyond_32_bits() {
        assert_eq!(access(Width::B4, false, false).loaded(u64::MAX), 0xffff_ffff);
        assert_eq!(access(Width::B8, false, true).loaded(u64::MAX), u64::MAX);
    }

    // bug: 40
    #[test]
    fn loads_match_the_bitwise_rule_on_every_form_and_edge() {
        let mut values = std::vec![0, u64::MAX, 0xaaaa_aaaa_aaaa_aaaa, 0x0123_4567_89ab_cdef];
        for bit in 0..64 {
            let one = 1_u64 << bit;
            values.extend([one, !one, one - 1, one.wrapping_neg()]);
        }
        for width in WIDTHS {
            for sign_extend in [false, true] {
                for sixty_four in [false, true] {
                    let a = access(width, sign_extend, sixty_four);
                    for &raw in &values {
                        assert_eq!(a.loaded(raw), loaded_bitwise(&a, raw), "{a:?} {raw:#x}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_byte_and_halfword_extends_as_rust_casts_it() {
        for raw in 0..=u64::from(u16::MAX) {
            let w = |width| access(width, true, false).loaded(raw);
            let x = |width| access(width, true, true).loaded(raw);
            assert_eq!(w(Width::B1), u64::from(raw as i8 as i32 as u32));
            assert_eq!(x(Width::B1), raw as i8 as i64 as u64);
            assert_eq!(w(Width::B2), u64::from(raw as i16 as i32 as u32));
            assert_eq!(x(Width::B2), raw as i16 as i64 as u64);
        }
    }

    #[test]
    fn stores_are_cut_to_their_width_whatever_the_register_holds() {
        let value = 0x8899_aabb_ccdd_eeff;
        for (width, want) in
            WIDTHS.into_iter().zip([0xff, 0xeeff, 0xccdd_eeff, 0x8899_aabb_ccdd_eeff])
        {
            for sixty_four in [false, true] {
                // SSE is for loads; a store must not care.
                assert_eq!(access(width, false, sixty_four).stored(value), want);
                assert_eq!(access(width, true, sixty_four).stored(value), want);
            }
        }
    }
}
