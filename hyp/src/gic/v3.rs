// SPDX-License-Identifier: MIT OR Apache-2.0
//! GICv3: distributor and redistributors through arm-gic, CPU and hypervisor interface by system registers.

use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use aarch64_cpu::registers::*;
use arch::{Mpidr, Pa, Range};
use arm_gic::gicv3::registers::{Gicd, GicrSgi};
use arm_gic::gicv3::{GicDistributor, GicRedistributor, Group};
use arm_gic::{IntId, Trigger};
use arm_sysregs::el1::accessors::*;
use arm_sysregs::el1::registers::{IccBpr1El1, IccCtlrEl1, IccIgrpen1El1, IccPmrEl1, IccSreEl1};
use safe_mmio::UniqueMmioPointer;
use vgic::{Interface, ListRegister, State};

use super::common::{self, GicError, VirtualInterface};
use super::registers::{Distributor, Frame, GICR_TYPER, Redistributor};
use crate::cpu::barrier::isb;
use crate::cpu::sysreg::*;
use crate::cpu::{self, MAX_CPUS};

/// Bytes of a redistributor without virtual LPIs.
const REDISTRIBUTOR: u64 = size_of::<Redistributor>() as u64;

/// CPU interface and hypervisor interface of a GICv3: system registers. A value proves that the machine has a GICv3.
#[derive(Clone, Copy)]
pub struct SystemRegisters(());

/// A GICv3 or GICv4.
pub struct GicV3 {
    pub(super) gicd: Frame<Distributor>,
    list_registers: usize,
    /// How many registers of active priorities each group has, by the preemption bits (IHI 0069 12.4.4).
    active_priorities: u8,
    /// Address of each CPU's redistributor, by CPU number; 0 if there is none.
    redistributors: [AtomicUsize; MAX_CPUS],
    regions: Vec<Range<Pa>>,
    stride: u64,
}

fn ppi(intid: u32) -> IntId {
    IntId::ppi(intid.wrapping_sub(16) & 15)
}

/// Turns the system registers on, for EL2 and for EL1.
fn enable_system_registers() {
    ICC_SRE_EL2.write(
        ICC_SRE_EL2::ENABLE::SET
            + ICC_SRE_EL2::DIB::SET
            + ICC_SRE_EL2::DFB::SET
            + ICC_SRE_EL2::SRE::SET,
    );
    isb();
}

/// Gives EL1 the system registers: it has no other interface.
#[inline(always)]
fn enable_system_registers_of_el1() {
    // SAFETY: SRE is 1 for as long as the image runs.
    unsafe { write_icc_sre_el1(IccSreEl1::all()) };
}

impl GicV3 {
    /// Sets up the distributor at `gicd`.
    pub fn new(gicd: Pa, regions: &[Range<Pa>], stride: Option<u64>) -> Result<Self, GicError> {
        enable_system_registers();
        if !ICC_SRE_EL2.is_set(ICC_SRE_EL2::SRE) {
            return Err(GicError::NoSystemRegisters);
        }
        // SAFETY: the tree says that a distributor is there, and EL2's tables map it as a device.
        let frame = unsafe { Frame::new(gicd.raw()) };
        let gic = Self {
            gicd: frame.ok_or(GicError::NoDistributor)?,
            list_registers: (ICH_VTR_EL2.read(ICH_VTR_EL2::ListRegs) as usize).wrapping_add(1),
            // One less than the number of bits.
            active_priorities: match ICH_VTR_EL2.read(ICH_VTR_EL2::PREbits) {
                6.. => 4,
                5 => 2,
                _ => 1,
            },
            redistributors: [const { AtomicUsize::new(0) }; MAX_CPUS],
            regions: regions.to_vec(),
            stride: stride.unwrap_or(0),
        };
        gic.distributor().configure_default_settings();
        Ok(gic)
    }

    /// The driver of the distributor. Boot CPU, one at a time.
    fn distributor(&self) -> GicDistributor<'_> {
        let base = NonNull::from(&*self.gicd).cast::<Gicd>();
        // SAFETY: these are the distributor's registers; on the boot CPU nothing else writes them meanwhile.
        GicDistributor::new(unsafe { UniqueMmioPointer::new(base) })
    }

    /// Finds the redistributor with this affinity in GICR_TYPER. Regions need not be contiguous, nor in the order of the CPUs.
    /// (arm-gic's iterator knows neither a region's end nor the tree's stride.)
    fn find_redistributor(&self, mpidr: Mpidr) -> Option<u64> {
        for region in &self.regions {
            let mut base = region.start().raw();
            while base.saturating_add(REDISTRIBUTOR) <= region.end().raw() {
                // SAFETY: the tree says that redistributors fill this region, and it is mapped as a device.
                let frame = unsafe { Frame::<Redistributor>::new(base) }?;
                let typer = frame.typer.extract();
                if typer.read(GICR_TYPER::Affinity) == mpidr.packed() {
                    return Some(base);
                }
                if typer.is_set(GICR_TYPER::Last) {
                    break;
                }
                base = base.saturating_add(match self.stride {
                    0 if typer.is_set(GICR_TYPER::VLPIS) => 2 * REDISTRIBUTOR,
                    0 => REDISTRIBUTOR,
                    stride => stride,
                });
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

    pub fn init_cpu(&self, cpu: usize) -> Result<(), GicError> {
        enable_system_registers();
        enable_system_registers_of_el1();
        let mpidr = Mpidr::new(cpu::current().mpidr.load(Ordering::Relaxed));
        let base = self.find_redistributor(mpidr).ok_or(GicError::NoRedistributor)?;
        self.redistributors
            .get(cpu)
            .ok_or(GicError::TooManyCpus)?
            .store(base as usize, Ordering::Release);
        let mut redistributor = self.redistributor(cpu).ok_or(GicError::NoRedistributor)?;
        // An error means that the CPU is awake already.
        let _ = redistributor.mark_core_awake();
        redistributor.configure_default_settings();
        for sgi in [common::SGI_KICK, common::SGI_PANIC] {
            let _ = redistributor.enable_interrupt(IntId::sgi(sgi), true);
        }
        write_icc_pmr_el1(IccPmrEl1::from_bits_retain(0xff));
        write_icc_bpr1_el1(IccBpr1El1::empty());
        write_icc_ctlr_el1(IccCtlrEl1::EOIMODE);
        write_icc_igrpen1_el1(IccIgrpen1El1::ENABLE);
        // They are UNKNOWN at reset.
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
        if !(32..common::SPECIAL).contains(&intid) {
            return;
        }
        let intid = IntId::spi(intid.wrapping_sub(32));
        let mut gicd = self.distributor();
        let trigger = if edge { Trigger::Edge } else { Trigger::Level };
        // An error means that `intid` is no SPI.
        let _ = gicd.set_group(intid, Group::Group1NS);
        let _ = gicd.set_trigger(intid, trigger);
        let _ = gicd.set_interrupt_priority(intid, common::PRIORITY);
        let _ = gicd.set_routing(intid, Some(area.cpu.mpidr.load(Ordering::Relaxed)));
        let _ = gicd.enable_interrupt(intid, true);
    }

    #[inline(never)]
    pub fn set_ppi_active(&self, cpu: usize, intid: u32, active: bool) {
        let base = self.redistributors.get(cpu).map_or(0, |base| base.load(Ordering::Acquire));
        // SAFETY: `find_redistributor` found it; writing 1 to a bit sets or clears one interrupt's state.
        if let Some(frame) = unsafe { Frame::<Redistributor>::new(base as u64) } {
            if active { &frame.isactiver0 } else { &frame.icactiver0 }.set(common::bit(intid));
        }
    }

    /// The system registers, which need no state of this structure.
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
        Interface::new(ICH_HCR_EL2.get() as u32, ICH_VMCR_EL2.get() as u32)
    }

    pub fn clear_eoi_count(&self) {
        ICH_HCR_EL2.modify(ICH_HCR_EL2::EOIcount.val(0));
    }

    #[inline(always)]
    pub fn write_hcr(&self, hcr: u32) {
        ICH_HCR_EL2.set(u64::from(hcr));
    }

    #[inline(always)]
    pub fn save_virtual(&self, kept: &mut VirtualInterface) {
        kept.vmcr = ICH_VMCR_EL2.get();
        kept.ap0[0] = ICH_AP0R0_EL2.get();
        kept.ap1[0] = ICH_AP1R0_EL2.get();
        if self.active_priorities > 1 {
            self.save_priorities(kept);
        }
        ICH_HCR_EL2.set(0);
    }

    #[cold]
    #[inline(never)]
    fn save_priorities(&self, kept: &mut VirtualInterface) {
        kept.ap0[1] = ICH_AP0R1_EL2.get();
        kept.ap1[1] = ICH_AP1R1_EL2.get();
        if self.active_priorities > 2 {
            kept.ap0[2] = ICH_AP0R2_EL2.get();
            kept.ap1[2] = ICH_AP1R2_EL2.get();
            kept.ap0[3] = ICH_AP0R3_EL2.get();
            kept.ap1[3] = ICH_AP1R3_EL2.get();
        }
    }

    #[inline(always)]
    pub fn restore_virtual(&self, kept: &VirtualInterface) {
        ICH_AP0R0_EL2.set(kept.ap0[0]);
        ICH_AP1R0_EL2.set(kept.ap1[0]);
        if self.active_priorities > 1 {
            self.restore_priorities(kept);
        }
        ICH_VMCR_EL2.set(kept.vmcr);
        enable_system_registers_of_el1();
    }

    #[cold]
    #[inline(never)]
    fn restore_priorities(&self, kept: &VirtualInterface) {
        ICH_AP0R1_EL2.set(kept.ap0[1]);
        ICH_AP1R1_EL2.set(kept.ap1[1]);
        if self.active_priorities > 2 {
            ICH_AP0R2_EL2.set(kept.ap0[2]);
            ICH_AP1R2_EL2.set(kept.ap1[2]);
            ICH_AP0R3_EL2.set(kept.ap0[3]);
            ICH_AP1R3_EL2.set(kept.ap1[3]);
        }
    }
}

impl SystemRegisters {
    /// Only for a machine that has a GICv3.
    #[inline(always)]
    pub(super) const fn new() -> Self {
        Self(())
    }

    #[inline(always)]
    pub fn acknowledge(self) -> u32 {
        let iar = ICC_IAR1_EL1.get() as u32;
        crate::cpu::barrier::dsb_sy();
        iar
    }

    #[inline(always)]
    pub fn drop_priority(self, iar: u32) {
        ICC_EOIR1_EL1.set(u64::from(iar));
    }

    #[inline(always)]
    pub fn deactivate(self, iar: u32) {
        ICC_DIR_EL1.set(u64::from(iar));
    }

    /// Writes ICC_SGI1R_EL1 ([`sgi1r`]) after all earlier stores.
    #[inline(always)]
    pub fn send_sgi(self, value: u64) {
        crate::cpu::barrier::dsb_ish();
        ICC_SGI1R_EL1.set(value);
        isb();
    }

    #[inline(always)]
    pub fn empty_list_registers(self) -> u16 {
        ICH_ELRSR_EL2.get() as u16
    }

    #[inline(always)]
    pub fn list_register_state(self, n: usize) -> State {
        // The first is the most frequent.
        State::from_bits(if n == 0 { ICH_LR0_EL2.get() } else { read_lr(n) } >> 62)
    }

    #[inline(always)]
    pub fn first(self) -> (u64, State) {
        let raw = ICH_LR0_EL2.get();
        (raw, State::from_bits(raw >> 62))
    }

    #[inline(always)]
    pub fn put_first(self, raw: u64) {
        ICH_LR0_EL2.set(raw);
    }

    /// Frees a list register and returns its former state.
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

    /// Inlined variant of `write_list_register`, for callers without a stack frame.
    #[inline(always)]
    pub fn write_list_register_here(self, n: usize, lr: ListRegister) {
        let value = lr.to_v3();
        // The first is the most frequent.
        if n == 0 {
            ICH_LR0_EL2.set(value);
        } else {
            write_lr_here(n, value);
        }
    }
}

/// The value of ICC_SGI1R_EL1 that sends this SGI to `cpu` (IHI 0069 12.2.25). Returns 0 (no target) if `cpu` does not
/// exist.
pub fn sgi1r(cpu: usize, sgi: u32) -> u64 {
    let Some(area) = cpu::CPUS.get(cpu) else { return 0 };
    Mpidr::new(area.cpu.mpidr.load(Ordering::Relaxed)).sgi1r(sgi)
}

/// Writes list register `n` modulo 16. Callers ask only for those that the CPU has.
#[inline(always)]
fn write_lr_here(n: usize, value: u64) {
    // SAFETY: a number below 16 selects one of 16 pairs of instructions (IHI 0069 12.4). They do not touch memory.
    unsafe {
        core::arch::asm!(
            "adr {at}, 2f",
            "add {at}, {at}, {n}, lsl #3",
            "br {at}",
            "2:",
            ".irp m, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
            "msr ich_lr\\m\\()_el2, {value}",
            "b 3f",
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
                $($n => $reg.get(),)*
                _ => 0,
            }
        }
    };
}
lr_table!(0 => ICH_LR0_EL2, 1 => ICH_LR1_EL2, 2 => ICH_LR2_EL2, 3 => ICH_LR3_EL2, 4 => ICH_LR4_EL2,
    5 => ICH_LR5_EL2, 6 => ICH_LR6_EL2, 7 => ICH_LR7_EL2, 8 => ICH_LR8_EL2, 9 => ICH_LR9_EL2,
    10 => ICH_LR10_EL2, 11 => ICH_LR11_EL2, 12 => ICH_LR12_EL2, 13 => ICH_LR13_EL2,
    14 => ICH_LR14_EL2, 15 => ICH_LR15_EL2);
