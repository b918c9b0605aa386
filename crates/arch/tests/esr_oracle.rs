// SPDX-License-Identifier: MIT OR Apache-2.0
//! The decoder against another one, written by other people from the same manual.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use aarch64_esr_decoder::FieldInfo;
use arch::{Access, Errata, Exit, ExitInfo, Fault, FaultKind, SysRegAccess, Width, decode};
use proptest::prelude::*;

const IL: u64 = 1 << 25;

fn ours(esr: u64) -> Exit {
    decode(ExitInfo { esr, far: 0, hpfar: 0 }, &Errata::NONE)
}

/// The fields of ISS, or nothing where the oracle calls the value invalid.
fn theirs(esr: u64) -> Option<Vec<FieldInfo>> {
    let mut fields = aarch64_esr_decoder::decode(esr).ok()?;
    fields.pop().map(|iss| iss.subfields)
}

fn field<'a>(fields: &'a [FieldInfo], name: &str) -> Option<&'a FieldInfo> {
    fields.iter().find(|f| f.name == name)
}

fn value(fields: &[FieldInfo], name: &str) -> u64 {
    field(fields, name).unwrap_or_else(|| panic!("no {name}")).value
}

/// What the oracle's sentence on a fault status code says.
fn fault_from_text(text: &str) -> Fault {
    let level = text
        .split("level ")
        .nth(1)
        .map(|rest| rest.trim_end_matches('.').split(' ').next().unwrap().parse().unwrap());
    let kind = if text.starts_with("Address size fault") {
        FaultKind::AddressSize
    } else if text.starts_with("Translation fault") {
        FaultKind::Translation
    } else if text.starts_with("Access flag fault") {
        FaultKind::AccessFlag
    } else if text.starts_with("Permission fault") {
        FaultKind::Permission
    } else if text.starts_with("Synchronous External abort, not on")
        || (text.starts_with("Synchronous parity") && text.contains("not on"))
    {
        FaultKind::External
    } else if text.starts_with("Synchronous External abort on")
        || text.starts_with("Synchronous parity")
    {
        FaultKind::ExternalOnWalk
    } else {
        FaultKind::Other
    };
    let level = if kind == FaultKind::Other { 0 } else { level.unwrap_or(0) };
    Fault { kind, level }
}

fn check_data_abort(esr: u64) -> bool {
    let Some(fields) = theirs(esr) else { return false };
    let Exit::DataAbort(abort) = ours(esr) else { panic!("{esr:#x}") };
    assert_eq!(abort.write, value(&fields, "WnR") == 1, "{esr:#x}");
    assert_eq!(abort.s1ptw, value(&fields, "S1PTW") == 1, "{esr:#x}");
    assert_eq!(abort.cm, value(&fields, "CM") == 1, "{esr:#x}");
    let dfsc = field(&fields, "DFSC").unwrap();
    assert_eq!(abort.fault, fault_from_text(dfsc.description.as_ref().unwrap()), "{esr:#x}");

    // ISV together with any of these is not something hardware reports; we then see no access.
    let clean = !abort.cm && !abort.s1ptw && value(&fields, "VNCR") == 0 && esr & (3 << 11) == 0;
    let want = (value(&fields, "ISV") == 1 && clean).then(|| Access {
        width: [Width::B1, Width::B2, Width::B4, Width::B8][value(&fields, "SAS") as usize],
        sign_extend: value(&fields, "SSE") == 1,
        reg: value(&fields, "SRT") as u8,
        sixty_four: value(&fields, "SF") == 1,
        acquire_release: value(&fields, "AR") == 1,
    });
    assert_eq!(abort.access, want, "{esr:#x}");
    true
}

#[test]
fn every_emulable_data_abort_of_every_fault_code() {
    let mut checked = 0;
    for dfsc in 0..64 {
        // SAS, SSE, SF, AR and WnR in full; the register in steps, another at each fault code.
        for form in 0..64 {
            for srt in [0, 31, (dfsc + form) % 32] {
                let (sas, sse, sf) = (form & 3, form >> 2 & 1, form >> 3 & 1);
                let (ar, wnr) = (form >> 4 & 1, form >> 5 & 1);
                let iss = 1 << 24
                    | sas << 22
                    | sse << 21
                    | srt << 16
                    | sf << 15
                    | ar << 14
                    | wnr << 6
                    | dfsc;
                checked += u32::from(check_data_abort(0x24 << 26 | IL | iss));
            }
        }
    }
    // 64 codes less the 24 or so that are reserved; all of the defined ones must have been seen.
    assert!(checked >= 40 * 64 * 3, "{checked}");
}

#[test]
fn every_data_abort_without_a_syndrome() {
    let mut checked = 0;
    for low in 0..1 << 14 {
        checked += u32::from(check_data_abort(0x24 << 26 | IL | low));
    }
    assert!(checked > 1 << 12, "{checked}");
}

#[test]
fn every_instruction_abort() {
    let mut checked = 0;
    for low in 0..1 << 13 {
        let esr = 0x20 << 26 | IL | low;
        let Some(fields) = theirs(esr) else { continue };
        let Exit::InstructionAbort(abort) = ours(esr) else { panic!("{esr:#x}") };
        assert_eq!(abort.s1ptw, value(&fields, "S1PTW") == 1);
        let ifsc = field(&fields, "IFSC").unwrap();
        assert_eq!(abort.fault, fault_from_text(ifsc.description.as_ref().unwrap()), "{esr:#x}");
        checked += 1;
    }
    assert!(checked > 300, "{checked}");
}

#[test]
fn every_system_register_in_both_directions() {
    for encoding in 0..1 << 16 {
        // The oracle's own order of fields: Op0 Op2 Op1 CRn | Rt | CRm | Direction.
        let iss = (encoding >> 4 & 0xfff) << 10 | (encoding & 0xf) << 1;
        let (rt, read) = (encoding % 32, encoding >> 3 & 1);
        let esr = 0x18 << 26 | IL | iss | rt << 5 | read;
        let fields = theirs(esr).unwrap();
        let get = |name| value(&fields, name) as u16;
        let want = SysRegAccess {
            reg: arch::sysreg::sys(get("Op0"), get("Op1"), get("CRn"), get("CRm"), get("Op2")),
            rt: value(&fields, "Rt") as u8,
            write: value(&fields, "Direction") == 0,
        };
        assert_eq!(ours(esr), Exit::SysReg(want), "{esr:#x}");
    }
}

#[test]
fn every_hvc_and_smc_immediate() {
    for imm in 0..=u16::MAX {
        for (ec, want) in [(0x16, Exit::Hvc { imm }), (0x17, Exit::Smc { imm })] {
            let esr = ec << 26 | IL | u64::from(imm);
            assert_eq!(value(&theirs(esr).unwrap(), "imm16"), u64::from(imm));
            assert_eq!(ours(esr), want);
        }
    }
}

#[test]
fn wfi_and_wfe() {
    for ti in 0..4 {
        for il in [0, IL] {
            let esr = 0x01 << 26 | il | ti;
            let text = field(&theirs(esr).unwrap(), "TI").unwrap().description.clone().unwrap();
            assert_eq!(ours(esr), Exit::Wfx { wfe: text.starts_with("WFE"), il: il != 0 });
        }
    }
}

#[test]
fn names_of_id_registers_are_the_oracles() {
    // Where the oracle knows a register by name, that name is the one this crate has for it.
    let mut known = 0;
    for crm in 1..8_u16 {
        for op2 in 0..8_u16 {
            let reg = arch::sysreg::sys(3, 0, 0, crm, op2);
            let Some(name) = arch::sysreg::name(reg) else { continue };
            let iss = 3 << 20 | u64::from(op2) << 17 | u64::from(crm) << 1 | 1;
            let fields = aarch64_esr_decoder::decode(0x18 << 26 | IL | iss).unwrap();
            let text = format!("{:?}", fields.last().unwrap().description);
            if text.contains("_EL1") {
                assert!(text.contains(name), "{name}: {text}");
                known += 1;
            }
        }
    }
    assert!(known >= 20, "{known}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn random_data_aborts_agree(iss in 0_u64..1 << 25) {
        check_data_abort(0x24 << 26 | IL | iss);
    }

    #[test]
    fn any_three_registers_decode(esr: u64, far: u64, hpfar: u64, hpfar_unknown: bool) {
        let errata = Errata { hpfar_unknown_on_translation: hpfar_unknown, ..Errata::NONE };
        let info = ExitInfo { esr, far, hpfar };
        match decode(info, &errata) {
            Exit::DataAbort(a) => {
                prop_assert_eq!(info.ec(), 0x24);
                prop_assert!(a.access.is_none_or(|x| x.reg < 32));
                prop_assert!((-1..=3).contains(&a.fault.level));
                if let Some(ipa) = a.ipa {
                    prop_assert!(ipa.raw() < 1 << 56);
                    prop_assert_eq!(ipa.page_offset(), if a.s1ptw { 0 } else { far & 0xfff });
                }
                // Nothing that is emulated may come from a walk or from maintenance.
                prop_assert!(a.access.is_none() || (!a.s1ptw && !a.cm));
            }
            Exit::InstructionAbort(a) => {
                prop_assert_eq!(info.ec(), 0x20);
                prop_assert!((-1..=3).contains(&a.fault.level));
            }
            Exit::SysReg(s) => prop_assert!(s.rt < 32 && info.ec() == 0x18),
            Exit::Hvc { .. } => prop_assert_eq!(info.ec(), 0x16),
            Exit::Smc { .. } => prop_assert_eq!(info.ec(), 0x17),
            Exit::Wfx { il, .. } => prop_assert!(il == info.il() && info.ec() == 0x01),
            Exit::Undefined { ec } => prop_assert_eq!(ec, info.ec()),
        }
    }
}
