// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happens once: the EFI stub, the device tree, EL2's command line, the other CPUs.

pub mod boot_error;
pub mod command_line;
pub mod create_vms;
pub mod device_tree;
pub mod efi;
pub mod smp;
mod worst_wake;
