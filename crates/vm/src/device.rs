// SPDX-License-Identifier: MIT OR Apache-2.0
//! Emulated devices. docs/vm.md has their registers.

mod pl011;
mod test_device;
mod uart;

pub(crate) use test_device::TestDevice;
pub(crate) use uart::Uart;
