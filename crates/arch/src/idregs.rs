// SPDX-License-Identifier: MIT OR Apache-2.0
//! What guests see of the ID registers.
//!
//! An allow-list: a field shows only if it is named here, and then at most up to the value named, so
//! that what a later architecture adds stays hidden until EL2 knows how to switch or trap it. Which
//! trap stands behind each hidden feature is in docs/trap-path.md.
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
    (4, Is(1)),          // EL1: AArch64 only
    (0, UpTo(2)),        // EL0: AArch32 as well, if the CPU has it
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

/// Encodings in the ID space: CRm 1 to 7, op2 0 to 7.
const ID_SPACE: usize = 7 * 8;
const FIRST: u16 = sys(3, 0, 0, 1, 0);

/// The whole ID space as a VM sees it, computed once, so that a trapped read is one load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdRegisters([u64; ID_SPACE]);

impl IdRegisters {
    /// Filters what `raw` returns for each register that guests may know of; `raw` is asked for those
    /// alone, with the encoding packed as [`crate::SysRegAccess::reg`].
    pub fn new(cpu: &VisibleCpu, mut raw: impl FnMut(u16) -> u64) -> Self {
        let mut space = [0; ID_SPACE];
        for (reg, slot) in (FIRST..).zip(&mut space) {
            if visible_id_register(reg, 0, cpu).is_some() {
                *slot = visible_id_register(reg, raw(reg), cpu).unwrap_or(0);
            }
        }
        Self(space)
    }

    /// What a guest reads; `None` outside the ID space. Unallocated encodings in it read as zero.
    #[inline(always)]
    pub fn read(&self, reg: u16) -> Option<u64> {
        self.0.get(usize::from(reg.wrapping_sub(FIRST))).copied()
    }
}
