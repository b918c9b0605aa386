// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an exit from a guest means.

use crate::{Ipa, Va};

/// The registers that describe an exit, each read once, right after the vectors saved the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitInfo {
    /// ESR_EL2.
    pub esr: u64,
    /// FAR_EL2.
    pub far: u64,
    /// HPFAR_EL2.
    pub hpfar: u64,
}

/// A synchronous exit from EL1 or EL0, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// `HVC #imm` from AArch64; ELR already points behind it.
    Hvc {
        /// The instruction's immediate; SMCCC wants 0.
        imm: u16,
    },
    /// `SMC #imm` from AArch64, trapped by HCR_EL2.TSC; ELR points at it.
    Smc {
        /// The instruction's immediate.
        imm: u16,
    },
    /// Data abort from a lower EL.
    DataAbort(DataAbort),
    /// Instruction abort from a lower EL.
    InstructionAbort(InstructionAbort),
    /// Trapped MSR, MRS or system instruction from AArch64.
    SysReg(SysRegAccess),
    /// Trapped WFI (`false`) or WFE (`true`).
    Wfx {
        /// Whether it was WFE or WFET.
        wfe: bool,
        /// ESR.IL: false for the 16-bit T32 encoding, which AArch32 EL0 may use.
        il: bool,
    },
    /// Anything else: becomes an UNDEFINED exception in the guest.
    Undefined {
        /// ESR_EL2.EC.
        ec: u8,
    },
}

impl Exit {
    /// The same exit with the IPA that the MMU has said, where it is an abort.
    #[must_use]
    pub const fn with_ipa(self, ipa: Ipa) -> Self {
        match self {
            Self::DataAbort(abort) => Self::DataAbort(DataAbort { ipa: Some(ipa), ..abort }),
            Self::InstructionAbort(abort) => {
                Self::InstructionAbort(InstructionAbort { ipa: Some(ipa), ..abort })
            }
            other => other,
        }
    }
}

/// Access size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Width {
    /// 1 byte.
    B1 = 0,
    /// 2 bytes.
    B2 = 1,
    /// 4 bytes.
    B4 = 2,
    /// 8 bytes.
    B8 = 3,
}

/// The access of an abort whose syndrome is valid (ISS.ISV = 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Size of the access (ISS.SAS).
    pub width: Width,
    /// Sign-extend what is loaded (ISS.SSE).
    pub sign_extend: bool,
    /// Register number (ISS.SRT), 31 being XZR.
    pub reg: u8,
    /// The register is 64 bits wide (ISS.SF).
    pub sixty_four: bool,
    /// Acquire or release semantics (ISS.AR).
    pub acquire_release: bool,
}

/// Class and level of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What went wrong.
    pub kind: FaultKind,
    /// Level of the walk, -1..=3, where the code carries one.
    pub level: i8,
}

/// Fault classes of DFSC and IFSC (DDI 0487 D17.2.37).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Address size fault.
    AddressSize,
    /// Translation fault.
    Translation,
    /// Access flag fault.
    AccessFlag,
    /// Permission fault.
    Permission,
    /// Synchronous external abort, not on a walk.
    External,
    /// Synchronous external abort on a translation table walk.
    ExternalOnWalk,
    /// Any other code (alignment, TLB conflict, unsupported exclusive, ...).
    Other,
}

/// A data abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataAbort {
    /// FAR_EL2.
    pub va: Va,
    /// The IPA, offset included; only page-exact where `s1ptw` (offset 0 then). `None` where HPFAR_EL2 is UNKNOWN.
    pub ipa: Option<Ipa>,
    /// Class and level.
    pub fault: Fault,
    /// What was accessed, where the syndrome is valid.
    pub access: Option<Access>,
    /// ISS.WnR. LSE atomics report reads: never decide by this alone.
    pub write: bool,
    /// Stage-2 fault on a stage-1 walk.
    pub s1ptw: bool,
    /// Cache maintenance or address translation instruction.
    pub cm: bool,
    /// ESR.IL: 32-bit instruction.
    pub il: bool,
}

/// An instruction abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstructionAbort {
    /// FAR_EL2.
    pub va: Va,
    /// The page's IPA, with the offset of `va`; page-exact where `s1ptw`. `None` where HPFAR_EL2 is UNKNOWN.
    pub ipa: Option<Ipa>,
    /// Class and level.
    pub fault: Fault,
    /// Stage-2 fault on a stage-1 walk.
    pub s1ptw: bool,
}

/// A trapped MSR, MRS or SYS (ESR_EL2.EC = 0x18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SysRegAccess {
    /// op0, op1, CRn, CRm, op2 packed as in the instruction: op0<<14 | op1<<11 | CRn<<7 | CRm<<3 | op2.
    pub reg: u16,
    /// General register, 31 being XZR.
    pub rt: u8,
    /// MSR (`true`) or MRS.
    pub write: bool,
}
