// SPDX-License-Identifier: MIT OR Apache-2.0
//! What guests see of the ID registers.
//!
//! An allow-list: a field shows only if it is named here, and then at most up to the value named, so
//! that what a later architecture adds stays hidden until EL2 knows how to switch or trap it. Which
//! trap is behind each hidden feature is in docs/trap-path.md.
//!
//! Sources: DDI 0487 D17.2 (each register), D17.1.3 (rules for signed and unsigned fields).

use crate::physical_bits;
use crate::sysreg::*;

/// The parts of a VM that its ID registers report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VisibleCpu {
    /// Bits of IPA: the guest's PARange (the largest encodable size that does not exceed them).
    pub ipa_bits: u8,
    /// The VM's GIC is a GICv3: the CPU interface's system registers are usable.
    pub gicv3: bool,
}

/// How one four-bit field shows.
#[derive(Clone, Copy)]
enum Rule {
    /// As the CPU has it, but no more than this.
    UpTo(u64),
    /// The same for a signed field, whose 0b1000 to 0b1111 mean "not implemented".
    SignedUpTo(u64),
    /// Always this.
    Is(u64),
}
use Rule::{Is, SignedUpTo, UpTo};

/// A field's lowest bit and its rule.
type Field = (u32, Rule);

const PFR0: &[Field] = &[
    (60, UpTo(1)),       // CSV3
    (56, UpTo(1)),       // CSV2: 2 and up have SCXTNUM_ELx, which is not switched
    (48, UpTo(1)),       // DIT
    (20, SignedUpTo(1)), // AdvSIMD
    (16, SignedUpTo(1)), // FP
    (12, Is(1)), // EL3: AArch64 only, as Non-secure EL1 has it above; without, guests write CNTFRQ_EL0
    (4, Is(1)),  // EL1: AArch64 only
    (0, UpTo(2)), // EL0: AArch32 as well, if the CPU has it
];
const PFR1: &[Field] = &[
    (32, UpTo(1)), // CSV2_frac
    (4, UpTo(2)),  // SSBS
    (0, UpTo(1)),  // BT
];
const DFR0: &[Field] = &[
    (36, SignedUpTo(0)), // DoubleLock
    (28, UpTo(15)),      // CTX_CMPs
    (20, UpTo(15)),      // WRPs
    (12, UpTo(15)),      // BRPs
    (0, Is(6)),          // DebugVer: Armv8.0
];
const ISAR0: &[Field] = &[
    (60, UpTo(1)), // RNDR
    (56, UpTo(2)), // TLB
    (52, UpTo(2)), // TS
    (48, UpTo(1)), // FHM
    (44, UpTo(1)), // DP
    (40, UpTo(1)), // SM4
    (36, UpTo(1)), // SM3
    (32, UpTo(1)), // SHA3
    (28, UpTo(1)), // RDM
    (20, UpTo(3)), // Atomic
    (16, UpTo(1)), // CRC32
    (12, UpTo(2)), // SHA2
    (8, UpTo(1)),  // SHA1
    (4, UpTo(2)),  // AES
];
const ISAR1: &[Field] = &[
    (56, UpTo(1)), // XS
    (52, UpTo(1)), // I8MM
    (48, UpTo(1)), // DGH
    (44, UpTo(2)), // BF16
    (40, UpTo(2)), // SPECRES
    (36, UpTo(1)), // SB
    (32, UpTo(1)), // FRINTTS
    (28, UpTo(1)), // GPI
    (24, UpTo(1)), // GPA
    (20, UpTo(3)), // LRCPC
    (16, UpTo(1)), // FCMA
    (12, UpTo(1)), // JSCVT
    (8, UpTo(5)),  // API: 6 has PSTATE.PACM
    (4, UpTo(5)),  // APA
    (0, UpTo(2)),  // DPB
];
const ISAR2: &[Field] = &[
    (52, UpTo(1)), // CSSC
    (48, UpTo(1)), // RPRFM
    (28, UpTo(1)), // CLRBHB
    (24, UpTo(1)), // PAC_frac
    (20, UpTo(1)), // BC
    (12, UpTo(5)), // APA3
    (8, UpTo(1)),  // GPA3
    (4, UpTo(1)),  // RPRES
];
const MMFR0: &[Field] = &[
    (60, UpTo(1)),       // ECV
    (44, UpTo(1)),       // ExS
    (28, SignedUpTo(0)), // TGran4: no 52-bit addresses
    (24, SignedUpTo(0)), // TGran64
    (20, UpTo(1)),       // TGran16: no 52-bit addresses
    (16, UpTo(1)),       // BigEndEL0
    (8, UpTo(1)),        // BigEnd
    (4, UpTo(2)),        // ASIDBits
];
const MMFR1: &[Field] = &[
    (60, UpTo(1)), // ECBHB
    (48, UpTo(1)), // nTLBPA
    (44, UpTo(1)), // AFP
    (36, UpTo(3)), // ETS
    (24, UpTo(1)), // SpecSEI
    (20, UpTo(3)), // PAN
    (12, UpTo(2)), // HPDS
    (0, UpTo(2)),  // HAFDBS
];
const MMFR2: &[Field] = &[
    (60, UpTo(1)), // E0PD
    (52, UpTo(2)), // BBM
    (48, UpTo(1)), // TTL
    (36, UpTo(1)), // IDS
    (32, UpTo(1)), // AT
    (28, UpTo(1)), // ST
    (20, UpTo(1)), // CCIDX
    (16, UpTo(1)), // VARange
    (8, UpTo(1)),  // LSM
    (4, UpTo(1)),  // UAO
    (0, UpTo(1)),  // CnP
];
// AArch32, of use to EL0 alone.
const AA32_PFR0: &[Field] = &[
    (24, UpTo(1)),  // DIT
    (16, UpTo(1)),  // CSV2
    (12, UpTo(15)), // State3
    (8, UpTo(15)),  // State2
    (4, UpTo(15)),  // State1
    (0, UpTo(15)),  // State0
];
const AA32_PFR1: &[Field] = &[(16, UpTo(2))]; // GenTimer; no EL1, EL2 or EL3 in AArch32
const AA32_PFR2: &[Field] = &[
    (4, UpTo(1)), // SSBS
    (0, UpTo(1)), // CSV3
];
const AA32_DFR0: &[Field] = &[(0, UpTo(6))]; // CopDbg: Armv8.0
const AA32_MMFR4: &[Field] = &[
    (24, UpTo(1)), // CCIDX
    (20, UpTo(1)), // LSM
    (16, UpTo(2)), // HPDS
    (12, UpTo(1)), // CnP
    (4, UpTo(15)), // AC2
    (0, UpTo(1)),  // SpecSEI
];

const fn shown(mut fields: &[Field], raw: u64) -> u64 {
    let mut visible = 0;
    while let [(shift, rule), rest @ ..] = fields {
        let value = raw.wrapping_shr(*shift) & 0xf;
        let value = match *rule {
            UpTo(most) if value > most => most,
            SignedUpTo(_) if value >= 8 => 0xf,
            SignedUpTo(most) if value > most => most,
            UpTo(_) | SignedUpTo(_) => value,
            Is(fixed) => fixed,
        };
        visible |= value.wrapping_shl(*shift);
        fields = rest;
    }
    visible
}

/// ID_AA64MMFR0_EL1.PARange for a VM: what the CPU has, cut to the VM's IPA size.
const fn pa_range(raw: u64, ipa_bits: u8) -> u64 {
    let mut range = raw & 0xf;
    while range > 0 && physical_bits(range as u8) > ipa_bits {
        range = range.wrapping_sub(1);
    }
    range
}

/// What a guest reads from an ID register whose value on this CPU is `raw`; `None` if `reg` (packed as
/// [`crate::SysRegAccess::reg`]) is none that this code knows: it reads as zero then, if it lies in the
/// ID space ([`is_id_space`]).
pub const fn visible_id_register(reg: u16, raw: u64, cpu: &VisibleCpu) -> Option<u64> {
    let gic = (raw >> 24) & 0xf != 0 && cpu.gicv3;
    Some(match reg {
        ID_AA64PFR0_EL1 => shown(PFR0, raw) | ((gic as u64) << 24),
        ID_AA64PFR1_EL1 => shown(PFR1, raw),
        ID_AA64DFR0_EL1 => shown(DFR0, raw),
        ID_AA64ISAR0_EL1 => shown(ISAR0, raw),
        ID_AA64ISAR1_EL1 => shown(ISAR1, raw),
        ID_AA64ISAR2_EL1 => shown(ISAR2, raw),
        ID_AA64MMFR0_EL1 => shown(MMFR0, raw) | pa_range(raw, cpu.ipa_bits),
        ID_AA64MMFR1_EL1 => shown(MMFR1, raw),
        ID_AA64MMFR2_EL1 => shown(MMFR2, raw),
        // Nothing of these is for guests: SVE, SME, FP8, memory tagging's fine print, indirect
        // permissions, extended controls, debug beyond Armv8.0, and what implementations define.
        ID_AA64PFR2_EL1 | ID_AA64ZFR0_EL1 | ID_AA64SMFR0_EL1 | ID_AA64FPFR0_EL1
        | ID_AA64DFR1_EL1 | ID_AA64DFR2_EL1 | ID_AA64AFR0_EL1 | ID_AA64AFR1_EL1
        | ID_AA64ISAR3_EL1 | ID_AA64MMFR3_EL1 | ID_AA64MMFR4_EL1 | ID_DFR1_EL1 | ID_AFR0_EL1 => 0,
        ID_PFR0_EL1 => shown(AA32_PFR0, raw),
        ID_PFR1_EL1 => {
            let gic = (raw >> 28) & 0xf != 0 && cpu.gicv3;
            shown(AA32_PFR1, raw) | ((gic as u64) << 28)
        }
        ID_PFR2_EL1 => shown(AA32_PFR2, raw),
        ID_DFR0_EL1 => shown(AA32_DFR0, raw),
        ID_MMFR4_EL1 => shown(AA32_MMFR4, raw),
        // Instructions and memory model of AArch32 EL0: nothing there needs EL2.
        ID_MMFR0_EL1 | ID_MMFR1_EL1 | ID_MMFR2_EL1 | ID_MMFR3_EL1 | ID_ISAR0_EL1 | ID_ISAR1_EL1
        | ID_ISAR2_EL1 | ID_ISAR3_EL1 | ID_ISAR4_EL1 | ID_ISAR5_EL1 | ID_ISAR6_EL1 | MVFR0_EL1
        | MVFR1_EL1 | MVFR2_EL1 => raw & 0xffff_ffff,
        ID_MMFR5_EL1 => raw & 0xff,
        _ => return None,
    })
}

/// Fields of `reg` whose 0b1000 to 0b1111 mean less than 0, a bit for each field.
const fn signed_fields(reg: u16) -> u16 {
    match reg {
        ID_AA64PFR0_EL1 => 1 << 4 | 1 << 5,  // FP, AdvSIMD
        ID_AA64DFR0_EL1 => 1 << 9,           // DoubleLock
        ID_AA64MMFR0_EL1 => 1 << 6 | 1 << 7, // TGran64, TGran4
        _ => 0,
    }
}

/// What two CPUs with the values `a` and `b` of an ID register have in common: the lesser of each field.
pub const fn common_id_register(reg: u16, a: u64, b: u64) -> u64 {
    let signed = signed_fields(reg);
    let mut common = 0;
    let mut n = 0_u32;
    while n < 16 {
        let shift = n << 2;
        // Turns the order of signed fields into that of unsigned ones.
        let turn = ((signed >> n & 1) as u64) << 3;
        let (a, b) = (a >> shift & 0xf ^ turn, b >> shift & 0xf ^ turn);
        common |= (if a < b { a } else { b } ^ turn) << shift;
        n = n.wrapping_add(1);
    }
    common
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;
    use std::vec::Vec;

    const V3: VisibleCpu = VisibleCpu { ipa_bits: 40, gicv3: true };
    const V2: VisibleCpu = VisibleCpu { ipa_bits: 40, gicv3: false };

    fn seen(reg: u16, raw: u64) -> u64 {
        visible_id_register(reg, raw, &V3).unwrap()
    }

    fn field(value: u64, shift: u32) -> u64 {
        value >> shift & 0xf
    }

    /// Every register of the ID space that has a name, whatever it holds.
    fn known() -> Vec<u16> {
        (0..=u16::MAX).filter(|&reg| visible_id_register(reg, 0, &V3).is_some()).collect()
    }

    /// A feature that guests must not see: its register, its field, the largest value checked.
    const HIDDEN: &[(&str, u16, u32)] = &[
        ("RME", ID_AA64PFR0_EL1, 52),
        ("AMU", ID_AA64PFR0_EL1, 44),
        ("MPAM", ID_AA64PFR0_EL1, 40),
        ("SEL2", ID_AA64PFR0_EL1, 36),
        ("SVE", ID_AA64PFR0_EL1, 32),
        ("RAS", ID_AA64PFR0_EL1, 28),
        ("EL2", ID_AA64PFR0_EL1, 8),
        ("PFAR", ID_AA64PFR1_EL1, 60),
        ("DF2", ID_AA64PFR1_EL1, 56),
        ("MTEX", ID_AA64PFR1_EL1, 52),
        ("THE", ID_AA64PFR1_EL1, 48),
        ("GCS", ID_AA64PFR1_EL1, 44),
        ("MTE_frac", ID_AA64PFR1_EL1, 40),
        ("NMI", ID_AA64PFR1_EL1, 36),
        ("RNDR_trap", ID_AA64PFR1_EL1, 28),
        ("SME", ID_AA64PFR1_EL1, 24),
        ("MPAM_frac", ID_AA64PFR1_EL1, 16),
        ("RAS_frac", ID_AA64PFR1_EL1, 12),
        ("MTE", ID_AA64PFR1_EL1, 8),
        ("HPMN0", ID_AA64DFR0_EL1, 60),
        ("ExtTrcBuff", ID_AA64DFR0_EL1, 56),
        ("BRBE", ID_AA64DFR0_EL1, 52),
        ("MTPMU", ID_AA64DFR0_EL1, 48),
        ("TraceBuffer", ID_AA64DFR0_EL1, 44),
        ("TraceFilt", ID_AA64DFR0_EL1, 40),
        ("PMSVer", ID_AA64DFR0_EL1, 32),
        ("SEBEP", ID_AA64DFR0_EL1, 24),
        ("PMSS", ID_AA64DFR0_EL1, 16),
        ("PMUVer", ID_AA64DFR0_EL1, 8),
        ("TraceVer", ID_AA64DFR0_EL1, 4),
        ("TME", ID_AA64ISAR0_EL1, 24),
        ("LS64", ID_AA64ISAR1_EL1, 60),
        ("ATS1A", ID_AA64ISAR2_EL1, 60),
        ("SYSREG_128", ID_AA64ISAR2_EL1, 32),
        ("SYSINSTR_128", ID_AA64ISAR2_EL1, 36),
        ("MOPS", ID_AA64ISAR2_EL1, 16),
        ("WFxT", ID_AA64ISAR2_EL1, 0),
        ("FGT", ID_AA64MMFR0_EL1, 56),
        ("TGran4_2", ID_AA64MMFR0_EL1, 40),
        ("TGran64_2", ID_AA64MMFR0_EL1, 36),
        ("TGran16_2", ID_AA64MMFR0_EL1, 32),
        ("SNSMem", ID_AA64MMFR0_EL1, 12),
        ("CMOW", ID_AA64MMFR1_EL1, 56),
        ("TIDCP1", ID_AA64MMFR1_EL1, 52),
        ("HCX", ID_AA64MMFR1_EL1, 40),
        ("TWED", ID_AA64MMFR1_EL1, 32),
        ("XNX", ID_AA64MMFR1_EL1, 28),
        ("LO", ID_AA64MMFR1_EL1, 16),
        ("VH", ID_AA64MMFR1_EL1, 8),
        ("VMIDBits", ID_AA64MMFR1_EL1, 4),
        ("EVT", ID_AA64MMFR2_EL1, 56),
        ("FWB", ID_AA64MMFR2_EL1, 40),
        ("NV", ID_AA64MMFR2_EL1, 24),
        ("IESB", ID_AA64MMFR2_EL1, 12),
        ("AArch32 RAS", ID_PFR0_EL1, 28),
        ("AArch32 AMU", ID_PFR0_EL1, 20),
        ("AArch32 EL1", ID_PFR1_EL1, 0),
        ("AArch32 Security", ID_PFR1_EL1, 4),
        ("AArch32 Virtualization", ID_PFR1_EL1, 12),
        ("AArch32 RAS_frac", ID_PFR2_EL1, 8),
        ("AArch32 PerfMon", ID_DFR0_EL1, 24),
        ("AArch32 TraceFilt", ID_DFR0_EL1, 28),
        ("AArch32 CopTrc", ID_DFR0_EL1, 12),
        ("AArch32 EVT", ID_MMFR4_EL1, 28),
        ("AArch32 XNX", ID_MMFR4_EL1, 8),
    ];

    #[test]
    fn what_is_not_switched_is_hidden_whatever_its_version() {
        for &(name, reg, shift) in HIDDEN {
            for version in 0..16_u64 {
                let raw = version << shift;
                assert_eq!(field(seen(reg, raw), shift), 0, "{name} {version}");
                assert_eq!(seen(reg, raw), seen(reg, 0), "{name} {version} shows elsewhere");
            }
        }
    }

    #[test]
    fn whole_registers_of_hidden_features_read_zero() {
        for reg in [
            ID_AA64PFR2_EL1,
            ID_AA64ZFR0_EL1,
            ID_AA64SMFR0_EL1,
            ID_AA64FPFR0_EL1,
            ID_AA64DFR1_EL1,
            ID_AA64DFR2_EL1,
            ID_AA64AFR0_EL1,
            ID_AA64AFR1_EL1,
            ID_AA64ISAR3_EL1,
            ID_AA64MMFR3_EL1,
            ID_AA64MMFR4_EL1,
            ID_DFR1_EL1,
            ID_AFR0_EL1,
        ] {
            assert_eq!(seen(reg, u64::MAX), 0, "{reg:#x}");
        }
    }

    /// A feature that guests keep, up to the value named.
    const KEPT: &[(&str, u16, u32, u64)] = &[
        ("CSV3", ID_AA64PFR0_EL1, 60, 1),
        ("CSV2 without SCXTNUM", ID_AA64PFR0_EL1, 56, 1),
        ("DIT", ID_AA64PFR0_EL1, 48, 1),
        ("AArch32 at EL0", ID_AA64PFR0_EL1, 0, 2),
        ("SSBS", ID_AA64PFR1_EL1, 4, 2),
        ("BTI", ID_AA64PFR1_EL1, 0, 1),
        ("LSE", ID_AA64ISAR0_EL1, 20, 3),
        ("AES and PMULL", ID_AA64ISAR0_EL1, 4, 2),
        ("SHA512", ID_AA64ISAR0_EL1, 12, 2),
        ("CRC32", ID_AA64ISAR0_EL1, 16, 1),
        ("TLB ranges", ID_AA64ISAR0_EL1, 56, 2),
        ("RNDR", ID_AA64ISAR0_EL1, 60, 1),
        ("PAuth, QARMA5", ID_AA64ISAR1_EL1, 4, 5),
        ("PAuth, own algorithm", ID_AA64ISAR1_EL1, 8, 5),
        ("PAuth generic", ID_AA64ISAR1_EL1, 24, 1),
        ("PAuth generic, own", ID_AA64ISAR1_EL1, 28, 1),
        ("PAuth, QARMA3", ID_AA64ISAR2_EL1, 12, 5),
        ("PAuth generic, QARMA3", ID_AA64ISAR2_EL1, 8, 1),
        ("PAN3", ID_AA64MMFR1_EL1, 20, 3),
        ("dirty state", ID_AA64MMFR1_EL1, 0, 2),
        ("UAO", ID_AA64MMFR2_EL1, 4, 1),
        ("E0PD", ID_AA64MMFR2_EL1, 60, 1),
        ("CCSIDR format", ID_AA64MMFR2_EL1, 20, 1),
        ("52-bit VAs", ID_AA64MMFR2_EL1, 16, 1),
        ("ASIDBits", ID_AA64MMFR0_EL1, 4, 2),
        ("CLRBHB", ID_AA64ISAR2_EL1, 28, 1),
        ("SB", ID_AA64ISAR1_EL1, 36, 1),
        ("DC CVADP", ID_AA64ISAR1_EL1, 0, 2),
    ];

    #[test]
    fn what_needs_no_help_from_el2_is_kept_up_to_what_is_known() {
        for &(name, reg, shift, most) in KEPT {
            for version in 0..16_u64 {
                assert_eq!(
                    field(seen(reg, version << shift), shift),
                    version.min(most),
                    "{name} {version}"
                );
            }
        }
    }

    #[test]
    fn floating_point_shows_as_it_is_absence_too() {
        for (raw, want) in [(0, 0), (1, 1), (2, 1), (0xf, 0xf), (0x8, 0xf)] {
            assert_eq!(field(seen(ID_AA64PFR0_EL1, raw << 16), 16), want);
            assert_eq!(field(seen(ID_AA64PFR0_EL1, raw << 20), 20), want);
        }
    }

    #[test]
    fn el1_is_aarch64_alone() {
        for raw in [0, 1 << 4, 2 << 4, 0xf << 4] {
            assert_eq!(field(seen(ID_AA64PFR0_EL1, raw), 4), 1);
        }
    }

    /// A guest that finds EL1 the highest exception level writes CNTFRQ_EL0, which is UNDEFINED at EL1.
    #[test]
    fn there_is_an_el3_above_every_guest() {
        for raw in [0, 1 << 12, 2 << 12, 0xf << 12] {
            assert_eq!(field(seen(ID_AA64PFR0_EL1, raw), 12), 1);
        }
    }

    #[test]
    fn pa_range_is_the_vms_ipa_size() {
        for (ipa_bits, want) in [
            (32, 0),
            (35, 0),
            (36, 1),
            (39, 1),
            (40, 2),
            (42, 3),
            (43, 3),
            (44, 4),
            (47, 4),
            (48, 5),
        ] {
            let cpu = VisibleCpu { ipa_bits, gicv3: false };
            let mmfr0 = visible_id_register(ID_AA64MMFR0_EL1, 6, &cpu).unwrap();
            assert_eq!(field(mmfr0, 0), want, "{ipa_bits}");
        }
    }

    #[test]
    fn pa_range_never_exceeds_the_cpus() {
        for raw in 0..16 {
            let cpu = VisibleCpu { ipa_bits: 48, gicv3: false };
            let mmfr0 = visible_id_register(ID_AA64MMFR0_EL1, raw, &cpu).unwrap();
            assert_eq!(field(mmfr0, 0), raw.min(5));
        }
    }

    #[test]
    fn granules_stay_without_52_bit_addresses() {
        for (shift, raw, want) in [
            (28, 0, 0),     // 4 KiB
            (28, 1, 0),     // 4 KiB with 52 bits
            (28, 0xf, 0xf), // none
            (24, 0xf, 0xf),
            (24, 0, 0),
            (20, 0, 0), // 16 KiB: unsigned, 0 is none
            (20, 1, 1),
            (20, 2, 1),
        ] {
            assert_eq!(field(seen(ID_AA64MMFR0_EL1, raw << shift), shift), want);
        }
    }

    #[test]
    fn the_gic_interface_shows_under_gicv3_only() {
        for (cpu, raw, want) in [(V3, 1, 1), (V3, 3, 1), (V3, 0, 0), (V2, 1, 0), (V2, 3, 0)] {
            let pfr0 = visible_id_register(ID_AA64PFR0_EL1, raw << 24, &cpu).unwrap();
            assert_eq!(field(pfr0, 24), want);
            let pfr1 = visible_id_register(ID_PFR1_EL1, raw << 28, &cpu).unwrap();
            assert_eq!(field(pfr1, 28), want, "AArch32");
        }
    }

    #[test]
    fn debug_is_armv8_0_with_the_cpus_own_counts() {
        // QEMU's max: DebugVer 9, BRPs 5, WRPs 3, CTX_CMPs 1, PMUVer 6, no double lock.
        let dfr0 = seen(ID_AA64DFR0_EL1, 0x0000_00f0_1030_5609 | 0xf << 36);
        assert_eq!(dfr0, 0x0000_00f0_1030_5006);
        assert_eq!(field(seen(ID_DFR0_EL1, 0x0331_0066), 0), 6);
        assert_eq!(seen(ID_DFR0_EL1, 0x1501_1099), 6);
    }

    #[test]
    fn aarch32_registers_have_32_bits() {
        for reg in known() {
            if sysreg_crm(reg) <= 3 {
                assert_eq!(seen(reg, u64::MAX) >> 32, 0, "{reg:#x}");
                assert_eq!(seen(reg, 0xffff_ffff_0000_0000) >> 32, 0, "{reg:#x}");
            }
        }
    }

    fn sysreg_crm(reg: u16) -> u8 {
        fields(reg).3
    }

    #[test]
    fn aarch32_instructions_pass_unchanged() {
        for reg in [ID_ISAR0_EL1, ID_ISAR4_EL1, ID_ISAR5_EL1, ID_ISAR6_EL1, MVFR0_EL1, MVFR2_EL1] {
            assert_eq!(seen(reg, 0x1234_5678), 0x1234_5678);
        }
        // A32, T32 and Jazelle as EL0 has them.
        assert_eq!(seen(ID_PFR0_EL1, 0x1001_0131), 0x0001_0131, "RAS goes, CSV2 stays");
    }

    #[test]
    fn no_register_shows_what_the_cpu_lacks() {
        for reg in known() {
            let nothing = seen(reg, 0);
            let want = match reg {
                ID_AA64PFR0_EL1 => 1 << 12 | 1 << 4, // EL3 and EL1 in AArch64
                ID_AA64DFR0_EL1 => 6,                // debug of Armv8.0
                _ => 0,
            };
            assert_eq!(nothing, want, "{reg:#x}");
        }
    }

    #[test]
    fn filtering_twice_is_filtering_once() {
        for reg in known() {
            for raw in
                [0, u64::MAX, 0x1111_1111_1111_1111, 0x2222_2222_2222_2222, 0x7654_3210_fedc_ba98]
            {
                let once = seen(reg, raw);
                assert_eq!(seen(reg, once), once, "{reg:#x} {raw:#x}");
            }
        }
    }

    #[test]
    fn encodings_without_a_name_are_none() {
        assert_eq!(visible_id_register(sys(3, 0, 0, 3, 3), !0, &V3), None);
        assert_eq!(visible_id_register(sys(3, 0, 0, 7, 7), !0, &V3), None);
        assert_eq!(visible_id_register(MIDR_EL1, !0, &V3), None);
        assert_eq!(visible_id_register(SCTLR_EL1, !0, &V3), None);
        assert_eq!(known().len(), 42);
        assert!(known().into_iter().all(is_id_space));
    }

    #[test]
    fn cpus_have_in_common_what_the_lesser_one_has() {
        // Cortex-A53 and Cortex-A72: 40 and 44 bits of physical address, the rest alike.
        assert_eq!(common_id_register(ID_AA64MMFR0_EL1, 0x1122, 0x1124), 0x1122);
        assert_eq!(common_id_register(ID_AA64MMFR0_EL1, 0x1124, 0x1122), 0x1122);
        // Field by field, not the smaller number.
        assert_eq!(common_id_register(ID_AA64ISAR0_EL1, 0x0102, 0x0011), 0x0001);
        assert_eq!(common_id_register(ID_AA64ISAR0_EL1, 0x9, 0x8), 0x8);
        // "Not implemented" of a signed field is the least.
        assert_eq!(common_id_register(ID_AA64PFR0_EL1, 0xff_0011, 0x11_0022), 0xff_0011);
        assert_eq!(common_id_register(ID_AA64MMFR0_EL1, 0xf100_0005, 0x0010_0005), 0xf000_0005);
        assert_eq!(common_id_register(ID_AA64MMFR0_EL1, 0xf << 24, 0), 0xf << 24);
        assert_eq!(common_id_register(ID_AA64DFR0_EL1, 0xf << 36, 0), 0xf << 36);
        // Of an unsigned field 0xf is the most.
        assert_eq!(common_id_register(ID_AA64ISAR0_EL1, 0xf, 0x2), 0x2);
    }

    #[test]
    fn what_is_in_common_does_not_depend_on_the_order() {
        for reg in known() {
            for (a, b) in [(0, u64::MAX), (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210)] {
                let common = common_id_register(reg, a, b);
                assert_eq!(common, common_id_register(reg, b, a), "{reg:#x}");
                assert_eq!(common, common_id_register(reg, common, b), "{reg:#x}");
            }
            assert_eq!(common_id_register(reg, 0x1234_5678, 0x1234_5678), 0x1234_5678);
        }
    }
}
