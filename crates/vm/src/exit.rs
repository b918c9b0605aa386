// SPDX-License-Identifier: MIT OR Apache-2.0
//! From an exit to what EL2 does about it.

use crate::{Host, Outcome, Vcpu, Vm, access, smccc, sysreg};
use arch::Exit;

/// Judges one exit of `vcpu`, which belongs to `vm`.
#[inline(always)]
pub fn on_exit<H: Host>(exit: Exit, vcpu: &mut Vcpu, vm: &Vm<H>) -> Outcome {
    match exit {
        Exit::Hvc { imm } => smccc::hvc(imm, vcpu, vm),
        Exit::DataAbort(abort) => access::data(&abort, vcpu, vm),
        Exit::SysReg(access) => sysreg::sysreg_access(access, vcpu, vm),
        Exit::InstructionAbort(abort) => access::fetch(&abort, vcpu, vm),
        Exit::Smc { imm } => smccc::smc(imm, vcpu, vm),
        Exit::Wfx { wfe: false, il } => Outcome::Wait { advance: true, il },
        Exit::Wfx { wfe: true, il } => Outcome::Yield { il },
        Exit::Undefined { .. } => Outcome::Undefined,
    }
}
