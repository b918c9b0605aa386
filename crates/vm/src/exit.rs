// SPDX-License-Identifier: MIT OR Apache-2.0
//! From an exit to what EL2 does about it.

use crate::lifecycle::StopReason;
use crate::{Host, Vcpu, Vm, access, smccc, sysreg};
use arch::{AbortKind, Exit};

/// What is left to do after [`on_exit`]. General registers are written already.
///
/// Small enough for one register, so that it costs the same whether or not the compiler inlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Enter the guest as it stands.
    Resume,
    /// Step over the instruction (`arch::advance`), then enter the guest.
    Advance {
        /// ESR.IL of the trap.
        il: bool,
    },
    /// Inject a synchronous external abort; `vcpu.refusal` has the rest: FAR, and what to trace and log.
    Abort(Abort),
    /// Inject an UNDEFINED exception.
    Undefined,
    /// HPFAR_EL2 is UNKNOWN: find the IPA with AT S1E1R or S1E0R on the FAR, set it in the exit and call
    /// [`on_exit`] again; enter the guest as it stands where AT fails.
    FindIpa,
    /// The vCPU waits for an interrupt: step over the instruction if asked to, then sleep until one is
    /// deliverable, if that is worth it (WFI, CPU_SUSPEND).
    Wait {
        /// Step over the instruction first.
        advance: bool,
        /// ESR.IL of the trap.
        il: bool,
    },
    /// The vCPU has nothing to do right now (WFE): step over the instruction; let others run.
    Yield {
        /// ESR.IL of the trap.
        il: bool,
    },
    /// [`Vcpu::physical_timer`] may have another deadline: step over the instruction (of A64), and see to it that
    /// [`Vm::tick`] is called at that time.
    Timer,
    /// The vCPU is off: do not enter it again until [`Vm::take_start`] says so.
    Off,
    /// The VM is stopping, others have been kicked: leave the guest and call [`Vm::park`].
    Stop(StopReason),
}

/// A synchronous external abort to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// Data or instruction abort.
    pub kind: AbortKind,
    /// It hit a stage-1 walk: find the level with `arch::Stage1::walk_level`; where that gives none,
    /// enter the guest as it stands.
    pub walk: bool,
}

/// Judges one exit of `vcpu`, which belongs to `vm`.
#[inline(always)]
pub fn on_exit<H: Host>(exit: Exit, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    match exit {
        Exit::Hvc { imm } => smccc::hvc(imm, vcpu, vm),
        Exit::DataAbort(abort) => access::data(&abort, vcpu, vm),
        Exit::SysReg(access) => sysreg::access(access, vcpu, vm),
        Exit::InstructionAbort(abort) => access::fetch(&abort, vcpu, vm),
        Exit::Smc { imm } => smccc::smc(imm, vcpu, vm),
        Exit::Wfx { wfe: false, il } => Outcome::Wait { advance: true, il },
        Exit::Wfx { wfe: true, il } => Outcome::Yield { il },
        Exit::Undefined { .. } => Outcome::Undefined,
    }
}
