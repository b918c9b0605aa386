// SPDX-License-Identifier: MIT OR Apache-2.0
//! One exit, and what should come of it.

use alloc::format;
use alloc::string::{String, ToString};
use arch::{AbortKind, DataAbort, Exit, FaultKind, GuestRegs, InstructionAbort, Ipa};
use spec::{Conduit, Fault, Load};
use vm::{Abort, Outcome, Vcpu};

/// What the machine says meanwhile.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    /// MAIR_EL1 of the vCPU.
    pub mair_el1: u64,
    /// What its source of entropy has.
    pub entropy: Option<[u64; 3]>,
    /// SCTLR_EL1 of the vCPU.
    pub sctlr_el1: u64,
}

/// The reason as the specification has it.
pub fn stop_reason(reason: vm::StopReason) -> spec::StopReason {
    match reason {
        vm::StopReason::PowerOff => spec::StopReason::PowerOff,
        vm::StopReason::Reset => spec::StopReason::Reset,
        vm::StopReason::AllOff => spec::StopReason::AllOff,
        vm::StopReason::SError
        | vm::StopReason::Failure
        | vm::StopReason::Crash
        | vm::StopReason::Restart
        | vm::StopReason::Operator => spec::StopReason::Other,
    }
}

/// Does `exit` to `spec`, which `vm` has judged with the outcome `real`; `before` is what the registers of
/// `vcpu` were. `None`: the exit is not in the specification, and must have changed nothing that is.
///
/// # Errors
/// What differs in outcome or registers.
pub fn judge(
    spec: &mut spec::Vm,
    exit: Exit,
    before: &GuestRegs,
    vcpu: &Vcpu,
    real: Outcome,
    machine: &Machine,
) -> Result<Option<spec::Outcome>, String> {
    let (smc, il, should) = match exit {
        Exit::Hvc { imm } => (false, true, spec.call(&call(false, imm, before, vcpu, machine))),
        Exit::Smc { imm } => (true, true, spec.call(&call(true, imm, before, vcpu, machine))),
        Exit::DataAbort(abort) => (false, abort.il, spec.data(&data(&abort, before, machine))),
        Exit::InstructionAbort(abort) => (false, true, spec.fetch(&fetch(&abort))),
        Exit::SysReg(_) | Exit::Wfx { .. } | Exit::Undefined { .. } => return Ok(None),
    };
    let mut regs = before.clone();
    let answer = |regs: &mut GuestRegs, x: [u64; 4]| {
        for (n, value) in (0_u8..).zip(x) {
            regs.set(n, value);
        }
    };
    let returned = if smc { Outcome::Advance { il: true } } else { Outcome::Resume };
    let expected = match should {
        spec::Outcome::Answer(x) => {
            answer(&mut regs, x);
            Some(returned)
        }
        spec::Outcome::AnswerX0(x0) => {
            regs.set(0, x0);
            Some(returned)
        }
        spec::Outcome::AnswerAfterWaiting(x) => {
            answer(&mut regs, x);
            Some(Outcome::Wait { advance: smc, il: true })
        }
        spec::Outcome::Off => Some(Outcome::Off),
        spec::Outcome::Stop(reason) => match real {
            Outcome::Stop(other) if stop_reason(other) == reason => Some(real),
            _ => None,
        },
        spec::Outcome::Retry => Some(Outcome::Resume),
        spec::Outcome::ResolveIpa => Some(Outcome::ResolveIpa),
        spec::Outcome::Skipped | spec::Outcome::Served(None) => Some(Outcome::Advance { il }),
        spec::Outcome::Served(Some(Load { register })) => {
            // Its value is the device's.
            regs.set(register, vcpu.regs.get(register));
            Some(Outcome::Advance { il })
        }
        spec::Outcome::Abort { reason, ipa, walk, fetch } => {
            let kind = if fetch { AbortKind::Instruction } else { AbortKind::Data };
            let told = &vcpu.refusal;
            let same = told.reason as u8 == reason as u8
                && told.ipa.map(Ipa::raw) == ipa
                && told.kind == kind
                && told.pc == before.elr;
            same.then_some(Outcome::Abort(Abort { kind, walk }))
        }
    };
    if Some(real) != expected {
        let told = &vcpu.refusal;
        let told =
            if matches!(real, Outcome::Abort(_)) { format!(" {told:x?}") } else { String::new() };
        return Err(format!("is {real:x?}{told}, should be {should:x?}"));
    }
    if vcpu.regs != regs {
        for n in 0..31 {
            let (is, should) = (vcpu.regs.get(n), regs.get(n));
            if is != should {
                return Err(format!("x{n} is {is:#x}, should be {should:#x}"));
            }
        }
        return Err("ELR or SPSR has changed".to_string());
    }
    Ok(Some(should))
}

fn call(smc: bool, imm: u16, before: &GuestRegs, vcpu: &Vcpu, machine: &Machine) -> spec::Call {
    spec::Call {
        vcpu: vcpu.index,
        conduit: if smc { Conduit::Smc } else { Conduit::Hvc },
        imm,
        x: [0, 1, 2, 3].map(|n| before.get(n)),
        mair_el1: machine.mair_el1,
        entropy: machine.entropy,
    }
}

fn fault(kind: FaultKind) -> Fault {
    match kind {
        FaultKind::Translation | FaultKind::AccessFlag | FaultKind::AddressSize => Fault::Stage2,
        FaultKind::Permission => Fault::Permission,
        FaultKind::External | FaultKind::ExternalOnWalk | FaultKind::Other => Fault::External,
    }
}

fn data(abort: &DataAbort, before: &GuestRegs, machine: &Machine) -> spec::Data {
    spec::Data {
        ipa: abort.ipa.map(Ipa::raw),
        fault: fault(abort.fault.kind),
        walk: abort.s1ptw,
        write: abort.write,
        maintenance: abort.cm,
        access: abort.access.map(|access| (access.width.bytes(), access.reg)),
        value: abort.access.map_or(0, |access| before.get(access.reg)),
        big_endian: arch::is_big_endian(before.spsr, machine.sctlr_el1),
    }
}

fn fetch(abort: &InstructionAbort) -> spec::Fetch {
    spec::Fetch { ipa: abort.ipa.map(Ipa::raw), fault: fault(abort.fault.kind), walk: abort.s1ptw }
}
