// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory-mapped registers of GICv2 and GICv3 that EL2 uses itself.

use core::ops::Deref;
use core::ptr::NonNull;

use tock_registers::registers::{ReadOnly, ReadWrite, WriteOnly};
use tock_registers::{register_bitfields, register_structs};

register_bitfields! {u32,
    pub GICD_CTLR [
        /// Group 1 from Non-secure state, or group 0 where there are no Security Extensions.
        Enable OFFSET(0) NUMBITS(1) [],
    ],
    pub GICD_TYPER [
        SecurityExtn OFFSET(10) NUMBITS(1) [],
    ],
    pub GICD_SGIR [
        CPUTargetList OFFSET(16) NUMBITS(8) [],
        SGIINTID OFFSET(0) NUMBITS(4) [],
    ],
    pub GICC_CTLR [
        EOImodeNS OFFSET(9) NUMBITS(1) [],
        EnableGrp1 OFFSET(0) NUMBITS(1) [],
    ],
    pub GICH_HCR [
        EOICount OFFSET(27) NUMBITS(5) [],
    ],
    pub GICH_VTR [
        ListRegs OFFSET(0) NUMBITS(6) [],
    ],
}

register_bitfields! {u64,
    pub GICR_TYPER [
        Affinity OFFSET(32) NUMBITS(32) [],
        Last OFFSET(4) NUMBITS(1) [],
        VLPIS OFFSET(1) NUMBITS(1) [],
    ],
}

register_structs! {
    /// What the distributors of GICv2 and GICv3 have alike (IHI 0048 4.3, IHI 0069 12.9), and GICv2's own.
    pub Distributor {
        (0x000 => pub ctlr: ReadWrite<u32, GICD_CTLR::Register>),
        (0x004 => pub typer: ReadOnly<u32, GICD_TYPER::Register>),
        (0x008 => _reserved0),
        (0x080 => pub igroupr: [ReadWrite<u32>; 32]),
        (0x100 => pub isenabler: [ReadWrite<u32>; 32]),
        (0x180 => pub icenabler: [ReadWrite<u32>; 32]),
        (0x200 => pub ispendr: [ReadWrite<u32>; 32]),
        (0x280 => pub icpendr: [ReadWrite<u32>; 32]),
        (0x300 => pub isactiver: [ReadWrite<u32>; 32]),
        (0x380 => pub icactiver: [ReadWrite<u32>; 32]),
        // These two can be accessed by bytes.
        (0x400 => pub ipriorityr: [ReadWrite<u8>; 1024]),
        (0x800 => pub itargetsr: [ReadWrite<u8>; 1024]),
        (0xc00 => pub icfgr: [ReadWrite<u32>; 64]),
        (0xd00 => _reserved1),
        (0xf00 => pub sgir: WriteOnly<u32, GICD_SGIR::Register>),
        (0xf04 => @END),
    },

    /// GICv2's CPU interface (IHI 0048 4.4).
    pub CpuInterface {
        (0x0000 => pub ctlr: ReadWrite<u32, GICC_CTLR::Register>),
        (0x0004 => pub pmr: ReadWrite<u32>),
        (0x0008 => pub bpr: ReadWrite<u32>),
        (0x000c => pub iar: ReadOnly<u32>),
        (0x0010 => pub eoir: WriteOnly<u32>),
        (0x0014 => _reserved0),
        (0x1000 => pub dir: WriteOnly<u32>),
        (0x1004 => @END),
    },

    /// GICv2's hypervisor interface (IHI 0048 5.3).
    pub HypervisorInterface {
        (0x000 => pub hcr: ReadWrite<u32, GICH_HCR::Register>),
        (0x004 => pub vtr: ReadOnly<u32, GICH_VTR::Register>),
        (0x008 => pub vmcr: ReadWrite<u32>),
        (0x00c => _reserved0),
        (0x030 => pub elrsr: ReadOnly<u32>),
        (0x034 => _reserved1),
        (0x0f0 => pub apr: ReadWrite<u32>),
        (0x0f4 => _reserved2),
        (0x100 => pub lr: [ReadWrite<u32>; 64]),
        (0x200 => @END),
    },

    /// GICv3's redistributor (IHI 0069 12.11), with its frame of SGIs and PPIs.
    pub Redistributor {
        (0x0_0000 => _reserved0),
        (0x0_0008 => pub typer: ReadOnly<u64, GICR_TYPER::Register>),
        (0x0_0010 => _reserved1),
        (0x1_0300 => pub isactiver0: WriteOnly<u32>),
        (0x1_0304 => _reserved2),
        (0x1_0380 => pub icactiver0: WriteOnly<u32>),
        (0x1_0384 => _reserved3),
        (0x2_0000 => @END),
    }
}

/// Registers at an address of the machine.
pub struct Frame<T: 'static>(&'static T);

// SAFETY: registers, which any CPU may access; each access is one volatile load or store.
unsafe impl<T> Sync for Frame<T> {}
// SAFETY: as above.
unsafe impl<T> Send for Frame<T> {}

impl<T> Frame<T> {
    /// The frame at `base`; `None` at 0.
    ///
    /// # Safety
    /// These registers are at `base`, mapped as a device for as long as the image runs.
    pub unsafe fn new(base: u64) -> Option<Self> {
        // SAFETY: as the caller promises.
        NonNull::new(base as *mut T).map(|base| Self(unsafe { base.as_ref() }))
    }
}

impl<T> Deref for Frame<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        self.0
    }
}
