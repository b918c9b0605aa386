// SPDX-License-Identifier: MIT OR Apache-2.0
//! Encodings of the system registers and instructions that EL2 traps, as [`crate::SysRegAccess::reg`]
//! has them (DDI 0487 D17 and C5.5).

/// Packs an encoding: op0<<14 | op1<<11 | CRn<<7 | CRm<<3 | op2.
pub const fn sys(op0: u16, op1: u16, crn: u16, crm: u16, op2: u16) -> u16 {
    (op0 & 3) << 14 | (op1 & 7) << 11 | (crn & 15) << 7 | (crm & 15) << 3 | (op2 & 7)
}

/// The fields of a packed encoding: op0, op1, CRn, CRm, op2.
pub const fn fields(reg: u16) -> (u8, u8, u8, u8, u8) {
    (
        (reg >> 14) as u8,
        (reg >> 11 & 7) as u8,
        (reg >> 7 & 15) as u8,
        (reg >> 3 & 15) as u8,
        (reg & 7) as u8,
    )
}

/// Whether the encoding lies in the space of ID registers that HCR_EL2.TID3 traps: op0 = 3, op1 = 0,
/// CRn = 0, CRm = 1 to 7. Reads of what is not allocated there are zero.
#[inline(always)]
pub const fn is_id_space(reg: u16) -> bool {
    let first = sys(3, 0, 0, 1, 0);
    reg.wrapping_sub(first) < 7 * 8
}

/// Whether the encoding belongs to the implementation: CRn = 11 or 15 with op0 = 1 or 3 (HCR_EL2.TIDCP).
pub const fn is_implementation_defined(reg: u16) -> bool {
    let (op0, _, crn, _, _) = fields(reg);
    (op0 == 1 || op0 == 3) && (crn == 11 || crn == 15)
}

macro_rules! encodings {
    ($($(#[$doc:meta])* $name:ident = $op0:literal $op1:literal $crn:literal $crm:literal $op2:literal;)*) => {
        $($(#[$doc])* pub const $name: u16 = sys($op0, $op1, $crn, $crm, $op2);)*
        /// Every name of this file, for messages and tests.
        const NAMES: &[(u16, &str)] = &[$(($name, stringify!($name)),)*];
    };
}

/// The register's name, where this file has one.
pub const fn name(reg: u16) -> Option<&'static str> {
    let mut rest = NAMES;
    while let [(encoding, name), tail @ ..] = rest {
        if *encoding == reg {
            return Some(name);
        }
        rest = tail;
    }
    None
}

encodings! {
    // GICv3 CPU interface: HCR_EL2.IMO/FMO trap the SGI registers, ICH_HCR_EL2 the others.
    /// Sends group-1 SGIs.
    ICC_SGI1R_EL1 = 3 0 12 11 5;
    /// Sends group-1 SGIs of the other security state.
    ICC_ASGI1R_EL1 = 3 0 12 11 6;
    /// Sends group-0 SGIs.
    ICC_SGI0R_EL1 = 3 0 12 11 7;
    /// Selects the system register interface.
    ICC_SRE_EL1 = 3 0 12 12 5;
    /// Interrupt priority mask.
    ICC_PMR_EL1 = 3 0 4 6 0;
    /// Deactivates an interrupt.
    ICC_DIR_EL1 = 3 0 12 11 1;
    /// Running priority.
    ICC_RPR_EL1 = 3 0 12 11 3;
    /// Control of the CPU interface.
    ICC_CTLR_EL1 = 3 0 12 12 4;
    /// Acknowledges a group-1 interrupt.
    ICC_IAR1_EL1 = 3 0 12 12 0;
    /// Ends a group-1 interrupt.
    ICC_EOIR1_EL1 = 3 0 12 12 1;
    /// Highest pending group-1 interrupt.
    ICC_HPPIR1_EL1 = 3 0 12 12 2;
    /// Binary point of group 1.
    ICC_BPR1_EL1 = 3 0 12 12 3;
    /// Group-0 enable.
    ICC_IGRPEN0_EL1 = 3 0 12 12 6;
    /// Group-1 enable.
    ICC_IGRPEN1_EL1 = 3 0 12 12 7;

    // Cache maintenance by set and way: HCR_EL2.TSW.
    /// DC ISW.
    DC_ISW = 1 0 7 6 2;
    /// DC IGSW.
    DC_IGSW = 1 0 7 6 4;
    /// DC IGDSW.
    DC_IGDSW = 1 0 7 6 6;
    /// DC CSW.
    DC_CSW = 1 0 7 10 2;
    /// DC CGSW.
    DC_CGSW = 1 0 7 10 4;
    /// DC CGDSW.
    DC_CGDSW = 1 0 7 10 6;
    /// DC CISW.
    DC_CISW = 1 0 7 14 2;
    /// DC CIGSW.
    DC_CIGSW = 1 0 7 14 4;
    /// DC CIGDSW.
    DC_CIGDSW = 1 0 7 14 6;

    // Identification and implementation control: HCR_EL2.TID1, TACR.
    /// Main ID.
    MIDR_EL1 = 3 0 0 0 0;
    /// Affinity.
    MPIDR_EL1 = 3 0 0 0 5;
    /// Revision ID.
    REVIDR_EL1 = 3 0 0 0 6;
    /// Auxiliary ID.
    AIDR_EL1 = 3 1 0 0 7;
    /// Size of a large system extension's tag block (FEAT_MTE2).
    GMID_EL1 = 3 1 0 0 4;
    /// Streaming mode ID (FEAT_SME).
    SMIDR_EL1 = 3 1 0 0 6;
    /// Auxiliary control.
    ACTLR_EL1 = 3 0 1 0 1;

    // ID registers: HCR_EL2.TID3.
    /// AArch32 processor features 0.
    ID_PFR0_EL1 = 3 0 0 1 0;
    /// AArch32 processor features 1.
    ID_PFR1_EL1 = 3 0 0 1 1;
    /// AArch32 debug features 0.
    ID_DFR0_EL1 = 3 0 0 1 2;
    /// AArch32 auxiliary features 0.
    ID_AFR0_EL1 = 3 0 0 1 3;
    /// AArch32 memory model 0.
    ID_MMFR0_EL1 = 3 0 0 1 4;
    /// AArch32 memory model 1.
    ID_MMFR1_EL1 = 3 0 0 1 5;
    /// AArch32 memory model 2.
    ID_MMFR2_EL1 = 3 0 0 1 6;
    /// AArch32 memory model 3.
    ID_MMFR3_EL1 = 3 0 0 1 7;
    /// AArch32 instruction set 0.
    ID_ISAR0_EL1 = 3 0 0 2 0;
    /// AArch32 instruction set 1.
    ID_ISAR1_EL1 = 3 0 0 2 1;
    /// AArch32 instruction set 2.
    ID_ISAR2_EL1 = 3 0 0 2 2;
    /// AArch32 instruction set 3.
    ID_ISAR3_EL1 = 3 0 0 2 3;
    /// AArch32 instruction set 4.
    ID_ISAR4_EL1 = 3 0 0 2 4;
    /// AArch32 instruction set 5.
    ID_ISAR5_EL1 = 3 0 0 2 5;
    /// AArch32 memory model 4.
    ID_MMFR4_EL1 = 3 0 0 2 6;
    /// AArch32 instruction set 6.
    ID_ISAR6_EL1 = 3 0 0 2 7;
    /// AArch32 floating point features 0.
    MVFR0_EL1 = 3 0 0 3 0;
    /// AArch32 floating point features 1.
    MVFR1_EL1 = 3 0 0 3 1;
    /// AArch32 floating point features 2.
    MVFR2_EL1 = 3 0 0 3 2;
    /// AArch32 processor features 2.
    ID_PFR2_EL1 = 3 0 0 3 4;
    /// AArch32 debug features 1.
    ID_DFR1_EL1 = 3 0 0 3 5;
    /// AArch32 memory model 5.
    ID_MMFR5_EL1 = 3 0 0 3 6;
    /// Processor features 0.
    ID_AA64PFR0_EL1 = 3 0 0 4 0;
    /// Processor features 1.
    ID_AA64PFR1_EL1 = 3 0 0 4 1;
    /// Processor features 2.
    ID_AA64PFR2_EL1 = 3 0 0 4 2;
    /// SVE features.
    ID_AA64ZFR0_EL1 = 3 0 0 4 4;
    /// SME features.
    ID_AA64SMFR0_EL1 = 3 0 0 4 5;
    /// FP8 features.
    ID_AA64FPFR0_EL1 = 3 0 0 4 7;
    /// Debug features 0.
    ID_AA64DFR0_EL1 = 3 0 0 5 0;
    /// Debug features 1.
    ID_AA64DFR1_EL1 = 3 0 0 5 1;
    /// Debug features 2.
    ID_AA64DFR2_EL1 = 3 0 0 5 2;
    /// Auxiliary features 0.
    ID_AA64AFR0_EL1 = 3 0 0 5 4;
    /// Auxiliary features 1.
    ID_AA64AFR1_EL1 = 3 0 0 5 5;
    /// Instruction set 0.
    ID_AA64ISAR0_EL1 = 3 0 0 6 0;
    /// Instruction set 1.
    ID_AA64ISAR1_EL1 = 3 0 0 6 1;
    /// Instruction set 2.
    ID_AA64ISAR2_EL1 = 3 0 0 6 2;
    /// Instruction set 3.
    ID_AA64ISAR3_EL1 = 3 0 0 6 3;
    /// Memory model 0.
    ID_AA64MMFR0_EL1 = 3 0 0 7 0;
    /// Memory model 1.
    ID_AA64MMFR1_EL1 = 3 0 0 7 1;
    /// Memory model 2.
    ID_AA64MMFR2_EL1 = 3 0 0 7 2;
    /// Memory model 3.
    ID_AA64MMFR3_EL1 = 3 0 0 7 3;
    /// Memory model 4.
    ID_AA64MMFR4_EL1 = 3 0 0 7 4;

    // Virtual memory controls: HCR_EL2.TVM and TRVM.
    /// System control.
    SCTLR_EL1 = 3 0 1 0 0;
    /// Architectural feature access control.
    CPACR_EL1 = 3 0 1 0 2;
    /// Translation table base 0.
    TTBR0_EL1 = 3 0 2 0 0;
    /// Translation table base 1.
    TTBR1_EL1 = 3 0 2 0 1;
    /// Translation control.
    TCR_EL1 = 3 0 2 0 2;
    /// Auxiliary fault status 0.
    AFSR0_EL1 = 3 0 5 1 0;
    /// Auxiliary fault status 1.
    AFSR1_EL1 = 3 0 5 1 1;
    /// Exception syndrome.
    ESR_EL1 = 3 0 5 2 0;
    /// Fault address.
    FAR_EL1 = 3 0 6 0 0;
    /// Memory attributes.
    MAIR_EL1 = 3 0 10 2 0;
    /// Auxiliary memory attributes.
    AMAIR_EL1 = 3 0 10 3 0;
    /// Context ID.
    CONTEXTIDR_EL1 = 3 0 13 0 1;
    /// Software context number (FEAT_CSV2_2).
    SCXTNUM_EL1 = 3 0 13 0 7;
    /// Software context number of EL0 (FEAT_CSV2_2).
    SCXTNUM_EL0 = 3 3 13 0 7;

    // Debug: MDCR_EL2.TDA, TDOSA, TDRA.
    /// Monitor debug system control.
    MDSCR_EL1 = 2 0 0 2 2;
    /// Monitor DCC interrupt enable.
    MDCCINT_EL1 = 2 0 0 2 0;
    /// Monitor DCC status.
    MDCCSR_EL0 = 2 3 0 1 0;
    /// Debug ROM address.
    MDRAR_EL1 = 2 0 1 0 0;
    /// OS lock access.
    OSLAR_EL1 = 2 0 1 0 4;
    /// OS lock status.
    OSLSR_EL1 = 2 0 1 1 4;
    /// OS double lock.
    OSDLR_EL1 = 2 0 1 3 4;
    /// Debug power control.
    DBGPRCR_EL1 = 2 0 1 4 4;
    /// Debug claim tag set.
    DBGCLAIMSET_EL1 = 2 0 7 8 6;
    /// Debug claim tag clear.
    DBGCLAIMCLR_EL1 = 2 0 7 9 6;
    /// Debug authentication status.
    DBGAUTHSTATUS_EL1 = 2 0 7 14 6;

    // Performance monitors: MDCR_EL2.TPM and TPMCR.
    /// PMU control.
    PMCR_EL0 = 3 3 9 12 0;
    /// PMU counter enable set.
    PMCNTENSET_EL0 = 3 3 9 12 1;
    /// PMU counter enable clear.
    PMCNTENCLR_EL0 = 3 3 9 12 2;
    /// PMU overflow flags, clear.
    PMOVSCLR_EL0 = 3 3 9 12 3;
    /// PMU cycle counter.
    PMCCNTR_EL0 = 3 3 9 13 0;
    /// PMU user enable.
    PMUSERENR_EL0 = 3 3 9 14 0;
    /// PMU interrupt enable set.
    PMINTENSET_EL1 = 3 0 9 14 1;
    /// PMU interrupt enable clear.
    PMINTENCLR_EL1 = 3 0 9 14 2;

    // Physical timer and counter: CNTHCTL_EL2.
    /// Physical count.
    CNTPCT_EL0 = 3 3 14 0 1;
    /// Physical count, self-synchronized (FEAT_ECV).
    CNTPCTSS_EL0 = 3 3 14 0 5;
    /// Physical timer value.
    CNTP_TVAL_EL0 = 3 3 14 2 0;
    /// Physical timer control.
    CNTP_CTL_EL0 = 3 3 14 2 1;
    /// Physical timer compare value.
    CNTP_CVAL_EL0 = 3 3 14 2 2;

    // RAS: HCR_EL2.TERR. Limited ordering: TLOR.
    /// Error record ID.
    ERRIDR_EL1 = 3 0 5 3 0;
    /// Error record select.
    ERRSELR_EL1 = 3 0 5 3 1;
    /// Limited ordering region ID.
    LORID_EL1 = 3 0 10 4 7;
    /// SVE control.
    ZCR_EL1 = 3 0 1 2 0;
    /// SME control.
    SMCR_EL1 = 3 0 1 2 6;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn packing_and_unpacking_agree_on_every_encoding() {
        for reg in 0..=u16::MAX {
            let (op0, op1, crn, crm, op2) = fields(reg);
            assert_eq!(sys(op0.into(), op1.into(), crn.into(), crm.into(), op2.into()), reg);
        }
    }

    #[test]
    fn fields_stand_where_the_instruction_has_them() {
        assert_eq!(sys(3, 0, 0, 0, 0), 0xc000);
        assert_eq!(sys(0, 7, 0, 0, 0), 0x3800);
        assert_eq!(sys(0, 0, 15, 0, 0), 0x0780);
        assert_eq!(sys(0, 0, 0, 15, 0), 0x0078);
        assert_eq!(sys(0, 0, 0, 0, 7), 0x0007);
    }

    #[test]
    fn well_known_registers_have_their_instructions_encoding() {
        // MRS X0, <reg> is 0xd5200000 | encoding << 5.
        for (reg, instruction) in [
            (ICC_SGI1R_EL1, 0xd538_cba0_u32),
            (ID_AA64PFR0_EL1, 0xd538_0400),
            (ID_AA64MMFR0_EL1, 0xd538_0700),
            (CNTPCT_EL0, 0xd53b_e020),
            (PMCR_EL0, 0xd53b_9c00),
            (MDSCR_EL1, 0xd530_0240),
            (OSLSR_EL1, 0xd530_1180),
            (SCTLR_EL1, 0xd538_1000),
            (ACTLR_EL1, 0xd538_1020),
        ] {
            assert_eq!(0xd520_0000 | u32::from(reg) << 5, instruction, "{reg:#x}");
        }
        // DC CISW, X0 is a SYS instruction: 0xd5080000 | ...
        assert_eq!(0xd500_0000 | u32::from(DC_CISW) << 5, 0xd508_7e40);
        assert_eq!(0xd500_0000 | u32::from(DC_ISW) << 5, 0xd508_7640);
        assert_eq!(0xd500_0000 | u32::from(DC_CSW) << 5, 0xd508_7a40);
    }

    #[test]
    fn no_two_names_share_an_encoding() {
        let mut seen = BTreeMap::new();
        for (reg, text) in NAMES {
            assert_eq!(seen.insert(reg, text), None, "{text}");
            assert_eq!(name(*reg), Some(*text));
        }
        assert_eq!(name(sys(3, 7, 15, 15, 7)), None);
    }

    #[test]
    fn the_id_space_is_crm_1_to_7() {
        for reg in 0..=u16::MAX {
            let (op0, op1, crn, crm, _) = fields(reg);
            let want = op0 == 3 && op1 == 0 && crn == 0 && (1..=7).contains(&crm);
            assert_eq!(is_id_space(reg), want, "{reg:#x}");
        }
        assert!(!is_id_space(MIDR_EL1), "VPIDR_EL2 answers that");
    }

    #[test]
    fn implementation_defined_space_is_crn_11_and_15() {
        assert!(is_implementation_defined(sys(3, 0, 15, 2, 1)));
        assert!(is_implementation_defined(sys(1, 0, 11, 0, 0)));
        assert!(!is_implementation_defined(sys(2, 0, 15, 0, 0)), "debug space");
        assert!(!is_implementation_defined(ICC_SGI1R_EL1));
    }
}
