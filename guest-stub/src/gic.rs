// SPDX-License-Identifier: MIT OR Apache-2.0
//! The interrupt controller, GICv2 or GICv3, as far as SGIs and the virtual timer need it.

use core::sync::atomic::Ordering::Relaxed;

use crate::cpu::{self, Cpu};
use crate::tree::Gic;
use crate::{mmio, tree};

/// The virtual timer's interrupt.
pub const VTIMER: u32 = 27;
/// Interrupt of the physical timer.
pub const PTIMER: u32 = 30;
/// "Nothing pending", and what else is no interrupt.
const SPURIOUS: u32 = 1020;

/// Registers of the distributor and, at the same offsets, of a redistributor's SGI frame.
mod reg {
    pub const CTLR: u64 = 0x000;
    pub const IGROUPR: u64 = 0x080;
    pub const ISENABLER: u64 = 0x100;
    pub const ICENABLER: u64 = 0x180;
    pub const ISPENDR: u64 = 0x200;
    pub const ICPENDR: u64 = 0x280;
    pub const ISACTIVER: u64 = 0x300;
    pub const ICACTIVER: u64 = 0x380;
    pub const IPRIORITYR: u64 = 0x400;
    pub const ITARGETSR: u64 = 0x800;
    pub const ICFGR: u64 = 0xc00;
    pub const IROUTER: u64 = 0x6000;
    pub const SGIR: u64 = 0xf00;
    pub const CPENDSGIR: u64 = 0xf10;
    pub const SPENDSGIR: u64 = 0xf20;
    /// GICR_WAKER, in the first frame.
    pub const WAKER: u64 = 0x014;
    /// GICR_TYPER, in the first frame.
    pub const TYPER: u64 = 0x008;
    // CPU interface of a GICv2.
    pub const C_CTLR: u64 = 0x000;
    pub const C_PMR: u64 = 0x004;
    pub const C_IAR: u64 = 0x00c;
    pub const C_EOIR: u64 = 0x010;
}

/// The redistributor of the calling vCPU, or 0.
pub fn redistributor() -> u64 {
    let Gic::V3(_, base, size) = tree::get().gic else { return 0 };
    // SAFETY: this vCPU's own record.
    let mpidr = unsafe { (*cpu::own()).mpidr };
    let affinity = (mpidr >> 32 & 0xff) << 24 | mpidr & 0xff_ffff;
    let mut frame = base;
    while frame < base + size {
        let typer = mmio::read64(frame + reg::TYPER);
        if typer >> 32 == affinity {
            return frame;
        }
        if typer & 1 << 4 != 0 {
            break;
        }
        frame += 0x2_0000;
    }
    0
}

/// Where the banked registers of SGIs and PPIs are for the calling vCPU.
fn banked() -> u64 {
    match tree::get().gic {
        Gic::V2(distributor, _) => distributor,
        Gic::V3(..) => redistributor() + 0x1_0000,
        Gic::None => 0,
    }
}

/// Enables the distributor: once, by one vCPU.
pub fn init() {
    match tree::get().gic {
        Gic::V2(distributor, _) => mmio::write32(distributor + reg::CTLR, 1),
        // ARE_NS and both group enables of a distributor without security.
        Gic::V3(distributor, ..) => mmio::write32(distributor + reg::CTLR, 0x12),
        Gic::None => {}
    }
}

/// Prepares the calling vCPU for SGIs and the virtual timer. Interrupts stay masked in PSTATE.
pub fn init_cpu() {
    match tree::get().gic {
        Gic::V2(_, interface) => {
            mmio::write32(interface + reg::C_PMR, 0xff);
            mmio::write32(interface + reg::C_CTLR, 1);
        }
        Gic::V3(..) => {
            let frame = redistributor();
            if frame == 0 {
                return;
            }
            let waker = mmio::read32(frame + reg::WAKER);
            mmio::write32(frame + reg::WAKER, waker & !2);
            crate::time::wait_until(100, || mmio::read32(frame + reg::WAKER) & 4 == 0);
            mmio::write32(frame + 0x1_0000 + reg::IGROUPR, u32::MAX);
            msr!("s3_0_c12_c12_5", 7); // ICC_SRE_EL1
            plain!("isb");
            msr!("s3_0_c4_c6_0", 0xff); // ICC_PMR_EL1
            msr!("s3_0_c12_c12_4", 0); // ICC_CTLR_EL1
            msr!("s3_0_c12_c12_7", 1); // ICC_IGRPEN1_EL1
            plain!("isb");
        }
        Gic::None => return,
    }
    for word in 0..8 {
        mmio::write32(banked() + reg::IPRIORITYR + word * 4, 0x8080_8080);
    }
    enable(0xffff | 1 << VTIMER);
}

/// Enables those of the first 32 interrupts whose bits are set.
pub fn enable(bits: u32) {
    mmio::write32(banked() + reg::ISENABLER, bits);
}

/// Disables those of the first 32 interrupts whose bits are set.
pub fn disable(bits: u32) {
    mmio::write32(banked() + reg::ICENABLER, bits);
}

/// Which of the first 32 are enabled.
pub fn enabled() -> u32 {
    mmio::read32(banked() + reg::ISENABLER)
}

/// Which of the first 32 are pending.
pub fn pending() -> u32 {
    mmio::read32(banked() + reg::ISPENDR)
}

/// Which of the first 32 are active.
pub fn active() -> u32 {
    mmio::read32(banked() + reg::ISACTIVER)
}

/// Nothing of the first 32 pending or active any more.
pub fn clear() {
    let base = banked();
    mmio::write32(base + reg::ICPENDR, u32::MAX);
    mmio::write32(base + reg::ICACTIVER, u32::MAX);
    if let Gic::V2(distributor, _) = tree::get().gic {
        for word in 0..4 {
            mmio::write32(distributor + reg::CPENDSGIR + word * 4, u32::MAX);
        }
    }
}

/// Makes SGI `id` pending on the calling vCPU without sending it.
pub fn set_pending(id: u32) {
    match tree::get().gic {
        Gic::V2(distributor, _) if id < 16 => {
            mmio::write8(distributor + reg::SPENDSGIR + u64::from(id), 1);
        }
        _ => mmio::write32(banked() + reg::ISPENDR, 1 << id),
    }
}

/// Enables shared interrupt `id` for vCPU `target` alone.
pub fn give_spi(id: u32, target: usize) {
    let (n, bit) = (u64::from(id), 1 << (id % 32));
    let distributor = match tree::get().gic {
        Gic::V2(distributor, _) => {
            mmio::write8(distributor + reg::ITARGETSR + n, 1 << (target % 8));
            distributor
        }
        Gic::V3(distributor, ..) => {
            let group = distributor + reg::IGROUPR + n / 32 * 4;
            mmio::write32(group, mmio::read32(group) | bit);
            mmio::write64(
                distributor + reg::IROUTER + 8 * n,
                cpu::of(target).mpidr & 0xff_00ff_ffff,
            );
            distributor
        }
        Gic::None => return,
    };
    mmio::write32(distributor + reg::ISENABLER + n / 32 * 4, bit);
}

/// Enables shared interrupt `id` for vCPU `target` alone, on a rising edge.
pub fn give_edge_spi(id: u32, target: usize) {
    if let Gic::V2(distributor, _) | Gic::V3(distributor, ..) = tree::get().gic {
        let register = distributor + reg::ICFGR + u64::from(id) / 16 * 4;
        mmio::write32(register, mmio::read32(register) | 2 << (id % 16 * 2));
    }
    give_spi(id, target);
}

/// A register of the distributor with a bit per interrupt, where shared interrupt `id` has its own; 0 without a distributor.
fn shared(register: u64, id: u32) -> u64 {
    match tree::get().gic {
        Gic::V2(distributor, _) | Gic::V3(distributor, ..) => {
            distributor + register + u64::from(id) / 32 * 4
        }
        Gic::None => 0,
    }
}

/// Enables shared interrupt `id`, or disables it.
pub fn enable_spi(id: u32, enable: bool) {
    let register = if enable { reg::ISENABLER } else { reg::ICENABLER };
    mmio::write32(shared(register, id), 1 << (id % 32));
}

/// Whether shared interrupt `id` is pending.
pub fn spi_pending(id: u32) -> bool {
    mmio::read32(shared(reg::ISPENDR, id)) >> (id % 32) & 1 != 0
}

/// Makes shared interrupt `id` pending.
pub fn set_spi_pending(id: u32) {
    mmio::write32(shared(reg::ISPENDR, id), 1 << (id % 32));
}

/// Sends SGI `id` to vCPU `target`.
pub fn send(target: usize, id: u32) {
    match tree::get().gic {
        Gic::V2(distributor, _) => {
            mmio::write32(distributor + reg::SGIR, 1 << (16 + target % 8) | id);
        }
        Gic::V3(..) => sgi1r(sgi_to(cpu::of(target).mpidr) | u64::from(id) << 24),
        Gic::None => {}
    }
}

/// Sends SGI `id` to all vCPUs but the calling one.
pub fn broadcast(id: u32) {
    match tree::get().gic {
        Gic::V2(distributor, _) => mmio::write32(distributor + reg::SGIR, 1 << 24 | id),
        Gic::V3(..) => sgi1r(1 << 40 | u64::from(id) << 24),
        Gic::None => {}
    }
}

/// The affinity fields of ICC_SGI1R_EL1 for one vCPU.
pub fn sgi_to(mpidr: u64) -> u64 {
    (mpidr >> 32 & 0xff) << 48
        | (mpidr >> 16 & 0xff) << 32
        | (mpidr >> 8 & 0xff) << 16
        | 1 << (mpidr & 0xf)
}

/// The same for the calling vCPU.
pub fn to_own() -> u64 {
    sgi_to(cpu::of(cpu::index()).mpidr)
}

/// Writes ICC_SGI1R_EL1, or GICD_SGIR with the low half.
pub fn sgi1r(value: u64) {
    plain!("dsb ish");
    msr!("s3_0_c12_c11_5", value);
    plain!("isb");
}

/// Acknowledges the highest pending interrupt; 1020 and up: none.
pub fn acknowledge() -> u32 {
    match tree::get().gic {
        Gic::V2(_, interface) => mmio::read32(interface + reg::C_IAR),
        Gic::V3(..) => {
            let id = mrs!("s3_0_c12_c12_0") as u32; // ICC_IAR1_EL1
            plain!("dsb sy");
            id
        }
        Gic::None => SPURIOUS,
    }
}

/// Ends the interrupt that [`acknowledge`] answered.
pub fn end(value: u32) {
    match tree::get().gic {
        Gic::V2(_, interface) => mmio::write32(interface + reg::C_EOIR, value),
        Gic::V3(..) => {
            msr!("s3_0_c12_c12_1", u64::from(value)); // ICC_EOIR1_EL1
            plain!("isb");
        }
        Gic::None => {}
    }
}

/// The interrupt handler: counts, and silences a timer, which would come again.
pub fn interrupt(cpu: &Cpu) {
    let value = acknowledge();
    let id = value & 0x3ff;
    if id == VTIMER {
        msr!("cntv_ctl_el0", 2);
        plain!("isb");
    }
    if id == PTIMER {
        msr!("cntp_ctl_el0", 2);
        plain!("isb");
    }
    if let Some(counter) = cpu.interrupts.get(id as usize) {
        counter.fetch_add(1, Relaxed);
    } else {
        cpu.other_interrupts.fetch_add(1, Relaxed);
    }
    if id < SPURIOUS {
        end(value);
    }
}

/// How often a shared interrupt came to vCPU `index`.
pub fn count_shared(index: usize) -> u32 {
    cpu::of(index).other_interrupts.load(Relaxed)
}

/// How often interrupt `id` came to vCPU `index`.
pub fn count(index: usize, id: u32) -> u32 {
    cpu::of(index).interrupts.get(id as usize).map_or(0, |counter| counter.load(Relaxed))
}

/// Lets interrupts in.
pub fn unmask() {
    plain!("msr daifclr, #2");
}

/// Keeps interrupts out.
pub fn mask() {
    plain!("msr daifset, #2");
}

/// Takes the interrupts that are pending.
pub fn let_in() {
    unmask();
    plain!("isb");
    mask();
}
