// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which values an exception taken to a guest's EL1 leaves in its registers.

use crate::esr::{self, IL, ec};
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

    /// What an exception makes of PSTATE for such a guest.
    pub const fn rule(&self) -> PstateRule {
        const fn field(mask: u64, exists: bool) -> u64 {
            if exists { mask } else { 0 }
        }
        let entry = pstate::EL1H | pstate::D | pstate::A | pstate::I | pstate::F;
        PstateRule {
            sets: entry | field(pstate::TCO, self.mte) | field(pstate::PM, self.ebep),
            keeps: pstate::NZCV | pstate::DIT | field(pstate::PAN, self.pan),
            pan: field(pstate::PAN, self.pan),
            ssbs: field(pstate::SSBS, self.ssbs),
            allint: field(pstate::ALLINT, self.nmi),
        }
    }
}

/// PSTATE that an exception to EL1 sets (DDI 0487 AArch64.TakeException): [`PstateFeatures`] as masks, made once, so that an
/// injection need not ask for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PstateRule {
    /// Fields that are set.
    sets: u64,
    /// Fields that stay.
    keeps: u64,
    /// PAN, where it exists: set unless SCTLR_EL1.SPAN.
    pan: u64,
    /// SSBS, where it exists: as SCTLR_EL1.DSSBS.
    ssbs: u64,
    /// ALLINT, where it exists: the reverse of SCTLR_EL1.SPINTMASK.
    allint: u64,
}

impl PstateRule {
    #[inline(always)]
    const fn handler(&self, old: u64, sctlr: u64) -> u64 {
        self.sets
            | old & self.keeps
            | (!sctlr >> SPAN_TO_PAN) & self.pan
            | (sctlr >> DSSBS_TO_SSBS) & self.ssbs
            | (!sctlr >> SPINTMASK_TO_ALLINT) & self.allint
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

/// From bits of SCTLR_EL1, 23, 44 and 62, to those of PSTATE that they decide.
const SPAN_TO_PAN: u32 = 23 - pstate::PAN.trailing_zeros();
const DSSBS_TO_SSBS: u32 = 44 - pstate::SSBS.trailing_zeros();
const SPINTMASK_TO_ALLINT: u32 = 62 - pstate::ALLINT.trailing_zeros();

/// A synchronous external abort. `walk_level` is the level of the stage-1 walk that it hit (-1 to 3),
/// `None` if it hit the access itself.
#[inline(always)]
pub fn external_abort(
    kind: AbortKind,
    walk_level: Option<i8>,
    va: Va,
    regs: &GuestRegs,
    el1: &El1State,
    rule: &PstateRule,
) -> El1Entry {
    let class = match (kind, from_el1(regs.spsr)) {
        (AbortKind::Data, false) => ec::DATA_ABORT_LOWER,
        (AbortKind::Data, true) => ec::DATA_ABORT_SAME,
        (AbortKind::Instruction, false) => ec::INSTRUCTION_ABORT_LOWER,
        (AbortKind::Instruction, true) => ec::INSTRUCTION_ABORT_SAME,
    };
    let status: u64 = match walk_level {
        Some(-1) => 0x13,
        Some(0) => 0x14,
        Some(1) => 0x15,
        Some(2) => 0x16,
        Some(3) => 0x17,
        _ => 0x10,
    };
    entry(esr::class(class) | IL | status, Some(va.raw()), regs, el1, rule)
}

/// An UNDEFINED exception: EC 0, IL 1.
pub fn undefined(regs: &GuestRegs, el1: &El1State, rule: &PstateRule) -> El1Entry {
    entry(IL, None, regs, el1, rule)
}

#[inline(always)]
fn entry(
    esr: u64,
    far: Option<u64>,
    regs: &GuestRegs,
    el1: &El1State,
    rule: &PstateRule,
) -> El1Entry {
    El1Entry {
        esr,
        far,
        elr: regs.elr,
        spsr: regs.spsr,
        pc: (el1.vbar & !0x7ff) | vector_offset(regs.spsr),
        pstate: rule.handler(regs.spsr, el1.sctlr),
    }
}

const fn from_el1(spsr: u64) -> bool {
    spsr & pstate::M_AARCH32 == 0 && spsr & pstate::M_EL != 0
}

/// Offset of the synchronous vector (DDI 0487 D1.3.1.3).
#[inline(always)]
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

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;
    use crate::pstate::aarch32;

    /// Features a guest on a recent CPU sees.
    const USUAL: PstateFeatures =
        PstateFeatures { pan: true, ssbs: true, mte: false, nmi: false, ebep: false };
    const NONE: PstateFeatures =
        PstateFeatures { pan: false, ssbs: false, mte: false, nmi: false, ebep: false };
    /// VBAR_EL1 of these tests.
    const VBAR: u64 = 0xffff_8000_0801_0800;
    const VA: u64 = 0xffff_8000_0900_0018;
    const PC: u64 = 0xffff_8000_0801_2344;
    const EL0_A32: u64 = pstate::M_AARCH32;

    fn regs(spsr: u64) -> GuestRegs {
        GuestRegs { elr: PC, spsr, ..GuestRegs::default() }
    }

    fn el1(sctlr: u64) -> El1State {
        El1State { vbar: VBAR, sctlr }
    }

    fn abort(kind: AbortKind, level: Option<i8>, spsr: u64) -> El1Entry {
        external_abort(kind, level, Va::new(VA), &regs(spsr), &el1(0), &USUAL.rule())
    }

    fn handler(old: u64, sctlr: u64, features: &PstateFeatures) -> u64 {
        undefined(&regs(old), &el1(sctlr), &features.rule()).pstate
    }

    // bug: 54
    #[test]
    fn whole_syndromes_are_those_that_clients_compare_with() {
        use AbortKind::*;
        for (kind, spsr, esr) in [
            (Data, pstate::EL1H, 0x9600_0010),
            (Data, pstate::EL1T, 0x9600_0010),
            (Data, pstate::EL0T, 0x9200_0010),
            (Data, EL0_A32, 0x9200_0010),
            (Data, EL0_A32 | aarch32::T, 0x9200_0010),
            (Instruction, pstate::EL1H, 0x8600_0010),
            (Instruction, pstate::EL1T, 0x8600_0010),
            (Instruction, pstate::EL0T, 0x8200_0010),
            (Instruction, EL0_A32, 0x8200_0010),
        ] {
            assert_eq!(abort(kind, None, spsr).esr, esr, "{kind:?} {spsr:#x}");
        }
    }

    #[test]
    fn walk_levels_have_their_own_status_codes() {
        for (level, status) in [(-1, 0x13), (0, 0x14), (1, 0x15), (2, 0x16), (3, 0x17)] {
            assert_eq!(
                abort(AbortKind::Data, Some(level), pstate::EL1H).esr,
                0x9600_0000 | status,
                "level {level}"
            );
            assert_eq!(
                abort(AbortKind::Instruction, Some(level), pstate::EL0T).esr,
                0x8200_0000 | status,
                "level {level}"
            );
        }
    }

    #[test]
    fn a_level_that_no_code_has_is_a_plain_abort() {
        for level in [-128, -2, 4, 127] {
            assert_eq!(abort(AbortKind::Data, Some(level), pstate::EL1H).esr, 0x9600_0010);
        }
    }

    #[test]
    fn undefined_is_unknown_reason_and_leaves_far_alone() {
        for spsr in [pstate::EL0T, pstate::EL1T, pstate::EL1H, EL0_A32 | aarch32::T] {
            let entry = undefined(&regs(spsr), &el1(0), &USUAL.rule());
            assert_eq!(entry.esr, 0x0200_0000);
            assert_eq!(entry.far, None);
            assert_eq!((entry.elr, entry.spsr), (PC, spsr));
        }
    }

    // bug: 52
    #[test]
    fn far_is_the_va_with_its_tag() {
        let tagged = Va::new(0x5a00_8000_0900_0018);
        let entry = external_abort(AbortKind::Data, None, tagged, &regs(0), &el1(0), &USUAL.rule());
        assert_eq!(entry.far, Some(tagged.raw()));
    }

    // bug: 41 54
    #[test]
    fn the_return_address_is_the_instruction_itself() {
        assert_eq!(abort(AbortKind::Data, None, pstate::EL1H).elr, PC);
        assert_eq!(abort(AbortKind::Instruction, None, pstate::EL0T).elr, PC);
    }

    #[test]
    fn all_64_bits_of_the_old_pstate_are_kept_for_the_return() {
        for spsr in
            [u64::MAX, 0xa5a5_a5a5_a5a5_a5a0, pstate::BTYPE | pstate::SS, EL0_A32 | 0x3f << 10]
        {
            assert_eq!(abort(AbortKind::Data, None, spsr).spsr, spsr);
        }
    }

    // bug: 50
    #[test]
    fn each_source_has_its_vector() {
        for (spsr, offset) in [
            (pstate::EL1T, 0x000),
            (pstate::EL1H, 0x200),
            (pstate::EL0T, 0x400),
            (EL0_A32, 0x600),
            (EL0_A32 | aarch32::T, 0x600),
        ] {
            assert_eq!(abort(AbortKind::Data, None, spsr).pc, VBAR + offset, "{spsr:#x}");
            assert_eq!(
                undefined(&regs(spsr), &el1(0), &USUAL.rule()).pc,
                VBAR + offset,
                "{spsr:#x}"
            );
        }
    }

    // bug: 50
    #[test]
    fn whatever_runs_in_aarch32_is_el0() {
        // EL1 is AArch64 in every guest, so M[3:0] says nothing more once M[4] is set.
        for mode in 0..16 {
            let entry = abort(AbortKind::Data, None, EL0_A32 | mode);
            assert_eq!((entry.esr, entry.pc), (0x9200_0010, VBAR + 0x600), "mode {mode:#x}");
        }
    }

    #[test]
    fn vbar_counts_from_bit_11() {
        let el1 = El1State { vbar: u64::MAX, sctlr: 0 };
        let entry = undefined(&regs(pstate::EL1H), &el1, &USUAL.rule());
        assert_eq!(entry.pc, 0xffff_ffff_ffff_f800 + 0x200);
    }

    #[test]
    fn the_handler_runs_at_el1h_with_everything_masked() {
        for spsr in [pstate::EL0T, pstate::EL1T, pstate::EL1H, EL0_A32] {
            assert_eq!(handler(spsr, 0, &NONE) & 0x3ff, 0x3c5, "{spsr:#x}");
        }
    }

    #[test]
    fn pan_is_kept_when_span_is_set_and_else_set() {
        for (old, span, want) in [(0, 0, true), (0, 1, false), (1, 0, true), (1, 1, true)] {
            let new = handler(old << 22, span << 23, &USUAL);
            assert_eq!(new & pstate::PAN != 0, want, "PAN {old}, SPAN {span}");
        }
        assert_eq!(handler(pstate::PAN, 0, &NONE) & pstate::PAN, 0, "without FEAT_PAN");
    }

    #[test]
    fn ssbs_is_dssbs_not_the_old_value() {
        for old in [0, pstate::SSBS] {
            assert_eq!(handler(old, 0, &USUAL) & pstate::SSBS, 0);
            assert_eq!(handler(old, 1 << 44, &USUAL) & pstate::SSBS, pstate::SSBS);
            assert_eq!(handler(old, 1 << 44, &NONE) & pstate::SSBS, 0, "without FEAT_SSBS");
        }
    }

    #[test]
    fn uao_btype_il_and_ss_are_cleared() {
        let old = pstate::UAO | pstate::BTYPE | pstate::IL | pstate::SS;
        assert_eq!(handler(old, u64::MAX, &USUAL) & old, 0);
    }

    #[test]
    fn tco_allint_and_pm_follow_their_features() {
        let tco = PstateFeatures { mte: true, ..NONE };
        assert_eq!(handler(0, 0, &tco) & pstate::TCO, pstate::TCO);
        let nmi = PstateFeatures { nmi: true, ..NONE };
        assert_eq!(handler(0, 0, &nmi) & pstate::ALLINT, pstate::ALLINT);
        assert_eq!(handler(pstate::ALLINT, 1 << 62, &nmi) & pstate::ALLINT, 0, "SPINTMASK");
        let ebep = PstateFeatures { ebep: true, ..NONE };
        assert_eq!(handler(0, 0, &ebep) & pstate::PM, pstate::PM);
        let old = pstate::TCO | pstate::ALLINT | pstate::PM;
        assert_eq!(handler(old, 0, &NONE) & old, 0, "without them the fields are RES0");
    }

    /// What a handler finds, put together field by field from the table of docs/trap-path.md.
    fn golden(old: u64, sctlr: u64, f: &PstateFeatures) -> u64 {
        let bit = |value: u64, n: u32| (value >> n) & 1;
        let mut fields = std::vec![(0, 0b0101_u64)]; // M[4:0]: EL1h
        fields.push((6, 0b1111)); // D, A, I, F
        fields.push((10, 0)); // BTYPE
        fields.push((12, if f.ssbs { bit(sctlr, 44) } else { 0 })); // SSBS
        fields.push((13, if f.nmi { 1 - bit(sctlr, 62) } else { 0 })); // ALLINT
        fields.push((20, 0)); // IL
        fields.push((21, 0)); // SS
        let pan = if bit(sctlr, 23) == 0 { 1 } else { bit(old, 22) };
        fields.push((22, if f.pan { pan } else { 0 })); // PAN
        fields.push((23, 0)); // UAO; SSBS of AArch32 stands here and must not come through
        fields.push((24, bit(old, 24))); // DIT
        fields.push((25, if f.mte { 1 } else { 0 })); // TCO; IT[0] of AArch32 stands here
        fields.push((28, (old >> 28) & 0xf)); // NZCV
        fields.push((32, if f.ebep { 1 } else { 0 })); // PM
        fields.into_iter().fold(0, |all, (shift, value)| all | value << shift)
    }

    // bug: 51 54
    #[test]
    fn pstate_is_the_golden_tables_for_every_combination() {
        // The bits an exception looks at or must not let through.
        let varied = [5, 9, 10, 11, 12, 13, 16, 20, 21, 22, 23, 24, 25, 27];
        let sctlrs = [0, 1 << 23, 1 << 44, 1 << 62, 1 << 23 | 1 << 44 | 1 << 62];
        let mut combinations = 0;
        for m in [pstate::EL0T, pstate::EL1T, pstate::EL1H, EL0_A32] {
            for pattern in 0..1_u64 << varied.len() {
                let mut old = m | (pattern & 0xf) << 28;
                for (n, bit) in varied.into_iter().enumerate() {
                    old |= (pattern >> n & 1) << bit;
                }
                let f = PstateFeatures {
                    pan: pattern & 1 == 0,
                    ssbs: pattern & 2 == 0,
                    mte: pattern & 4 == 0,
                    nmi: pattern & 8 == 0,
                    ebep: pattern & 16 == 0,
                };
                for sctlr in sctlrs {
                    for features in [&f, &USUAL] {
                        assert_eq!(
                            handler(old, sctlr, features),
                            golden(old, sctlr, features),
                            "SPSR {old:#x} SCTLR {sctlr:#x} {features:?}"
                        );
                        combinations += 1;
                    }
                }
            }
        }
        assert_eq!(combinations, 4 * 16384 * 5 * 2);
    }

    #[test]
    fn aborts_and_undefined_enter_with_the_same_pstate() {
        for old in [0, u64::MAX, pstate::EL1H | pstate::NZCV, EL0_A32 | pstate::DIT] {
            let (r, e) = (regs(old), el1(1 << 44));
            let pstate = undefined(&r, &e, &USUAL.rule()).pstate;
            for kind in [AbortKind::Data, AbortKind::Instruction] {
                assert_eq!(
                    external_abort(kind, None, Va::new(0), &r, &e, &USUAL.rule()).pstate,
                    pstate
                );
            }
        }
    }

    #[test]
    fn other_sctlr_bits_do_not_steer_the_entry() {
        let steering = 1 << 23 | 1 << 44 | 1 << 62;
        let all = PstateFeatures { pan: true, ssbs: true, mte: true, nmi: true, ebep: true };
        assert_eq!(handler(0, !steering, &all), handler(0, 0, &all));
    }

    #[test]
    fn an_injection_into_the_handler_itself_still_comes_from_el1h() {
        // A handler that touches an undeclared page gets an abort of its own, at +0x200.
        let first = abort(AbortKind::Data, None, pstate::EL0T);
        let again = regs(first.pstate);
        let second =
            external_abort(AbortKind::Data, None, Va::new(VA), &again, &el1(0), &USUAL.rule());
        assert_eq!(second.esr, 0x9600_0010);
        assert_eq!(second.pc, VBAR + 0x200);
        assert_eq!(second.spsr, first.pstate);
    }

    #[test]
    fn features_come_from_the_visible_id_registers() {
        assert_eq!(PstateFeatures::of(0, 0), NONE);
        assert_eq!(PstateFeatures::of(2 << 4, 1 << 20), USUAL);
        assert!(PstateFeatures::of(3 << 8, 0).mte);
        assert!(PstateFeatures::of(1 << 36, 0).nmi);
        let neighbours = PstateFeatures::of(!(0xf << 4 | 0xf << 8 | 0xf << 36), !(0xf << 20));
        assert_eq!(neighbours, NONE);
    }
}
