// SPDX-License-Identifier: MIT OR Apache-2.0
//! One exit, and what should come of it.

use alloc::format;
use alloc::string::{String, ToString};
use arch::{AbortKind, DataAbort, Exit, FaultKind, GuestRegs, InstructionAbort, Ipa};
use spec::{Conduit, Fault, Load, Moment};
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
    /// CNTPCT_EL0 during the exit.
    pub now: Moment,
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

/// Does `exit` to VM number `me` of `vms`, which `vm` has judged with the outcome `real`; `before` is what the registers of
/// `vcpu` were. `None`: the exit is not in the specification, and must have changed nothing that is.
///
/// # Errors
/// What differs in outcome or registers.
pub fn judge(
    vms: &mut [spec::Vm],
    me: usize,
    exit: Exit,
    before: &GuestRegs,
    vcpu: &Vcpu,
    real: Outcome,
    machine: &Machine,
) -> Result<Option<spec::Outcome>, String> {
    let mut call = |smc, imm| {
        let call = call(smc, imm, before, vcpu, machine);
        (smc, true, spec::call(vms, me, &call))
    };
    let (smc, il, should) = match exit {
        Exit::Hvc { imm } => call(false, imm),
        Exit::Smc { imm } => call(true, imm),
        Exit::DataAbort(abort) => {
            let spec = vms.get_mut(me).ok_or("no such VM")?;
            (false, abort.il, spec.data(&data(&abort, before, vcpu, machine)))
        }
        Exit::InstructionAbort(abort) => {
            let spec = vms.get_mut(me).ok_or("no such VM")?;
            (false, true, spec.fetch(&fetch(&abort)))
        }
        Exit::SysReg(_) | Exit::Wfx { .. } | Exit::Undefined { .. } => return Ok(None),
    };
    if matches!((should, real), (spec::Outcome::ServedOrWaits(_), Outcome::WaitForServer)) {
        vms.get_mut(me).ok_or("no such VM")?.waits_for_transport(vcpu.index);
    }
    compare(should, real, before, vcpu, (smc, il))?;
    Ok(Some(should))
}

/// The end at `now` of an access of `vcpu` that waited, against `spec`; `before` is what its registers were, `real` is `None` where
/// it still waits.
///
/// # Errors
/// What differs in outcome or registers.
pub fn finish(
    spec: &mut spec::Vm,
    before: &GuestRegs,
    vcpu: &Vcpu,
    now: u64,
    real: Option<Outcome>,
) -> Result<(), String> {
    let il = spec.link.access(vcpu.index).is_none_or(|data| data.long);
    let should = spec.finish_access(vcpu.index, now, real.is_some());
    match (should, real) {
        (Some(should), Some(real)) => compare(should, real, before, vcpu, (false, il)),
        (None, None) => Ok(()),
        _ => Err(format!("an access has ended: is {real:x?}, should be {should:x?}")),
    }
}

/// The outcome and the registers of an exit that came by SMC (`smc`), and where the guest goes on: behind an instruction of 32 bits
/// (`il`), or 16.
fn compare(
    should: spec::Outcome,
    real: Outcome,
    before: &GuestRegs,
    vcpu: &Vcpu,
    (smc, il): (bool, bool),
) -> Result<(), String> {
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
        spec::Outcome::ServedOrWaits(_) if real == Outcome::WaitForServer => Some(real),
        spec::Outcome::ServedOrWaits(load) => {
            if let Some(Load { register }) = load {
                regs.set(register, vcpu.regs.get(register));
            }
            Some(Outcome::Advance { il })
        }
        spec::Outcome::Asks => Some(Outcome::WaitForServer),
        spec::Outcome::Loaded(Load { register }, value) => {
            regs.set(register, value);
            Some(Outcome::Advance { il })
        }
        spec::Outcome::Registers { value } => {
            let [x0, x1] = [0, 1].map(|n| vcpu.regs.get(n));
            let x1 = if value && x0 == 0 { x1 } else { 0 };
            answer(&mut regs, [x0, x1, 0, 0]);
            (x0 == 0 || x0 == REFUSED).then_some(returned)
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
    Ok(())
}

/// -3.
const REFUSED: u64 = 3_u64.wrapping_neg();

fn call(smc: bool, imm: u16, before: &GuestRegs, vcpu: &Vcpu, machine: &Machine) -> spec::Call {
    spec::Call {
        vcpu: vcpu.index,
        conduit: if smc { Conduit::Smc } else { Conduit::Hvc },
        imm,
        x: [0, 1, 2, 3].map(|n| before.get(n)),
        x4: before.get(4),
        now: machine.now,
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

fn data(abort: &DataAbort, before: &GuestRegs, vcpu: &Vcpu, machine: &Machine) -> spec::Data {
    spec::Data {
        vcpu: vcpu.index,
        now: machine.now,
        ipa: abort.ipa.map(Ipa::raw),
        fault: fault(abort.fault.kind),
        walk: abort.s1ptw,
        write: abort.write,
        maintenance: abort.cm,
        access: abort.access.map(|access| (access.width.bytes(), access.reg)),
        value: abort.access.map_or(0, |access| before.get(access.reg)),
        big_endian: arch::is_big_endian(before.spsr, machine.sctlr_el1),
        signed: abort.access.is_some_and(|access| access.sign_extend),
        wide: abort.access.is_some_and(|access| access.sixty_four),
        long: abort.il,
    }
}

fn fetch(abort: &InstructionAbort) -> spec::Fetch {
    spec::Fetch { ipa: abort.ipa.map(Ipa::raw), fault: fault(abort.fault.kind), walk: abort.s1ptw }
}
