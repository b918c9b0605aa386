// SPDX-License-Identifier: MIT OR Apache-2.0
//! Accesses to the interrupt controller, and how a change of it reaches the vCPUs.

use crate::{Host, Vcpu, Vm};
use arch::guest_map::GICR_FRAME_SHIFT;
use arch::{VcpuSet, Width};
use lock::{Guard, Order};
use vgic::Frame;

/// The redistributor frame at `offset`, and the offset in it.
#[inline(always)]
pub(crate) const fn redistributor(offset: u64) -> (Frame, u64) {
    let frame = offset >> GICR_FRAME_SHIFT;
    (Frame::Redist(frame as usize), offset & ((1 << GICR_FRAME_SHIFT) - 1))
}

#[inline(always)]
pub(crate) fn gic_read<H: Host>(
    frame: Frame,
    offset: u64,
    width: Width,
    vcpu: &Vcpu,
    vm: &Vm<H>,
) -> u64 {
    match vm.gic.constant(frame, offset, width) {
        Some(value) => value,
        None => gic_read_state(frame, offset, width, vcpu, vm),
    }
}

#[inline(never)]
fn gic_read_state<H: Host>(
    frame: Frame,
    offset: u64,
    width: Width,
    vcpu: &Vcpu,
    vm: &Vm<H>,
) -> u64 {
    let me = vcpu.index;
    let mut vgic = vm.vgic.lock(&vcpu.order);
    // State in other vCPUs' list registers is answered as last read back, without waiting for them.
    let stale = vgic.stale(me, frame, offset, width).contains(me);
    if stale {
        vm.host().sync_interrupts(me, &mut vgic);
    }
    // A line may have fallen since its interrupt became pending.
    let mut touched = vm.host().sample_lines(me, &mut vgic);
    let value = vgic.read(me, frame, offset, width);
    if stale {
        touched.insert(me);
    }
    if !touched.is_empty() {
        vm.settle(vgic, Some(me), touched);
    }
    value
}

#[inline(never)]
pub(crate) fn gic_write<H: Host>(
    frame: Frame,
    offset: u64,
    width: Width,
    value: u64,
    vcpu: &Vcpu,
    vm: &Vm<H>,
) {
    gic_write_here(frame, offset, width, value, vcpu, vm);
}

/// Inlined variant of `gic_write` for callers that already have a stack frame.
#[inline(always)]
pub(crate) fn gic_write_here<H: Host>(
    frame: Frame,
    offset: u64,
    width: Width,
    value: u64,
    vcpu: &Vcpu,
    vm: &Vm<H>,
) {
    let mut vgic = vm.vgic.lock(&vcpu.order);
    let touched = vgic.write(vcpu.index, frame, offset, width, value);
    if !touched.is_empty() {
        vm.settle(vgic, Some(vcpu.index), touched);
    }
}

/// A write of ICC_SGI1R_EL1 from general register `reg`.
#[inline(always)]
pub(crate) fn send_sgi<H: Host>(reg: u8, vcpu: &Vcpu, vm: &Vm<H>) {
    let value = vcpu.regs.get(reg);
    vm.interrupts(&vcpu.order, Some(vcpu.index), |vgic| vgic.sgi1r(vcpu.index, value));
}

/// Fast path of [`send_sgi`]: returns `false`, with no state changed, if the slow path must decide.
#[inline(always)]
pub(crate) fn try_send_sgi<H: Host>(reg: u8, vcpu: &Vcpu, vm: &Vm<H>) -> bool {
    match vm.vgic.lock_now(&vcpu.order) {
        Some(vgic) => vm.host().send_sgi(vcpu.index, vcpu.regs.get(reg), vgic),
        None => false,
    }
}

impl<H: Host> Vm<H> {
    /// Changes the interrupt controller and brings list registers up to date: those of `me`, which runs on this CPU, at
    /// once, those of others by a kick.
    pub fn interrupts(
        &self,
        order: &Order,
        me: Option<usize>,
        change: impl FnOnce(&mut vgic::Vgic) -> VcpuSet,
    ) {
        let mut vgic = self.vgic.lock(order);
        let touched = change(&mut vgic);
        if !touched.is_empty() {
            self.settle(vgic, me, touched);
        }
    }

    /// The second half of [`Vm::interrupts`], if the change concerns any vCPU.
    #[inline(never)]
    pub(crate) fn settle(
        &self,
        mut vgic: Guard<'_, vgic::Vgic>,
        me: Option<usize>,
        mut touched: VcpuSet,
    ) {
        if let Some(me) = me
            && touched.contains(me)
        {
            self.host().flush_interrupts(me, &mut vgic);
            touched.remove(me);
        }
        drop(vgic);
        if !touched.is_empty() {
            self.host().kick(touched);
        }
    }

    /// [`Vm::interrupts`] for a change that must see the list registers of `me`, which runs on this CPU.
    pub(crate) fn synced_interrupts(
        &self,
        order: &Order,
        me: usize,
        change: impl FnOnce(&mut vgic::Vgic) -> VcpuSet,
    ) {
        self.interrupts(order, Some(me), |vgic| {
            self.host().sync_interrupts(me, vgic);
            change(vgic).union(VcpuSet::single(me))
        });
    }
}
