// SPDX-License-Identifier: MIT OR Apache-2.0
//! VMs without their vCPUs' registers: memory, lifecycle, devices, log lines, keyboard, and the host interface of `vm`.

pub mod console_events;
pub mod host;
pub mod instance;
pub mod keyboard;
pub mod keyboard_focus;
pub mod lifecycle;
pub mod links;
pub mod list_registers;
pub mod loaded;
pub mod memory_image;
pub mod operator;
pub mod passthrough;
pub mod vm_error;
pub mod vm_log;
pub mod vm_setup;
