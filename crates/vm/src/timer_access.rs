// SPDX-License-Identifier: MIT OR Apache-2.0
//! Trapped accesses to the physical timer, and its interrupt.

use crate::{Host, PHYSICAL_TIMER_INTID, PhysicalTimer, Vcpu, Vm};
use arch::SysRegAccess;

/// A trapped access to one of its registers.
pub(crate) fn timer_access<H: Host>(access: SysRegAccess, vcpu: &mut Vcpu, vm: &Vm<H>) {
    let now = vm.host().counter();
    if access.write {
        vcpu.physical_timer.write(access.reg, vcpu.regs.get(access.rt), now);
    } else {
        let value = vcpu.physical_timer.read(access.reg, now);
        vcpu.regs.set(access.rt, value);
    }
    vm.tick(vcpu, true);
}

impl<H: Host> Vm<H> {
    /// Moves the line of `vcpu`'s physical timer if that is due. `here`: its list registers are in this CPU. Otherwise they
    /// are filled when it is loaded.
    pub fn tick(&self, vcpu: &mut Vcpu, here: bool) {
        if !vcpu.physical_timer.moves(self.host().counter()) {
            return;
        }
        let (index, line) = (vcpu.index, vcpu.physical_timer.line);
        let mut vgic = self.vgic.lock(&vcpu.order);
        let touched = vgic.set_level(index, PHYSICAL_TIMER_INTID, line);
        if here && !touched.is_empty() {
            self.settle(vgic, Some(index), touched);
        }
    }

    /// Resets the physical timer of a vCPU that is turned on.
    pub(crate) fn reset_physical_timer(&self, vcpu: &mut Vcpu) {
        vcpu.physical_timer.control = 0;
        self.tick(vcpu, false);
        vcpu.physical_timer = PhysicalTimer::default();
    }
}
