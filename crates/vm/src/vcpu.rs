// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a vCPU has for itself.

use crate::{Forwarded, PhysicalTimer, Refusal};
use arch::GuestRegs;
use lock::Order;

/// One vCPU, as far as EL2 touches it at every exit. Only the CPU that runs it has a reference.
#[derive(Debug)]
#[repr(C)]
pub struct Vcpu {
    /// What the vectors save and restore; first, so that they find it through the vCPU's address.
    pub regs: GuestRegs,
    /// Number within its VM, 0..8; MPIDR_EL1.Aff0 too.
    pub index: usize,
    /// Which locks its CPU holds.
    pub order: Order,
    /// The access that [`Outcome::Abort`](crate::Outcome::Abort) is about; stale otherwise.
    pub refusal: Refusal,
    /// Its physical timer.
    pub physical_timer: PhysicalTimer,
    /// Its access that the VM's server is to answer.
    pub forwarded: Option<Forwarded>,
}

impl Vcpu {
    /// vCPU `index` of a VM, with all registers zero.
    pub fn new(index: usize) -> Self {
        Self {
            regs: GuestRegs::default(),
            index,
            order: Order::new(),
            refusal: Refusal::default(),
            physical_timer: PhysicalTimer::default(),
            forwarded: None,
        }
    }
}
