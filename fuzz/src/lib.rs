// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the fuzz targets do with their bytes.
//!
//! One input holds many things to try: making an input costs more than trying it. [`count`] counts what was tried.
//! The judges are those of the host tests, by path: a fuzzer and a property test differ in where their input comes
//! from and in nothing else.
#![forbid(unsafe_code)]
#![allow(dead_code)]

pub mod bundle;
pub mod count;
pub mod device_ring;
pub mod esr;
pub mod gic;
pub mod guest_tree;
pub mod image;
pub mod links;
pub mod stream;
pub mod tree;
pub mod virtio_mmio;

#[path = "../../crates/platform/tests/support/mod.rs"]
mod boards;
#[path = "../../crates/vgic/tests/support/mod.rs"]
mod gics;
#[path = "../../crates/arch/tests/support/oracle.rs"]
mod oracle;
#[path = "../../device-server/tests/support/hostile.rs"]
mod rings;
#[path = "../../crates/virtio-mmio/tests/support/mod.rs"]
mod transports;

// The oracle of crates/vm, whose files call each other by these names.
#[path = "../../crates/vm/tests/oracle/compare.rs"]
mod compare;
#[path = "../../crates/vm/tests/oracle/exits.rs"]
mod exits;
#[path = "../../crates/vm/tests/oracle/guest.rs"]
mod guest;
#[path = "../../crates/vm/tests/oracle/inject.rs"]
mod inject;
#[path = "../../crates/vm/tests/oracle/linked.rs"]
mod linked;
#[path = "../../crates/vm/tests/support/machine.rs"]
mod machine;
#[path = "../../crates/vm/tests/oracle/random.rs"]
mod random;
#[path = "../../crates/vm/tests/oracle/scenario.rs"]
mod scenario;
#[path = "../../crates/vm/tests/oracle/shrink.rs"]
mod shrink;
