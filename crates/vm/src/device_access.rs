// SPDX-License-Identifier: MIT OR Apache-2.0
//! How an access that the guard let pass gets to its device.

use crate::bus::{Device, Stored};
use crate::device::virtio_slot;
use crate::gic_access::{gic_read, gic_write, redistributor};
use crate::{Host, Vcpu, Vm};
use arch::{Ipa, Width};
use vgic::Frame;

/// A load that the guard let pass; `None` is the device's error.
#[inline(always)]
pub(crate) fn read_device<H: Host>(
    device: Device,
    offset: u64,
    width: Width,
    vcpu: &Vcpu,
    vm: &Vm<H>,
) -> Option<u64> {
    match device {
        Device::Distributor => Some(gic_read(Frame::Dist, offset, width, vcpu, vm)),
        Device::Redistributor => {
            let (frame, offset) = redistributor(offset);
            Some(gic_read(frame, offset, width, vcpu, vm))
        }
        Device::Uart => vm.bus.uart.read(offset, width, vcpu, vm),
        Device::Test => vm.bus.test.read(offset, width),
        Device::Flash(n) => vm.flash_load(n, offset, width, vcpu),
        Device::FwCfg => vm.bus.fw_cfg.as_ref().map(|fw_cfg| fw_cfg.read(offset, width)),
        Device::VirtioSlot => Some(virtio_slot::read(offset)),
    }
}

/// A store that the guard let pass.
#[inline(always)]
pub(crate) fn write_device<H: Host>(
    device: Device,
    offset: u64,
    width: Width,
    value: u64,
    vcpu: &Vcpu,
    vm: &Vm<H>,
) -> Stored {
    match device {
        Device::Distributor => gic_write(Frame::Dist, offset, width, value, vcpu, vm),
        Device::Redistributor => {
            let (frame, offset) = redistributor(offset);
            gic_write(frame, offset, width, value, vcpu, vm)
        }
        Device::Uart => return vm.bus.uart.write(offset, width, value, vcpu, vm).into(),
        Device::Test => return vm.bus.test.write(offset, width, value).into(),
        Device::Flash(n) => return vm.flash_store(n, offset, width, value, vcpu),
        Device::FwCfg => {
            if let Some(fw_cfg) = &vm.bus.fw_cfg {
                fw_cfg.write(offset, width, value);
            }
        }
        Device::VirtioSlot => {}
    }
    Stored::Done
}

impl<H: Host> Vm<H> {
    /// The device at `ipa`, and the offset in it.
    #[inline(always)]
    pub(crate) fn device_at(&self, ipa: Ipa) -> Option<(Device, u64)> {
        match self.bus.at(ipa) {
            None => self.device_at_cold(ipa),
            found => found,
        }
    }

    #[cold]
    #[inline(never)]
    fn device_at_cold(&self, ipa: Ipa) -> Option<(Device, u64)> {
        match self.flash_at(ipa) {
            Some((n, bank)) => {
                Some((Device::Flash(n), ipa.raw().wrapping_sub(bank.range().start().raw())))
            }
            None => self.bus.at_cold(ipa),
        }
    }
}
