// SPDX-License-Identifier: MIT OR Apache-2.0
//! A vCPU that waits for the VM that serves its own: it waits in the scheduler, and no EL2 code waits with it.

use arch::AbortKind;
use sched::VcpuState;
use vm::Outcome;

use crate::cpu::{Cpu, timer};
use crate::gic::Gic;
use crate::guest::{instance, vm_log};
use crate::oracle::checked;
use crate::vcpu::context::VcpuContext;
use crate::vcpu::{inject, refusal};

/// Seconds after which the log says that a VM waits for the one that serves it.
const REPORT_AFTER: u64 = 10;

impl VcpuContext {
    /// CNTPCT_EL0 until which this vCPU waits for an answer; `None` if it does not wait.
    #[cold]
    #[inline(never)]
    pub fn waits_for_server(&self, now: u64) -> Option<u64> {
        let until = self.guest.vm.waits_for_server(&self.vcpu, now)?;
        if until != u64::MAX {
            return Some(until);
        }
        // For ever, if its server does not come.
        let after = timer::frequency().saturating_mul(REPORT_AFTER);
        match self.guest.vm.report_wait(&self.vcpu, now, after) {
            Err(at) => Some(at),
            Ok(()) => {
                self.report_wait();
                Some(u64::MAX)
            }
        }
    }

    fn report_wait(&self) {
        let server = self.guest.config.served.as_ref().map_or(0, |served| served.server);
        let server = instance::all().get(server).map_or("", |server| server.config.name.as_str());
        let name = &self.guest.config.name;
        vm_log::about(
            self.guest,
            log::Level::Warn,
            format_args!(
                "{name}: vCPU {} has waited {REPORT_AFTER} s for {server}, which serves it",
                self.vcpu.index
            ),
        );
    }

    /// Takes the answer for this vCPU, which is loaded, if there is one. `false`: it waits.
    pub fn take_answer(&mut self, now: u64) -> bool {
        let outcome = checked::finish_forwarded(&mut self.vcpu, &self.guest.vm, now);
        if let Some(outcome) = outcome {
            self.apply_answer(outcome);
        }
        outcome.is_some()
    }

    /// Steps over the access of this vCPU, which is loaded, or injects its abort.
    pub fn apply_answer(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Advance { il } => arch::skip_instruction(&mut self.vcpu.regs, il),
            Outcome::Abort(_) => self.enter_abort(AbortKind::Data, None),
            // It is executed again.
            _ => {}
        }
    }

    /// Injects the synchronous external abort that `vcpu.refusal` describes; `level` is that of a stage-1 walk.
    #[inline(always)]
    pub fn enter_abort(&mut self, kind: AbortKind, level: Option<i8>) {
        let va = self.vcpu.refusal.va;
        let regs = &self.vcpu.regs;
        let return_address = inject::return_address();
        let state = inject::entry_state();
        let entry = arch::external_abort(kind, level, va, regs, &state, &self.pstate);
        self.enter_el1(&entry);
        refusal::record(self, return_address);
    }

    /// Enters EL1 for an exception.
    #[inline(always)]
    pub fn enter_el1(&mut self, entry: &arch::El1Entry) {
        inject::write_entry(entry);
        self.vcpu.regs.elr = entry.pc;
        self.vcpu.regs.spsr = entry.pstate;
    }
}

/// Puts the loaded vCPU, whose access waits for an answer, to sleep.
pub fn put_waiting(ctx: &mut VcpuContext, cpu: &Cpu, gic: &Gic) {
    let _ = ctx.put(VcpuState::Waiting, gic);
    let now = timer::now();
    cpu.queue.account(now);
    // Interrupts do not end this wait.
    let until = ctx.waits_for_server(now);
    ctx.state = if until.is_some() { VcpuState::Waiting } else { VcpuState::Answered };
    let until = until.unwrap_or(u64::MAX);
    cpu.queue.with(|scheduler| scheduler.wait(ctx.number, ctx.state, until));
}

/// The answer for the chosen vCPU, which had an access under way and is not loaded. `None`: it waits on.
#[cold]
#[inline(never)]
pub fn take(ctx: &mut VcpuContext, cpu: &Cpu, now: u64) -> Option<Outcome> {
    if ctx.vcpu.forwarded.is_none() {
        ctx.state = VcpuState::Ready;
        return Some(Outcome::Resume);
    }
    if let Some(outcome) = checked::finish_forwarded(&mut ctx.vcpu, &ctx.guest.vm, now) {
        ctx.state = VcpuState::Ready;
        return Some(outcome);
    }
    let until = ctx.waits_for_server(now).unwrap_or(now);
    ctx.state = VcpuState::Waiting;
    cpu.queue.with(|scheduler| scheduler.wait(ctx.number, VcpuState::Waiting, until));
    None
}
