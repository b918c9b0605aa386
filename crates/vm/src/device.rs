// SPDX-License-Identifier: MIT OR Apache-2.0
//! Emulated devices. docs/vm.md has their registers.

mod flash;
mod fw_cfg;
pub(crate) mod pl011;
mod test_device;
mod uart;
pub(crate) mod virtio_slot;

pub(crate) use flash::{BLOCK, Chips, Effect, Load, part};
pub(crate) use fw_cfg::FwCfg;
pub(crate) use test_device::TestDevice;
pub(crate) use uart::{FULL, HOLDS_BYTES, Uart};
