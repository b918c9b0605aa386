// SPDX-License-Identifier: MIT OR Apache-2.0
//! A VM without hardware: its guard, its devices, its firmware calls, and the outcome of each exit.
//!
//! The crate touches no hardware: the machine is behind [`Host`]. Everything that runs per exit is
//! inlined into the caller, takes no lock to judge an access, allocates nothing and formats nothing.
//!
//! # Key types
//! - [`Vm`]: what the vCPUs of a VM share; [`Vcpu`]: what one has for itself; [`Setup`]: how a VM is made.
//! - [`on_exit`]: judges one exit; [`Outcome`]: what is left for EL2 to do.
//! - [`Refusal`], [`Reason`]: why an access was aborted; [`Vm::refusal_line`] is its log line.
//! - [`Lifecycle`]: vCPUs on and off, and the states of a VM from running to stopped or restarted; [`Holder`]: pauses.
//! - [`crash::Watch`]: notices a guest that aborts again and again at one instruction.
//! - [`Workarounds`]: what the firmware of the CPUs says about the SMCCC workarounds; [`Firmware`]: its calls.
//! - [`trace::EventRing`], [`RateLimit`]: how refusals are reported, with a bound.
//!
//! # Invariants
//! - The guard's check comes before every device, the interrupt controller included.
//! - [`on_exit`] writes general registers, never ELR, SPSR or a register of EL1: [`Outcome`] asks for those.
//! - Whether an address is memory is decided by the VM's memory map, not by a descriptor.
//! - A call that fails has changed nothing; one that stops early says how far it got.
//! - [`Vm::reset`] leaves nothing of the former run but the VM's own log limit.
//!
//! # Sources
//! docs/abi.md (the calls), docs/trap-path.md (the table of accesses), docs/vm.md (devices, lifecycle);
//! Arm DEN0028 (SMCCC), DEN0022 (PSCI), DEN0098 (TRNG), DDI 0183 (PL011).
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod access;
mod advice;
mod advice_given;
mod bus;
mod counters;
pub mod crash;
mod device;
mod device_access;
mod device_calls;
mod exit;
mod fast_path;
mod features;
mod firmware;
mod flash;
mod flash_bank;
mod forward;
mod forwarded;
mod gic_access;
mod guard;
mod guard_calls;
mod host;
mod lifecycle;
pub mod link;
mod link_life;
mod log_lines;
mod mapped_mmio;
mod memory;
mod outcome;
mod pause;
mod physical_timer;
mod power;
mod psci;
mod rate;
mod refusal;
mod reset;
mod reset_progress;
mod setup;
mod setup_error;
mod share_calls;
mod smccc;
mod smccc_ids;
mod sysreg;
mod timer_access;
mod tlb_residency;
pub mod trace;
mod trng;
mod uart_access;
mod vcpu;
mod vm;

pub use advice::Advice;
pub use bus::Device;
pub use counters::Counts;
pub use exit::on_exit;
pub use fast_path::{run_deferred, try_fast_path};
pub use features::Features;
pub use firmware::{Firmware, Workarounds, has_trng};
pub use flash_bank::{Bank, Flash};
pub use forwarded::{Forwarded, ForwardedAccess};
pub use guard::Guard;
pub use host::Host;
pub use lifecycle::{Lifecycle, Parked, Phase, Stop, StopReason};
pub use log_lines::{RefusalLine, StopLine};
pub use memory::{MappedMmio, MemoryMap};
pub use outcome::{Abort, Deferred, FastPath, GicAccess, GicdStore, Outcome};
pub use pause::{Held, Holder, Holders};
pub use physical_timer::{PHYSICAL_TIMER_INTID, PhysicalTimer};
pub use rate::RateLimit;
pub use refusal::{Reason, Refusal};
pub use reset::ResetError;
pub use setup::{ID_REGISTERS, Setup};
pub use setup_error::SetupError;
pub use share_calls::NotShared;
pub use tlb_residency::TlbResidency;
pub use vcpu::Vcpu;
pub use vm::Vm;
