// SPDX-License-Identifier: MIT OR Apache-2.0
//! The decoder beside another one, written by other people from the same manual.
#![allow(
    dead_code,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use aarch64_esr_decoder::FieldInfo;
use arch::{Access, Errata, Exit, ExitInfo, Fault, FaultKind, SysRegAccess, Width, decode};

pub fn ours(esr: u64) -> Exit {
    decode(ExitInfo { esr, far: 0, hpfar: 0 }, &Errata::NONE)
}

/// The fields of ISS, or nothing where the oracle calls the value invalid.
pub fn theirs(esr: u64) -> Option<Vec<FieldInfo>> {
    let mut fields = aarch64_esr_decoder::decode(esr).ok()?;
    fields.pop().map(|iss| iss.subfields)
}

pub fn field<'a>(fields: &'a [FieldInfo], name: &str) -> Option<&'a FieldInfo> {
    fields.iter().find(|f| f.name == name)
}

pub fn value(fields: &[FieldInfo], name: &str) -> u64 {
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

pub fn check_data_abort(esr: u64) -> bool {
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

pub fn check_instruction_abort(esr: u64) -> bool {
    let Some(fields) = theirs(esr) else { return false };
    let Exit::InstructionAbort(abort) = ours(esr) else { panic!("{esr:#x}") };
    assert_eq!(abort.s1ptw, value(&fields, "S1PTW") == 1);
    let ifsc = field(&fields, "IFSC").unwrap();
    assert_eq!(abort.fault, fault_from_text(ifsc.description.as_ref().unwrap()), "{esr:#x}");
    true
}

pub fn check_system_register(esr: u64) -> bool {
    let Some(fields) = theirs(esr) else { return false };
    let get = |name| value(&fields, name) as u16;
    let want = SysRegAccess {
        reg: arch::sysreg::sys(get("Op0"), get("Op1"), get("CRn"), get("CRm"), get("Op2")),
        rt: value(&fields, "Rt") as u8,
        write: value(&fields, "Direction") == 0,
    };
    assert_eq!(ours(esr), Exit::SysReg(want), "{esr:#x}");
    true
}

pub fn check_call(esr: u64) -> bool {
    let Some(fields) = theirs(esr) else { return false };
    let imm = value(&fields, "imm16") as u16;
    let want = if esr >> 26 == 0x16 { Exit::Hvc { imm } } else { Exit::Smc { imm } };
    assert_eq!(ours(esr), want, "{esr:#x}");
    true
}

pub fn check_wfx(esr: u64) -> bool {
    let Some(fields) = theirs(esr) else { return false };
    let text = field(&fields, "TI").unwrap().description.clone().unwrap();
    let want = Exit::Wfx { wfe: text.starts_with("WFE"), il: esr >> 25 & 1 != 0 };
    assert_eq!(ours(esr), want, "{esr:#x}");
    true
}

/// Whichever of these it is. False: the oracle calls the value invalid, or the class is none of them.
pub fn check(esr: u64) -> bool {
    match esr >> 26 {
        0x01 => check_wfx(esr),
        0x16 | 0x17 => check_call(esr),
        0x18 => check_system_register(esr),
        0x20 => check_instruction_abort(esr),
        0x24 => check_data_abort(esr),
        _ => false,
    }
}

/// What holds of every exit, whatever the registers say.
pub fn check_any(esr: u64, far: u64, hpfar: u64) {
    for unknown in [false, true] {
        let errata = Errata { hpfar_unknown_on_translation: unknown, ..Errata::NONE };
        let info = ExitInfo { esr, far, hpfar };
        match decode(info, &errata) {
            Exit::DataAbort(a) => {
                assert_eq!(info.ec(), 0x24);
                assert!(a.access.is_none_or(|x| x.reg < 32));
                assert!((-1..=3).contains(&a.fault.level));
                if let Some(ipa) = a.ipa {
                    assert!(ipa.raw() < 1 << 56);
                    assert_eq!(ipa.page_offset(), if a.s1ptw { 0 } else { far & 0xfff });
                }
                // Nothing that is emulated may come from a walk or from maintenance.
                assert!(a.access.is_none() || (!a.s1ptw && !a.cm));
            }
            Exit::InstructionAbort(a) => {
                assert_eq!(info.ec(), 0x20);
                assert!((-1..=3).contains(&a.fault.level));
            }
            Exit::SysReg(s) => assert!(s.rt < 32 && info.ec() == 0x18),
            Exit::Hvc { .. } => assert_eq!(info.ec(), 0x16),
            Exit::Smc { .. } => assert_eq!(info.ec(), 0x17),
            Exit::Wfx { il, .. } => assert!(il == info.il() && info.ec() == 0x01),
            Exit::Undefined { ec } => assert_eq!(ec, info.ec()),
        }
    }
}
