// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state of one VM's interrupts.

use crate::{Config, Frame, ListRegister};
use arch::{VcpuSet, Width};

/// What the hardware's virtual interface says besides the list registers, read when the vCPU exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// ICH_HCR_EL2.EOIcount or GICH_HCR.EOICount (bits 31:27): deactivations that found no list register.
    pub eoi_count: u8,
    /// ICH_VMCR_EL2.VENG0 or GICH_VMCR.VMGrp0En (bit 0).
    pub group0: bool,
    /// ICH_VMCR_EL2.VENG1 or GICH_VMCR.VMGrp1En (bit 1).
    pub group1: bool,
}

impl Interface {
    /// Decodes ICH_HCR_EL2 and ICH_VMCR_EL2, or GICH_HCR and GICH_VMCR: the bits used here are the same.
    #[inline]
    pub const fn new(hcr: u32, vmcr: u32) -> Self {
        Self { eoi_count: (hcr >> 27) as u8, group0: vmcr & 1 != 0, group1: vmcr & 2 != 0 }
    }
}

/// What to program besides the list registers before the vCPU runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// A bit for each list register that holds an interrupt; the others are to be written 0.
    pub used: u16,
    /// Value for ICH_HCR_EL2 or GICH_HCR: En, and what LRENPIE, NPIE, VGrp{0,1}{E,D}IE and TDIR (GICv3 only) are
    /// needed now. EOIcount is 0.
    pub hcr: u32,
    /// Physical interrupts wait to be deactivated: call [`Vgic::take_released`] until it returns `None`.
    pub release: bool,
}

/// What [`Vgic::quick`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quick {
    /// The list registers are right as they are.
    Nothing,
    /// Write this list register; all else is right as it is.
    One(usize, ListRegister),
    /// Fold and plan.
    Full,
}

/// The state of one VM's interrupts: distributor, redistributors, and what stands in list registers.
#[derive(Clone, Debug)]
pub struct Vgic {
    config: Config,
}

impl Vgic {
    /// A GIC as it comes out of reset.
    pub const fn new(config: Config) -> Self {
        Self { config }
    }
    /// Its shape.
    #[inline]
    pub const fn config(&self) -> &Config {
        &self.config
    }
    /// Back to the state of [`Vgic::new`], but for the physical interrupts that were forwarded: drain
    /// [`Vgic::take_released`] of every vCPU afterwards. All vCPUs must be stopped, their list registers discarded.
    pub fn reset(&mut self) {}
    /// A guest's load. `vcpu` is who accesses. State that is in list registers is answered as last folded: see [`Vgic::stale`].
    pub fn read(&self, _vcpu: usize, _frame: Frame, _offset: u64, _width: Width) -> u64 {
        0
    }
    /// Whose list registers should be folded before this load, for an exact answer (ISPENDR, ISACTIVER and the like).
    pub fn stale(&self, _vcpu: usize, _frame: Frame, _offset: u64, _width: Width) -> VcpuSet {
        VcpuSet::EMPTY
    }
    /// A guest's store. Returns whose list registers must be planned again: `vcpu` itself before it goes on, others by a kick.
    pub fn write(
        &mut self,
        _vcpu: usize,
        _frame: Frame,
        _offset: u64,
        _width: Width,
        _value: u64,
    ) -> VcpuSet {
        VcpuSet::EMPTY
    }
    /// A write of ICC_SGI1R_EL1.
    #[inline]
    pub fn sgi1r(&mut self, _vcpu: usize, _value: u64) -> VcpuSet {
        VcpuSet::EMPTY
    }
    /// A write of ICC_SGI0R_EL1 or ICC_ASGI1R_EL1: reaches SGIs of group 0 only.
    pub fn sgi0r(&mut self, _vcpu: usize, _value: u64) -> VcpuSet {
        VcpuSet::EMPTY
    }
    /// A trapped write of ICC_DIR_EL1 (Plan asked for TDIR). Fold before, plan after.
    pub fn deactivate(&mut self, _vcpu: usize, _intid: u32) -> VcpuSet {
        VcpuSet::EMPTY
    }
    /// The input line of an emulated device: PPI of `vcpu`, or SPI (then `vcpu` does not matter). SGIs have none.
    #[inline]
    pub fn set_level(&mut self, _vcpu: usize, _intid: u32, _high: bool) -> VcpuSet {
        VcpuSet::EMPTY
    }
    /// A physical interrupt `pintid`, acknowledged and left active, becomes PPI or SPI `intid`; the guest's deactivation
    /// deactivates it. `set_level(.., false)` withdraws it.
    #[inline]
    pub fn forward(&mut self, _vcpu: usize, _intid: u32, _pintid: u32) -> VcpuSet {
        VcpuSet::EMPTY
    }
    /// A physical interrupt that must be deactivated by software, on the CPU of `vcpu`.
    pub fn take_released(&mut self, _vcpu: usize) -> Option<u32> {
        None
    }
    /// Takes back the state of `vcpu`'s list registers; slots that no plan filled are not looked at. Returns which *other* vCPUs
    /// must be planned again.
    pub fn fold(&mut self, vcpu: usize, interface: Interface, lrs: &[ListRegister]) -> VcpuSet {
        self.fold_with(vcpu, interface, |slot| lrs.get(slot).copied().unwrap_or_default())
    }
    /// [`Vgic::fold`], reading only the list registers in use.
    pub fn fold_with(
        &mut self,
        _vcpu: usize,
        _interface: Interface,
        _lr: impl FnMut(usize) -> ListRegister,
    ) -> VcpuSet {
        VcpuSet::EMPTY
    }
    /// Chooses what goes into `vcpu`'s list registers, after a fold. Slots beyond [`Config::list_registers`] are left alone.
    pub fn plan(&mut self, _vcpu: usize, out: &mut [ListRegister]) -> Plan {
        out.fill(ListRegister::FREE);
        Plan { used: 0, hcr: 1, release: false }
    }
    /// The short way to deliver one new interrupt: needs only ICH_ELRSR_EL2 (or GICH_ELRSR), no fold.
    #[inline]
    pub fn quick(&mut self, _vcpu: usize, _empty: u16) -> Quick {
        Quick::Full
    }
    /// Which list registers the last plan and [`Vgic::quick`] filled: what a fold reads.
    #[inline]
    pub fn used(&self, _vcpu: usize) -> u16 {
        0
    }
    /// Whether fold and plan are due.
    #[inline]
    pub fn needs_plan(&self, _vcpu: usize) -> bool {
        false
    }
    /// Whether an interrupt waits for `vcpu` (WFI does not sleep then). Its list registers count as last folded.
    #[inline]
    pub fn deliverable(&self, _vcpu: usize) -> bool {
        false
    }
}
