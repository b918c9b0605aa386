// SPDX-License-Identifier: MIT OR Apache-2.0
//! What EL2 traps, and what guests run natively: the value of every trap control of EL2, bit by bit.
//!
//! EL2 writes each register of [`REGISTERS`] on each CPU that has it, so that no control keeps a value from
//! before. Registers are described in DDI 0487 D19.2 (general), D19.3 (debug) and D19.12 (timer), under
//! their names. docs/trap-controls.md is this table, printed.

use crate::sysreg::sys;

/// One field of a register.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its lowest bit.
    pub bit: u32,
    /// Its name in the manual.
    pub name: &'static str,
    /// What EL2 writes there.
    pub value: u64,
    /// Why.
    pub reason: &'static str,
}

/// Which CPUs have a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// All.
    Always,
    /// Those with at least this value in the four bits from this bit on of the ID register with this encoding.
    Id(u16, u32, u64),
    /// Those with two such values.
    Both((u16, u32, u64), (u16, u32, u64)),
    /// Those with one of two such values.
    Either((u16, u32, u64), (u16, u32, u64)),
    /// Those with MPAMIDR_EL1.HAS_HCR, among those with MPAM.
    MpamHcr,
}

/// A register of EL2 that decides what lower exception levels may do, or what EL2 itself gets.
#[derive(Clone, Copy, Debug)]
pub struct Register {
    /// Its name in the manual.
    pub name: &'static str,
    /// Its encoding, packed as [`crate::SysRegAccess::reg`].
    pub encoding: u16,
    /// Which CPUs have it.
    pub presence: Presence,
    /// What is said of the register as a whole.
    pub about: &'static str,
    /// The fields that are one, and the fields that are zero for a reason of their own. All others are zero.
    pub fields: &'static [Field],
}

impl Register {
    /// Whether `name` is its name: for a check by the compiler that its value goes to the register it is for.
    pub const fn is(&self, name: &str) -> bool {
        let (mut own, mut other) = (self.name.as_bytes(), name.as_bytes());
        while let ([a, own_rest @ ..], [b, other_rest @ ..]) = (own, other) {
            if *a != *b {
                return false;
            }
            (own, other) = (own_rest, other_rest);
        }
        own.is_empty() && other.is_empty()
    }

    /// The value that EL2 writes.
    pub const fn value(&self) -> u64 {
        let mut value = 0;
        let mut fields = self.fields;
        while let [field, rest @ ..] = fields {
            value |= field.value << field.bit;
            fields = rest;
        }
        value
    }
}

impl Presence {
    /// Whether it holds for a CPU with these ID registers, by CRm << 3 | op2. For [`Presence::MpamHcr`] this says
    /// whether the CPU has MPAM at all.
    #[inline(always)]
    pub fn holds(self, ids: &[u64; 64]) -> bool {
        let at_least = |(reg, bit, least): (u16, u32, u64)| {
            let raw = ids.get(usize::from(reg & 0x3f)).copied().unwrap_or(0);
            raw.wrapping_shr(bit) & 0xf >= least
        };
        match self {
            Self::Always => true,
            Self::Id(reg, bit, least) => at_least((reg, bit, least)),
            Self::Both(a, b) => at_least(a) && at_least(b),
            Self::Either(a, b) => at_least(a) || at_least(b),
            Self::MpamHcr => at_least((PFR0, 40, 1)) || at_least((PFR1, 16, 1)),
        }
    }
}

const fn one(bit: u32, name: &'static str, reason: &'static str) -> Field {
    Field { bit, name, value: 1, reason }
}

const fn zero(bit: u32, name: &'static str, reason: &'static str) -> Field {
    Field { bit, name, value: 0, reason }
}

const PFR0: u16 = crate::sysreg::ID_AA64PFR0_EL1;
const PFR1: u16 = crate::sysreg::ID_AA64PFR1_EL1;
const MMFR0: u16 = crate::sysreg::ID_AA64MMFR0_EL1;
const MMFR1: u16 = crate::sysreg::ID_AA64MMFR1_EL1;
const MMFR3: u16 = crate::sysreg::ID_AA64MMFR3_EL1;

/// FEAT_FGT: fine-grained traps.
const FGT: Presence = Presence::Id(MMFR0, 56, 1);
/// FEAT_FGT2.
const FGT2: Presence = Presence::Id(MMFR0, 56, 2);

/// HCR_EL2 of every guest.
pub const HCR: Register = Register {
    name: "HCR_EL2",
    encoding: sys(3, 4, 1, 1, 0),
    presence: Presence::Always,
    about: "E2H and TGE are zero: EL2 is a hypervisor's, and EL1 and EL0 are the guest's.",
    fields: &[
        one(0, "VM", "stage 2 translates what EL1 and EL0 access"),
        one(1, "SWIO", "DC ISW invalidates and cleans, so that no guest drops another's lines"),
        one(2, "PTW", "a stage-1 walk never reads a device's registers"),
        one(3, "FMO", "physical FIQs come to EL2"),
        one(4, "IMO", "physical IRQs come to EL2; the GIC's CPU interface is the virtual one"),
        one(5, "AMO", "SErrors come to EL2"),
        zero(13, "TWI", "WFI is native where a vCPU is alone on its CPU; see HCR_SHARED"),
        zero(14, "TWE", "the same of WFE"),
        one(18, "TID3", "guests read the ID registers that EL2 made for them"),
        one(19, "TSC", "SMC traps: a guest never reaches firmware"),
        one(20, "TIDCP", "registers of the implementation trap: what they do is unknown"),
        one(21, "TACR", "ACTLR_EL1 traps: it is the implementation's, and not switched"),
        one(22, "TSW", "cache maintenance by set and way traps: it acts on other VMs' lines"),
        zero(27, "TGE", "EL0 is the guest's, not EL2's"),
        one(31, "RW", "EL1 is AArch64"),
        zero(34, "E2H", "EL2 uses its own registers"),
        one(35, "TLOR", "LORegion registers trap: they are not switched"),
        one(36, "TERR", "RAS error records trap: they are the machine's"),
        zero(37, "TEA", "an external abort of a guest's own access is the guest's"),
        zero(39, "TME", "transactional memory traps: it is hidden"),
        one(40, "APK", "keys of pointer authentication are native, and switched"),
        one(41, "API", "pointer authentication is native"),
        zero(42, "NV", "no nested virtualization"),
        zero(47, "FIEN", "RAS fault injection traps"),
        zero(51, "AMVOFFEN", "no virtual offsets of activity monitors"),
        zero(53, "EnSCXT", "SCXTNUM_EL0 and SCXTNUM_EL1 trap: they are not switched"),
        zero(56, "ATA", "allocation tags and the registers of MTE trap"),
        one(58, "TID5", "GMID_EL1 traps: MTE is hidden"),
    ],
};

/// What HCR_EL2 has in addition while the CPU's vCPUs take turns: WFI (TWI) and WFE (TWE) are reasons to switch.
pub const HCR_SHARED: u64 = 1 << 13 | 1 << 14;

/// CPTR_EL2, with HCR_EL2.E2H zero.
pub const CPTR: Register = Register {
    name: "CPTR_EL2",
    encoding: sys(3, 4, 1, 1, 2),
    presence: Presence::Always,
    about: "Bits 13, 9 and 7 to 0 are RES1 where E2H is zero.",
    fields: &[
        Field { bit: 0, name: "RES1", value: 0xff, reason: "as the manual says" },
        one(8, "TZ", "SVE traps: it is hidden, and its registers are not switched"),
        one(9, "RES1", "as the manual says"),
        zero(10, "TFP", "FP and SIMD are native, and switched"),
        one(12, "TSM", "SME traps: it is hidden, and its registers are not switched"),
        one(13, "RES1", "as the manual says"),
        one(20, "TTA", "trace registers trap"),
        one(30, "TAM", "activity monitors trap: they count what other VMs do"),
        zero(31, "TCPAC", "CPACR_EL1 is native, and switched"),
    ],
};

/// MDCR_EL2.TDA: accesses to debug registers trap. Clear while a vCPU that uses them is loaded.
pub const MDCR_TDA: u64 = 1 << 9;

/// MDCR_EL2, but for HPMN, which is the number of counters that the PMU has.
pub const MDCR: Register = Register {
    name: "MDCR_EL2",
    encoding: sys(3, 4, 1, 1, 1),
    presence: Presence::Always,
    about: "HPMN (bits 4 to 0) is PMCR_EL0.N, its reset value.",
    fields: &[
        one(5, "TPMCR", "PMCR_EL0 traps: the PMU is hidden"),
        one(6, "TPM", "the PMU traps: it counts what other VMs do"),
        zero(7, "HPME", "EL2's event counters stand still"),
        zero(8, "TDE", "debug exceptions of EL1 and EL0 are the guest's"),
        one(9, "TDA", "debug registers trap until the vCPU uses them; then they are switched"),
        one(10, "TDOSA", "the OS lock traps: it is the CPU's"),
        one(11, "TDRA", "debug ROM addresses trap: they are the machine's"),
        zero(12, "E2PB", "the profiling buffer is EL2's, and its registers trap"),
        one(14, "TPMS", "statistical profiling traps"),
        one(19, "TTRF", "trace filters trap"),
        zero(24, "E2TB", "the trace buffer is EL2's, and its registers trap"),
        zero(27, "TDCC", "the debug channel follows TDA; its registers are switched"),
        zero(43, "EBWE", "breakpoints beyond 16 are not usable, and MDSELR_EL1 traps"),
    ],
};

/// HSTR_EL2.
pub const HSTR: Register = Register {
    name: "HSTR_EL2",
    encoding: sys(3, 4, 1, 1, 3),
    presence: Presence::Always,
    about: "Traps of AArch32 coprocessor registers at EL0: none. What EL0 reaches there is switched or traps by HCR_EL2.",
    fields: &[],
};

/// HACR_EL2.
pub const HACR: Register = Register {
    name: "HACR_EL2",
    encoding: sys(3, 4, 1, 1, 7),
    presence: Presence::Always,
    about: "Implementation defined traps: none beyond those of HCR_EL2.TIDCP and TACR.",
    fields: &[],
};

/// CNTHCTL_EL2, with HCR_EL2.E2H zero.
pub const CNTHCTL: Register = Register {
    name: "CNTHCTL_EL2",
    encoding: sys(3, 4, 14, 1, 0),
    presence: Presence::Always,
    about: "EL0's own access is the guest's decision, in CNTKCTL_EL1.",
    fields: &[
        one(0, "EL1PCTEN", "CNTPCT_EL0 is native"),
        zero(1, "EL1PCEN", "the physical timer traps: EL2 emulates it"),
        zero(2, "EVNTEN", "no event stream of EL2's"),
        zero(12, "ECV", "no offset of the physical counter (CNTPOFF_EL2)"),
        zero(13, "EL1TVT", "the virtual timer is native, and switched"),
        zero(14, "EL1TVCT", "the virtual counter is native; CNTVOFF_EL2 is switched"),
        zero(18, "CNTVMASK", "the virtual timer's interrupt is not masked"),
    ],
};

/// HCRX_EL2.
pub const HCRX: Register = Register {
    name: "HCRX_EL2",
    encoding: sys(3, 4, 1, 2, 2),
    presence: Presence::Id(MMFR1, 40, 1),
    about: "Each feature that it enables is hidden, and its registers are not switched.",
    fields: &[
        zero(0, "EnAS0", "ST64BV0 and ACCDATA_EL1 trap"),
        zero(1, "EnALS", "LD64B and ST64B trap"),
        zero(2, "EnASR", "ST64BV traps"),
        zero(11, "MSCEn", "instructions of FEAT_MOPS are UNDEFINED"),
        zero(14, "TCR2En", "TCR2_EL1 traps"),
        zero(15, "SCTLR2En", "SCTLR2_EL1 traps"),
        zero(17, "D128En", "128-bit system registers trap"),
        zero(22, "GCSEn", "guarded control stacks are off"),
        zero(23, "EnFPM", "FPMR traps"),
    ],
};

/// HFGRTR_EL2: reads that trap.
pub const HFGRTR: Register = Register {
    name: "HFGRTR_EL2",
    encoding: sys(3, 4, 1, 1, 4),
    presence: FGT,
    about: "A field whose name begins with n traps where it is zero.",
    fields: HFGR,
};

/// HFGWTR_EL2: writes that trap.
pub const HFGWTR: Register = Register {
    name: "HFGWTR_EL2",
    encoding: sys(3, 4, 1, 1, 5),
    presence: FGT,
    about: "As HFGRTR_EL2.",
    fields: HFGR,
};

const HFGR: &[Field] = &[
    zero(50, "nACCDATA_EL1", "traps: not switched"),
    zero(52, "nGCS_EL0", "GCSPR_EL0 traps: not switched"),
    zero(53, "nGCS_EL1", "GCSCR_EL1 and its kin trap: not switched"),
    zero(54, "nSMPRI_EL1", "traps: SME is hidden"),
    zero(55, "nTPIDR2_EL0", "traps: SME is hidden"),
    zero(56, "nRCWMASK_EL1", "traps: not switched"),
    zero(57, "nPIRE0_EL1", "traps: not switched"),
    zero(58, "nPIR_EL1", "traps: not switched"),
    zero(59, "nPOR_EL0", "traps: not switched"),
    zero(60, "nPOR_EL1", "traps: not switched"),
    zero(61, "nS2POR_EL1", "traps: not switched"),
    zero(62, "nMAIR2_EL1", "traps: not switched"),
    zero(63, "nAMAIR2_EL1", "traps: not switched"),
];

/// HFGITR_EL2: instructions that trap.
pub const HFGITR: Register = Register {
    name: "HFGITR_EL2",
    encoding: sys(3, 4, 1, 1, 6),
    presence: FGT,
    about: "Instructions that guests see are native.",
    fields: &[
        zero(55, "nBRBINJ", "traps: branch records are hidden"),
        zero(56, "nBRBIALL", "traps: branch records are hidden"),
        zero(57, "nGCSPUSHM_EL1", "traps: guarded control stacks are hidden"),
        zero(58, "nGCSSTR_EL1", "traps: guarded control stacks are hidden"),
        zero(59, "nGCSEPP", "traps: guarded control stacks are hidden"),
    ],
};

/// HDFGRTR_EL2: debug and trace reads that trap.
pub const HDFGRTR: Register = Register {
    name: "HDFGRTR_EL2",
    encoding: sys(3, 4, 3, 1, 4),
    presence: FGT,
    about: "What MDCR_EL2 traps need not trap twice.",
    fields: HDFG,
};

/// HDFGWTR_EL2: debug and trace writes that trap.
pub const HDFGWTR: Register = Register {
    name: "HDFGWTR_EL2",
    encoding: sys(3, 4, 3, 1, 5),
    presence: FGT,
    about: "As HDFGRTR_EL2.",
    fields: HDFG,
};

const HDFG: &[Field] = &[
    zero(60, "nBRBCTL", "traps: branch records are hidden"),
    zero(61, "nBRBDATA", "traps: branch records are hidden"),
    zero(62, "nPMSNEVFR_EL1", "traps: statistical profiling is hidden"),
];

/// HAFGRTR_EL2: reads of activity monitors that trap.
pub const HAFGRTR: Register = Register {
    name: "HAFGRTR_EL2",
    encoding: sys(3, 4, 3, 1, 6),
    presence: Presence::Both((MMFR0, 56, 1), (PFR0, 44, 1)),
    about: "CPTR_EL2.TAM traps all of them.",
    fields: &[],
};

/// HFGRTR2_EL2: further reads that trap.
pub const HFGRTR2: Register = Register {
    name: "HFGRTR2_EL2",
    encoding: sys(3, 4, 3, 1, 2),
    presence: FGT2,
    about: "A field whose name begins with n traps where it is zero.",
    fields: HFGR2,
};

/// HFGWTR2_EL2: further writes that trap.
pub const HFGWTR2: Register = Register {
    name: "HFGWTR2_EL2",
    encoding: sys(3, 4, 3, 1, 3),
    presence: FGT2,
    about: "As HFGRTR2_EL2.",
    fields: HFGR2,
};

const HFGR2: &[Field] = &[
    zero(0, "nPFAR_EL1", "traps: not switched"),
    zero(1, "nERXGSR_EL1", "traps: RAS error records are the machine's"),
    zero(2, "nRCWSMASK_EL1", "traps: not switched"),
];

/// HFGITR2_EL2: further instructions that trap.
pub const HFGITR2: Register = Register {
    name: "HFGITR2_EL2",
    encoding: sys(3, 4, 3, 1, 7),
    presence: FGT2,
    about: "A field whose name begins with n traps where it is zero.",
    fields: &[zero(1, "nDCCIVAPS", "traps: not switched")],
};

/// HDFGRTR2_EL2: further debug reads that trap.
pub const HDFGRTR2: Register = Register {
    name: "HDFGRTR2_EL2",
    encoding: sys(3, 4, 3, 1, 0),
    presence: FGT2,
    about: "Every field traps where it is zero: the PMU, profiling and MDSELR_EL1 beyond Armv8.0.",
    fields: &[],
};

/// HDFGWTR2_EL2: further debug writes that trap.
pub const HDFGWTR2: Register = Register {
    name: "HDFGWTR2_EL2",
    encoding: sys(3, 4, 3, 1, 1),
    presence: FGT2,
    about: "As HDFGRTR2_EL2.",
    fields: &[],
};

/// MPAM2_EL2.
pub const MPAM2: Register = Register {
    name: "MPAM2_EL2",
    encoding: sys(3, 4, 10, 5, 0),
    presence: Presence::Either((PFR0, 40, 1), (PFR1, 16, 1)),
    about: "Partition 0 for EL2. MPAM is hidden from guests.",
    fields: &[
        one(48, "TRAPMPAM1EL1", "MPAM1_EL1 traps: not switched"),
        one(49, "TRAPMPAM0EL1", "MPAM0_EL1 traps: not switched"),
        one(58, "TIDR", "MPAMIDR_EL1 traps, where the CPU has this control"),
    ],
};

/// MPAMHCR_EL2.
pub const MPAMHCR: Register = Register {
    name: "MPAMHCR_EL2",
    encoding: sys(3, 4, 10, 4, 0),
    presence: Presence::MpamHcr,
    about: "No virtual partitions.",
    fields: &[
        zero(0, "EL0_VPMEN", "EL0 uses MPAM0_EL1 as it is"),
        zero(1, "EL1_VPMEN", "EL1 uses MPAM1_EL1 as it is"),
        one(31, "TRAP_MPAMIDR_EL1", "MPAMIDR_EL1 traps"),
    ],
};

/// VSESR_EL2.
pub const VSESR: Register = Register {
    name: "VSESR_EL2",
    encoding: sys(3, 4, 5, 2, 3),
    presence: Presence::Id(PFR0, 28, 1),
    about: "EL2 gives no virtual SErrors, so no syndrome either.",
    fields: &[],
};

/// TCR2_EL2.
pub const TCR2: Register = Register {
    name: "TCR2_EL2",
    encoding: sys(3, 4, 2, 0, 3),
    presence: Presence::Id(MMFR3, 0, 1),
    about: "EL2's own translation has nothing beyond TCR_EL2.",
    fields: &[],
};

/// SCTLR2_EL2.
pub const SCTLR2: Register = Register {
    name: "SCTLR2_EL2",
    encoding: sys(3, 4, 1, 0, 3),
    presence: Presence::Id(MMFR3, 4, 1),
    about: "EL2 itself has nothing beyond SCTLR_EL2.",
    fields: &[],
};

/// GCSCR_EL2.
pub const GCSCR: Register = Register {
    name: "GCSCR_EL2",
    encoding: sys(3, 4, 2, 5, 0),
    presence: Presence::Id(PFR1, 44, 1),
    about: "EL2 has no guarded control stack.",
    fields: &[],
};

/// Every register of this file.
pub const REGISTERS: [&Register; 24] = [
    &HCR, &CPTR, &MDCR, &HSTR, &HACR, &CNTHCTL, &HCRX, &HFGRTR, &HFGWTR, &HFGITR, &HDFGRTR,
    &HDFGWTR, &HAFGRTR, &HFGRTR2, &HFGWTR2, &HFGITR2, &HDFGRTR2, &HDFGWTR2, &MPAM2, &MPAMHCR,
    &VSESR, &TCR2, &SCTLR2, &GCSCR,
];
