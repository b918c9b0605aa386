// SPDX-License-Identifier: MIT OR Apache-2.0
//! What EL2 does about an exit: one type for the fast path and the slow path.

use arch::AbortKind;

use crate::lifecycle::StopReason;

/// What is left to do after an exit has been handled. General registers are written already.
///
/// Small enough for one register, so that it costs the same whether or not the compiler inlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Enter the guest with its registers unchanged.
    Resume,
    /// Step over the instruction (`arch::skip_instruction`), then enter the guest.
    Advance {
        /// ESR.IL of the trap.
        il: bool,
    },
    /// Inject a synchronous external abort; `vcpu.refusal` has the rest: FAR, and what to trace and log.
    Abort(Abort),
    /// Inject an UNDEFINED exception.
    Undefined,
    /// HPFAR_EL2 is UNKNOWN: find the IPA with AT S1E1R or S1E0R on the FAR, set it in the exit and call
    /// [`on_exit`](crate::on_exit) again; if AT fails, enter the guest unchanged.
    ResolveIpa,
    /// The vCPU waits for an interrupt: step over the instruction if asked to, then sleep until one is
    /// deliverable, if that is worth it (WFI, CPU_SUSPEND).
    Wait {
        /// Step over the instruction first.
        advance: bool,
        /// ESR.IL of the trap.
        il: bool,
    },
    /// The vCPU waits for the VM that serves this one: do not enter it until [`Vm::finish_forwarded`](crate::Vm::finish_forwarded)
    /// says what follows.
    WaitForServer,
    /// The vCPU has nothing to do right now (WFE): step over the instruction; let others run.
    Yield {
        /// ESR.IL of the trap.
        il: bool,
    },
    /// [`Vcpu::physical_timer`](crate::Vcpu::physical_timer) may have another deadline: step over the instruction (of A64), and see to it that
    /// [`Vm::tick`](crate::Vm::tick) is called at that time.
    Timer,
    /// The vCPU is off: do not enter it again until [`Vm::take_start`](crate::Vm::take_start) says so.
    Off,
    /// The VM is stopping, others have been kicked: leave the guest and call [`Vm::park`](crate::Vm::park).
    Stop(StopReason),
}

/// A synchronous external abort to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// Data or instruction abort.
    pub kind: AbortKind,
    /// It hit a stage-1 walk: find the level with `arch::Stage1::walk_level`; where that gives none,
    /// enter the guest unchanged.
    pub walk: bool,
}

/// What [`try_fast_path`](crate::try_fast_path) made of an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastPath {
    /// Handled. The guest is in A64 state.
    Done(Outcome),
    /// Known, but not done yet: call [`run_deferred`](crate::run_deferred), best at the end of a function of its own, so
    /// that the other cases need no stack frame.
    Deferred(Deferred),
    /// Nothing was done: decode the exit and call [`on_exit`](crate::on_exit).
    Fallback,
}

impl FastPath {
    /// Handled; the guest goes on.
    pub const RESUME: Self = Self::Done(Outcome::Resume);
    /// Handled; the guest goes on behind the instruction.
    pub const ADVANCE: Self = Self::Done(Outcome::Advance { il: true });
}

/// What [`run_deferred`](crate::run_deferred) is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deferred {
    /// The guard's MAP of one page.
    Map,
    /// The guard's UNMAP of one page.
    Unmap,
    /// Another vendor-specific call.
    Call,
    /// A write of ICC_SGI1R_EL1 from this general register, to one vCPU as a rule.
    Sgi(u8),
    /// A write of ICC_SGI1R_EL1 that takes more than one list register.
    Sgis(u8),
    /// A store of four bytes to the distributor that the guard let pass.
    GicdStore(GicdStore),
    /// Any other load or store of the interrupt controller that the guard let pass.
    Gic(GicAccess),
    /// A load or store, described by these bits of ESR_EL2, that the VM's server may answer. Its addresses are in the vCPU's
    /// `refusal`.
    Served(u32),
}

/// Which general register goes where in the distributor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GicdStore {
    /// The register.
    pub(crate) reg: u64,
    /// Offset in the distributor, in bytes.
    pub(crate) offset: u64,
}

/// A load or store of the interrupt controller, in one word: bits 31:0 of ESR_EL2, 51:32 offset, 52
/// redistributors (offset from their first) rather than distributor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GicAccess(pub(crate) u64);
