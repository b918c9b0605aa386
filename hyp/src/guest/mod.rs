// SPDX-License-Identifier: MIT OR Apache-2.0
//! A VM with its memory, its devices and its host interface.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

pub mod console_events;
pub mod host;
pub mod instance;
pub mod keyboard;
pub mod keyboard_focus;
pub mod lifecycle;
pub mod loaded;
pub mod operator;
pub mod passthrough;
pub mod vm_log;
pub mod vm_setup;
