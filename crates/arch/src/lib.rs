// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arm arithmetic without hardware: addresses, syndromes, exceptions, translation geometry.
//!
//! Everything here is a pure function of its arguments, so that it runs and is tested on any host.
//!
//! # Key types
//! - [`Ipa`], [`Pa`], [`Va`], [`Vmid`], [`Mpidr`]: numbers that must not be mixed up.
//! - [`GuestRegs`]: what the exception vectors save and restore.
//! - [`ExitInfo`]: the three registers read once per exit; [`Exit`]: what they mean ([`decode`]).
//! - [`Access`]: the load or store of an abort; [`skip_instruction`] steps over what EL2 has done for it.
//! - [`El1Entry`]: what an exception given to the guest writes ([`external_abort`], [`undefined`]).
//! - [`Stage1`]: the guest's own tables; [`Stage2Geometry`]: shape of ours, VTCR_EL2.
//! - [`entry_refusal`]: whether the image may run as a boot loader has entered it.
//! - [`Errata`]: workarounds by MIDR_EL1; [`visible_id_register`]: what guests see of the ID registers.
//! - [`serror`]: errors that come late; [`switched`]: the registers that are switched with a vCPU.
//! - [`trap_controls`]: the value of every trap control of EL2, bit by bit.
//! - [`VcpuSet`]: some vCPUs of a VM; [`vmid_scope`]: TLB maintenance for a VM that is not loaded.
//! - [`counter::CounterOffset`]: a VM's counter, and when its timers expire.
//!
//! # Invariants
//! - Every function is total: no register value, and no memory a guest wrote, makes one panic or loop.
//! - An [`Access`] is only handed out for what can be emulated: never for a walk, never for maintenance.
//! - An IPA is only handed out where the architecture says that HPFAR_EL2 holds one.
//! - An ID field that this crate does not name is not visible to guests.
//!
//! # Sources
//! Arm Architecture Reference Manual for A-profile, DDI 0487; sections are cited where they are used.
//! docs/trap-path.md tells how the parts play together.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod access;
mod addr;
mod advance;
mod condition;
pub mod counter;
mod decode;
mod early_map;
mod endian;
mod entry;
mod errata;
pub mod esr;
mod exit;
mod geometry;
pub mod guest_map;
mod idregs;
mod inject;
mod on_crash;
mod on_loss;
pub mod pstate;
mod regs;
pub mod serror;
mod stage1;
pub mod switched;
pub mod sysreg;
pub mod trap_controls;
mod vcpu_set;
pub mod vcpu_switch;
pub mod vmid_scope;

pub use addr::{Ipa, Mpidr, PAGE_SHIFT, PAGE_SIZE, Pa, Range, Va, Vmid};
pub use advance::{skip_a64, skip_instruction};
pub use condition::condition_failed;
pub use decode::decode;
pub use early_map::EarlyMap;
pub use endian::{SCTLR_E0E, SCTLR_EE, is_big_endian};
pub use entry::{EntryRefusal, entry_refusal};
pub use errata::Errata;
pub use exit::{
    Access, DataAbort, Exit, ExitInfo, Fault, FaultKind, InstructionAbort, SysRegAccess, Width,
};
pub use geometry::{GeometryError, Stage2Geometry, physical_bits};
pub use idregs::{VisibleCpu, common_id_register, visible_id_register};
pub use inject::{
    AbortKind, El1Entry, El1State, PstateFeatures, PstateRule, external_abort, undefined,
};
pub use on_crash::OnCrash;
pub use on_loss::OnLoss;
pub use regs::GuestRegs;
pub use stage1::Stage1;
pub use vcpu_set::{MAX_VCPUS, VcpuSet, VcpuSetIter};
