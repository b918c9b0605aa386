// SPDX-License-Identifier: MIT OR Apache-2.0
//! ESR_EL2 and HPFAR_EL2: the one place that knows where their fields are (DDI 0487 D17.2.37, D17.2.65).
//!
//! [`decode`](crate::decode) reads exits with it, and `vm`'s fast path builds its masks from it.

use crate::{Ipa, SysRegAccess, Width};

/// Exception classes, ESR_ELx.EC.
pub mod ec {
    /// Unknown reason.
    pub const UNKNOWN: u8 = 0x00;
    /// Trapped WFI or WFE.
    pub const WFX: u8 = 0x01;
    /// Trapped MCR or MRC, coprocessor 15.
    pub const CP15_32: u8 = 0x03;
    /// Trapped MCRR or MRRC, coprocessor 15.
    pub const CP15_64: u8 = 0x04;
    /// Trapped MCR or MRC, coprocessor 14.
    pub const CP14_32: u8 = 0x05;
    /// Trapped LDC or STC of coprocessor 14.
    pub const CP14_LOAD_STORE: u8 = 0x06;
    /// Trapped SVE, SIMD or floating point.
    pub const FP_SIMD: u8 = 0x07;
    /// Trapped VMRS.
    pub const VMRS: u8 = 0x08;
    /// Trapped MRRC, coprocessor 14.
    pub const CP14_64: u8 = 0x0c;
    /// Illegal execution state.
    pub const ILLEGAL_STATE: u8 = 0x0e;
    /// HVC from AArch64.
    pub const HVC64: u8 = 0x16;
    /// SMC from AArch64.
    pub const SMC64: u8 = 0x17;
    /// Trapped MSR, MRS or SYS from AArch64.
    pub const SYS64: u8 = 0x18;
    /// Trapped SVE.
    pub const SVE: u8 = 0x19;
    /// Instruction abort from a lower exception level.
    pub const INSTRUCTION_ABORT_LOWER: u8 = 0x20;
    /// Instruction abort from the same exception level.
    pub const INSTRUCTION_ABORT_SAME: u8 = 0x21;
    /// PC alignment fault.
    pub const PC_ALIGNMENT: u8 = 0x22;
    /// Data abort from a lower exception level.
    pub const DATA_ABORT_LOWER: u8 = 0x24;
    /// Data abort from the same exception level.
    pub const DATA_ABORT_SAME: u8 = 0x25;
    /// SP alignment fault.
    pub const SP_ALIGNMENT: u8 = 0x26;
    /// SError.
    pub const SERROR: u8 = 0x2f;
    /// BRK from AArch64.
    pub const BRK64: u8 = 0x3c;
}

/// Shift of the exception class.
pub const EC_SHIFT: u32 = 26;
/// All bits of the exception class.
pub const EC: u64 = 0x3f << EC_SHIFT;
/// The trapped instruction is 32 bits long.
pub const IL: u64 = 1 << 25;
/// Data abort: the syndrome of the access is valid.
pub const ISV: u64 = 1 << 24;
/// Shift of the access size.
pub const SAS_SHIFT: u32 = 22;
/// The load extends the sign.
pub const SSE: u64 = 1 << 21;
/// Shift of the register that is loaded or stored.
pub const SRT_SHIFT: u32 = 16;
/// The register is 64 bits wide.
pub const SF: u64 = 1 << 15;
/// Acquire or release semantics.
pub const AR: u64 = 1 << 14;
/// The access is one of VNCR_EL2's.
pub const VNCR: u64 = 1 << 13;
/// Load or store type, FEAT_LS64.
pub const LST: u64 = 0b11 << 11;
/// FAR_EL2 is not valid.
pub const FNV: u64 = 1 << 10;
/// Cache maintenance, or an address translation instruction.
pub const CM: u64 = 1 << 8;
/// A stage-2 fault on a stage-1 walk.
pub const S1PTW: u64 = 1 << 7;
/// Write, not read.
pub const WNR: u64 = 1 << 6;
/// Fault status code but for the level.
pub const FSC_TYPE: u64 = 0x3c;
/// A translation fault, its level left out.
pub const FSC_TRANSLATION: u64 = 0x04;
/// WFx: TI. 0 is WFI.
pub const WFX_TI: u64 = 0b11;
/// SYS64: op0.
pub const SYS_OP0: u64 = 0b11 << 20;
/// SYS64: op2.
pub const SYS_OP2: u64 = 0b111 << 17;
/// SYS64: op1.
pub const SYS_OP1: u64 = 0b111 << 14;
/// SYS64: CRn.
pub const SYS_CRN: u64 = 0xf << 10;
/// SYS64: the general register.
pub const SYS_RT: u64 = 0x1f << 5;
/// SYS64: CRm.
pub const SYS_CRM: u64 = 0xf << 1;
/// SYS64: Direction. 1 is MRS.
pub const SYS_READ: u64 = 1;

/// An exception class in its place.
#[inline(always)]
pub const fn class(ec: u8) -> u64 {
    (ec as u64) << EC_SHIFT
}

/// The exception class.
#[inline(always)]
pub const fn ec_of(esr: u64) -> u8 {
    ((esr & EC) >> EC_SHIFT) as u8
}

/// Size of the access, where ISV is set.
#[inline(always)]
pub const fn width(esr: u64) -> Width {
    match (esr >> SAS_SHIFT) & 0b11 {
        0 => Width::B1,
        1 => Width::B2,
        2 => Width::B4,
        _ => Width::B8,
    }
}

/// The register that is loaded or stored, where ISV is set; 31 is XZR.
#[inline(always)]
pub const fn srt(esr: u64) -> u8 {
    ((esr >> SRT_SHIFT) & 0x1f) as u8
}

/// SYS64: the general register; 31 is XZR.
#[inline(always)]
pub const fn sys_rt(esr: u64) -> u8 {
    ((esr & SYS_RT) >> 5) as u8
}

/// SYS64: CRm.
#[inline(always)]
pub const fn sys_crm(esr: u64) -> u8 {
    ((esr & SYS_CRM) >> 1) as u8
}

/// SYS64: op2.
#[inline(always)]
pub const fn sys_op2(esr: u64) -> u8 {
    ((esr & SYS_OP2) >> 17) as u8
}

/// The register, the direction and the general register of a trapped MSR, MRS or SYS.
#[inline(always)]
pub const fn sys_reg(esr: u64) -> SysRegAccess {
    let op0 = (esr & SYS_OP0) >> 6;
    let op1_crn = (esr & (SYS_OP1 | SYS_CRN)) >> 3;
    SysRegAccess {
        reg: (op0 | op1_crn | (esr & SYS_CRM) << 2) as u16 | sys_op2(esr) as u16,
        rt: sys_rt(esr),
        write: esr & SYS_READ == 0,
    }
}

/// ISS of MSR or MRS (`read`) of the register with this encoding, general register 0: [`SysRegAccess::reg`] and
/// [`sys_reg`] the other way round.
#[inline(always)]
pub const fn iss_of(reg: u16, read: bool) -> u64 {
    let reg = reg as u64;
    (reg << 6) & SYS_OP0
        | (reg << 17) & SYS_OP2
        | (reg << 3) & (SYS_OP1 | SYS_CRN)
        | (reg >> 2) & SYS_CRM
        | read as u64
}

/// The page that HPFAR_EL2 names: FIPA, bits 47:4, holds IPA bits 55:12. Bit 63 is NS, the others are RES0.
#[inline(always)]
pub const fn hpfar_page(hpfar: u64) -> Ipa {
    Ipa::new((hpfar & 0x0000_ffff_ffff_fff0) << 8)
}

/// Cortex-A57 erratum 834220: after a load that crosses a page HPFAR_EL2 may be wrong. Whether the data abort may be
/// of such a load: one that starts so near the page's end, one that FAR_EL2 reports at the start of the second page,
/// or one of unknown size.
#[inline(always)]
pub const fn load_may_cross_page(esr: u64, far: u64) -> bool {
    let offset = far & 0xfff;
    let bytes = 1_u64.wrapping_shl((esr >> SAS_SHIFT) as u32 & 0b11);
    esr & WNR == 0 && (esr & ISV == 0 || offset == 0 || offset.wrapping_add(bytes) > 0x1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysreg;

    #[test]
    fn an_encoding_and_its_syndrome_are_each_others_inverse() {
        for reg in 0..=u16::MAX {
            for read in [false, true] {
                let esr = class(ec::SYS64) | iss_of(reg, read) | 7 << 5;
                assert_eq!(sys_reg(esr), SysRegAccess { reg, rt: 7, write: !read });
            }
        }
    }

    #[test]
    fn the_syndrome_of_a_known_instruction() {
        // MSR ICC_SGI1R_EL1, X0: op0 3, op1 0, CRn 12, CRm 11, op2 5.
        assert_eq!(iss_of(sysreg::ICC_SGI1R_EL1, false), 3 << 20 | 5 << 17 | 12 << 10 | 11 << 1);
        assert_eq!(class(ec::HVC64) | IL, 0x5a00_0000);
    }

    #[test]
    fn hpfar_names_a_page_of_48_bits() {
        assert_eq!(hpfar_page(0x9_0000), Ipa::new(0x0900_0000));
        assert_eq!(hpfar_page(0x0000_ffff_ffff_fff0), Ipa::new(0x00ff_ffff_ffff_f000));
        assert_eq!(hpfar_page(0x9_0000 | 1 << 63 | 0xf), Ipa::new(0x0900_0000), "NS and RES0");
    }

    #[test]
    fn which_loads_may_cross_a_page() {
        // 4 bytes, valid syndrome.
        let load = ISV | 2 << SAS_SHIFT;
        for (far, crosses) in [(0x1000, true), (0x1001, false), (0x1ffc, false), (0x1ffd, true)] {
            assert_eq!(load_may_cross_page(load, far), crosses, "{far:#x}");
            assert!(!load_may_cross_page(load | WNR, far), "a store");
        }
        assert!(load_may_cross_page(0, 0x1004), "of unknown size");
    }
}
