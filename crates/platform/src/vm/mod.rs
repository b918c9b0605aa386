// SPDX-License-Identifier: MIT OR Apache-2.0
//! VMs: their options, images, memory maps and device trees.

pub mod addresses;
pub mod bundle;
pub mod config;
pub mod cpu_share;
pub mod description;
pub mod device_nodes;
pub mod elf_image;
pub mod guest_tree;
pub mod image_header;
pub mod image_kind;
pub mod memory_map;
pub mod modules;
pub mod options;
pub mod parse_number;
pub mod passthrough;
pub mod peers;
pub mod placement;
pub mod role;
pub mod schedule;
pub mod served;
pub mod share;
