// SPDX-License-Identifier: MIT OR Apache-2.0
//! GICv3: distributor and redistributors through arm-gic, CPU and hypervisor interface by system registers.

use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use arch::{Mpidr, Pa, Range};
use arm_gic::IntId;
use arm_gic::gicv3::registers::{Gicd, GicrSgi};
use arm_gic::gicv3::{GicDistributor, GicRedistributor};
use safe_mmio::UniqueMmioPointer;
use vgic::{Interface, ListRegister, State};

use super::VirtualInterface;

use crate::cpu::barrier::isb;
use crate::cpu::sysreg::*;
use crate::cpu::{self, MAX_CPUS};

const GICD_IGROUPR: u64 = 0x80;
const GICD_ISENABLER: u64 = 0x100;
const GICD_IPRIORITYR: u64 = 0x400;
const GICD_ICFGR: u64 = 0xc00;
const GICD_IROUTER: u64 = 0x6000;
const RD_FRAMES: u64 = 0x2_0000;
const GICR_TYPER: u64 = 0x8;
const GICR_ISACTIVER0: u64 = 0x1_0300;
const GICR_ICACTIVER0: u64 = 0x1_0380;
const TYPER_LAST: u64 = 1 << 4;
const TYPER_VLPIS: u64 = 1 << 1;

/// The CPU's and the hypervisor's interface of a GICv3: system registers, the same everywhere. There is one only where the
/// machine has such a controller.
#[derive(Clone, Copy)]
pub struct SystemRegisters(());

/// A GICv3 or GICv4.
pub struct GicV3 {
    pub(super) gicd: u64,
    list_registers: usize,
    /// How many registers of active priorities each group has: follows from the preemption bits (IHI 0069 12.4.4).
    active_priorities: u8,
    /// Redistributor of each CPU, by CPU number; 0 where not found.
    redistributors: [AtomicUsize; MAX_CPUS],
    regions: Vec<Range<Pa>>,
    stride: u64,
}

fn ppi(intid: u32) -> IntId {
    IntId::ppi(intid.wrapping_sub(16) & 15)
}

impl GicV3 {
    /// Sets up the distributor at `gicd`.
    pub fn new(gicd: Pa, regions: &[Range<Pa>], stride: Option<u64>) -> Result<Self, &'static str> {
        icc_sre_el2::write(0xf);
        isb();
        if icc_sre_el2::read() & 1 == 0 {
            return Err("the GIC's system registers cannot be enabled at EL2");
        }
        let base = NonNull::new(gicd.raw() as *mut Gicd).ok_or("the distributor stands at 0")?;
        // SAFETY: the tree says that a distributor stands there, EL2's tables map it as a device, and nobody else in
        // the image holds a pointer to it.
        let mut distributor = GicDistributor::new(unsafe { UniqueMmioPointer::new(base) });
        distributor.configure_default_settings();
        let vtr = ich_vtr_el2::read();
        Ok(Self {
            gicd: gicd.raw(),
            list_registers: (vtr & 0x1f) as usize + 1,
            active_priorities: match (vtr >> 26 & 7) + 1 {
                7.. => 4,
                6 => 2,
                _ => 1,
            },
            redistributors: [const { AtomicUsize::new(0) }; MAX_CPUS],
            regions: regions.to_vec(),
            stride: stride.unwrap_or(0),
        })
    }

    /// Finds the redistributor whose GICR_TYPER carries this CPU's affinity: regions need not be contiguous, and
    /// their order need not be the CPUs'.
    fn find_redistributor(&self, mpidr: Mpidr) -> Option<u64> {
        let m = mpidr.raw();
        let affinity = (m >> 32 & 0xff) << 24 | m & 0xff_ffff;
        for region in &self.regions {
            let mut frame = region.start().raw();
            while frame.saturating_add(RD_FRAMES) <= region.end().raw() {
                // SAFETY: the tree says that redistributors fill this region, and it is mapped as a device.
                let typer = unsafe { ((frame + GICR_TYPER) as *const u64).read_volatile() };
                if typer >> 32 == affinity {
                    return Some(frame);
                }
                if typer & TYPER_LAST != 0 {
                    break;
                }
                frame += match self.stride {
                    0 if typer & TYPER_VLPIS != 0 => 2 * RD_FRAMES,
                    0 => RD_FRAMES,
                    stride => stride,
                };
            }
        }
        None
    }

    fn redistributor(&self, cpu: usize) -> Option<GicRedistributor<'_>> {
        let base = self.redistributors.get(cpu)?.load(Ordering::Acquire);
        let base = NonNull::new(base as *mut GicrSgi)?;
        // SAFETY: `find_redistributor` found it; only its own CPU uses it.
        Some(GicRedistributor::new(unsafe { UniqueMmioPointer::new(base) }))
    }

    pub fn init_cpu(&self, cpu: usize) -> Result<(), &'static str> {
        icc_sre_el2::write(0xf);
        isb();
        icc_sre_el1::write(7);
        let mpidr = Mpidr::new(cpu::current().mpidr.load(Ordering::Relaxed));
        let base = self.find_redistributor(mpidr).ok_or("no redistributor for this CPU")?;
        self.redistributors
            .get(cpu)
            .ok_or("too many CPUs")?
            .store(base as usize, Ordering::Release);
        let mut redistributor = self.redistributor(cpu).ok_or("redistributor at 0")?;
        // An error says that the CPU is awake already.
        let _ = redistributor.mark_core_awake();
        redistributor.configure_default_settings();
        for sgi in [super::SGI_KICK, super::SGI_PANIC] {
            let _ = redistributor.enable_interrupt(IntId::sgi(sgi), true);
        }
        icc_pmr_el1::write(0xff);
        icc_bpr1_el1::write(0);
        icc_ctlr_el1::write(2); // EOImode
        icc_igrpen1_el1::write(1);
        // UNKNOWN at reset: a vCPU finds them free.
        for n in 0..self.list_registers {
            self.interrupts().write_list_register(n, ListRegister::FREE);
        }
        isb();
        Ok(())
    }

    pub fn enable_ppi(&self, cpu: usize, intid: u32) {
        if let Some(mut redistributor) = self.redistributor(cpu) {
            let _ = redistributor.enable_interrupt(ppi(intid), true);
        }
    }

    pub fn enable_spi(&self, cpu: usize, intid: u32, edge: bool) {
        let Some(area) = cpu::CPUS.get(cpu) else { return };
        let (n, bit) = (u64::from(intid), 1_u32 << (intid & 31));
        let word = |register: u64| (self.gicd + register) as *mut u32;
        // SAFETY: registers of the distributor that the tree describes, mapped as a device; only this interrupt's bits
        // change, and only the boot CPU does this.
        unsafe {
            let group = word(GICD_IGROUPR + n / 32 * 4);
            group.write_volatile(group.read_volatile() | bit);
            let config = word(GICD_ICFGR + n / 16 * 4);
            let shift = 2 * (intid & 15);
            let old = config.read_volatile() & !(2 << shift);
            config.write_volatile(old | u32::from(edge) << (shift + 1));
            ((self.gicd + GICD_IPRIORITYR + n) as *mut u8).write_volatile(0x80);
            let affinity = area.cpu.mpidr.load(Ordering::Relaxed) & 0xff_00ff_ffff;
            ((self.gicd + GICD_IROUTER + 8 * n) as *mut u64).write_volatile(affinity);
            word(GICD_ISENABLER + n / 32 * 4).write_volatile(bit);
        }
    }

    #[inline(never)]
    pub fn set_ppi_active(&self, cpu: usize, intid: u32, active: bool) {
        let Some(base) = self.redistributors.get(cpu).map(|b| b.load(Ordering::Acquire) as u64)
        else {
            return;
        };
        if base != 0 {
            let register = if active { GICR_ISACTIVER0 } else { GICR_ICACTIVER0 };
            // SAFETY: a register of this CPU's redistributor; writing 1 to a bit sets or clears one interrupt's state.
            unsafe { ((base + register) as *mut u32).write_volatile(1 << (intid & 31)) };
        }
    }

    /// What needs nothing of this structure.
    #[inline(always)]
    pub fn interrupts(&self) -> SystemRegisters {
        SystemRegisters::new()
    }

    pub fn send_sgi(&self, cpu: usize, sgi: u32) {
        self.interrupts().send_sgi(sgi1r(cpu, sgi));
    }

    pub fn list_registers(&self) -> usize {
        self.list_registers
    }

    #[inline(always)]
    pub fn interface(&self) -> Interface {
        Interface::new(ich_hcr_el2::read() as u32, ich_vmcr_el2::read() as u32)
    }

    pub fn clear_eoi_count(&self) {
        ich_hcr_el2::write(ich_hcr_el2::read() & 0x7ff_ffff);
    }

    #[inline(always)]
    pub fn write_hcr(&self, hcr: u32) {
        ich_hcr_el2::write(u64::from(hcr));
    }

    #[inline(always)]
    pub fn save_virtual(&self, kept: &mut VirtualInterface) {
        kept.vmcr = ich_vmcr_el2::read();
        kept.ap0[0] = ich_ap0r0_el2::read();
        kept.ap1[0] = ich_ap1r0_el2::read();
        if self.active_priorities > 1 {
            self.save_priorities(kept);
        }
        ich_hcr_el2::write(0);
    }

    #[cold]
    #[inline(never)]
    fn save_priorities(&self, kept: &mut VirtualInterface) {
        kept.ap0[1] = ich_ap0r1_el2::read();
        kept.ap1[1] = ich_ap1r1_el2::read();
        if self.active_priorities > 2 {
            kept.ap0[2] = ich_ap0r2_el2::read();
            kept.ap1[2] = ich_ap1r2_el2::read();
            kept.ap0[3] = ich_ap0r3_el2::read();
            kept.ap1[3] = ich_ap1r3_el2::read();
        }
    }

    #[inline(always)]
    pub fn restore_virtual(&self, kept: &VirtualInterface) {
        ich_ap0r0_el2::write(kept.ap0[0]);
        ich_ap1r0_el2::write(kept.ap1[0]);
        if self.active_priorities > 1 {
            self.restore_priorities(kept);
        }
        ich_vmcr_el2::write(kept.vmcr);
        icc_sre_el1::write(7);
    }

    #[cold]
    #[inline(never)]
    fn restore_priorities(&self, kept: &VirtualInterface) {
        ich_ap0r1_el2::write(kept.ap0[1]);
        ich_ap1r1_el2::write(kept.ap1[1]);
        if self.active_priorities > 2 {
            ich_ap0r2_el2::write(kept.ap0[2]);
            ich_ap1r2_el2::write(kept.ap1[2]);
            ich_ap0r3_el2::write(kept.ap0[3]);
            ich_ap1r3_el2::write(kept.ap1[3]);
        }
    }
}

impl SystemRegisters {
    /// Where there is a GICv3.
    #[inline(always)]
    pub(super) const fn new() -> Self {
        Self(())
    }

    #[inline(always)]
    pub fn acknowledge(self) -> u32 {
        let iar = icc_iar1_el1::read() as u32;
        crate::cpu::barrier::dsb_sy();
        iar
    }

    #[inline(always)]
    pub fn drop_priority(self, iar: u32) {
        icc_eoir1_el1::write(u64::from(iar));
    }

    #[inline(always)]
    pub fn deactivate(self, iar: u32) {
        icc_dir_el1::write(u64::from(iar));
    }

    /// Writes ICC_SGI1R_EL1 ([`sgi1r`]), after what has been written to memory before.
    #[inline(always)]
    pub fn send_sgi(self, value: u64) {
        crate::cpu::barrier::dsb_ish();
        icc_sgi1r_el1::write(value);
        isb();
    }

    #[inline(always)]
    pub fn empty_list_registers(self) -> u16 {
        ich_elrsr_el2::read() as u16
    }

    #[inline(always)]
    pub fn list_register_state(self, n: usize) -> State {
        // Mostly it is the first.
        State::from_bits(if n == 0 { ich_lr0_el2::read() } else { read_lr(n) } >> 62)
    }

    #[inline(always)]
    pub fn first(self) -> (u64, State) {
        let raw = ich_lr0_el2::read();
        (raw, State::from_bits(raw >> 62))
    }

    #[inline(always)]
    pub fn put_first(self, raw: u64) {
        ich_lr0_el2::write(raw);
    }

    /// The state of a list register, which is free then.
    #[inline(always)]
    pub fn take_list_register(self, n: usize) -> State {
        if n == 0 {
            let (_, state) = self.first();
            self.put_first(0);
            state
        } else {
            let lr = read_lr(n);
            write_lr(n, 0);
            State::from_bits(lr >> 62)
        }
    }

    pub fn write_list_register(self, n: usize, lr: ListRegister) {
        write_lr(n, lr.to_v3());
    }

    /// The same without a call, for code that is to need no frame.
    #[inline(always)]
    pub fn write_list_register_here(self, n: usize, lr: ListRegister) {
        let value = lr.to_v3();
        // Mostly it is the first.
        if n == 0 {
            ich_lr0_el2::write(value);
        } else {
            write_lr_here(n, value);
        }
    }
}

/// The value of ICC_SGI1R_EL1 that sends this SGI to a CPU (IHI 0069 12.2.25); 0, which reaches nobody, for one that there is not.
pub fn sgi1r(cpu: usize, sgi: u32) -> u64 {
    let Some(area) = cpu::CPUS.get(cpu) else { return 0 };
    let m = area.cpu.mpidr.load(Ordering::Relaxed);
    let (aff0, aff1, aff2, aff3) = (m & 0xff, m >> 8 & 0xff, m >> 16 & 0xff, m >> 32 & 0xff);
    aff3 << 48
        | (aff0 >> 4) << 44
        | aff2 << 32
        | u64::from(sgi & 15) << 24
        | aff1 << 16
        | 1 << (aff0 & 15)
}

/// Writes list register `n` modulo 16 (those that the CPU does not have are never asked for).
#[inline(always)]
fn write_lr_here(n: usize, value: u64) {
    // SAFETY: ICH_LR0_EL2 to ICH_LR15_EL2, where the architecture has them (IHI 0069 12.4); two instructions each, into which
    // a number below 16 leads. They do not touch memory.
    unsafe {
        core::arch::asm!(
            "adr {at}, 2f",
            "add {at}, {at}, {n}, lsl #3",
            "br {at}",
            "2:",
            ".irp m, 12, 13",
            ".irp k, 0, 1, 2, 3, 4, 5, 6, 7",
            "msr S3_4_C12_C\\m\\()_\\k, {value}",
            "b 3f",
            ".endr",
            ".endr",
            "3:",
            at = out(reg) _, n = in(reg) n & 15, value = in(reg) value,
            options(nostack, preserves_flags));
    }
}

#[unsafe(link_section = ".text.hot")]
#[inline(never)]
fn write_lr(n: usize, value: u64) {
    write_lr_here(n, value);
}

macro_rules! lr_table {
    ($($n:literal => $reg:ident),*) => {
        #[unsafe(link_section = ".text.hot")]
        #[inline(never)]
        fn read_lr(n: usize) -> u64 {
            match n {
                $($n => $reg::read(),)*
                _ => 0,
            }
        }
    };
}
lr_table!(0 => ich_lr0_el2, 1 => ich_lr1_el2, 2 => ich_lr2_el2, 3 => ich_lr3_el2, 4 => ich_lr4_el2,
    5 => ich_lr5_el2, 6 => ich_lr6_el2, 7 => ich_lr7_el2, 8 => ich_lr8_el2, 9 => ich_lr9_el2,
    10 => ich_lr10_el2, 11 => ich_lr11_el2, 12 => ich_lr12_el2, 13 => ich_lr13_el2,
    14 => ich_lr14_el2, 15 => ich_lr15_el2);
