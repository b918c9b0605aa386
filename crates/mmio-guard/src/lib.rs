// SPDX-License-Identifier: MIT OR Apache-2.0
//! The MMIO guard of Portcullis: its hypercall interface, and the guest's side of it.
//!
//! A guest declares which of its pages are device memory. Once it has enrolled, every other access
//! outside its RAM gets a synchronous external abort, instead of reaching whatever poses as a device
//! there. This crate holds the numbers of that interface, for the hypervisor, its guests and their tests
//! alike, and a client for any Rust guest: no allocator, no `unsafe`, no statics.
//!
//! # Key types
//! - [`abi`]: function ids, result codes, words and bits of both dialects.
//! - [`Dialect`], [`Policy`]: how a VM's guard is set up; [`call`](fn@call): which [`Call`] a
//!   function id is, [`id`] the converse.
//! - [`client::Guard`]: the calls, one method each; [`client::Guard::detect`] finds it.
//! - [`client::Ioremap`]: device mappings with reference counts, and enrolment that keeps the early
//!   console alive.
//! - [`Error`]: any error of the crate; `?` makes it of all others.
//! - [`client::Hypercall`]: how a call is made. `client::SmcccHvc` is the HVC instruction.
//!
//! # Invariants
//! - Function ids are compared whole, and a dialect is never guessed.
//! - A granule is declared by an [`client::Ioremap`] exactly while a mapping covers it.
//! - What fails changes nothing, or is undone; where that fails too, the error says so.
//!
//! # Sources
//! The interface is described, call by call, in docs/abi.md of Portcullis. It serves the numbers of KVM's
//! vendor-specific hypervisor service (Linux, Documentation/virt/kvm/arm/hypercalls.rst), of the Android
//! common kernels, and of the patches "KVM: arm64: MMIO guard PV services" of 2021. Calls are made by the
//! SMC Calling Convention, Arm DEN0028, version 1.1.
//!
//! # Example
//!
//! A guest at boot, with a UART that it has used for early output:
//!
//! ```
//! use mmio_guard::client::{AttrIndex, Guard, Hypercall, Ioremap, Region, smccc_version};
//! # use mmio_guard::{Call, Dialect, abi};
//! # /// A host that agrees to everything.
//! # struct Agree;
//! # impl Hypercall for Agree {
//! #     fn call(&self, id: u32, args: [u64; 3]) -> [u64; 4] {
//! #         match (id, mmio_guard::call(Dialect::Pkvm, id)) {
//! #             (0x8400_0000 | 0x8000_0000, _) => [0x1_0001, 0, 0, 0],
//! #             (_, Some(Call::Uid)) => abi::KVM_UID.map(u64::from),
//! #             (_, Some(Call::Features)) => [0xFFD, 0, 0, 0],
//! #             (_, Some(Call::Info)) => [4096, 1, 0, 0],
//! #             (_, Some(Call::RangeMap | Call::RangeUnmap)) => [0, args[1], 0, 0],
//! #             (_, Some(Call::AbiVersion)) => [0x1_0000, 7, 0, 0],
//! #             (_, Some(Call::QueryPage)) => [0, 3, 0, 0],
//! #             _ => [0; 4],
//! #         }
//! #     }
//! # }
//! # fn hvc() -> impl Hypercall { Agree }
//!
//! fn start(hvc: impl Hypercall) -> Result<(), mmio_guard::Error> {
//!     // In a guest, `hvc` is `mmio_guard::client::SmcccHvc`.
//!     smccc_version(&hvc)?;
//!     // `None`: this guest was not told a dialect, and takes what the host proves to be.
//!     let guard = Guard::detect(hvc, None)?;
//!
//!     let ram = [0x4000_0000..0x4800_0000];
//!     let mut devices: Ioremap<_, 32> = Ioremap::new(guard, &ram);
//!
//!     // From here on nothing but RAM and the UART may be touched. Device-nGnRE is byte 4 of this
//!     // guest's MAIR_EL1.
//!     const DEVICE: AttrIndex = AttrIndex::new(4).unwrap();
//!     devices.enrol(&[Region { ipa: 0x0900_0000, bytes: 0x1000, attribute: DEVICE }])?;
//!
//!     // A driver starts: distributor and redistributors of a GICv3.
//!     devices.map(0x0800_0000, 0x1_0000, DEVICE)?;
//!     devices.map(0x080A_0000, 0x4_0000, DEVICE)?;
//!
//!     // And one stops.
//!     devices.unmap(0x080A_0000, 0x4_0000)?;
//!     assert_eq!(devices.count(0x080A_0000), 0);
//!
//!     // On Portcullis, the host can be asked.
//!     if let Some(own) = devices.guard().own() {
//!         let page = own.query(0x0900_0000)?;
//!         assert_eq!(page.state, Some(mmio_guard::abi::PageState::Declared));
//!     }
//!     Ok(())
//! }
//! # start(hvc()).unwrap();
//! ```
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod abi;
mod call;
pub mod client;
mod dialect;

pub use call::{Call, call, id};
pub use client::Error;
pub use dialect::{Dialect, Policy, UnknownName, feature_map};
/// The crate whose HVC instruction [`client`] uses: for the guest's other calls, PSCI's among them.
pub use smccc;

/// The code of the README is compiled and run, without `std` as a guest has it.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
