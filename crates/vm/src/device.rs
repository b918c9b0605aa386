// SPDX-License-Identifier: MIT OR Apache-2.0
//! Emulated devices. docs/vm.md has their registers.

mod flash;
mod pl011;
mod test_device;
mod uart;

pub(crate) use flash::{BLOCK, Chips, Effect, Load, part};
pub(crate) use test_device::TestDevice;
pub(crate) use uart::Uart;
