// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the machine's device tree to a board and its VMs, and to the trees that guests get.
//!
//! # Key types
//! - [`Board`]: RAM, reservations, CPUs, GIC, timer, console and modules of the machine.
//! - [`BoardReport`]: what each part of a board's tree gives, for a review without the board.
//! - [`VmConfig`]: one VM, made by [`vms`] from a kernel module and its `vm.` options, or from a node of a bundle.
//! - [`guest_tree`]: the device tree of a VM.
//! - [`MemoryMap`]: the regions of a VM; [`ImageKind`]: what a file is; [`ImageHeader`]: what a kernel image
//!   asks for.
//! - [`Error`]: one line that names what is wrong and what to do.
//!
//! ```
//! use arch::{Pa, Range};
//! use platform::{Board, GuestHardware, HostResources, guest_tree, vms};
//!
//! # fn main() -> Result<(), platform::Error> {
//! // A machine with one kernel module and its ramdisk, as QEMU describes it.
//! let blob = include_bytes!("../tests/fixtures/virt-g2.dtb");
//! let board = Board::from_tree(blob)?;
//! let memory = [0_u8; 4096];
//! let read = |range: Range<Pa>| memory.get(..range.size() as usize);
//! let host = HostResources { board: &board, tree: blob, own: &[], appended: None, cpus: 2, pa_bits: 40, read: &read };
//! for (index, vm) in vms(&host)?.iter().enumerate() {
//!     let seeds = board.seeds.for_guest(index, &vm.name, 0);
//!     let tree = guest_tree(vm, &GuestHardware::of(&board), seeds.as_ref())?;
//!     assert!(tree.len() as u64 <= vm.placement.tree.size());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Invariants
//! - Nothing here panics or allocates without bound, whatever the tree, the bootargs and the images
//!   hold: they are not trusted until they are validated.
//! - All or nothing: [`vms`] returns either every VM, checked against the machine and each other, or
//!   an error. A [`VmConfig`] that exists fits.
//!
//! # Sources
//! Devicetree Specification v0.4; Linux's booting protocol for arm64 and its bindings; docs/boot.md
//! and docs/vm-words.md.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod board;
mod error;
mod fdt;
mod ranges;
mod seed;
mod sort;
mod vm;

pub use board::early_console::early_pl011;
pub use board::efi_memory_map::EfiMap;
pub use board::el2_map::{El2Image, El2Memory, el2_map};
pub use board::report::{BoardReport, ReportedRam};
pub use board::uart_driver::{PL011, UartDriver};
pub use board::{
    Board, Conduit, Cpu, Gic, Module, ModuleKind, Psci, Reserved, StartMethod, Timer, Uart,
    UartKind,
};
pub use error::{Error, ErrorKind};
pub use fdt::{MAX_DEPTH, MAX_NODES, MAX_TREE_BYTES, tree_size};
pub use seed::{GuestSeeds, Seeds};
pub use vm::bundle::BUNDLE_MAGIC;
pub use vm::config::{
    DEFAULT_IPA_BITS, DEFAULT_MEM, DEFAULT_POOL_PAGES, MAX_BOOTARGS, MAX_VMS, VmConfig,
    assign_cpus, vms,
};
pub use vm::cpu_share::{
    BUDGET_PRIORITY, BudgetUs, CpuOptions, CpuShare, DEFAULT_PRIORITY, DEFAULT_SLICE, MAX_PRIORITY,
    VCPUS_PER_CPU, unbounded,
};
pub use vm::description::{HostResources, ReservedRegion};
pub use vm::guest_tree::{GuestHardware, SeedPlaces, guest_tree, guest_tree_with_places};
pub use vm::image_header::{HEADER_BYTES, ImageHeader};
pub use vm::image_kind::{Container, HEAD_BYTES, ImageKind};
pub use vm::memory_map::{
    FW_CFG_BASE, FW_CFG_SIZE, GICC_BASE, GICC_SIZE, GICD_BASE, GICD_SIZE, GICR_BASE, GICR_SIZE,
    GicVersion, IMAGE_OFFSET, MemoryMap, RAM_BASE, Region, RegionKind, TEST_DEVICE_SIZE,
    TREE_SPACE, UART_BASE, UART_SIZE, UART_SPI,
};
pub use vm::options::{MAX_NAME, MAX_POOL_PAGES, MAX_RANGES, OPTIONS};
pub use vm::passthrough::{MAX_PASSED, Passed, PassedInterrupt};
pub use vm::peers::PeerConfig;
pub use vm::placement::{ImagePart, Placement};
pub use vm::role::Role;
pub use vm::schedule::{MAX_WINDOWS, Schedule};
pub use vm::served::{DEFAULT_IO_TIMEOUT, DeviceId, MAX_FORWARDED, MAX_IO_TIMEOUT, Served};
pub use vm::share::ShareLevel;
