// SPDX-License-Identifier: MIT OR Apache-2.0
//! A VM's start and stop, and the start of its vCPUs.

use crate::lifecycle::Stop;
use crate::{Host, Parked, Refusal, StopReason, Vcpu, Vm};
use arch::Ipa;
use lock::Order;

impl<H: Host> Vm<H> {
    /// Starts the VM, after [`Vm::reset`]: vCPU 0 starts at `entry` with `context` in x0. Wakes its CPU.
    pub fn start(&self, order: &Order, entry: Ipa, context: u64) -> bool {
        let started = self.lifecycle.start(order, entry.raw(), context);
        if started {
            self.enter_links(order);
        }
        started
    }

    /// Whether `vcpu` was turned on. If so, its general registers are those of a vCPU out of reset: x0 is the
    /// caller's context, the others are 0, EL1h with everything masked. EL2 resets all else.
    pub fn take_start(&self, vcpu: &mut Vcpu) -> bool {
        let Some((entry, context)) = self.lifecycle.take_start(&vcpu.order, vcpu.index) else {
            return false;
        };
        vcpu.regs = arch::GuestRegs::default();
        vcpu.regs.set(0, context);
        vcpu.regs.elr = entry;
        vcpu.regs.spsr = arch::pstate::EL1H
            | arch::pstate::D
            | arch::pstate::A
            | arch::pstate::I
            | arch::pstate::F;
        vcpu.refusal = Refusal::default();
        vcpu.forwarded = None;
        self.reset_physical_timer(vcpu);
        true
    }

    /// Asks the VM to stop, and kicks its vCPUs but `except`. Any CPU may call it. `None` if the VM does not run.
    pub fn stop(&self, order: &Order, reason: StopReason, except: Option<&Vcpu>) -> Option<Stop> {
        let mut stop = self.lifecycle.stop(order, reason)?;
        if let Some(vcpu) = except {
            stop.kick.remove(vcpu.index);
        }
        if !stop.kick.is_empty() {
            self.host().power_changed(stop.kick);
        }
        if stop.parked {
            self.leave_links(order);
        }
        Some(stop)
    }

    /// `vcpu` has left the guest of a VM that is stopping. It does not enter it again.
    pub fn park(&self, vcpu: &Vcpu) -> Parked {
        let parked = self.lifecycle.park(&vcpu.order, vcpu.index);
        if let Parked::Last(_) = parked {
            self.leave_links(&vcpu.order);
        }
        parked
    }
}
