// SPDX-License-Identifier: MIT OR Apache-2.0
//! The physical interrupt controller, and the hypervisor interface that shows virtual interrupts to a guest.
//!
//! End of interrupt drops only the priority (EOImode 1). An interrupt that is forwarded to a guest stays active until the
//! guest deactivates it through its list register (IHI 0069 4.1.1).

mod common;
mod registers;
mod v2;
mod v3;

use common::bit;
pub use common::{GicError, MAX_LIST_REGISTERS, SGI_KICK, SGI_PANIC, SPECIAL, VirtualInterface};
use core::sync::atomic::{AtomicBool, Ordering};

use platform::Gic as Described;
use spin::Once;
use tock_registers::interfaces::{Readable, Writeable};
pub use v3::{SystemRegisters, sgi1r};
use vgic::{Interface, ListRegister, State};

/// The machine's interrupt controller.
// The only value is in a static: its size does not matter.
#[allow(clippy::large_enum_variant)]
// A small tag is cheap to test.
#[repr(u8)]
pub enum Gic {
    /// GICv2 or GIC-400.
    V2(v2::GicV2),
    /// GICv3 or GICv4, by system registers.
    V3(v3::GicV3),
}

static GIC: Once<Gic> = Once::new();
/// Whether [`GIC`] is a GICv3: cheaper to test than `GIC` itself.
static BY_SYSTEM_REGISTERS: AtomicBool = AtomicBool::new(false);

macro_rules! both {
    ($self:expr, $gic:ident => $do:expr) => {
        match $self {
            Gic::V2($gic) => $do,
            Gic::V3($gic) => $do,
        }
    };
}

/// Finds the controller that the tree describes and sets up its distributor. Boot CPU, once.
///
/// # Errors
/// What is wrong with the controller.
#[inline(never)]
pub fn init(described: &Described) -> Result<&'static Gic, GicError> {
    let gic = match described {
        Described::V2 { gicd, gicc, gich, .. } => {
            Gic::V2(v2::GicV2::new(gicd.start(), gicc.start(), gich.start())?)
        }
        Described::V3 { gicd, redistributors, stride, .. } => {
            Gic::V3(v3::GicV3::new(gicd.start(), redistributors, *stride)?)
        }
    };
    BY_SYSTEM_REGISTERS.store(matches!(gic, Gic::V3(_)), Ordering::Release);
    Ok(GIC.call_once(|| gic))
}

/// The controller, once it has been set up.
#[inline(always)]
pub fn get() -> Option<&'static Gic> {
    GIC.get()
}

/// The system registers of the machine's GICv3, if it is one.
#[inline(always)]
pub fn system_registers() -> Option<SystemRegisters> {
    if BY_SYSTEM_REGISTERS.load(Ordering::Relaxed) { Some(SystemRegisters::new()) } else { None }
}

impl Gic {
    /// Sets up the CPU interface and the private interrupts of this CPU.
    pub fn init_cpu(&self, cpu: usize) -> Result<(), GicError> {
        both!(self, g => g.init_cpu(cpu))
    }
    /// Enables a private peripheral interrupt of this CPU.
    pub fn enable_ppi(&self, cpu: usize, intid: u32) {
        both!(self, g => g.enable_ppi(cpu, intid))
    }
    /// Enables a shared peripheral interrupt, of a level or a rising edge, for this CPU alone. Boot CPU.
    pub fn enable_spi(&self, cpu: usize, intid: u32, edge: bool) {
        both!(self, g => g.enable_spi(cpu, intid, edge))
    }
    /// Masks a shared peripheral interrupt and makes it neither pending nor active, or unmasks it.
    pub fn mask_spi(&self, intid: u32, masked: bool) {
        let gicd = both!(self, g => &g.gicd);
        let registers: &[_] = if masked {
            &[&gicd.icenabler, &gicd.icpendr, &gicd.icactiver]
        } else {
            &[&gicd.isenabler]
        };
        for register in registers {
            if let Some(word) = register.get(intid as usize / 32) {
                // Bits that are written as 0 change nothing.
                word.set(bit(intid));
            }
        }
    }
    /// Whether the line of a level-sensitive SPI is high while the interrupt is active: then it is also pending
    /// (IHI 0069 12.9.15, GICD_ISPENDR).
    pub fn spi_line(&self, intid: u32) -> bool {
        let gicd = both!(self, g => &g.gicd);
        gicd.ispendr.get(intid as usize / 32).is_some_and(|word| word.get() & bit(intid) != 0)
    }
    /// Acknowledges the interrupt of the highest priority. Returns [`SPECIAL`] or more if there is none.
    #[inline(always)]
    pub fn acknowledge(&self) -> u32 {
        both!(self, g => g.interrupts().acknowledge())
    }
    /// Drops the running priority; the interrupt stays active.
    #[inline(always)]
    pub fn drop_priority(&self, iar: u32) {
        both!(self, g => g.interrupts().drop_priority(iar))
    }
    /// Deactivates an interrupt that EL2 has handled itself.
    #[inline(always)]
    pub fn deactivate(&self, iar: u32) {
        both!(self, g => g.interrupts().deactivate(iar))
    }
    /// Sends an SGI to a CPU.
    pub fn send_sgi(&self, cpu: usize, sgi: u32) {
        both!(self, g => g.send_sgi(cpu, sgi))
    }
    /// Makes all list registers free.
    pub fn free_list_registers(&self) {
        for n in 0..self.list_registers() {
            self.write_list_register(n, ListRegister::FREE);
        }
    }
    /// How many list registers there are.
    pub fn list_registers(&self) -> usize {
        both!(self, g => g.list_registers())
    }
    /// HCR and VMCR of the virtual interface.
    #[inline(always)]
    pub fn interface(&self) -> Interface {
        both!(self, g => g.interface())
    }
    /// A bit for each list register that is empty (ICH_ELRSR_EL2, GICH_ELRSR0).
    #[inline(always)]
    pub fn empty_list_registers(&self) -> u16 {
        both!(self, g => g.interrupts().empty_list_registers())
    }
    /// The state of a list register.
    #[inline(always)]
    pub fn list_register_state(&self, n: usize) -> State {
        both!(self, g => g.interrupts().list_register_state(n))
    }
    /// The first list register, and its state.
    #[inline(always)]
    pub fn first(&self) -> (u64, State) {
        both!(self, g => g.interrupts().first())
    }
    /// Writes the first list register as [`Gic::first`] had it, and HCR with En alone.
    #[inline(always)]
    pub fn put_first(&self, raw: u64) {
        both!(self, g => {
            g.interrupts().put_first(raw);
            g.write_hcr(1);
        });
    }
    /// Makes the first list register free.
    #[inline(always)]
    pub fn free_first(&self) {
        both!(self, g => g.interrupts().put_first(0));
    }
    /// Writes the first list register unless `lr` is free, and HCR with En alone. All list registers must be free.
    #[inline(always)]
    pub fn write_first(&self, lr: ListRegister) {
        if lr.state != State::Invalid {
            match self {
                Gic::V2(gic) => gic.write_list_register(0, lr),
                Gic::V3(gic) => gic.interrupts().write_list_register_here(0, lr),
            }
        }
        self.write_hcr(1);
    }
    /// Writes a list register.
    #[inline(always)]
    pub fn write_list_register(&self, n: usize, lr: ListRegister) {
        both!(self, g => g.interrupts().write_list_register(n, lr))
    }
    /// Zeroes EOIcount.
    pub fn clear_eoi_count(&self) {
        both!(self, g => g.clear_eoi_count())
    }
    /// Writes ICH_HCR_EL2 or GICH_HCR.
    #[inline(always)]
    pub fn write_hcr(&self, hcr: u32) {
        both!(self, g => g.write_hcr(hcr))
    }
    /// Sets whether a private peripheral interrupt of this CPU is active. An active one does not arrive again.
    #[inline(always)]
    pub fn set_ppi_active(&self, cpu: usize, intid: u32, active: bool) {
        both!(self, g => g.set_ppi_active(cpu, intid, active))
    }
    /// Saves the loaded vCPU's interface except for the list registers, and turns it off.
    #[inline(always)]
    pub fn save_virtual(&self, kept: &mut VirtualInterface) {
        both!(self, g => g.save_virtual(kept))
    }
    /// Restores a vCPU's interface except for the list registers and HCR.
    #[inline(always)]
    pub fn restore_virtual(&self, kept: &VirtualInterface) {
        both!(self, g => g.restore_virtual(kept))
    }
}
