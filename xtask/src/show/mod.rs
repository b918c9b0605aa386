// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the runs that judge several VMs have in common: questions at their consoles, and what was promised.

pub mod dialogue;
pub mod report;
