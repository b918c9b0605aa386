// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which device answers where, and how an access gets to it.

use crate::device::{FwCfg, TestDevice, Uart, virtio_slot};
use crate::{Host, Setup, Vcpu, Vm};
use arch::{Ipa, PAGE_SIZE, VcpuSet, Width};
use lock::{Guard, Order};
use mmio_guard::Policy;
use vgic::{Frame, Version};

/// The distributor: 64 KiB.
pub const GICD_IPA: Ipa = Ipa::new(0x0800_0000);
/// Its size.
pub(crate) const GICD_SIZE: u64 = 0x1_0000;
/// The redistributors under GICv3: 128 KiB per vCPU.
pub const GICR_IPA: Ipa = Ipa::new(0x080A_0000);
/// The PL011.
pub const UART_IPA: Ipa = Ipa::new(0x0900_0000);
/// Its interrupt: shared peripheral interrupt 1.
pub const UART_INTID: u32 = 33;

/// QEMU's firmware configuration device: a page.
pub const FW_CFG_IPA: Ipa = Ipa::new(0x0902_0000);
/// QEMU's 32 virtio-mmio transports, 512 bytes each.
pub const VIRTIO_IPA: Ipa = Ipa::new(0x0A00_0000);

const VIRTIO_SIZE: u64 = 0x4000;
/// RD_base and SGI_base of one vCPU.
const GICR_FRAME_SHIFT: u32 = 17;

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
    fw_cfg: Option<FwCfg>,
    /// Whether there are virtio-mmio transports to be found: no guest declares what it only looks for.
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
            slots: setup.policy == Policy::Off,
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

    /// What stands where neither [`Bus::at`] nor flash has anything.
    fn rare_at(&self, ipa: Ipa) -> Option<(Device, u64)> {
        let offset = ipa.raw().wrapping_sub(FW_CFG_IPA.raw());
        if offset < PAGE_SIZE && self.fw_cfg.is_some() {
            return Some((Device::FwCfg, offset));
        }
        let offset = ipa.raw().wrapping_sub(VIRTIO_IPA.raw());
        (offset < VIRTIO_SIZE && self.slots).then_some((Device::VirtioSlot, offset))
    }

    /// The device at `ipa`, and the offset in its registers, but for flash and what is rare. Static: no device is added later.
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

/// The redistributor frame at `offset`, and the offset in it.
#[inline(always)]
pub(crate) const fn redistributor(offset: u64) -> (Frame, u64) {
    let frame = offset >> GICR_FRAME_SHIFT;
    (Frame::Redist(frame as usize), offset & ((1 << GICR_FRAME_SHIFT) - 1))
}

/// A load that the guard let pass; `None` is the device's error.
#[inline(always)]
pub(crate) fn read<H: Host>(
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

/// A store that the guard let pass; `false` is the device's error.
#[inline(always)]
pub(crate) fn write<H: Host>(
    device: Device,
    offset: u64,
    width: Width,
    value: u64,
    vcpu: &Vcpu,
    vm: &Vm<H>,
) -> bool {
    match device {
        Device::Distributor => gic_write(Frame::Dist, offset, width, value, vcpu, vm),
        Device::Redistributor => {
            let (frame, offset) = redistributor(offset);
            gic_write(frame, offset, width, value, vcpu, vm)
        }
        Device::Uart => return vm.bus.uart.write(offset, width, value, vcpu, vm),
        Device::Test => return vm.bus.test.write(offset, width, value),
        Device::Flash(n) => return vm.flash_store(n, offset, width, value, vcpu),
        Device::FwCfg => {
            if let Some(fw_cfg) = &vm.bus.fw_cfg {
                fw_cfg.write(offset, width, value);
            }
        }
        Device::VirtioSlot => {}
    }
    true
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
    // Other vCPUs' list registers are answered as last folded: nobody waits for them.
    let stale = vgic.stale(me, frame, offset, width).contains(me);
    if stale {
        vm.host().fold_interrupts(me, &mut vgic);
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

/// [`gic_write`] for who has a frame of its own.
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

/// [`send_sgi`] where that is quickly done; else `false`, and nothing has changed.
#[inline(always)]
pub(crate) fn send_sgi_now<H: Host>(reg: u8, vcpu: &Vcpu, vm: &Vm<H>) -> bool {
    match vm.vgic.lock_now(&vcpu.order) {
        Some(vgic) => vm.host().send_sgi(vcpu.index, vcpu.regs.get(reg), vgic),
        None => false,
    }
}

impl<H: Host> Vm<H> {
    /// The device at `ipa`, and the offset in it.
    #[inline(always)]
    pub(crate) fn device_at(&self, ipa: Ipa) -> Option<(Device, u64)> {
        match self.bus.at(ipa) {
            None => self.other_device(ipa),
            found => found,
        }
    }

    #[cold]
    #[inline(never)]
    fn other_device(&self, ipa: Ipa) -> Option<(Device, u64)> {
        match self.flash_at(ipa) {
            Some((n, bank)) => {
                Some((Device::Flash(n), ipa.raw().wrapping_sub(bank.range().start().raw())))
            }
            None => self.bus.rare_at(ipa),
        }
    }

    /// Changes the interrupt controller, and sees to it that what follows reaches the vCPUs: `me`, whose
    /// CPU this is, here and now; others by a kick.
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

    /// What [`Vm::interrupts`] does after a change that touched somebody.
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
            self.host().plan_interrupts(me, &mut vgic);
            touched.remove(me);
        }
        drop(vgic);
        if !touched.is_empty() {
            self.host().kick(touched);
        }
    }

    /// [`Vm::interrupts`] where the change must see what the list registers of `me`, whose CPU this is, say.
    pub(crate) fn folded_interrupts(
        &self,
        order: &Order,
        me: usize,
        change: impl FnOnce(&mut vgic::Vgic) -> VcpuSet,
    ) {
        self.interrupts(order, Some(me), |vgic| {
            self.host().fold_interrupts(me, vgic);
            change(vgic).union(VcpuSet::single(me))
        });
    }
}
