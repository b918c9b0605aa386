// SPDX-License-Identifier: MIT OR Apache-2.0
//! From syndrome registers to the meaning of an exit.

use crate::{
    Access, DataAbort, Errata, Exit, ExitInfo, Fault, FaultKind, InstructionAbort, Ipa,
    SysRegAccess, Va, Width,
};

/// Bits of ESR_EL2 (DDI 0487 D17.2.37).
mod esr {
    pub const EC_SHIFT: u32 = 26;
    pub const IL: u64 = 1 << 25;
    pub const ISV: u64 = 1 << 24;
    pub const SAS_SHIFT: u32 = 22;
    pub const SSE: u64 = 1 << 21;
    pub const SRT_SHIFT: u32 = 16;
    pub const SF: u64 = 1 << 15;
    pub const AR: u64 = 1 << 14;
    pub const VNCR: u64 = 1 << 13;
    pub const LST: u64 = 0b11 << 11;
    pub const FNV: u64 = 1 << 10;
    pub const CM: u64 = 1 << 8;
    pub const S1PTW: u64 = 1 << 7;
    pub const WNR: u64 = 1 << 6;
}

/// Exception classes (DDI 0487 D17.2.37, ESR_ELx.EC) that EL2 acts on.
mod ec {
    pub const WFX: u8 = 0x01;
    pub const HVC64: u8 = 0x16;
    pub const SMC64: u8 = 0x17;
    pub const SYS64: u8 = 0x18;
    pub const INSTRUCTION_ABORT_LOWER: u8 = 0x20;
    pub const DATA_ABORT_LOWER: u8 = 0x24;
}

impl ExitInfo {
    /// ESR_EL2.EC.
    #[inline(always)]
    pub const fn ec(&self) -> u8 {
        ((self.esr >> esr::EC_SHIFT) & 0x3f) as u8
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
        ec::SYS64 => Exit::SysReg(sys_reg(info.esr)),
        ec::WFX => Exit::Wfx { wfe: info.esr & 1 != 0, il: info.il() },
        ec::SMC64 => Exit::Smc { imm: info.esr as u16 },
        ec::INSTRUCTION_ABORT_LOWER => Exit::InstructionAbort(instruction_abort(info, errata)),
        ec => Exit::Undefined { ec },
    }
}

#[inline(always)]
const fn data_abort(info: ExitInfo, errata: &Errata) -> DataAbort {
    let fault = fault(info.esr);
    DataAbort {
        va: far(info, fault),
        ipa: ipa(info, fault, errata),
        fault,
        access: access(info.esr),
        write: info.esr & esr::WNR != 0,
        s1ptw: info.esr & esr::S1PTW != 0,
        cm: info.esr & esr::CM != 0,
        il: info.il(),
    }
}

#[inline(always)]
const fn instruction_abort(info: ExitInfo, errata: &Errata) -> InstructionAbort {
    let fault = fault(info.esr);
    InstructionAbort {
        va: far(info, fault),
        ipa: ipa(info, fault, errata),
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
/// if it hit a stage-1 walk.
#[inline(always)]
const fn ipa(info: ExitInfo, fault: Fault, errata: &Errata) -> Option<Ipa> {
    let s1ptw = info.esr & esr::S1PTW != 0;
    let valid = match fault.kind {
        FaultKind::Translation => s1ptw || !errata.hpfar_unknown_on_translation,
        FaultKind::AddressSize | FaultKind::AccessFlag => true,
        FaultKind::Permission => s1ptw,
        FaultKind::External | FaultKind::ExternalOnWalk | FaultKind::Other => false,
    };
    if !valid {
        return None;
    }
    // HPFAR_EL2.FIPA: bits 47:4 hold IPA bits 55:12. Bit 63 is NS, the others are RES0.
    let page = (info.hpfar & 0x0000_ffff_ffff_fff0) << 8;
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
        width: match (esr >> esr::SAS_SHIFT) & 0b11 {
            0 => Width::B1,
            1 => Width::B2,
            2 => Width::B4,
            _ => Width::B8,
        },
        sign_extend: esr & esr::SSE != 0,
        reg: ((esr >> esr::SRT_SHIFT) & 0x1f) as u8,
        sixty_four: esr & esr::SF != 0,
        acquire_release: esr & esr::AR != 0,
    })
}

/// DFSC or IFSC, ISS[5:0].
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

/// EC 0x18: ISS is Op0[21:20] Op2[19:17] Op1[16:14] CRn[13:10] Rt[9:5] CRm[4:1] Direction[0].
#[inline(always)]
const fn sys_reg(esr: u64) -> SysRegAccess {
    let op0 = (esr & (0b11 << 20)) >> 6;
    let op1_crn = (esr & (0x7f << 10)) >> 3;
    let crm = (esr & (0xf << 1)) << 2;
    let op2 = (esr >> 17) & 0b111;
    SysRegAccess {
        reg: (op0 | op1_crn | crm | op2) as u16,
        rt: ((esr >> 5) & 0x1f) as u8,
        write: esr & 1 == 0,
    }
}
