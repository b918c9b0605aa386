// SPDX-License-Identifier: MIT OR Apache-2.0
//! Accesses to the PL011: its registers, its console, its interrupt.

use crate::device::pl011::{self, Pl011};
use crate::device::{FULL, HOLDS_BYTES, Uart};
use crate::{Host, Vcpu, Vm};
use arch::Width;
use arch::guest_map::UART_INTID;
use lock::Order;
use lock::atomic::Ordering;

impl Uart {
    /// 64-bit and unaligned accesses are the bus' errors, as behind an APB bridge.
    #[inline(always)]
    pub(crate) fn read<H: Host>(
        &self,
        offset: u64,
        width: Width,
        vcpu: &Vcpu,
        vm: &Vm<H>,
    ) -> Option<u64> {
        if offset & 3 != 0 || matches!(width, Width::B8) {
            return None;
        }
        if offset == pl011::FR {
            return Some(u64::from(self.flags(vm.host())));
        }
        Some(self.read_state(offset, vcpu, vm))
    }

    #[inline(never)]
    fn read_state<H: Host>(&self, offset: u64, vcpu: &Vcpu, vm: &Vm<H>) -> u64 {
        if offset != pl011::DR {
            return u64::from(self.state.lock(&vcpu.order).read(offset));
        }
        let mut byte = 0;
        self.change(&vcpu.order, Some(vcpu.index), vm, |state| {
            if state.received() == 0 {
                state.fill(|| vm.host().console_take());
            }
            byte = state.take();
            // What waits behind it moves up: the interrupt tells a driver that stops reading now of the rest.
            state.fill(|| vm.host().console_take());
        });
        u64::from(byte)
    }

    #[inline(never)]
    pub(crate) fn write<H: Host>(
        &self,
        offset: u64,
        width: Width,
        value: u64,
        vcpu: &Vcpu,
        vm: &Vm<H>,
    ) -> bool {
        if offset & 3 != 0 || matches!(width, Width::B8) {
            return false;
        }
        self.change(&vcpu.order, Some(vcpu.index), vm, |state| {
            if offset != pl011::DR {
                state.write(offset, value as u32);
                return;
            }
            vm.host().console_put(value as u8);
            if vm.host().console_has_room() {
                state.transmitted();
            } else {
                state.tx_full = true;
            }
        });
        true
    }

    /// Takes input, and reports room to the transmitter. EL2 calls it when either may have changed.
    pub(crate) fn poll<H: Host>(&self, order: &Order, me: Option<usize>, vm: &Vm<H>) {
        self.change(order, me, vm, |state| {
            state.fill(|| vm.host().console_take());
            if state.tx_full && vm.host().console_has_room() {
                state.transmitted();
            }
        });
    }

    /// Changes the state, then moves the interrupt line if its level has changed.
    #[inline]
    fn change<H: Host>(
        &self,
        order: &Order,
        me: Option<usize>,
        vm: &Vm<H>,
        change: impl FnOnce(&mut Pl011),
    ) {
        let mut state = self.state.lock(order);
        change(&mut state);
        let receiver = if state.received() != 0 { HOLDS_BYTES } else { 0 }
            | if state.is_full() { FULL } else { 0 };
        self.receiver.store(receiver, Ordering::Relaxed);
        let level = state.level();
        let moved = self.level.swap(level, Ordering::AcqRel) != level;
        drop(state);
        if moved {
            // The line is read again under the vGIC's lock: the last caller sets the last value.
            vm.interrupts(order, me, |vgic| {
                vgic.set_level(me.unwrap_or(0), UART_INTID, self.level.load(Ordering::Acquire))
            });
        }
    }
}

impl<H: Host> Vm<H> {
    /// The console has input, or room for output again. `me` is the vCPU of this VM that runs on this CPU.
    pub fn poll_console(&self, order: &Order, me: Option<usize>) {
        self.bus.uart.poll(order, me, self);
    }
}
