// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which values an exception taken to a guest's EL1 leaves in its registers.

use crate::{GuestRegs, Va, pstate};

/// The guest's registers that steer an exception to its EL1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct El1State {
    /// VBAR_EL1.
    pub vbar: u64,
    /// SCTLR_EL1.
    pub sctlr: u64,
}

/// Which PSTATE fields exist for a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PstateFeatures {
    /// FEAT_PAN.
    pub pan: bool,
    /// FEAT_SSBS.
    pub ssbs: bool,
    /// FEAT_MTE: TCO.
    pub mte: bool,
    /// FEAT_NMI: ALLINT.
    pub nmi: bool,
    /// FEAT_EBEP: PM.
    pub ebep: bool,
}

impl PstateFeatures {
    /// What a guest has whose ID_AA64PFR1_EL1 and ID_AA64MMFR1_EL1, as it sees them, are these.
    pub const fn of(visible_pfr1: u64, visible_mmfr1: u64) -> Self {
        Self {
            pan: (visible_mmfr1 >> 20) & 0xf != 0,
            ssbs: (visible_pfr1 >> 4) & 0xf != 0,
            // Value 1 is FEAT_MTE, which has the instructions and TCO.
            mte: (visible_pfr1 >> 8) & 0xf != 0,
            nmi: (visible_pfr1 >> 36) & 0xf != 0,
            // Reported in ID_AA64DFR1_EL1, of which guests see nothing.
            ebep: false,
        }
    }
}

/// Which kind of access an abort answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortKind {
    /// A load, a store, or data cache maintenance.
    Data,
    /// An instruction fetch.
    Instruction,
}

/// What to write before the ERET that delivers an exception to EL1. General registers stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct El1Entry {
    /// ESR_EL1.
    pub esr: u64,
    /// FAR_EL1; `None` leaves it untouched.
    pub far: Option<u64>,
    /// ELR_EL1.
    pub elr: u64,
    /// SPSR_EL1.
    pub spsr: u64,
    /// ELR_EL2: the vector.
    pub pc: u64,
    /// SPSR_EL2: PSTATE of the handler.
    pub pstate: u64,
}

const IL: u64 = 1 << 25;
const EC_SHIFT: u32 = 26;
const SCTLR_SPAN: u64 = 1 << 23;
const SCTLR_DSSBS: u64 = 1 << 44;
const SCTLR_SPINTMASK: u64 = 1 << 62;

/// A synchronous external abort. `walk_level` is the level of the stage-1 walk that it hit (-1 to 3),
/// `None` if it hit the access itself.
pub fn external_abort(
    kind: AbortKind,
    walk_level: Option<i8>,
    va: Va,
    regs: &GuestRegs,
    el1: &El1State,
    features: &PstateFeatures,
) -> El1Entry {
    let ec: u64 = match (kind, from_el1(regs.spsr)) {
        (AbortKind::Data, false) => 0x24,
        (AbortKind::Data, true) => 0x25,
        (AbortKind::Instruction, false) => 0x20,
        (AbortKind::Instruction, true) => 0x21,
    };
    let status: u64 = match walk_level {
        Some(-1) => 0x13,
        Some(0) => 0x14,
        Some(1) => 0x15,
        Some(2) => 0x16,
        Some(3) => 0x17,
        _ => 0x10,
    };
    entry((ec << EC_SHIFT) | IL | status, Some(va.raw()), regs, el1, features)
}

/// An UNDEFINED exception: EC 0, IL 1.
pub fn undefined(regs: &GuestRegs, el1: &El1State, features: &PstateFeatures) -> El1Entry {
    entry(IL, None, regs, el1, features)
}

fn entry(
    esr: u64,
    far: Option<u64>,
    regs: &GuestRegs,
    el1: &El1State,
    features: &PstateFeatures,
) -> El1Entry {
    El1Entry {
        esr,
        far,
        elr: regs.elr,
        spsr: regs.spsr,
        pc: (el1.vbar & !0x7ff) | vector_offset(regs.spsr),
        pstate: handler_pstate(regs.spsr, el1.sctlr, features),
    }
}

const fn from_el1(spsr: u64) -> bool {
    spsr & pstate::M_AARCH32 == 0 && spsr & pstate::M_EL != 0
}

/// Offset of the synchronous vector (DDI 0487 D1.3.1.3).
const fn vector_offset(spsr: u64) -> u64 {
    if spsr & pstate::M_AARCH32 != 0 {
        0x600
    } else if spsr & pstate::M_EL == 0 {
        0x400
    } else if spsr & pstate::M_SPSEL != 0 {
        0x200
    } else {
        0x000
    }
}

/// PSTATE that an exception to EL1 sets (DDI 0487 AArch64.TakeException).
const fn handler_pstate(old: u64, sctlr: u64, features: &PstateFeatures) -> u64 {
    let mut new = pstate::EL1H | pstate::D | pstate::A | pstate::I | pstate::F;
    new |= old & (pstate::NZCV | pstate::DIT);
    if features.pan {
        new |= old & pstate::PAN;
        if sctlr & SCTLR_SPAN == 0 {
            new |= pstate::PAN;
        }
    }
    if features.ssbs && sctlr & SCTLR_DSSBS != 0 {
        new |= pstate::SSBS;
    }
    if features.mte {
        new |= pstate::TCO;
    }
    if features.nmi && sctlr & SCTLR_SPINTMASK == 0 {
        new |= pstate::ALLINT;
    }
    if features.ebep {
        new |= pstate::PM;
    }
    new
}
