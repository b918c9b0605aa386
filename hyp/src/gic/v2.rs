// SPDX-License-Identifier: MIT OR Apache-2.0
//! GICv2: everything by memory-mapped registers; each CPU sees its own bank.

use core::sync::atomic::{AtomicU32, Ordering};

use arch::Pa;
use arm_gic::gicv2::registers::{Gicc, Gicd};
use vgic::{Interface, ListRegister, State};

use super::VirtualInterface;

use crate::cpu::MAX_CPUS;

// Distributor (IHI 0048 4.3).
const GICD_CTLR: u64 = 0x0;
const GICD_TYPER: u64 = 0x4;
const GICD_IGROUPR: u64 = 0x80;
const GICD_ISENABLER: u64 = 0x100;
const GICD_ICENABLER: u64 = 0x180;
const GICD_ISACTIVER: u64 = 0x300;
const GICD_ICACTIVER: u64 = 0x380;
const GICD_IPRIORITYR: u64 = 0x400;
const GICD_ITARGETSR: u64 = 0x800;
const GICD_ICFGR: u64 = 0xc00;
const GICD_SGIR: u64 = 0xf00;
// CPU interface (4.4).
const GICC_CTLR: u64 = 0x0;
const GICC_PMR: u64 = 0x4;
const GICC_BPR: u64 = 0x8;
const GICC_IAR: u64 = 0xc;
const GICC_EOIR: u64 = 0x10;
const GICC_DIR: u64 = 0x1000;
// Hypervisor interface (5.3).
const GICH_HCR: u64 = 0x0;
const GICH_VTR: u64 = 0x4;
const GICH_VMCR: u64 = 0x8;
const GICH_ELRSR: u64 = 0x30;
const GICH_APR: u64 = 0xf0;
const GICH_LR: u64 = 0x100;

/// A GICv2.
pub struct GicV2 {
    pub(super) gicd: u64,
    gicc: u64,
    gich: u64,
    list_registers: usize,
    /// GICv2's number of each CPU as a mask bit: not the affinity, so each CPU reads its own.
    targets: [AtomicU32; MAX_CPUS],
}

fn read(address: u64) -> u32 {
    // SAFETY: only called with registers of the frames that the tree describes, which are mapped as devices.
    unsafe { (address as *const u32).read_volatile() }
}

fn write(address: u64, value: u32) {
    // SAFETY: as for `read`; the writes below are those that the GIC architecture asks for.
    unsafe { (address as *mut u32).write_volatile(value) }
}

impl GicV2 {
    /// Sets up the distributor.
    pub fn new(gicd: Pa, gicc: Pa, gich: Pa) -> Result<Self, &'static str> {
        let (gicd, gicc, gich) = (gicd.raw(), gicc.raw(), gich.raw());
        if gicd == 0 || gicc == 0 || gich == 0 {
            return Err("the GICv2 has no hypervisor interface");
        }
        // SAFETY: the tree says that these frames stand there, they are mapped as devices, and the driver is dropped
        // at the end of this function.
        let mut driver =
            unsafe { arm_gic::gicv2::GicV2::new(gicd as *mut Gicd, gicc as *mut Gicc) };
        driver.setup();
        driver.enable_all_interrupts(false);
        Ok(Self {
            gicd,
            gicc,
            gich,
            list_registers: (read(gich + GICH_VTR) & 0x3f) as usize + 1,
            targets: [const { AtomicU32::new(0) }; MAX_CPUS],
        })
    }

    pub fn init_cpu(&self, cpu: usize) -> Result<(), &'static str> {
        // The banked ITARGETSR0 reads as the CPU's own bit.
        let mut target = read(self.gicd + GICD_ITARGETSR) & 0xff;
        if target == 0 {
            target = 1; // a uniprocessor implementation is RAZ
        }
        self.targets.get(cpu).ok_or("too many CPUs")?.store(target, Ordering::Release);
        write(self.gicd + GICD_ICENABLER, 0xffff_ffff);
        write(self.gicd + GICD_ICACTIVER, 0xffff_ffff);
        // The group that this CPU can use: 1 where the GIC has the Security Extensions, else 0.
        if read(self.gicd + GICD_TYPER) & 1 << 10 != 0 {
            write(self.gicd + GICD_IGROUPR, 0xffff_ffff);
        }
        for n in 0..8 {
            write(self.gicd + GICD_IPRIORITYR + 4 * n, 0x8080_8080);
        }
        write(self.gicd + GICD_ISENABLER, 1 << super::SGI_KICK | 1 << super::SGI_PANIC);
        write(self.gicd + GICD_CTLR, read(self.gicd + GICD_CTLR) | 1);
        write(self.gicc + GICC_PMR, 0xff);
        write(self.gicc + GICC_BPR, 0);
        write(self.gicc + GICC_CTLR, 1 | 1 << 9); // enable, EOImodeNS
        // UNKNOWN at reset: a vCPU finds them free.
        for n in 0..self.list_registers {
            self.write_list_register(n, ListRegister::FREE);
        }
        Ok(())
    }

    pub fn enable_ppi(&self, _cpu: usize, intid: u32) {
        write(self.gicd + GICD_ISENABLER, 1 << (intid & 31));
    }

    pub fn enable_spi(&self, cpu: usize, intid: u32, edge: bool) {
        let Some(target) = self.targets.get(cpu) else { return };
        let (n, bit) = (u64::from(intid), 1 << (intid & 31));
        let group = self.gicd + GICD_IGROUPR + n / 32 * 4;
        if read(self.gicd + GICD_TYPER) & 1 << 10 != 0 {
            write(group, read(group) | bit);
        }
        let config = self.gicd + GICD_ICFGR + n / 16 * 4;
        let shift = 2 * (intid & 15);
        write(config, read(config) & !(2 << shift) | u32::from(edge) << (shift + 1));
        for (bytes, value) in
            [(GICD_IPRIORITYR, 0x80), (GICD_ITARGETSR, target.load(Ordering::Acquire))]
        {
            let (word, shift) = (self.gicd + bytes + (n & !3), 8 * (intid & 3));
            write(word, read(word) & !(0xff << shift) | value << shift);
        }
        write(self.gicd + GICD_ISENABLER + n / 32 * 4, bit);
    }

    pub fn set_ppi_active(&self, _cpu: usize, intid: u32, active: bool) {
        let register = if active { GICD_ISACTIVER } else { GICD_ICACTIVER };
        write(self.gicd + register, 1 << (intid & 31));
    }

    /// As a GICv3's: what its system registers do.
    #[inline(always)]
    pub fn interrupts(&self) -> &Self {
        self
    }

    #[inline(always)]
    pub fn acknowledge(&self) -> u32 {
        read(self.gicc + GICC_IAR)
    }

    #[inline(always)]
    pub fn drop_priority(&self, iar: u32) {
        write(self.gicc + GICC_EOIR, iar);
    }

    #[inline(always)]
    pub fn deactivate(&self, iar: u32) {
        write(self.gicc + GICC_DIR, iar);
    }

    pub fn send_sgi(&self, cpu: usize, sgi: u32) {
        let Some(target) = self.targets.get(cpu) else { return };
        crate::cpu::barrier::dsb_ish();
        // NSATT (bit 15) is only writable, and only meant, from Secure state.
        write(self.gicd + GICD_SGIR, target.load(Ordering::Acquire) << 16 | sgi & 15);
    }

    pub fn list_registers(&self) -> usize {
        self.list_registers
    }

    pub fn interface(&self) -> Interface {
        Interface::new(read(self.gich + GICH_HCR), read(self.gich + GICH_VMCR))
    }

    #[inline(always)]
    pub fn empty_list_registers(&self) -> u16 {
        read(self.gich + GICH_ELRSR) as u16
    }

    pub fn list_register_state(&self, n: usize) -> State {
        State::from_bits(u64::from(read(self.gich + GICH_LR + 4 * n as u64)) >> 28)
    }

    pub fn first(&self) -> (u64, State) {
        let raw = u64::from(read(self.gich + GICH_LR));
        (raw, State::from_bits(raw >> 28))
    }

    pub fn put_first(&self, raw: u64) {
        write(self.gich + GICH_LR, raw as u32);
    }

    #[inline(always)]
    pub fn write_list_register(&self, n: usize, lr: ListRegister) {
        write(self.gich + GICH_LR + 4 * n as u64, lr.to_v2());
    }

    pub fn clear_eoi_count(&self) {
        write(self.gich + GICH_HCR, read(self.gich + GICH_HCR) & 0x7ff_ffff);
    }

    pub fn write_hcr(&self, hcr: u32) {
        write(self.gich + GICH_HCR, hcr);
    }

    pub fn save_virtual(&self, kept: &mut VirtualInterface) {
        kept.vmcr = u64::from(read(self.gich + GICH_VMCR));
        kept.ap0[0] = u64::from(read(self.gich + GICH_APR));
        write(self.gich + GICH_HCR, 0);
    }

    pub fn restore_virtual(&self, kept: &VirtualInterface) {
        write(self.gich + GICH_APR, kept.ap0[0] as u32);
        write(self.gich + GICH_VMCR, kept.vmcr as u32);
    }
}
