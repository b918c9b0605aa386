// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stage 2 as its users see it, over the recording fake. Tests named `threat_NN` guard against the bug
//! of that number in the project's catalogue; `patch_NN` keep what that patch of the MMIO guard series
//! brought.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;
mod declare;
mod device;
mod exhaustion;
mod frames;
mod judge;
mod lookup;
mod map;
mod model;
mod readers;
mod reset;
mod sequence;
mod series;
mod state_machine;
mod unmap;
mod windows;
