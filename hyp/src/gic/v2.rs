// SPDX-License-Identifier: MIT OR Apache-2.0
//! GICv2: everything by memory-mapped registers; each CPU sees its own bank.
//!
//! arm-gic resets the distributor. The rest is done here: its driver has no ITARGETSR, GICC_DIR and GICH, and its
//! `set_interrupt_priority` also zeroes the priorities of three neighbours.

use core::sync::atomic::{AtomicU8, Ordering};

use arch::Pa;
use arm_gic::gicv2::registers::{Gicc, Gicd};
use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};
use vgic::{Interface, ListRegister, State};

use super::common::{self, GicError, VirtualInterface};
use super::registers::*;
use crate::cpu::MAX_CPUS;

/// A GICv2.
pub struct GicV2 {
    pub(super) gicd: Frame<Distributor>,
    gicc: Frame<CpuInterface>,
    gich: Frame<HypervisorInterface>,
    list_registers: usize,
    /// GICv2's number of each CPU, as a mask. It does not follow from the affinity, so each CPU reads its own.
    targets: [AtomicU8; MAX_CPUS],
}

impl GicV2 {
    /// Sets up the distributor.
    pub fn new(gicd: Pa, gicc: Pa, gich: Pa) -> Result<Self, GicError> {
        // SAFETY: the tree says that these frames are there, and EL2's tables map them as devices.
        let frames = unsafe {
            (
                Frame::new(gicd.raw()),
                Frame::new(gicc.raw()),
                Frame::<HypervisorInterface>::new(gich.raw()),
            )
        };
        let (Some(own_gicd), Some(own_gicc), Some(gich)) = frames else {
            return Err(GicError::NoHypervisorInterface);
        };
        // SAFETY: as above; the driver is dropped at the end of this function.
        let mut driver =
            unsafe { arm_gic::gicv2::GicV2::new(gicd.raw() as *mut Gicd, gicc.raw() as *mut Gicc) };
        driver.setup();
        driver.enable_all_interrupts(false);
        Ok(Self {
            list_registers: (gich.vtr.read(GICH_VTR::ListRegs) as usize).wrapping_add(1),
            gicd: own_gicd,
            gicc: own_gicc,
            gich,
            targets: [const { AtomicU8::new(0) }; MAX_CPUS],
        })
    }

    pub fn init_cpu(&self, cpu: usize) -> Result<(), GicError> {
        let (gicd, gicc) = (&self.gicd, &self.gicc);
        let [own_target, ..] = &gicd.itargetsr;
        // The banked ITARGETSR0 reads as the CPU's own bit; a uniprocessor implementation is RAZ.
        let target = own_target.get().max(1);
        self.targets.get(cpu).ok_or(GicError::TooManyCpus)?.store(target, Ordering::Release);
        let [own_disable, ..] = &gicd.icenabler;
        own_disable.set(u32::MAX);
        let [own_deactivate, ..] = &gicd.icactiver;
        own_deactivate.set(u32::MAX);
        // Non-secure state has group 1 if the GIC has the Security Extensions, else group 0 is used.
        if gicd.typer.is_set(GICD_TYPER::SecurityExtn) {
            let [own_groups, ..] = &gicd.igroupr;
            own_groups.set(u32::MAX);
        }
        for priority in gicd.ipriorityr.iter().take(32) {
            priority.set(common::PRIORITY);
        }
        let [own_enable, ..] = &gicd.isenabler;
        own_enable.set(1 << common::SGI_KICK | 1 << common::SGI_PANIC);
        gicd.ctlr.modify(GICD_CTLR::Enable::SET);
        gicc.pmr.set(0xff);
        gicc.bpr.set(0);
        gicc.ctlr.write(GICC_CTLR::EnableGrp1::SET + GICC_CTLR::EOImodeNS::SET);
        // They are UNKNOWN at reset.
        for n in 0..self.list_registers {
            self.write_list_register(n, ListRegister::FREE);
        }
        Ok(())
    }

    pub fn enable_ppi(&self, _cpu: usize, intid: u32) {
        let [own, ..] = &self.gicd.isenabler;
        own.set(common::bit(intid));
    }

    pub fn enable_spi(&self, cpu: usize, intid: u32, edge: bool) {
        let gicd = &self.gicd;
        let (n, bit) = (intid as usize, common::bit(intid));
        let registers = (
            self.targets.get(cpu),
            gicd.igroupr.get(n / 32),
            gicd.icfgr.get(n / 16),
            gicd.ipriorityr.get(n),
            gicd.itargetsr.get(n),
            gicd.isenabler.get(n / 32),
        );
        let (Some(target), Some(group), Some(config), Some(priority), Some(targets), Some(enable)) =
            registers
        else {
            return;
        };
        if gicd.typer.is_set(GICD_TYPER::SecurityExtn) {
            group.set(group.get() | bit);
        }
        // The upper of an interrupt's two bits: 1 for an edge.
        let edge_bit = 2_u32.wrapping_shl((intid & 15) << 1);
        config.set(config.get() & !edge_bit | if edge { edge_bit } else { 0 });
        priority.set(common::PRIORITY);
        targets.set(target.load(Ordering::Acquire));
        enable.set(bit);
    }

    pub fn set_ppi_active(&self, _cpu: usize, intid: u32, active: bool) {
        let [own_set, ..] = &self.gicd.isactiver;
        let [own_clear, ..] = &self.gicd.icactiver;
        if active { own_set } else { own_clear }.set(common::bit(intid));
    }

    /// What a GICv3 does with system registers.
    #[inline(always)]
    pub fn interrupts(&self) -> &Self {
        self
    }

    #[inline(always)]
    pub fn acknowledge(&self) -> u32 {
        self.gicc.iar.get()
    }

    #[inline(always)]
    pub fn drop_priority(&self, iar: u32) {
        self.gicc.eoir.set(iar);
    }

    #[inline(always)]
    pub fn deactivate(&self, iar: u32) {
        self.gicc.dir.set(iar);
    }

    pub fn send_sgi(&self, cpu: usize, sgi: u32) {
        let Some(target) = self.targets.get(cpu) else { return };
        crate::cpu::barrier::dsb_ish();
        // NSATT is only writable, and only meant, from Secure state.
        self.gicd.sgir.write(
            GICD_SGIR::CPUTargetList.val(target.load(Ordering::Acquire).into())
                + GICD_SGIR::SGIINTID.val(sgi),
        );
    }

    pub fn list_registers(&self) -> usize {
        self.list_registers
    }

    pub fn interface(&self) -> Interface {
        Interface::new(self.gich.hcr.get(), self.gich.vmcr.get())
    }

    #[inline(always)]
    pub fn empty_list_registers(&self) -> u16 {
        self.gich.elrsr.get() as u16
    }

    pub fn list_register_state(&self, n: usize) -> State {
        let raw = self.gich.lr.get(n).map_or(0, |lr| lr.get());
        State::from_bits((raw >> 28).into())
    }

    pub fn first(&self) -> (u64, State) {
        let [lr, ..] = &self.gich.lr;
        let raw = u64::from(lr.get());
        (raw, State::from_bits(raw >> 28))
    }

    pub fn put_first(&self, raw: u64) {
        let [lr, ..] = &self.gich.lr;
        lr.set(raw as u32);
    }

    #[inline(always)]
    pub fn write_list_register(&self, n: usize, value: ListRegister) {
        if let Some(lr) = self.gich.lr.get(n) {
            lr.set(value.to_v2());
        }
    }

    pub fn clear_eoi_count(&self) {
        self.gich.hcr.modify(GICH_HCR::EOICount.val(0));
    }

    pub fn write_hcr(&self, hcr: u32) {
        self.gich.hcr.set(hcr);
    }

    pub fn save_virtual(&self, kept: &mut VirtualInterface) {
        kept.vmcr = self.gich.vmcr.get().into();
        kept.ap0[0] = self.gich.apr.get().into();
        self.gich.hcr.set(0);
    }

    pub fn restore_virtual(&self, kept: &VirtualInterface) {
        self.gich.apr.set(kept.ap0[0] as u32);
        self.gich.vmcr.set(kept.vmcr as u32);
    }
}
