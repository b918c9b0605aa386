// SPDX-License-Identifier: MIT OR Apache-2.0
//! From syndrome registers to the meaning of an exit.

use crate::esr::{self, ec};
use crate::{
    Access, DataAbort, Errata, Exit, ExitInfo, Fault, FaultKind, InstructionAbort, Ipa, Va,
};

impl ExitInfo {
    /// ESR_EL2.EC.
    #[inline(always)]
    pub const fn ec(&self) -> u8 {
        esr::ec_of(self.esr)
    }

    /// ESR_EL2.IL: the trapped instruction is 32 bits long.
    #[inline(always)]
    pub const fn il(&self) -> bool {
        self.esr & esr::IL != 0
    }
}

/// What a synchronous exit means. Total: every value of the three registers has an answer, and what
/// is not known becomes [`Exit::Undefined`].
#[inline(always)]
pub const fn decode(info: ExitInfo, errata: &Errata) -> Exit {
    match info.ec() {
        ec::DATA_ABORT_LOWER => Exit::DataAbort(data_abort(info, errata)),
        ec::HVC64 => Exit::Hvc { imm: info.esr as u16 },
        ec::SYS64 => Exit::SysReg(esr::sys_reg(info.esr)),
        ec::WFX => Exit::Wfx { wfe: info.esr & 1 != 0, il: info.il() },
        ec::SMC64 => Exit::Smc { imm: info.esr as u16 },
        ec::INSTRUCTION_ABORT_LOWER => Exit::InstructionAbort(instruction_abort(info)),
        ec => Exit::Undefined { ec },
    }
}

#[inline(always)]
const fn data_abort(info: ExitInfo, errata: &Errata) -> DataAbort {
    let fault = fault(info.esr);
    let doubted =
        errata.hpfar_unknown_on_translation && esr::load_may_cross_page(info.esr, info.far);
    DataAbort {
        va: far(info, fault),
        ipa: ipa(info, fault, doubted),
        fault,
        access: access(info.esr),
        write: info.esr & esr::WNR != 0,
        s1ptw: info.esr & esr::S1PTW != 0,
        cm: info.esr & esr::CM != 0,
        il: info.il(),
    }
}

#[inline(always)]
const fn instruction_abort(info: ExitInfo) -> InstructionAbort {
    let fault = fault(info.esr);
    InstructionAbort {
        va: far(info, fault),
        ipa: ipa(info, fault, false),
        fault,
        s1ptw: info.esr & esr::S1PTW != 0,
    }
}

/// FAR_EL2, or 0 where FnV says that it does not hold the faulting address: its value is UNKNOWN
/// then and might be another VM's.
#[inline(always)]
const fn far(info: ExitInfo, fault: Fault) -> Va {
    if matches!(fault.kind, FaultKind::External) && info.esr & esr::FNV != 0 {
        Va::new(0)
    } else {
        Va::new(info.far)
    }
}

/// The faulting IPA, where HPFAR_EL2 holds it (DDI 0487 R_FKLWR, and IPAValid of the pseudocode):
/// after a stage-2 translation, access flag or address size fault, and after a permission fault only
/// if it hit a stage-1 walk. `doubted`: not after a direct translation fault either.
#[inline(always)]
const fn ipa(info: ExitInfo, fault: Fault, doubted: bool) -> Option<Ipa> {
    let s1ptw = info.esr & esr::S1PTW != 0;
    let valid = match fault.kind {
        FaultKind::Translation => s1ptw || !doubted,
        FaultKind::AddressSize | FaultKind::AccessFlag => true,
        FaultKind::Permission => s1ptw,
        FaultKind::External | FaultKind::ExternalOnWalk | FaultKind::Other => false,
    };
    if !valid {
        return None;
    }
    let page = esr::hpfar_page(info.hpfar).raw();
    // After a fault of a walk FAR's low bits are those of the access, not of the descriptor.
    let offset = if s1ptw { 0 } else { info.far & 0xfff };
    Some(Ipa::new(page | offset))
}

/// The instruction's syndrome, where it is valid and the access is one register to or from memory.
/// Hardware says ISV=0 for all others; the bits checked beside it make that hold by construction.
#[inline(always)]
const fn access(esr: u64) -> Option<Access> {
    const MUST_BE_CLEAR: u64 = esr::VNCR | esr::LST | esr::CM | esr::S1PTW;
    if esr & (esr::ISV | MUST_BE_CLEAR) != esr::ISV {
        return None;
    }
    Some(Access {
        width: esr::width(esr),
        sign_extend: esr & esr::SSE != 0,
        reg: esr::srt(esr),
        sixty_four: esr & esr::SF != 0,
        acquire_release: esr & esr::AR != 0,
    })
}

/// DFSC or IFSC, `ISS[5:0]`.
#[inline(always)]
const fn fault(esr: u64) -> Fault {
    let code = (esr & 0x3f) as u8;
    match code >> 2 {
        0 => Fault { kind: FaultKind::AddressSize, level: (code & 3) as i8 },
        1 => Fault { kind: FaultKind::Translation, level: (code & 3) as i8 },
        2 => Fault { kind: FaultKind::AccessFlag, level: (code & 3) as i8 },
        3 => Fault { kind: FaultKind::Permission, level: (code & 3) as i8 },
        _ => rare_fault(code),
    }
}

/// The codes that a stage-2 table of 4 levels does not give by itself.
#[cold]
const fn rare_fault(code: u8) -> Fault {
    match code {
        // Synchronous external abort; parity or ECC error where FEAT_RAS is missing.
        0x10 | 0x18 => Fault { kind: FaultKind::External, level: 0 },
        // The same on a walk: level -1, then levels 0 to 3.
        0x13 | 0x1b => Fault { kind: FaultKind::ExternalOnWalk, level: -1 },
        0x14..=0x17 | 0x1c..=0x1f => {
            Fault { kind: FaultKind::ExternalOnWalk, level: (code & 3) as i8 }
        }
        0x29 => Fault { kind: FaultKind::AddressSize, level: -1 },
        0x2b => Fault { kind: FaultKind::Translation, level: -1 },
        _ => Fault { kind: FaultKind::Other, level: 0 },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;
    use crate::{SysRegAccess, Width, sysreg};

    const SOUND: Errata = Errata::NONE;
    const A57: Errata = Errata { hpfar_unknown_on_translation: true, ..Errata::NONE };
    const DATA: u64 = 0x24 << 26 | esr::IL;
    const FETCH: u64 = 0x20 << 26 | esr::IL;

    fn exit(esr: u64) -> Exit {
        decode(ExitInfo { esr, far: 0, hpfar: 0 }, &SOUND)
    }

    fn data(esr: u64, far: u64, hpfar: u64, errata: &Errata) -> DataAbort {
        match decode(ExitInfo { esr, far, hpfar }, errata) {
            Exit::DataAbort(abort) => abort,
            other => panic!("{other:?}"),
        }
    }

    fn fetch(esr: u64, far: u64, hpfar: u64) -> InstructionAbort {
        match decode(ExitInfo { esr, far, hpfar }, &SOUND) {
            Exit::InstructionAbort(abort) => abort,
            other => panic!("{other:?}"),
        }
    }

    fn access_of(esr: u64) -> Option<Access> {
        data(esr, 0, 0, &SOUND).access
    }

    #[test]
    fn hvc_and_smc_carry_their_immediate() {
        assert_eq!(exit(0x5a00_0000), Exit::Hvc { imm: 0 });
        assert_eq!(exit(0x5a00_0000 | 0xffff), Exit::Hvc { imm: 0xffff });
        assert_eq!(exit(0x5e00_0000 | 0x1234), Exit::Smc { imm: 0x1234 });
    }

    #[test]
    fn wfi_and_wfe_are_told_apart_with_and_without_a_timeout() {
        let wfx = 0x01 << 26 | esr::IL;
        for (ti, wfe) in [(0, false), (1, true), (2, false), (3, true)] {
            assert_eq!(exit(wfx | ti), Exit::Wfx { wfe, il: true });
        }
        assert_eq!(exit(0x01 << 26 | 1), Exit::Wfx { wfe: true, il: false }, "T32, 16 bits");
    }

    #[test]
    fn every_other_class_is_undefined_in_the_guest() {
        let known = [0x01, 0x16, 0x17, 0x18, 0x20, 0x24];
        for ec in 0..64_u8 {
            for low in [0, 0x3ff_ffff, 0x155_5555] {
                let got = exit(u64::from(ec) << 26 | low);
                if known.contains(&ec) {
                    assert!(!matches!(got, Exit::Undefined { .. }), "{ec:#x}");
                } else {
                    assert_eq!(got, Exit::Undefined { ec });
                }
            }
        }
    }

    #[test]
    fn bits_above_31_of_the_syndrome_change_nothing() {
        // ISS2 (63:32) is about extensions that guests do not have.
        for esr in [0x5a00_0001, 0x93c0_8005, 0x8200_0005, 0x6232_5c0d] {
            assert_eq!(exit(esr), exit(esr | 0xffff_ffff_0000_0000), "{esr:#x}");
        }
    }

    #[test]
    fn a_64_bit_load_as_qemu_reports_it() {
        // ldr x0, [..] on an IPA that nothing backs, measured.
        let abort = data(0x93c0_8005, 0xffff_0000_0900_0018, 0x9_0000, &SOUND);
        assert_eq!(
            abort,
            DataAbort {
                va: Va::new(0xffff_0000_0900_0018),
                ipa: Some(Ipa::new(0x0900_0018)),
                fault: Fault { kind: FaultKind::Translation, level: 1 },
                access: Some(Access {
                    width: Width::B8,
                    sign_extend: false,
                    reg: 0,
                    sixty_four: true,
                    acquire_release: false,
                }),
                write: false,
                s1ptw: false,
                cm: false,
                il: true,
            }
        );
    }

    #[test]
    fn each_syndrome_field_is_read_from_its_own_bits() {
        let base = DATA | esr::ISV | 0x07;
        let plain = Access {
            width: Width::B1,
            sign_extend: false,
            reg: 0,
            sixty_four: false,
            acquire_release: false,
        };
        assert_eq!(access_of(base), Some(plain));
        assert_eq!(access_of(base | esr::SSE), Some(Access { sign_extend: true, ..plain }));
        assert_eq!(access_of(base | esr::SF), Some(Access { sixty_four: true, ..plain }));
        assert_eq!(access_of(base | esr::AR), Some(Access { acquire_release: true, ..plain }));
        for (sas, width) in [(0, Width::B1), (1, Width::B2), (2, Width::B4), (3, Width::B8)] {
            assert_eq!(access_of(base | sas << 22), Some(Access { width, ..plain }));
        }
        for reg in 0..32_u8 {
            assert_eq!(access_of(base | u64::from(reg) << 16), Some(Access { reg, ..plain }));
        }
    }

    // bug: 44
    #[test]
    fn without_isv_no_field_of_the_syndrome_shows() {
        let fields = 0b11 << 22 | esr::SSE | 0x1f << 16 | esr::SF | esr::AR;
        let abort = data(DATA | fields | esr::WNR | 0x07, 0, 0, &SOUND);
        assert_eq!(abort.access, None);
        assert!(abort.write, "the direction is there all the same");
    }

    // bug: 43 44
    #[test]
    fn what_cannot_be_emulated_has_no_access_even_with_isv() {
        let base = DATA | esr::ISV | 0x07;
        for bit in [esr::CM, esr::S1PTW, esr::VNCR, 1 << 11, 1 << 12] {
            assert_eq!(access_of(base | bit), None, "{bit:#x}");
        }
    }

    // scenario: D9 D10
    #[test]
    fn cache_maintenance_and_dc_zva_are_told_apart() {
        let civac = data(DATA | esr::CM | esr::WNR | 0x07, 0, 0, &SOUND);
        assert!(civac.cm && civac.write && civac.access.is_none());
        let zva = data(DATA | esr::WNR | 0x07, 0, 0, &SOUND);
        assert!(!zva.cm && zva.write && zva.access.is_none());
    }

    #[test]
    fn atomics_that_report_a_read_have_no_access() {
        // ldadd, cas, swp: ISV=0, WnR=0, measured.
        let abort = data(DATA | 0x07, 0x1000, 0x10, &SOUND);
        assert!(abort.access.is_none() && !abort.write);
        assert_eq!(abort.ipa, Some(Ipa::new(0x1000)));
    }

    #[test]
    fn il_is_clear_for_a_16_bit_instruction() {
        let narrow = DATA & !esr::IL | esr::ISV | 0x07;
        assert!(!data(narrow, 0, 0, &SOUND).il);
        assert!(!ExitInfo { esr: narrow, far: 0, hpfar: 0 }.il());
        assert!(data(narrow | esr::IL, 0, 0, &SOUND).il);
    }

    // bug: 46
    #[test]
    fn fault_codes_and_levels() {
        use FaultKind::*;
        let named = |code: u64| {
            let fault = data(DATA | code, 0, 0, &SOUND).fault;
            (fault.kind, fault.level)
        };
        for level in 0..4_u64 {
            let l = level as i8;
            assert_eq!(named(level), (AddressSize, l));
            assert_eq!(named(0x04 + level), (Translation, l));
            assert_eq!(named(0x08 + level), (AccessFlag, l));
            assert_eq!(named(0x0c + level), (Permission, l));
            assert_eq!(named(0x14 + level), (ExternalOnWalk, l));
            assert_eq!(named(0x1c + level), (ExternalOnWalk, l));
        }
        assert_eq!(named(0x10), (External, 0));
        assert_eq!(named(0x18), (External, 0));
        assert_eq!(named(0x13), (ExternalOnWalk, -1));
        assert_eq!(named(0x1b), (ExternalOnWalk, -1));
        assert_eq!(named(0x29), (AddressSize, -1));
        assert_eq!(named(0x2b), (Translation, -1));
        for code in [
            0x11, 0x12, 0x19, 0x1a, 0x20, 0x21, 0x22, 0x28, 0x2a, 0x2c, 0x30, 0x31, 0x34, 0x35,
            0x3f,
        ] {
            assert_eq!(named(code), (Other, 0), "{code:#x}");
        }
    }

    #[test]
    fn what_the_mmu_found_is_believed_on_every_cpu() {
        // A load at the start of a page, HPFAR_EL2 that of another.
        let esr = 0x24 << 26 | esr::IL | esr::ISV | 2 << esr::SAS_SHIFT | 0x07;
        let info = ExitInfo { esr, far: 0xffff_0000_1234_5000, hpfar: 0x9_0000 };
        let errata = Errata { repeat_tlbi: true, ..A57 };
        let doubted = DataAbort { ipa: None, ..data(info.esr, info.far, info.hpfar, &SOUND) };
        assert_eq!(decode(info, &errata), Exit::DataAbort(doubted));
        let ipa = Ipa::new(0xab_cdef_5000);
        let resolved = Exit::DataAbort(DataAbort { ipa: Some(ipa), ..doubted });
        assert_eq!(decode(info, &errata).with_ipa(ipa), resolved);
    }

    /// The rule of the manual, written as its own table: (S1PTW, kind) gives a valid HPFAR_EL2.
    fn hpfar_is_valid(kind: FaultKind, s1ptw: bool) -> bool {
        const OWN: [FaultKind; 3] =
            [FaultKind::AddressSize, FaultKind::AccessFlag, FaultKind::Translation];
        OWN.contains(&kind) || (s1ptw && kind == FaultKind::Permission)
    }

    // bug: 34
    #[test]
    fn hpfar_is_believed_exactly_where_the_manual_says() {
        const POISON: u64 = 0x000f_edcb_a987_6540;
        for code in 0..64_u64 {
            for s1ptw in [false, true] {
                let esr = code | if s1ptw { esr::S1PTW } else { 0 };
                let abort = data(DATA | esr, 0x123, POISON, &SOUND);
                let valid = hpfar_is_valid(abort.fault.kind, s1ptw);
                assert_eq!(abort.ipa.is_some(), valid, "{code:#x} {s1ptw}");
                assert_eq!(fetch(FETCH | esr, 0x123, POISON).ipa, abort.ipa);
            }
        }
    }

    // bug: 34
    #[test]
    fn a_direct_permission_fault_has_no_ipa_whatever_hpfar_holds() {
        // QEMU fills HPFAR_EL2 there; hardware need not (DDI 0487 R_FKLWR).
        for level in 0..4 {
            let abort = data(DATA | esr::ISV | esr::WNR | 0x0c | level, 0x1008, 0x10, &SOUND);
            assert_eq!(abort.ipa, None);
            assert_eq!(abort.fault.kind, FaultKind::Permission);
        }
    }

    // bug: 33
    #[test]
    fn the_ipa_is_the_page_of_hpfar_and_the_offset_of_far() {
        let ipa = |far, hpfar| data(DATA | 0x07, far, hpfar, &SOUND).ipa.unwrap().raw();
        assert_eq!(ipa(0xffff_ffff_ffff_fabc, 0x0009_0000 << 4 >> 4), 0x0900_0abc);
        assert_eq!(ipa(0, 1 << 4), 0x1000);
        assert_eq!(ipa(0, 1 << 39), 1 << 47, "top bit of a 48-bit IPA");
        assert_eq!(ipa(0, 1 << 47), 1 << 55, "nothing above the IPA size is dropped");
    }

    // bug: 33
    #[test]
    fn reserved_bits_of_hpfar_do_not_reach_the_ipa() {
        let ipa = data(DATA | 0x07, 0, 0xffff_0000_0000_000f, &SOUND).ipa;
        assert_eq!(ipa, Some(Ipa::new(0)), "NS, RES0 and bits 3:0");
    }

    #[test]
    fn a_walks_ipa_is_exact_to_its_page_only() {
        let abort = data(DATA | esr::S1PTW | 0x07, 0xffff_ffff_ffff_fabc, 0x4_0000, &SOUND);
        assert_eq!(abort.ipa, Some(Ipa::new(0x0400_0000)));
        assert!(abort.s1ptw);
        let abort = fetch(FETCH | esr::S1PTW | 0x0d, 0xabc, 0x4_0000);
        assert_eq!(abort.ipa, Some(Ipa::new(0x0400_0000)));
        assert!(abort.s1ptw);
    }

    // bug: 35
    #[test]
    fn the_a57_erratum_is_about_loads_that_may_cross_a_page() {
        let known = |esr: u64, offset: u64| {
            assert!(data(DATA | esr | 0x07, offset, 0x10, &SOUND).ipa.is_some(), "sound CPU");
            data(DATA | esr | 0x07, offset, 0x10, &A57).ipa.is_some()
        };
        for sas in 0..4_u64 {
            let load = esr::ISV | sas << 22;
            for offset in 0..0x1000 {
                let crosses = offset + (1 << sas) > 0x1000;
                // FAR_EL2 may name the second page: offset 0.
                assert_eq!(known(load, offset), !crosses && offset != 0, "{sas} {offset:#x}");
                assert!(known(load | esr::WNR, offset), "a store");
            }
        }
        assert!(!known(0, 0x800), "of unknown size");
        assert!(known(esr::WNR, 0xfff), "a store of unknown size");
    }

    #[test]
    fn the_a57_erratum_spares_walks_fetches_and_other_faults() {
        assert_eq!(data(DATA | 0x07, 0x10, 0x10, &A57).ipa, None);
        assert!(data(DATA | esr::S1PTW | 0x07, 0x10, 0x10, &A57).ipa.is_some());
        assert!(data(DATA | 0x0b, 0x10, 0x10, &A57).ipa.is_some(), "access flag");
        assert!(data(DATA | 0x03, 0x10, 0x10, &A57).ipa.is_some(), "address size");
        let info = ExitInfo { esr: FETCH | 0x07, far: 0, hpfar: 0x10 };
        let Exit::InstructionAbort(abort) = decode(info, &A57) else { panic!() };
        assert_eq!(abort.ipa, Some(Ipa::new(0x1000)));
    }

    #[test]
    fn instruction_aborts_carry_va_and_ipa() {
        // blr to an IPA that nothing backs, measured.
        assert_eq!(
            fetch(0x8200_0005, 0x0900_0004, 0x9_0000),
            InstructionAbort {
                va: Va::new(0x0900_0004),
                ipa: Some(Ipa::new(0x0900_0004)),
                fault: Fault { kind: FaultKind::Translation, level: 1 },
                s1ptw: false,
            }
        );
        assert_eq!(fetch(FETCH | 0x0f, 0, 0x10).ipa, None, "permission");
    }

    #[test]
    fn a_far_that_is_not_valid_is_not_passed_on() {
        let far = 0xdead_beef_0000;
        assert_eq!(data(DATA | esr::FNV | 0x10, far, 0, &SOUND).va, Va::new(0));
        assert_eq!(fetch(FETCH | esr::FNV | 0x10, far, 0).va, Va::new(0));
        assert_eq!(data(DATA | 0x10, far, 0, &SOUND).va, Va::new(far));
        // Elsewhere bit 10 is RES0 and says nothing.
        assert_eq!(data(DATA | esr::FNV | 0x07, far, 0, &SOUND).va, Va::new(far));
    }

    #[test]
    fn far_keeps_its_tag_and_the_ipa_has_none() {
        let abort = data(DATA | 0x07, 0x5a00_0000_0900_0010, 0x9_0000, &SOUND);
        assert_eq!(abort.va.raw(), 0x5a00_0000_0900_0010);
        assert_eq!(abort.ipa, Some(Ipa::new(0x0900_0010)));
    }

    /// ISS of a trapped MSR or MRS, put together field by field as the manual lists it.
    fn sys_iss(reg: u16, rt: u64, read: bool) -> u64 {
        let (op0, op1, crn, crm, op2) = sysreg::fields(reg);
        u64::from(op0) << 20
            | u64::from(op2) << 17
            | u64::from(op1) << 14
            | u64::from(crn) << 10
            | rt << 5
            | u64::from(crm) << 1
            | u64::from(read)
    }

    #[test]
    fn every_system_register_encoding_is_read_back() {
        let sys = 0x18 << 26 | esr::IL;
        for reg in 0..=u16::MAX {
            for (rt, read) in [(0, true), (31, false), (7, true)] {
                assert_eq!(
                    exit(sys | sys_iss(reg, rt, read)),
                    Exit::SysReg(SysRegAccess { reg, rt: rt as u8, write: !read })
                );
            }
        }
    }

    #[test]
    fn sending_an_sgi_as_the_hardware_reports_it() {
        // msr ICC_SGI1R_EL1, x3: op0 3, op1 0, CRn 12, CRm 11, op2 5.
        assert_eq!(
            exit(0x623a_3076),
            Exit::SysReg(SysRegAccess { reg: sysreg::ICC_SGI1R_EL1, rt: 3, write: true })
        );
    }

    #[test]
    fn decoding_runs_at_compile_time_too() {
        const EXIT: Exit = decode(ExitInfo { esr: 0x5a00_0000, far: 0, hpfar: 0 }, &Errata::NONE);
        assert_eq!(EXIT, Exit::Hvc { imm: 0 });
    }
}
