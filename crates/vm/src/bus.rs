// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which device answers where. Accesses are in `device_access`.

use crate::Setup;
use crate::device::{FwCfg, TestDevice, Uart};
use arch::guest_map::{
    FW_CFG_IPA, GICD_IPA, GICD_SIZE, GICR_FRAME_SHIFT, GICR_IPA, UART_IPA, VIRTIO_IPA, VIRTIO_SIZE,
};
use arch::{Ipa, PAGE_SIZE};
use lock::Order;
use mmio_guard::Policy;
use vgic::Version;

/// What came of a store to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Done,
    /// The device's error.
    Refused,
    /// The device is busy: the guest tries again.
    Retry,
}

impl From<bool> for Stored {
    fn from(done: bool) -> Self {
        if done { Self::Done } else { Self::Refused }
    }
}

/// What can answer an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The interrupt controller's distributor.
    Distributor,
    /// The redistributors.
    Redistributor,
    /// The PL011.
    Uart,
    /// The device for tests.
    Test,
    /// This bank of flash.
    Flash(u8),
    /// The firmware configuration device.
    FwCfg,
    /// A virtio-mmio transport without a device behind it.
    VirtioSlot,
}

impl Device {
    /// Its node in the guest's device tree.
    pub const fn node(self) -> &'static str {
        match self {
            Self::Distributor | Self::Redistributor => "intc@8000000",
            Self::Uart => "pl011@9000000",
            Self::Test => "test-device",
            Self::Flash(_) => "flash",
            Self::FwCfg => "fw-cfg@9020000",
            Self::VirtioSlot => "virtio_mmio@a000000",
        }
    }
}

/// A VM's devices.
pub(crate) struct Bus {
    /// Bytes of redistributor frames; 0 under GICv2.
    pub(crate) gicr_size: u64,
    test_at: Option<Ipa>,
    pub(crate) fw_cfg: Option<FwCfg>,
    /// Whether there are virtio-mmio transports to probe: no guest declares what it only probes.
    slots: bool,
    pub(crate) uart: Uart,
    pub(crate) test: TestDevice,
}

impl Bus {
    pub(crate) fn new(setup: &Setup<'_>) -> Self {
        let frames = match setup.gic.version() {
            Version::V2 => 0,
            Version::V3 => setup.gic.vcpus() as u64,
        };
        Self {
            gicr_size: frames.wrapping_shl(GICR_FRAME_SHIFT),
            test_at: setup.test_device,
            fw_cfg: setup.fw_cfg.then(FwCfg::default),
            slots: setup.policy == Policy::Off && setup.served.is_none(),
            uart: Uart::new(),
            test: TestDevice::new(),
        }
    }

    pub(crate) fn reset(&self, order: &Order) {
        self.uart.reset(order);
        self.test.reset();
        if let Some(fw_cfg) = &self.fw_cfg {
            fw_cfg.reset();
        }
    }

    /// The device at `ipa` where neither [`Bus::at`] nor flash has one.
    pub(crate) fn at_cold(&self, ipa: Ipa) -> Option<(Device, u64)> {
        let offset = ipa.raw().wrapping_sub(FW_CFG_IPA.raw());
        if offset < PAGE_SIZE && self.fw_cfg.is_some() {
            return Some((Device::FwCfg, offset));
        }
        let offset = ipa.raw().wrapping_sub(VIRTIO_IPA.raw());
        (offset < VIRTIO_SIZE && self.slots).then_some((Device::VirtioSlot, offset))
    }

    /// The device at `ipa` and the offset in its registers, without flash and rare devices. No device is added later.
    #[inline(always)]
    pub(crate) fn at(&self, ipa: Ipa) -> Option<(Device, u64)> {
        let offset = ipa.raw().wrapping_sub(GICD_IPA.raw());
        if offset < GICD_SIZE {
            return Some((Device::Distributor, offset));
        }
        let offset = ipa.raw().wrapping_sub(UART_IPA.raw());
        if offset < PAGE_SIZE {
            return Some((Device::Uart, offset));
        }
        let offset = ipa.raw().wrapping_sub(GICR_IPA.raw());
        if offset < self.gicr_size {
            return Some((Device::Redistributor, offset));
        }
        let offset = ipa.raw().wrapping_sub(self.test_at?.raw());
        if offset < PAGE_SIZE {
            return Some((Device::Test, offset));
        }
        None
    }
}
