// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls of a VM with `vm.role=device`.

use mmio_guard::abi::{NOT_SUPPORTED, device};

use crate::hvc::hvc_4;

/// What a call of a VM without the role answers.
pub const DENIED: [u64; 4] = [NOT_SUPPORTED, 0, 0, 0];
/// All of them.
pub const ALL: [u32; 7] = [
    device::PEER_INFO,
    device::ATTACH,
    device::COMPLETE,
    device::DOORBELL,
    device::IRQ,
    device::REG,
    device::EVENT_DONE,
];

/// Call `id` with x1 to x4, every result register.
pub fn call(id: u32, args: [u64; 4]) -> [u64; 4] {
    hvc_4(id.into(), args)
}
