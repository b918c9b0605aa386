// SPDX-License-Identifier: MIT OR Apache-2.0
//! Replaces hyp/src/console beside its guest_output.rs.

pub mod guest_input;
pub mod ring;
