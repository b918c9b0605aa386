// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests hold the crate against: an ideal GIC without list registers, the hardware's virtual CPU interface, and a
//! machine that joins that interface with a [`vgic::Vgic`] as a hypervisor would.
#![allow(
    dead_code,
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

pub mod hardware;
pub mod ideal;
pub mod machine;
pub mod scene;
